//! Saving a script is enough: the wiring's files are watched, and read again once they are quiet.
//!
//! inotify only says that it is time to look. What counts is whether the scripts differ from those read
//! last, so a lost or doubled notification, an editor's back-up file or a touched folder does no harm.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchMask};
use sha2::{Digest as _, Sha256};

/// The most folders that are watched, and how deep below a wiring folder modules may lie.
const FOLDERS_MAX: usize = 256;
const DEPTH_MAX: usize = 3;
/// The most files that are compared: more than a wiring may have.
const FILES_MAX: usize = 4096;
/// How often the thread looks whether it should end, and whether folders came or went unseen.
const LOOK: Duration = Duration::from_millis(500);
/// Under unending writes the wiring is still read this many settling times after the first.
const SETTLES_MAX: u32 = 10;

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct WiringWatch {
    stop: Arc<AtomicBool>,
}

impl WiringWatch {
    /// Watches these files and folders; calls `changed` on its own thread when scripts differ from those
    /// of `known`, after they have been quiet for `settle`.
    ///
    /// # Errors
    /// The system has no watch or no thread to give; the wiring can still be reloaded by order.
    pub fn start(
        paths: Vec<PathBuf>,
        known: Scripts,
        settle: Duration,
        changed: impl Fn() + Send + 'static,
    ) -> io::Result<WiringWatch> {
        let inotify = Inotify::init()?;
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { paths, known, settle, inotify, watched: BTreeMap::new(), stop: stop.clone() };
        std::thread::Builder::new()
            .name("tempos-wiring".into())
            .stack_size(256 << 10)
            .spawn(move || watcher.run(&changed))?;
        Ok(WiringWatch { stop })
    }
}

impl Drop for WiringWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The scripts and modules of a wiring as they were at one instant: what a look is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripts(BTreeMap<PathBuf, (u64, u64, i64, i64)>);

impl Scripts {
    /// Looks at the files now.
    pub fn look(paths: &[PathBuf]) -> Scripts {
        let mut scripts = Scripts::default();
        for path in paths {
            if path.is_dir() {
                for folder in folders_below(path) {
                    scripts.add_folder(&folder);
                }
            } else {
                scripts.add(path);
            }
        }
        scripts
    }

    /// The checksum of their names and contents: the same for the same scripts, whenever they were saved.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        for path in self.0.keys() {
            let name = path.as_os_str().as_encoded_bytes();
            // What cannot be read has no contents; that it cannot be is noticed elsewhere.
            let text = std::fs::read(path).unwrap_or_default();
            for part in [name, &text] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        crate::generations::record::hex(&digest.finalize())
    }

    fn add_folder(&mut self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.filter_map(Result::ok).take(FILES_MAX) {
            if is_script(&entry.file_name()) {
                self.add(&entry.path());
            }
        }
    }

    fn add(&mut self, path: &Path) {
        if let Ok(meta) = std::fs::metadata(path)
            && self.0.len() < FILES_MAX
        {
            let mark = (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
            self.0.insert(path.to_owned(), mark);
        }
    }
}

/// A folder and those below it that modules may lie in.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![(folder.to_owned(), 0)];
    let mut next = 0;
    while next < all.len() && all.len() < FOLDERS_MAX {
        let (folder, depth) = all[next].clone();
        next += 1;
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        if depth < DEPTH_MAX {
            let below = entries
                .filter_map(Result::ok)
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && !is_hidden(&e.file_name()))
                .map(|e| (e.path(), depth + 1));
            all.extend(below.take(FOLDERS_MAX - all.len()));
        }
    }
    all.into_iter().map(|(folder, _)| folder).collect()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_script(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(b".lua") && !is_hidden(name)
}

