//! Ends what a node leaves behind that was killed: a guard, the launcher in another role, waits for the end of
//! the node and reads from shared memory which process groups are the node's functions.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crate::launcher;
use crate::process::Process;
use crate::program::{Program, Stdio};

/// Process groups that are watched over at once; what is above goes without.
const ENTRIES: usize = 4096;

struct Guard {
    table: &'static [AtomicI32; ENTRIES],
    next: AtomicUsize,
    /// Its end is what the guard waits for.
    _life: OwnedFd,
}

static GUARD: OnceLock<Option<Guard>> = OnceLock::new();

/// Starts the guard where none runs. Off the event's road.
pub fn start() {
    GUARD.get_or_init(|| Guard::start().ok());
}

/// A place in the table; it is free again when it is dropped.
#[derive(Debug)]
pub struct Entry(Option<&'static AtomicI32>);

impl Entry {
    /// Puts a process group under the guard.
    pub fn of(group: i32) -> Self {
        let Some(Some(guard)) = GUARD.get() else { return Entry(None) };
        let first = guard.next.fetch_add(1, Ordering::Relaxed);
        let free = (0..ENTRIES)
            .map(|at| &guard.table[(first + at) % ENTRIES])
            .find(|entry| entry.compare_exchange(0, group, Ordering::Release, Ordering::Relaxed).is_ok());
        Entry(free)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(entry) = self.0 {
            entry.store(0, Ordering::Release);
        }
    }
}

impl Guard {
    fn start() -> io::Result<Guard> {
        let bytes = ENTRIES * size_of::<AtomicI32>();
        // SAFETY: the name is a text; the result is checked.
        let memory = unsafe {
            let memory = libc::memfd_create(c"tempos-functions".as_ptr(), libc::MFD_CLOEXEC);
            if memory < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(memory)
        };
        // SAFETY: no pointers.
        if unsafe { libc::ftruncate(memory.as_raw_fd(), bytes as i64) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of a file of that length.
        let table = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, shared, memory.as_raw_fd(), 0) };
        if table == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let (wait, life) = io::pipe()?;
        let arguments = ["tempos-exec", "--guard", "3", &bytes.to_string()].map(String::from);
        let program = Program::new(launcher::path()?, &arguments, &[], Vec::new());
        let stdio = Stdio::Guard { input: wait.as_raw_fd(), table: memory.as_raw_fd() };
        // It ends by itself after the node, and is then nobody's child.
        std::mem::forget::<Process>(program.start(None, &stdio, None)?);
        Ok(Guard {
            // SAFETY: mapped for the life of the process, zeroed, and of that length.
            table: unsafe { &*table.cast() },
            next: AtomicUsize::new(0),
            _life: life.into(),
        })
    }
}
