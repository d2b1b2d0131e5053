//! The walls of the house: no room depends on what it must never know.

use std::collections::{BTreeMap, BTreeSet};

use tempos_tests::built::source_root;
use tempos_tests::metadata::{Package, packages, rooms};

/// Every room that may be reached from a room by its dependencies, itself left out.
fn reach(package: &Package, all: &BTreeMap<String, Vec<Package>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = package.needs.iter().cloned().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name.clone()) {
            next.extend(all.get(&name).into_iter().flatten().flat_map(|p| p.needs.iter().cloned()));
        }
    }
    reached
}

fn by_name() -> BTreeMap<String, Vec<Package>> {
    let mut all: BTreeMap<String, Vec<Package>> = BTreeMap::new();
    for package in packages().into_values() {
        all.entry(package.name.clone()).or_default().push(package);
    }
    all
}

/// What a room never knows, however far down: the table of ARCHITECTURE.md.
const NEVER: &[(&str, &[&str])] = &[
    ("abi", &["tempos-control", "tempos-engine", "tokio", "zbus", "mlua"]),
    ("plugins/", &["tempos-control", "tempos-engine", "tempos-lua", "tempos-dbus", "tempos-rest", "temposd"]),
    (
        "host/control",
        &["tempos-abi", "tempos-engine", "abi_stable", "libc", "tokio", "zbus", "axum", "mlua", "toml"],
    ),
    (
        "host/engine",
        &[
            "tempos-lua",
            "tempos-dbus",
            "tempos-rest",
            "temposd",
            "mlua",
            "zbus",
            "axum",
            "tokio",
            "toml",
            "clap",
        ],
    ),
    ("lua", &["tempos-engine", "tempos-dbus", "temposd", "tokio", "zbus"]),
    ("dbus", &["tempos-engine", "tempos-lua", "tempos-rest", "temposd", "mlua", "toml", "axum"]),
    (
        "host/socket",
        &["tempos-control", "tempos-engine", "tempos-dbus", "tempos-rest", "temposd", "zbus", "axum"],
    ),
    ("host/rest", &["tempos-engine", "tempos-lua", "tempos-dbus", "temposd", "mlua", "zbus", "toml"]),
    (
        "examples/quickstart/producer",
        &["tempos-abi", "tempos-control", "tempos-engine", "tempos-lua", "tempos-dbus", "temposd"],
    ),
    // The proof is from outside: public faces and built files.
    ("tests", &["tempos-engine", "tempos-lua", "tempos-rest", "temposd"]),
];

#[test]
fn no_room_depends_on_what_it_must_never_know() {
    let all = by_name();
    let mut broken = Vec::new();
    for (folder, package) in rooms() {
        let reached = reach(&package, &all);
        for (room, never) in NEVER {
            if folder == *room || (room.ends_with('/') && folder.starts_with(room)) {
                let found: Vec<_> = never.iter().filter(|name| reached.contains(**name)).collect();
                if !found.is_empty() {
                    broken.push(format!("{folder} must never know {found:?}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_table_names_rooms_that_are_there() {
    let rooms = rooms();
    for (room, _) in NEVER {
        let there =
            rooms.keys().any(|folder| folder == room || (room.ends_with('/') && folder.starts_with(room)));
        assert!(there, "{room} is no room of the house any more");
    }
}

#[test]
fn nobody_depends_on_the_daemon_nor_a_plugin_on_another() {
    let all = by_name();
    let rooms = rooms();
    let plugins: BTreeSet<&str> = rooms
        .iter()
        .filter(|(folder, _)| folder.starts_with("plugins/"))
        .map(|(_, p)| p.name.as_str())
        .collect();
    assert!(!plugins.is_empty());
    for (folder, package) in &rooms {
        let reached = reach(package, &all);
        assert!(!reached.contains("temposd"), "{folder} depends on the daemon");
        let known: Vec<_> = reached.iter().filter(|name| plugins.contains(name.as_str())).collect();
        assert!(known.is_empty(), "{folder} depends on the plugins {known:?}: they are loaded, never linked");
    }
}

#[test]
fn the_map_of_the_readme_names_every_room() {
    let readme = std::fs::read_to_string(source_root().join("README.md")).expect("README.md is there");
    let map = readme.split("## The house").nth(1).expect("the README has a section \"The house\"");
    let map = map.split("\n## ").next().unwrap_or_default();
    for folder in rooms().keys() {
        assert!(map.contains(folder.as_str()), "the map of the README does not name {folder}");
    }
}
