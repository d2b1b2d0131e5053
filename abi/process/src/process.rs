//! A process that was started here: told from others by a pidfd, ended with its whole group, always reaped.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use crate::clock::{now_ns, polled, wait};
use crate::guard::Entry;

/// How long the end of a killed process is waited for before it is left to be reaped later.
const REAP_NS: u64 = 100_000_000;

/// Processes that were killed and did not end at once (a sleep in the kernel that nothing interrupts).
static LEFT: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it; 0: none.
    pub signal: i32,
    /// The memory that it touched for the first time, in bytes.
    pub touched_bytes: u64,
    /// The most that it had in memory at once, in bytes; at least what the node had when it was started.
    pub resident_bytes: u64,
}

/// The most memory that this process has had at once, in bytes.
pub fn own_resident_bytes() -> u64 {
    // SAFETY: all zeros is a valid value of this plain struct, and it is live.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    (usage.ru_maxrss as u64).saturating_mul(1024)
}

/// A running process, the leader of its own group. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    /// Somebody else has started it, and reaps it.
    foreign: bool,
    handle: OwnedFd,
    entry: Option<Entry>,
    reaped: bool,
}

impl Process {
    /// Takes a child over that leads its own process group.
    ///
    /// # Errors
    /// What the system refuses; the child was killed then.
    pub fn adopt(pid: i32, guarded: bool) -> io::Result<Self> {
        let entry = guarded.then(|| Entry::of(pid));
        // SAFETY: no pointers. Nobody has reaped the child, so that its number is its own.
        let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if handle < 0 {
            let error = io::Error::last_os_error();
            // SAFETY: as above; the status is not asked for.
            unsafe {
                libc::kill(-pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
            return Err(error);
        }
        // SAFETY: just opened, and nobody else's.
        let handle = unsafe { OwnedFd::from_raw_fd(handle as RawFd) };
        Ok(Process { pid, foreign: false, handle, entry, reaped: false })
    }

    /// Takes charge of a process that somebody else has started, by a pidfd of it: it leads its own process group,
    /// and this node may end it. How it ended is not told.
    pub fn foreign(pid: i32, handle: OwnedFd) -> Self {
        Process { pid, foreign: true, handle, entry: Some(Entry::of(pid)), reaped: false }
    }

    /// Its number, and that of its group.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable once it has ended.
    pub fn handle(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// Kills everything in its group. Its number is its own as long as it was not reaped, which somebody else may do
    /// at once with a foreign one.
    pub fn kill_group(&self) {
        let gone = self.foreign && wait(&mut [polled(self.handle(), libc::POLLIN)], 1);
        if !self.reaped && !gone {
            // SAFETY: no pointers; see above.
            unsafe { libc::kill(-self.pid, libc::SIGKILL) };
        }
    }

    /// Waits until it has ended, but not beyond that time (CLOCK_MONOTONIC, ns); whether it has.
    pub fn has_ended(&self, until_ns: u64) -> bool {
        let mut handle = [polled(self.handle(), libc::POLLIN)];
        loop {
            if wait(&mut handle, until_ns.max(1)) {
                return true;
            }
            if now_ns() >= until_ns {
                return false;
            }
        }
    }

    /// Ends what is left of its group and takes its status. `None` where it does not end.
    pub fn reap(mut self) -> Option<Ended> {
        self.end()
    }

    fn end(&mut self) -> Option<Ended> {
        self.kill_group();
        let ended = self.has_ended(now_ns() + REAP_NS);
        self.reaped = true;
        if !ended {
            if !self.foreign {
                LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(self.pid);
            }
            return None;
        }
        self.entry = None;
        if self.foreign {
            return Some(Ended::default());
        }
        let mut status = 0;
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both are live; the child is ours and not reaped.
        let got = unsafe { libc::wait4(self.pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if got != self.pid {
            // Somebody else in the node has taken its status.
            return Some(Ended::default());
        }
        Some(Ended {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 },
            touched_bytes: (usage.ru_minflt as u64).saturating_mul(4096),
            resident_bytes: (usage.ru_maxrss as u64).saturating_mul(1024),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
        reap_left();
    }
}

/// Reaps those that took longer.
fn reap_left() {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: they are children that nobody else reaps; the status is not asked for.
    left.retain(|pid| unsafe { libc::waitpid(*pid, std::ptr::null_mut(), libc::WNOHANG) } == 0);
}