struct Watcher {
    paths: Vec<PathBuf>,
    known: Scripts,
    settle: Duration,
    inotify: Inotify,
    watched: BTreeMap<PathBuf, inotify::WatchDescriptor>,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    fn run(mut self, changed: &impl Fn()) {
        // Something may have been saved between the first reading and this watch.
        self.watch_folders();
        let mut stirred = Some(Instant::now());
        let mut quiet_since = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let wait = if stirred.is_some() { self.settle.min(LOOK) } else { LOOK };
            if self.something_happened(wait) {
                quiet_since = Instant::now();
                stirred.get_or_insert(quiet_since);
                continue;
            }
            // Folders that were not there before, or whose watch went with them.
            if self.watch_folders() {
                stirred.get_or_insert_with(Instant::now);
            }
            let Some(first) = stirred else { continue };
            if quiet_since.elapsed() >= self.settle || first.elapsed() >= self.settle * SETTLES_MAX {
                stirred = None;
                let scripts = Scripts::look(&self.paths);
                if scripts != self.known {
                    self.known = scripts;
                    changed();
                }
            }
        }
    }

    /// Waits for a notification that concerns scripts.
    fn something_happened(&mut self, limit: Duration) -> bool {
        if !readable(&self.inotify, limit) {
            return false;
        }
        let mut buffer = [0; 8192];
        let Ok(events) = self.inotify.read_events(&mut buffer) else { return false };
        let mut concerns = false;
        for event in events {
            if event.mask.contains(EventMask::IGNORED) {
                self.watched.retain(|_, descriptor| *descriptor != event.wd);
            }
            let folder = event.mask.intersects(
                EventMask::ISDIR | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::Q_OVERFLOW,
            );
            // A file that has only been created is not written yet: CLOSE_WRITE follows.
            let script = event.name.is_some_and(|name| is_script(name) || self.is_named(name));
            concerns |= folder || (script && !event.mask.contains(EventMask::CREATE));
        }
        concerns
    }

    /// Whether a path of the wiring ends with this name, such as a script without the usual ending.
    fn is_named(&self, name: &OsStr) -> bool {
        self.paths.iter().any(|path| path.file_name() == Some(name))
    }

    /// Watches every folder that a script lies in or may come to lie in; whether one is new.
    fn watch_folders(&mut self) -> bool {
        let mut wanted: Vec<PathBuf> = Vec::new();
        for path in &self.paths {
            // The nearest folder above that is there: the wiring may be put in place later.
            wanted.extend(path.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned));
            if path.is_dir() {
                wanted.extend(folders_below(path));
            }
        }
        wanted.truncate(FOLDERS_MAX);
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut new = false;
        for folder in wanted {
            if !self.watched.contains_key(&folder)
                && let Ok(descriptor) = self.inotify.watches().add(&folder, mask)
            {
                self.watched.insert(folder, descriptor);
                new = true;
            }
        }
        new
    }
}

/// Waits until there is something to read.
fn readable(inotify: &Inotify, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd: inotify.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is to one pollfd that lives across the call, and the count is 1.
    let ready = unsafe { libc::poll(&raw mut poll, 1, limit_ms) };
    ready > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};

    const SETTLE: Duration = Duration::from_millis(10);
    const LIVENESS: Duration = Duration::from_secs(20);

    fn watch(paths: Vec<PathBuf>) -> (WiringWatch, Receiver<()>) {
        let (tell, told) = channel();
        let known = Scripts::look(&paths);
        let watch = WiringWatch::start(paths, known, SETTLE, move || {
            // A test that is over hears no more.
            let _ = tell.send(());
        })
        .unwrap();
        (watch, told)
    }

    #[test]
    fn a_saved_script_is_noticed_however_it_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let wiring = folder.path().join("wiring.d");
        fs::create_dir(&wiring).unwrap();
        let script = wiring.join("10-line.lua");
        let (_watch, told) = watch(vec![wiring.clone()]);
        fs::write(&script, "-- one").unwrap();
        told.recv_timeout(LIVENESS).expect("written in place");
        fs::write(wiring.join(".10-line.lua.swp"), "-- two, three").unwrap();
        fs::rename(wiring.join(".10-line.lua.swp"), &script).unwrap();
        told.recv_timeout(LIVENESS).expect("renamed over");
        fs::create_dir(wiring.join("parts")).unwrap();
        fs::write(wiring.join("parts/press.lua"), "return {}").unwrap();
        told.recv_timeout(LIVENESS).expect("a module in a new folder below");
        fs::remove_file(&script).unwrap();
        told.recv_timeout(LIVENESS).expect("removed");
    }

    #[test]
    fn a_wiring_folder_may_come_later_and_go_and_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let wiring = folder.path().join("later/wiring.d");
        let (_watch, told) = watch(vec![wiring.clone()]);
        for round in 0..3 {
            fs::create_dir_all(&wiring).unwrap();
            fs::write(wiring.join("10-line.lua"), format!("-- {round}")).unwrap();
            told.recv_timeout(LIVENESS).expect("came");
            fs::remove_dir_all(folder.path().join("later")).unwrap();
            told.recv_timeout(LIVENESS).expect("went");
            // Whatever else the removal gave notice of is the same removal.
            while told.recv_timeout(SETTLE * 4).is_ok() {}
        }
    }

    #[test]
    fn what_is_no_script_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.lua"), "-- a").unwrap();
        let paths = vec![folder.path().to_owned()];
        let before = Scripts::look(&paths);
        for name in [".a.lua.swp", "a.lua~", "4913", "notes.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(Scripts::look(&paths), before);
        fs::write(folder.path().join("b.lua"), "-- b").unwrap();
        assert_ne!(Scripts::look(&paths), before);
    }
}
