//! Who is current, who drains, who is kept aside: over the whole life of plugin files.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod plugin_kit;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugin_kit::{
    BUILT_VERSION, Bench, assert_callable, assert_sentence, config, log_into, plugin, rebuilt, replaced,
    started, taken_over,
};
use tempos_engine::plugin::{PluginEvent, PluginKind, Registry};

const NEWER: &str = "10.20.31";
const NEWEST: &str = "10.20.32";

/// The fixture under another name of the same length.
fn named(name: &str) -> Vec<u8> {
    let bytes = replaced(&plugin(BUILT_VERSION), r#"{"name":"fixture""#, &format!(r#"{{"name":"{name}""#));
    // The descriptor's own text, wherever the linker merged it to.
    replaced(&bytes, "fixtureA policy for tests.", &format!("{name}A policy for tests."))
}

fn gone(events: Vec<PluginEvent>) -> String {
    match events.as_slice() {
        [PluginEvent::Gone { sentence, .. }] => sentence.clone(),
        other => panic!("not gone: {other:?}"),
    }
}

#[test]
fn at_start_all_files_load_and_bad_ones_are_recorded() {
    let mut bench = Bench::new();
    bench.put("b-good.so", &plugin(BUILT_VERSION));
    bench.put("a-text.so", b"hello");
    bench.put("c-good.so", &plugin(NEWER));
    bench.put("d-same.so", &plugin(NEWER));
    bench.put(".hidden.so", b"no");
    bench.put("unfinished.so.tmp", b"no");
    bench.put("notes.txt", b"no");
    let events = bench.registry.load_folders();
    let [PluginEvent::Failed { name, sentence, .. }, PluginEvent::Started(newest)] = events.as_slice() else {
        panic!("{events:#?}");
    };
    assert_eq!(name, "a-text.so");
    assert_sentence(sentence);
    // Of two versions only the newest is loaded, whatever the files' order.
    assert_eq!((newest.info.version.as_str(), newest.generation), (NEWER, 1));
    let states: Vec<(String, &str)> =
        bench.registry.states().into_iter().map(|state| (state.name, state.state)).collect();
    let expected = [("a-text.so", "failed"), ("b-good.so", "declared"), ("fixture", "started")];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    assert_eq!(bench.registry.of_kind(PluginKind::QUEUE).len(), 1);
    assert!(bench.registry.of_kind(PluginKind::ADAPTER).is_empty());
    assert!(bench.registry.load_folders().iter().all(|event| matches!(event, PluginEvent::Failed { .. })));
}

#[test]
fn a_newer_version_takes_over_and_the_old_one_drains() {
    let mut bench = Bench::new();
    let old = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    let (before, after) = taken_over(bench.load("two.so", &plugin(NEWER)));
    assert!(Arc::ptr_eq(&old, &before));
    assert!(Arc::ptr_eq(&after, &bench.registry.current("fixture").unwrap()));
    assert_eq!((after.info.version.as_str(), after.generation), (NEWER, 2));
    assert_ne!(old.staged, after.staged);
    assert_callable(&old);
    assert_callable(&after);
    let sentence = gone(bench.registry.drained(&old));
    assert!(sentence.starts_with("fixture 10.20.30 is not used any more"), "{sentence}");
    assert!(bench.registry.drained(&old).is_empty(), "only once");
    assert!(bench.registry.drained(&after).is_empty(), "the current one is not drained");
    assert_callable(&old);
    let state = bench.state("fixture");
    assert_eq!((state.state, state.version.as_str(), state.generations), ("started", NEWER, 2));
    assert!(state.reason.ends_with("took over from 10.20.30"), "{}", state.reason);
}

#[test]
fn the_same_again_changes_nothing() {
    let mut bench = Bench::new();
    let first = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    assert!(matches!(bench.load("one.so", &plugin(BUILT_VERSION)), PluginEvent::Unchanged));
    assert!(matches!(bench.load("copy.so", &plugin(BUILT_VERSION)), PluginEvent::Unchanged));
    assert!(Arc::ptr_eq(&first, &bench.registry.current("fixture").unwrap()));
    // It has two files now: it stays while one of them does.
    assert!(bench.registry.file_gone(&bench.drop_in.join("one.so")).is_empty());
    assert_eq!(bench.state("fixture").state, "started");
    let events = bench.registry.file_gone(&bench.drop_in.join("copy.so"));
    assert!(matches!(events.as_slice(), [PluginEvent::Draining(_)]), "{events:?}");
}

#[test]
fn duplicates_older_versions_and_other_kinds_are_refused() {
    let mut bench = Bench::new();
    let running = started(bench.load("two.so", &plugin(NEWER)));
    for name in ["again.so", "two.so"] {
        let sentence = bench.refused(name, &rebuilt(plugin(NEWER)));
        assert!(sentence.contains("fixture 10.20.31 runs already, from"), "{sentence}");
        assert!(sentence.ends_with("give the changed plugin a higher version"), "{sentence}");
    }
    let sentence = bench.refused("one.so", &plugin(BUILT_VERSION));
    assert!(sentence.contains("fixture 10.20.30 is older than fixture 10.20.31 from"), "{sentence}");
    let adapter = replaced(&plugin(NEWEST), r#""queue","abi":"1.1"}  "#, r#""adapter","abi":"1.1"}"#);
    // The name clash is found first where it is known, the lie about the kind where it is not.
    let mut alone = Bench::new();
    assert!(alone.refused("kind.so", &adapter).contains("its descriptor says queue policy"));
    let sentence = bench.refused("kind.so", &adapter);
    assert!(
        sentence.contains("fixture is the name of a running queue policy, and this is an adapter"),
        "{sentence}"
    );
    let sentence = bench.refused("two.so", &named("mixture"));
    assert!(
        sentence.contains("it now holds plugin mixture, but fixture was started from this file"),
        "{sentence}"
    );
    assert!(Arc::ptr_eq(&running, &bench.registry.current("fixture").unwrap()));
    assert_callable(&running);
}

#[test]
fn a_user_may_go_back_to_an_older_version() {
    let mut bench = Bench::new();
    let first = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    let path = bench.put("two.so", &plugin(NEWER));
    bench.registry.load_file(&path, true).unwrap();
    let (_, back) = taken_over(bench.registry.load_file(&bench.drop_in.join("one.so"), true).unwrap());
    // Its code is still mapped and sound: the same generation is current again.
    assert!(Arc::ptr_eq(&first, &back));
    assert!(bench.registry.drained(&back).is_empty(), "it is not draining any more");
}

#[test]
fn a_removed_file_drains_and_may_come_back() {
    let mut bench = Bench::new();
    let path = bench.put("one.so", &plugin(BUILT_VERSION));
    let first = started(bench.registry.load_file(&path, false).unwrap());
    fs::remove_file(&path).unwrap();
    assert!(matches!(bench.registry.file_gone(&path).as_slice(), [PluginEvent::Draining(_)]));
    assert!(bench.registry.current("fixture").is_none());
    let state = bench.state("fixture");
    assert_eq!(state.state, "draining");
    assert!(state.reason.contains("was removed"), "{}", state.reason);
    let back = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    assert!(Arc::ptr_eq(&first, &back));

    bench.registry.file_gone(&path);
    gone(bench.registry.drained(&first));
    assert_eq!(bench.state("fixture").state, "gone");
    // Nothing of that version runs: a rebuild is welcome.
    let rebuilt = started(bench.load("one.so", &rebuilt(plugin(BUILT_VERSION))));
    assert_eq!((rebuilt.generation, bench.state("fixture").state), (2, "started"));
    assert_callable(&rebuilt);
}

#[test]
fn when_the_newest_goes_the_next_older_version_takes_over() {
    let mut bench = Bench::new();
    for (file, version) in [("a.so", BUILT_VERSION), ("b.so", NEWER), ("c.so", NEWEST)] {
        bench.load(file, &plugin(version));
    }
    let newest = bench.drop_in.join("c.so");
    fs::remove_file(&newest).unwrap();
    let [event] = bench.registry.file_gone(&newest).try_into().unwrap();
    let (old, new) = taken_over(event);
    assert_eq!((old.info.version.as_str(), new.info.version.as_str()), (NEWEST, NEWER));
    assert_eq!(bench.state("a.so").state, "declared");
}

#[test]
fn overwriting_the_file_of_a_running_plugin_does_no_harm() {
    let mut bench = Bench::new();
    let path = bench.put("one.so", &plugin(BUILT_VERSION));
    let first = started(bench.registry.load_file(&path, false).unwrap());
    // What cp(1) does: the same inode, cut to nothing and written anew.
    fs::write(&path, b"").unwrap();
    assert_callable(&first);
    assert!(bench.registry.load_file(&path, false).is_err());
    assert_callable(&first);
    fs::write(&path, plugin(NEWER)).unwrap();
    let (_, second) = taken_over(bench.registry.load_file(&path, false).unwrap());
    assert_callable(&first);
    assert_callable(&second);
    assert!(bench.registry.states().iter().all(|state| state.state == "started"));
}

#[test]
fn what_failed_at_run_time_starts_only_as_a_fresh_copy() {
    let mut bench = Bench::new();
    let first = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    bench.registry.failed("fixture", "plugin fixture panicked in open: planted");
    assert!(bench.registry.current("fixture").is_none());
    let state = bench.state("fixture");
    assert_eq!((state.state, state.reason.as_str()), ("failed", "plugin fixture panicked in open: planted"));
    gone(bench.registry.drained(&first));
    assert_eq!(bench.state("fixture").state, "failed");
    let second = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    assert_eq!(second.generation, 2);
    assert_ne!(first.staged, second.staged);
    assert_callable(&second);
}

#[test]
fn twenty_upgrades_leave_every_generation_callable() {
    let mut bench = Bench::new();
    let mut all = vec![started(bench.load("p.so", &plugin("10.21.10")))];
    for patch in 11..30 {
        let (old, new) = taken_over(bench.load("p.so", &plugin(&format!("10.21.{patch}"))));
        bench.registry.drained(&old);
        all.push(new);
    }
    all.iter().for_each(|plugin| assert_callable(plugin));
    let state = bench.state("fixture");
    assert_eq!((state.generations, state.version.as_str()), (20, "10.21.29"));
    assert_eq!(bench.registry.states().len(), 1);
}

#[test]
fn a_refused_file_that_goes_is_forgotten() {
    let mut bench = Bench::new();
    bench.refused("bad.so", b"text");
    let sentence = gone(bench.registry.file_gone(&bench.drop_in.join("bad.so")));
    assert!(sentence.ends_with("was removed"), "{sentence}");
    assert!(bench.registry.states().is_empty());
    assert!(bench.registry.file_gone(&bench.drop_in.join("never.so")).is_empty());
}

#[test]
fn the_folder_of_copies_belongs_to_one_node_and_is_cleaned() {
    let mut bench = Bench::new();
    fs::write(bench.stage.join("dead-0.1.0-12345678.so"), b"left by a node that died").unwrap();
    let first = started(bench.load("one.so", &plugin(BUILT_VERSION)));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let config = config(&bench.drop_in, &bench.stage, Duration::from_secs(60));
    let second = || Registry::new(config.clone(), log_into(&lines));
    let refusal = second().err().expect("it is in use");
    assert!(refusal.message.ends_with("cannot be used: another running node uses it"), "{refusal}");
    let Bench { registry, .. } = &mut bench;
    drop(std::mem::replace(registry, other_registry()));
    let mut second = second().expect("the first one is gone");
    let left =
        || fs::read_dir(&bench.stage).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some());
    assert_eq!(left().count(), 0, "copies of nodes that are gone are removed");
    // The process still maps the old copy: the loader must not be handed its name again.
    let again = started(second.load_file(&bench.drop_in.join("one.so"), false).unwrap());
    assert_ne!(first.staged, again.staged);
    assert_callable(&first);
    assert_callable(&again);
}

fn other_registry() -> Registry {
    let folder = plugin_kit::Folder::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    Registry::new(config(&folder.0, &folder.0.join("stage"), Duration::from_secs(60)), log_into(&lines))
        .unwrap()
}

#[test]
fn a_missing_folder_is_no_mistake() {
    let mut bench = Bench::new();
    fs::remove_dir(&bench.drop_in).unwrap();
    assert!(bench.registry.load_folders().is_empty());
    let lines = bench.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("is not read: No such file or directory")), "{lines:?}");
}

#[test]
fn a_registry_and_its_plugins_may_move_to_another_thread() {
    let mut bench = Bench::new();
    let path = bench.put("one.so", &plugin(BUILT_VERSION));
    let loaded = std::thread::spawn(move || started(bench.registry.load_file(&path, false).unwrap()));
    // The registry is gone, its plugins are not.
    assert_callable(&loaded.join().unwrap());
}
