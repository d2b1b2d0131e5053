//! What other threads may do to an invocation under way: end it, and nothing else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::spawner::locked;

/// The invocation of one worker.
#[derive(Debug, Default)]
pub struct Running {
    /// Its process group; 0: none.
    group: Mutex<i32>,
    cancelled: AtomicBool,
}

impl Running {
    /// An invocation begins.
    pub fn begin(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// It runs in that group from now on.
    pub fn enter(&self, group: i32) {
        *locked(&self.group) = group;
    }

    /// It does not any more: before the group's number can become another's.
    pub fn leave(&self) {
        *locked(&self.group) = 0;
    }

    /// Whether it was told to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends it, where there is one.
    pub fn cancel(&self) {
        let group = locked(&self.group);
        if *group > 1 {
            self.cancelled.store(true, Ordering::Relaxed);
            // SAFETY: no pointers; the number is the group's as long as this lock is held.
            unsafe { libc::kill(-*group, libc::SIGKILL) };
        }
    }
}
