//! Files that are dropped into a folder while the node runs.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod plugin_kit;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use plugin_kit::{BUILT_VERSION, Bench, Folder, assert_callable, plugin, started};
use tempos_engine::plugin::{FolderChange, PluginEvent, Watcher};

/// Long enough for any machine: only a failure waits for so long.
const LIVENESS: Duration = Duration::from_secs(60);

fn watch(folder: &Path) -> (Watcher, Receiver<FolderChange>) {
    let (sender, receiver) = channel();
    (Watcher::start(vec![folder.to_owned()], sender).unwrap(), receiver)
}

fn appeared(path: PathBuf) -> FolderChange {
    FolderChange { appeared: vec![path], gone: Vec::new() }
}

fn gone(path: PathBuf) -> FolderChange {
    FolderChange { appeared: Vec::new(), gone: vec![path] }
}

#[test]
fn a_file_renamed_into_place_is_told_and_so_is_its_removal() {
    let folder = Folder::new();
    fs::write(folder.0.join("there-before.so"), b"x").unwrap();
    let (_watcher, changes) = watch(&folder.0);
    fs::write(folder.0.join(".a.so.part"), b"x").unwrap();
    fs::write(folder.0.join("a.so~"), b"x").unwrap();
    fs::write(folder.0.join("a.so.tmp"), b"x").unwrap();
    fs::rename(folder.0.join(".a.so.part"), folder.0.join("a.so")).unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(appeared(folder.0.join("a.so"))));
    fs::remove_file(folder.0.join("a.so")).unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(gone(folder.0.join("a.so"))));
    fs::rename(folder.0.join("there-before.so"), folder.0.join("set-aside")).unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(gone(folder.0.join("there-before.so"))));
}

#[test]
fn a_file_that_is_written_slowly_is_told_when_it_is_closed() {
    let mut bench = Bench::new();
    let (_watcher, changes) = watch(&bench.drop_in);
    let path = bench.drop_in.join("slow.so");
    let bytes = plugin(BUILT_VERSION);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    plugin_kit::set_mode(&path, 0o644);
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        file.write_all(piece).unwrap();
        // Longer than the folder has to be quiet for.
        thread::sleep(Duration::from_millis(300));
    }
    assert!(changes.try_recv().is_err(), "it is not complete yet");
    drop(file);
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(appeared(path.clone())));
    let plugin = started(bench.registry.load_file(&path, false).unwrap());
    fs::remove_file(&path).unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(gone(path.clone())));
    assert!(matches!(bench.registry.file_gone(&path).as_slice(), [PluginEvent::Draining(_)]));
    assert_callable(&plugin);
}

#[test]
fn many_files_at_once_are_one_change() {
    let folder = Folder::new();
    let (_watcher, changes) = watch(&folder.0);
    let mut expected: Vec<PathBuf> = (0..50).map(|n| folder.0.join(format!("{n:02}.so"))).collect();
    for path in &expected {
        fs::write(path, b"x").unwrap();
    }
    while !expected.is_empty() {
        let change = changes.recv_timeout(LIVENESS).unwrap();
        assert!(change.gone.is_empty());
        expected.retain(|path| !change.appeared.contains(path));
    }
}

#[test]
fn a_folder_may_come_go_and_come_back() {
    let parent = Folder::new();
    let folder = parent.0.join("later");
    let (_watcher, changes) = watch(&folder);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.so"), b"x").unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(appeared(folder.join("a.so"))));
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(gone(folder.join("a.so"))));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("b.so"), b"x").unwrap();
    assert_eq!(changes.recv_timeout(LIVENESS), Ok(appeared(folder.join("b.so"))));
}

#[test]
fn dropping_the_watcher_ends_its_thread() {
    let folder = Folder::new();
    let (watcher, changes) = watch(&folder.0);
    drop(watcher);
    assert_eq!(changes.recv_timeout(LIVENESS), Err(RecvTimeoutError::Disconnected));
}
