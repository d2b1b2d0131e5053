//! Plugins that are made for the tests: packages of their own under `tests/fixtures`, built as a third party
//! would.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::built::{profile_folder, source_root};

/// The built `.so` of a fixture: the package's folder, and the name of its example, or of its library.
///
/// # Panics
/// When it cannot be built; cargo's own report is in the message.
pub fn fixture(package: &str, name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let target = profile_folder().parent().expect("a profile lies in the target folder").join("tmp/fixtures");
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(package.to_owned()) {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--lib", "--examples", "--target-dir"])
            .arg(&target)
            .current_dir(source_root().join("tests/fixtures").join(package))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let file = format!("lib{}.so", name.replace('-', "_"));
    let places = [target.join("debug/examples").join(&file), target.join("debug").join(&file)];
    places.iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("{places:?} are missing")).clone()
}

/// `bytes` with another text of the same length in every place of `from`.
///
/// # Panics
/// When there is no such place.
pub fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "nothing may move");
    let mut bytes = bytes.to_vec();
    let mut places = 0;
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from.as_bytes() {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            places += 1;
        }
        at += 1;
    }
    assert!(places > 0, "{from:?} is not in the file");
    bytes
}
