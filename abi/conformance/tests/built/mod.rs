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

/// The `.so` of a package outside this workspace, built in a target folder that all of those share.
pub fn package(folder: &str, library: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running test has a file");
    let target = this.ancestors().nth(3).expect("it lies in TARGET/PROFILE/deps").join("outside");
    let built = Command::new(env!("CARGO"))
        .current_dir(workspace().join(folder))
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--quiet"])
        .status();
    assert!(built.expect("cargo runs").success(), "{folder} does not build");
    target.join("debug").join(format!("lib{library}.so"))
}
