//! What cargo knows about the packages of the house and everything they are built from.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::built::source_root;

/// A package, of the house or not.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression, where it names one.
    pub licence: Option<String>,
    /// Its folder relative to the source tree, for packages of the house.
    pub folder: Option<String>,
    /// Names of the packages that it needs to run (no dev- and no build-dependencies).
    pub needs: BTreeSet<String>,
}

/// Every package that the house is built from, by name and version.
///
/// # Panics
/// When cargo cannot tell.
pub fn packages() -> BTreeMap<(String, String), Package> {
    let output = Command::new(env!("CARGO"))
        .current_dir(source_root())
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let root = source_root().canonicalize().expect("the source tree is there");

    let mut by_id: BTreeMap<String, Package> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        let manifest = text(&package["manifest_path"]).unwrap_or_default();
        let folder = std::path::Path::new(&manifest)
            .parent()
            .and_then(|folder| folder.strip_prefix(&root).ok())
            .filter(|_| package["source"].is_null())
            .map(|folder| folder.display().to_string());
        by_id.insert(
            text(&package["id"]).unwrap_or_default(),
            Package {
                name: text(&package["name"]).unwrap_or_default(),
                version: text(&package["version"]).unwrap_or_default(),
                licence: text(&package["license"]),
                folder,
                needs: BTreeSet::new(),
            },
        );
    }
    let names: BTreeMap<String, String> = by_id.iter().map(|(id, p)| (id.clone(), p.name.clone())).collect();
    let mut used = BTreeSet::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let id = text(&node["id"]).unwrap_or_default();
        used.insert(id.clone());
        for dependency in list(&node["deps"]) {
            let runs = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let name = text(&dependency["pkg"]).and_then(|id| names.get(&id).cloned());
            if let (true, Some(name), Some(package)) = (runs, name, by_id.get_mut(&id)) {
                package.needs.insert(name);
            }
        }
    }
    by_id.retain(|id, _| used.contains(id));
    by_id.into_values().map(|p| ((p.name.clone(), p.version.clone()), p)).collect()
}

/// The packages of the house, by folder.
///
/// # Panics
/// As [`packages`].
pub fn rooms() -> BTreeMap<String, Package> {
    packages().into_values().filter_map(|p| Some((p.folder.clone()?, p))).collect()
}
