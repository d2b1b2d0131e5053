//! Says which plugin files appeared in the drop-in folders or went: inotify(7).
//!
//! A file counts only when its writer closed it or renamed it into place, and only after the folder was
//! quiet for a moment: a large copy is never seen half done. Runs on a thread of its own at normal
//! priority. Start it before the folders are read for the first time: then nothing falls in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use super::FILES_MAX;

/// The folders must be quiet for so long before a change is told.
const QUIET: Duration = Duration::from_millis(200);
/// A change is told after so long even where they are never quiet.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a missing folder is looked for.
const RETRY: Duration = Duration::from_secs(2);

/// What changed in the folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderChange {
    /// Files that are complete and new, or were written again.
    pub appeared: Vec<PathBuf>,
    /// Files that are not there any more.
    pub gone: Vec<PathBuf>,
}

/// A running watch; dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    /// Closing it is the sign to stop.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches `folders` from now on; what lies in them already is not told. A missing folder is looked
    /// for every 2 s, and its files are told when it appears.
    ///
    /// # Errors
    /// As inotify_init1(2), pipe(2) and pthread_create(3).
    pub fn start(folders: Vec<PathBuf>, changes: Sender<FolderChange>) -> io::Result<Watcher> {
        let (reader, writer) = io::pipe()?;
        let mut watch = Watch::new(folders, changes)?;
        let thread = thread::Builder::new().name(String::from("tempos-plugins")).spawn(move || {
            let param = libc::sched_param { sched_priority: 0 };
            // SAFETY: the structure is valid; 0 names the calling thread. The creator's priority, where it
            // had one, is not inherited.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &param) };
            watch.run(&reader);
        })?;
        Ok(Watcher { stop: Some(writer), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a file of that name in a drop-in folder is meant as a plugin: `*.so`, not hidden. Names of
/// unfinished copies (`.x.so.Ab3`, `x.so~`, `x.so.tmp`) fall outside.
pub fn is_plugin_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() > 3 && name.ends_with(b".so") && !name.starts_with(b".")
}

struct Folder {
    path: PathBuf,
    /// None: it is missing.
    watch: Option<WatchDescriptor>,
}

/// What tells one content of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

struct Watch {
    inotify: Inotify,
    folders: Vec<Folder>,
    changes: Sender<FolderChange>,
    known: BTreeMap<PathBuf, Stamp>,
    touched: BTreeSet<PathBuf>,
    /// Events were lost: everything is looked at.
    rescan: bool,
    /// The first and the last touch that is not told yet.
    since: Option<(Instant, Instant)>,
    next_retry: Instant,
}

impl Watch {
    fn new(folders: Vec<PathBuf>, changes: Sender<FolderChange>) -> io::Result<Watch> {
        let mut watch = Watch {
            inotify: Inotify::init()?,
            folders: folders.into_iter().map(|path| Folder { path, watch: None }).collect(),
            changes,
            known: BTreeMap::new(),
            touched: BTreeSet::new(),
            rescan: false,
            since: None,
            next_retry: Instant::now() + RETRY,
        };
        for at in 0..watch.folders.len() {
            watch.find(at);
        }
        watch.known = watch.scan();
        Ok(watch)
    }

    fn run(&mut self, stop: &PipeReader) {
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            let Ok(stopped) = poll(self.inotify.as_raw_fd(), stop.as_raw_fd(), self.nap()) else { return };
            if stopped {
                return;
            }
            self.read(&mut buffer);
            let now = Instant::now();
            if self.folders.iter().any(|folder| folder.watch.is_none()) && now >= self.next_retry {
                self.next_retry = now + RETRY;
                self.look_for_missing();
            }
            if self.due().is_some_and(|due| now >= due) && !self.tell() {
                return;
            }
        }
    }

    /// When the touches so far are told.
    fn due(&self) -> Option<Instant> {
        self.since.map(|(first, last)| (last + QUIET).min(first + PATIENCE))
    }

    fn nap(&self) -> Option<Duration> {
        let retry = self.folders.iter().any(|folder| folder.watch.is_none()).then_some(self.next_retry);
        let next = [self.due(), retry].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Puts the watch on a folder; `false` where it is missing.
    fn find(&mut self, at: usize) -> bool {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let folder = &mut self.folders[at];
        folder.watch = self.inotify.watches().add(&folder.path, mask).ok();
        folder.watch.is_some()
    }

    fn look_for_missing(&mut self) {
        for at in 0..self.folders.len() {
            if self.folders[at].watch.is_none() && self.find(at) {
                self.touch_everything();
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        // Once a wake-up; what is left keeps the descriptor readable.
        let seen: Vec<(WatchDescriptor, EventMask, Option<PathBuf>)> = match self.inotify.read_events(buffer)
        {
            Ok(events) => events.map(|e| (e.wd.clone(), e.mask, e.name.map(PathBuf::from))).collect(),
            Err(_) => return,
        };
        for (watch, mask, name) in seen {
            if mask.contains(EventMask::Q_OVERFLOW) {
                self.touch_everything();
                continue;
            }
            let Some(at) = self.folders.iter().position(|folder| folder.watch.as_ref() == Some(&watch))
            else {
                continue;
            };
            if mask.intersects(
                EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT,
            ) {
                self.lose(at);
            } else if let Some(name) = name.filter(|name| is_plugin_file(name.as_os_str())) {
                let path = self.folders[at].path.join(name);
                self.touch(Some(path));
            }
        }
    }

    /// The folder itself went away.
    fn lose(&mut self, at: usize) {
        if let Some(watch) = self.folders[at].watch.take() {
            // After DELETE_SELF the kernel has removed it already.
            let _ = self.inotify.watches().remove(watch);
        }
        self.next_retry = Instant::now() + QUIET;
        self.touch_everything();
    }

    fn touch(&mut self, path: Option<PathBuf>) {
        match path {
            Some(path) if self.touched.len() < FILES_MAX => {
                self.touched.insert(path);
            }
            _ => self.rescan = true,
        }
        let now = Instant::now();
        self.since = Some((self.since.map_or(now, |(first, _)| first), now));
    }

    fn touch_everything(&mut self) {
        self.touch(None);
    }

    /// Tells what the touched files are now; `false` where nobody listens any more.
    fn tell(&mut self) -> bool {
        self.since = None;
        let mut touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.rescan) {
            let now = self.scan();
            let changed = |(path, stamp): &(&PathBuf, &Stamp)| self.known.get(*path) != Some(*stamp);
            touched.extend(now.iter().filter(changed).map(|(path, _)| path.clone()));
            touched.extend(self.known.keys().filter(|path| !now.contains_key(*path)).cloned());
        }
        let mut change = FolderChange::default();
        for path in touched {
            match stamp(&path) {
                // Closed once more without a change, such as by a process that had inherited it.
                Some(stamp) if self.known.get(&path) == Some(&stamp) => {}
                Some(stamp) => {
                    self.known.insert(path.clone(), stamp);
                    change.appeared.push(path);
                }
                None => {
                    self.known.remove(&path);
                    change.gone.push(path);
                }
            }
        }
        change == FolderChange::default() || self.changes.send(change).is_ok()
    }

    /// The plugin files of all folders.
    fn scan(&self) -> BTreeMap<PathBuf, Stamp> {
        let mut files = BTreeMap::new();
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(&folder.path) else { continue };
            let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| is_plugin_file(name));
            let paths = names.map(|name| folder.path.join(name)).take(FILES_MAX);
            files.extend(paths.filter_map(|path| stamp(&path).map(|stamp| (path, stamp))));
        }
        files
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some(Stamp { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
}

/// Waits for events; the answer is whether to stop.
fn poll(events: RawFd, stop: RawFd, nap: Option<Duration>) -> io::Result<bool> {
    let mut fds = [events, stop].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let nap_ms = nap.map_or(-1, |nap| i32::try_from(nap.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: the pointer and the length are those of `fds`.
    if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, nap_ms) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
    }
    Ok(fds[1].revents != 0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn names_of_unfinished_copies_are_passed_over() {
        assert!(is_plugin_file(OsStr::new("libtempos_queue_fifo.so")));
        for other in ["", ".so", ".x.so", "x.so~", "x.so.tmp", ".x.so.Ab3", "x.so.1", "x.txt"] {
            assert!(!is_plugin_file(OsStr::new(other)), "{other:?}");
        }
    }

    #[test]
    fn after_lost_events_the_difference_is_found() {
        let folder = std::env::temp_dir().join(format!("tempos-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["kept.so", "removed.so", "rewritten.so"] {
            fs::write(folder.join(name), b"x").unwrap();
        }
        let (sender, changes) = channel();
        let mut watch = Watch::new(vec![folder.clone()], sender).unwrap();
        fs::remove_file(folder.join("removed.so")).unwrap();
        fs::write(folder.join("rewritten.so"), b"longer").unwrap();
        fs::write(folder.join("new.so"), b"x").unwrap();
        // The events of these are never read, as if the kernel had dropped them.
        watch.touch_everything();
        assert!(watch.due().is_some());
        assert!(watch.tell());
        let expected = FolderChange {
            appeared: vec![folder.join("new.so"), folder.join("rewritten.so")],
            gone: vec![folder.join("removed.so")],
        };
        assert_eq!(changes.try_recv(), Ok(expected));
        fs::remove_dir_all(folder).unwrap();
    }
}
