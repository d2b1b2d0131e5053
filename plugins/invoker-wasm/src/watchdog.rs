//! The thread that stops guests at their deadlines. It sleeps until the earliest deadline of the invocations
//! under way, and then moves the engines' epoch on: every guest notices within a few instructions and asks
//! whether it is meant. While nothing is under way for a second it sleeps for good, and the next invocation
//! wakes it.
//!
//! It runs one step above the real-time threads that guests run on: a deadline must be heard while a guest
//! loops on every CPU. Where the system refuses that, it runs as an ordinary thread.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tempos_abi::invoker::Scheduling;

use crate::clock::now_ns;
use crate::deadlines::{Deadlines, Glance};

/// A deadline that is past is announced again after so long, while its guest has not ended.
const AGAIN_NS: u64 = 1_000_000;
/// How often it looks at least, while there are invocations, for those that began meanwhile.
const LOOK_NS_MIN: u64 = 1_000_000;
const LOOK_NS_MAX: u64 = 5_000_000;
/// Without any invocation for so long it sleeps until one begins.
const REST_AFTER_NS: u64 = 1_000_000_000;
/// The node's supervisor is above this.
const PRIORITY_MAX: u8 = 97;
const STACK_BYTES: usize = 128 * 1024;

/// The one watchdog of the process.
pub static WATCHDOG: Watchdog = Watchdog {
    wards: Mutex::new(Vec::new()),
    changes: AtomicU64::new(0),
    resting: AtomicBool::new(false),
    look_ns: AtomicU64::new(LOOK_NS_MAX),
    priority: AtomicU8::new(0),
    thread_id: AtomicI32::new(0),
    thread: OnceLock::new(),
};

/// Whom it looks after, and how it is woken.
pub struct Watchdog {
    wards: Mutex<Vec<Arc<Deadlines>>>,
    changes: AtomicU64,
    resting: AtomicBool,
    look_ns: AtomicU64,
    priority: AtomicU8,
    thread_id: AtomicI32,
    thread: OnceLock<Thread>,
}

/// A function that is looked after; no longer when this is dropped.
pub struct Watched {
    deadlines: Arc<Deadlines>,
}

impl Watchdog {
    /// Looks after a function whose invocations take at most `deadline_ns` (0: no bound) on threads that are
    /// scheduled so. `tick` moves the engines' epoch on.
    ///
    /// # Errors
    /// What the system says where the thread cannot be started.
    pub fn watch(
        &'static self,
        deadlines: Arc<Deadlines>,
        deadline_ns: u64,
        scheduling: Scheduling,
        tick: fn(),
    ) -> std::io::Result<Watched> {
        if deadline_ns != 0 {
            self.look_ns.fetch_min(deadline_ns.max(LOOK_NS_MIN), Ordering::Relaxed);
        }
        self.wards().push(Arc::clone(&deadlines));
        self.changes.fetch_add(1, Ordering::Release);
        let watched = Watched { deadlines };
        self.start(tick)?;
        self.raise(scheduling);
        Ok(watched)
    }

    /// An invocation has begun (see [`Deadlines::begin`]): one load, unless the watchdog sleeps for good.
    pub fn notice(&self) {
        fence(Ordering::SeqCst);
        if self.resting.load(Ordering::Relaxed) && self.resting.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// An invocation is to end now.
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn wards(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Deadlines>>> {
        self.wards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&'static self, tick: fn()) -> std::io::Result<()> {
        // Held while it starts, so that it starts once.
        let wards = self.wards();
        if self.thread.get().is_none() {
            let handle = std::thread::Builder::new()
                .name("wasm-watchdog".into())
                .stack_size(STACK_BYTES)
                .spawn(move || self.run(tick))?;
            let _ = self.thread.set(handle.thread().clone());
        }
        drop(wards);
        self.wake();
        Ok(())
    }

    /// Runs above real-time threads of that kind from now on.
    fn raise(&self, scheduling: Scheduling) {
        if !matches!(i32::from(scheduling.policy), libc::SCHED_FIFO | libc::SCHED_RR) {
            return;
        }
        let wanted = scheduling.priority.saturating_add(1).min(PRIORITY_MAX);
        if self.priority.fetch_max(wanted, Ordering::SeqCst) < wanted {
            self.apply_priority();
        }
    }

    /// Asked for by whoever raises it and by the thread itself at its start: one of the two finds both known.
    fn apply_priority(&self) {
        let (thread, priority) =
            (self.thread_id.load(Ordering::SeqCst), self.priority.load(Ordering::SeqCst));
        if thread > 0 && priority > 0 {
            let parameters = libc::sched_param { sched_priority: priority.into() };
            let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
            // SAFETY: the struct is live; a refusal leaves the thread as it is.
            unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) };
        }
    }

    fn run(&self, tick: fn()) {
        // SAFETY: gettid(2) has no preconditions.
        self.thread_id.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        self.apply_priority();
        let mut known: Vec<Arc<Deadlines>> = Vec::new();
        let (mut seen, mut begun, mut quiet_since) = (u64::MAX, 0, now_ns());
        loop {
            self.learn(&mut known, &mut seen);
            let now = now_ns();
            let glance = look(&known, now);
            if glance.overdue {
                tick();
            }
            if glance.busy || glance.begun != begun {
                (begun, quiet_since) = (glance.begun, now);
            } else if now.saturating_sub(quiet_since) >= REST_AFTER_NS && self.rest(&known, begun) {
                quiet_since = now_ns();
                continue;
            }
            let longest = if glance.overdue { AGAIN_NS } else { self.look_ns.load(Ordering::Relaxed) };
            let until = glance.next_ns.min(now + longest.min(LOOK_NS_MAX));
            std::thread::park_timeout(Duration::from_nanos(until.saturating_sub(now)));
        }
    }

    /// Takes over what was added or removed. Never waits: whoever holds the lock may be an ordinary thread
    /// that gets no CPU.
    fn learn(&self, known: &mut Vec<Arc<Deadlines>>, seen: &mut u64) {
        let changes = self.changes.load(Ordering::Acquire);
        if *seen != changes
            && let Ok(wards) = self.wards.try_lock()
        {
            known.clone_from(&wards);
            *seen = changes;
        }
    }

    /// Sleeps until an invocation begins or a function is added; `false` where one has begun meanwhile.
    fn rest(&self, known: &[Arc<Deadlines>], begun: u64) -> bool {
        self.resting.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let glance = look(known, 0);
        if glance.busy || glance.begun != begun {
            self.resting.store(false, Ordering::SeqCst);
            return false;
        }
        std::thread::park();
        self.resting.store(false, Ordering::SeqCst);
        true
    }
}

fn look(known: &[Arc<Deadlines>], now_ns: u64) -> Glance {
    known.iter().fold(Glance::NOTHING, |sum, deadlines| sum.and(deadlines.glance(now_ns)))
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHDOG.wards().retain(|deadlines| !Arc::ptr_eq(deadlines, &self.deadlines));
        WATCHDOG.changes.fetch_add(1, Ordering::Release);
    }
}
