//! A slot: room for one invocation at a time, and the process that runs it.
//!
//! Who may touch the process is said by one word. The keeper brings a process up (down → ready), takes one
//! away that nobody uses (ready → down) or that was given up (broken → down); a worker takes a ready one
//! (ready → busy) and gives it back (busy → ready, or busy → broken).

use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::follow::Follow;
use super::memory::{Memory, Word};
use super::process::Process;
use super::wait::{wait, wake};

/// No process.
pub const DOWN: u32 = 0;
/// A process waits for an event.
pub const READY: u32 = 1;
/// A worker has it.
pub const BUSY: u32 = 2;
/// The process is to be taken away.
pub const BROKEN: u32 = 3;

/// A process and what it shares with the node.
#[derive(Debug)]
pub struct Instance {
    /// The process.
    pub process: Process,
    /// What both have mapped.
    pub memory: Memory,
    /// Where it runs.
    pub follow: Follow,
    /// The number of the last event that was given to it.
    pub number: AtomicU32,
    /// Events that it has served.
    pub served: AtomicU32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Slot {
    state: Word,
    instance: UnsafeCell<Option<Arc<Instance>>>,
    /// Somebody waits for a process, or wants one to be there.
    pub wanted: AtomicBool,
    /// The invocation is to end early.
    pub cancelled: AtomicBool,
    /// The next process is not started before this (CLOCK_MONOTONIC, ns).
    pub start_after_ns: AtomicU64,
    /// When the last invocation ended (CLOCK_MONOTONIC, ns).
    pub used_ns: AtomicU64,
    waiting: AtomicU32,
}

// SAFETY: the instance is touched by whom the state names.
unsafe impl Sync for Slot {}

/// A process that is this thread's for now.
pub struct Taken<'a> {
    slot: &'a Slot,
    broken: Cell<bool>,
}

impl Slot {
    /// The word for who may touch it.
    pub fn state(&self) -> u32 {
        self.state.0.load(Ordering::Acquire)
    }

    /// A worker takes the process, where one is ready.
    pub fn take(&self) -> Option<Taken<'_>> {
        // Made only where the change was: dropping it changes the state.
        self.change(READY, BUSY).then(|| Taken { slot: self, broken: Cell::new(false) })
    }

    /// Sleeps while there is no process to be taken, until a point in time at most.
    pub fn await_ready(&self, until_ns: u64) {
        let state = self.state();
        if state != READY {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            wait(&self.state.0, state, until_ns);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The keeper puts a process in; the slot is down.
    pub fn bring_up(&self, instance: Arc<Instance>) {
        // SAFETY: only the keeper touches a slot that is down.
        unsafe { *self.instance.get() = Some(instance) };
        self.wanted.store(false, Ordering::Relaxed);
        self.state.0.store(READY, Ordering::Release);
        wake(&self.state.0);
    }

    /// The keeper takes the process away, where nobody has it.
    pub fn take_down(&self) -> bool {
        if !self.change(READY, DOWN) && !self.change(BROKEN, DOWN) {
            return false;
        }
        // SAFETY: as above.
        unsafe { *self.instance.get() = None };
        true
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<'a> Taken<'a> {
    /// The process, and what it shares with the node.
    pub fn instance(&self) -> Option<&Instance> {
        // SAFETY: the slot is busy, and this is who made it so.
        unsafe { (*self.slot.instance.get()).as_deref() }
    }

    /// The slot.
    pub fn slot(&self) -> &'a Slot {
        self.slot
    }

    /// Gives the process up.
    pub fn give_up(&self) {
        self.broken.set(true);
    }

    /// Whether it was given up.
    pub fn is_given_up(&self) -> bool {
        self.broken.get()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.slot.state.0.store(if self.broken.get() { BROKEN } else { READY }, Ordering::SeqCst);
        if self.slot.waiting.load(Ordering::SeqCst) > 0 {
            wake(&self.slot.state.0);
        }
    }
}
