//! Builds plugins and says where their `.so` files are.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of this workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// The `.so` of a package of this workspace, built in the target folder and profile that this test is in.
pub fn plugin(package: &str) -> PathBuf {
    // target/PROFILE/deps/this-test
    let this = std::env::current_exe().expect("a running test has a file");
    let profile = this.parent().and_then(Path::parent).expect("it lies in PROFILE/deps").to_owned();
    let target = profile.parent().expect("PROFILE lies in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", target).args([
        "build",
        "--quiet",
        "--package",
        package,
    ]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "{package} does not build");
    profile.join(format!("lib{}.so", package.replace('-', "_")))
}

/// The `.so` of a package outside this workspace.
pub fn package(folder: &str, library: &str) -> PathBuf {
    build_outside(&workspace().join(folder), &[]).join(format!("lib{library}.so"))
}

/// The folder with the examples of a package outside this workspace.
pub fn examples(folder: &str) -> PathBuf {
    build_outside(&workspace().join(folder), &["--examples"]).join("examples")
}

/// Builds a package in a target folder that all packages outside this workspace share; the answer is the
/// folder of its profile.
pub fn build_outside(folder: &Path, arguments: &[&str]) -> PathBuf {
    let this = std::env::current_exe().expect("a running test has a file");
    let target = this.ancestors().nth(3).expect("it lies in TARGET/PROFILE/deps").join("outside");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", &target).args(["build", "--quiet"]).args(arguments);
    assert!(cargo.status().expect("cargo runs").success(), "{} does not build", folder.display());
    target.join("debug")
}
