//! Newer versions of built plugins: the same code under another version number, as a release without a
//! change of behaviour would be.

use std::fs;
use std::path::Path;

/// The version that the plugins of the house are built with.
const BUILT: &str = env!("CARGO_PKG_VERSION");

/// A copy of a built plugin with another version of the same length, in its manifest and its descriptor.
///
/// # Panics
/// When the file cannot be read or does not name its version in both places.
pub fn with_version(built: &Path, version: &str, target: &Path) {
    assert_eq!(version.len(), BUILT.len(), "{version} is written over {BUILT}");
    let mut bytes = fs::read(built).expect("the plugin is built");
    let places: Vec<usize> = bytes
        .windows(BUILT.len())
        .enumerate()
        .filter(|(_, window)| *window == BUILT.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(places.len() >= 2, "{} names its version in {places:?}", built.display());
    for at in places {
        bytes[at..at + version.len()].copy_from_slice(version.as_bytes());
    }
    fs::write(target, bytes).expect("the copy can be written");
}
