//! The programs and plugins under test: found beside the running test, built once where they are missing
//! or stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set by `tests/run.sh`, which has built everything before: the tests then ask cargo nothing.
const ALREADY_BUILT: &str = "TEMPOS_TESTS_BUILT";

/// The root of the source tree.
pub fn source_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of the profile that this test was built in: `target/debug` as a rule.
pub fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("a test lies in PROFILE/deps");
    folder.to_owned()
}

/// The path of a built program, such as `temposd`.
///
/// # Panics
/// When it cannot be built; cargo's own report is in the message.
pub fn program(name: &str) -> PathBuf {
    build();
    let path = profile_folder().join(name);
    assert!(path.is_file(), "{} is missing: cargo built everything but that", path.display());
    path
}

/// The built `.so` of a plugin, by the name of its folder: `adapter-udp`.
///
/// # Panics
/// As [`program`].
pub fn plugin(folder: &str) -> PathBuf {
    build();
    let path = profile_folder().join(format!("libtempos_{}.so", folder.replace('-', "_")));
    assert!(path.is_file(), "no plugin {folder:?}: {} is missing", path.display());
    path
}

/// The names of the plugins' folders, sorted.
pub fn plugin_folders() -> Vec<String> {
    let folder = source_root().join("plugins");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the house has a folder for plugins")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Builds the programs and plugins into the folder that this test came from.
fn build() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        if std::env::var_os(ALREADY_BUILT).is_some() {
            return;
        }
        let profile = profile_folder();
        let target = profile.parent().expect("a profile's folder lies in the target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(source_root()).args(["build", "--quiet", "--target-dir"]).arg(target);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        for package in
            ["temposd", "tempos-dbus", "tempos-proc-producer", "tempos-conformance", "tempos-gates"]
        {
            cargo.args(["-p", package]);
        }
        for folder in plugin_folders() {
            cargo.args(["-p", &format!("tempos-{folder}")]);
        }
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    });
}
