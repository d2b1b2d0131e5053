//! Sets an interface, says what it does not support, and puts back what was there.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::profile::Profile;
use crate::record::{self, Record};
use crate::thing::{THINGS, Thing};
use crate::threads::{self, Thread};

/// An interface that was set; it is put back when this is dropped.
#[derive(Debug)]
pub struct Tuning {
    record: Record,
    path: PathBuf,
    unmet: Vec<(&'static str, String)>,
}

impl Tuning {
    /// Sets an interface. NAPI threads get the priority (SCHED_FIFO, 1 to 99), where the profile has any. The record of
    /// what was there lies in the folder until it is put back.
    ///
    /// # Errors
    /// One sentence: there is no such interface, or no record can be written; nothing was changed then.
    pub fn apply(interface: &str, profile: Profile, priority: i32, folder: &Path) -> Result<Tuning, String> {
        let Some(index) = index_of(interface) else {
            return Err(format!(
                "interface {interface:?} is not there; `ip link` lists those of this machine"
            ));
        };
        let mut tuning = Tuning {
            record: Record {
                interface: interface.to_owned(),
                index,
                boot: record::boot(),
                ..Record::default()
            },
            path: record::path(folder, interface),
            unmet: Vec::new(),
        };
        let mut changes = Vec::new();
        for thing in THINGS {
            match thing.read(interface) {
                Ok(now) => {
                    if let Some(wanted) = profile.wants(thing, &now).filter(|wanted| *wanted != now) {
                        tuning.record.things.push((thing, now));
                        changes.push((thing, wanted));
                    }
                }
                Err(error) => tuning.lacks(thing, &error),
            }
        }
        tuning.record.threads = threads::of(interface);
        tuning.record.save(&tuning.path).map_err(|error| {
            format!("interface {interface:?} stays as it is: {}: {error}", tuning.path.display())
        })?;
        for (thing, wanted) in changes {
            tuning.change(profile, thing, &wanted);
        }
        if profile == Profile::Jitter && Thing::Threaded.read(interface).is_ok_and(|on| on == [1]) {
            tuning.raise(priority);
        }
        Ok(tuning)
    }

    /// What the interface does not support, or the system refused: which thing, and one sentence.
    pub fn unmet(&self) -> &[(&'static str, String)] {
        &self.unmet
    }

    fn lacks(&mut self, thing: Thing, error: &io::Error) {
        let (words, name) = (thing.words(), &self.record.interface);
        let sentence = match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOENT | libc::EINVAL) => {
                format!("interface {name} has no {words} to set")
            }
            _ => format!("interface {name}: {words} cannot be read: {error}"),
        };
        self.unmet.push((thing.word(), sentence));
    }

    fn change(&mut self, profile: Profile, thing: Thing, wanted: &[u64]) {
        let name = self.record.interface.clone();
        let mut done = thing.write(&name, wanted);
        if done.is_err()
            && let Some(instead) = thing.read(&name).ok().and_then(|now| profile.instead(thing, &now))
        {
            done = thing.write(&name, &instead);
        }
        let words = thing.words();
        let sentence = match done {
            Err(error) => match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => {
                    format!("interface {name} does not support what the profile wants of {words}")
                }
                Some(libc::EPERM | libc::EACCES) => {
                    format!(
                        "interface {name}: {words} cannot be set: {error}; it needs CAP_NET_ADMIN, and root for /sys"
                    )
                }
                _ => format!("interface {name}: {words} cannot be set: {error}"),
            },
            // Coalescing may be rounded by a card; what is on or off is not.
            Ok(()) if thing != Thing::Coalescing && thing.read(&name).is_ok_and(|now| now != wanted) => {
                format!("interface {name}: {words} was set, and is not in force")
            }
            Ok(()) => return,
        };
        self.unmet.push((thing.word(), sentence));
    }

    /// Gives the threads their priority: those that came with the change, or, where none did, all of that name.
    fn raise(&mut self, priority: i32) {
        let name = &self.record.interface;
        let all = threads::of(name);
        let is_new = |thread: &&Thread| !self.record.threads.iter().any(|known| known.pid == thread.pid);
        let mut raised: Vec<Thread> = all.iter().filter(is_new).copied().collect();
        if raised.is_empty() {
            raised = all;
        }
        let done = raised.iter().try_for_each(|thread| {
            threads::schedule(Thread { policy: libc::SCHED_FIFO, priority, ..*thread })
        });
        let why = match done {
            Ok(()) if raised.is_empty() => String::from("the kernel's threads cannot be seen from here"),
            Ok(()) => return,
            Err(error) => format!("{error}; it needs CAP_SYS_NICE"),
        };
        let sentence = format!("interface {name}: its NAPI threads do not get priority {priority}: {why}");
        self.unmet.push(("priority", sentence));
    }

    /// Puts back what was there; the answer is what could not be, one sentence each.
    pub fn restore(self) -> Vec<String> {
        let sentences = put_back(&self.record, &self.path);
        std::mem::forget(self);
        sentences
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        put_back(&self.record, &self.path);
    }
}

/// Puts back what a process that was killed has left in the folder; the answer is one sentence for each interface.
pub fn recover(folder: &Path) -> Vec<String> {
    let mut sentences = Vec::new();
    for path in record::all(folder) {
        match Record::load(&path) {
            // After another boot every interface begins anew.
            Ok(record) if record.boot != record::boot() => drop(fs::remove_file(&path)),
            Ok(record) => {
                let name = record.interface.clone();
                let failed = put_back(&record, &path);
                if failed.is_empty() {
                    sentences
                        .push(format!("interface {name} was put back as it was before this node was killed"));
                }
                sentences.extend(failed);
            }
            Err(error) => {
                sentences.push(format!("{}: it cannot be put back: {error}", path.display()));
                let _ = fs::remove_file(&path);
            }
        }
    }
    sentences
}

fn put_back(record: &Record, path: &Path) -> Vec<String> {
    let name = &record.interface;
    let mut sentences = Vec::new();
    // One of the same name may have taken its place, as it was made.
    if index_of(name) == Some(record.index) {
        for (thing, values) in record.things.iter().rev() {
            if let Err(error) = thing.write(name, values) {
                sentences.push(format!("interface {name}: {} cannot be put back: {error}", thing.words()));
            }
        }
        for thread in threads::of(name) {
            let before = record.threads.iter().find(|known| known.pid == thread.pid);
            let before =
                before.copied().unwrap_or(Thread { policy: libc::SCHED_OTHER, priority: 0, ..thread });
            if before != thread
                && threads::is_of(thread.pid, name)
                && let Err(error) = threads::schedule(before)
            {
                sentences.push(format!("interface {name}: its NAPI threads keep their priority: {error}"));
            }
        }
    }
    let _ = fs::remove_file(path);
    sentences
}

fn index_of(interface: &str) -> Option<u32> {
    let name = CString::new(interface).ok()?;
    // SAFETY: the name is a live C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}
