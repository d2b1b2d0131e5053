//! The supervisor: one thread above every lane that notices an owner who does not come back from a plugin.
//!
//! It looks every 50 ms while anything moves and once a second while nothing does. After 200 ms in one and
//! the same call an owner is demoted, so that it no longer holds up its CPU; after 500 ms it loses its
//! lane, and the controller starts a successor. An owner that merely gets no CPU is left alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ownership::{Beat, Doing, Ownership};
use super::shared::LaneShared;
use crate::processing::function_worker::FunctionShared;
use crate::system::clock::monotonic_ns;
use crate::system::scheduling::{self, ThreadId};

const LOOK_NS: u64 = 50_000_000;
const REST_NS: u64 = 1_000_000_000;
const DEMOTE_AFTER_NS: u64 = 200_000_000;
const DISOWN_AFTER_NS: u64 = 500_000_000;
/// CPU time within one call from which on nobody counts as starved: a lane's owner, and a function whose
/// deadline is shorter than that.
const LANE_BUDGET_NS: u64 = 100_000_000;
const FUNCTION_BUDGET_NS: u64 = 20_000_000;
/// How far past its deadline a function is demoted, and loses its worker.
const FUNCTION_GRACE_NS: u64 = 10_000_000;
const FUNCTION_DISOWN_NS: u64 = 300_000_000;

/// Whom the supervisor looks after.
pub enum Ward {
    /// A lane's queue worker.
    Lane(Arc<LaneShared>),
    /// A function worker.
    Function(Arc<FunctionShared>),
}

impl Ward {
    fn ownership(&self) -> &Ownership {
        match self {
            Ward::Lane(lane) => &lane.ownership,
            Ward::Function(function) => &function.ownership,
        }
    }

    fn thread(&self) -> Option<ThreadId> {
        match self {
            Ward::Lane(lane) => lane.thread(),
            Ward::Function(function) => function.thread(),
        }
    }
}

/// What became of a ward; read and cleared by the controller.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// It was demoted.
    pub demoted: AtomicBool,
    /// It lost its place: a successor is to be started.
    pub disowned: AtomicBool,
}

struct Watched {
    ward: Ward,
    verdicts: Arc<Verdicts>,
    beat: Option<Beat>,
    since_ns: u64,
    cpu_ns: u64,
    demoted: bool,
}

/// The list of wards, and the thread's bell.
#[derive(Default)]
pub struct Supervisor {
    wards: Mutex<Vec<Watched>>,
    stop: AtomicBool,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Looks after one more; the answer is where its verdicts are found.
    pub fn watch(&self, ward: Ward) -> Arc<Verdicts> {
        let verdicts = Arc::new(Verdicts::default());
        let watched = Watched {
            ward,
            verdicts: Arc::clone(&verdicts),
            beat: None,
            since_ns: 0,
            cpu_ns: 0,
            demoted: false,
        };
        self.wards.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        verdicts
    }

    /// Looks after it no longer.
    pub fn forget(&self, verdicts: &Arc<Verdicts>) {
        let mut wards = self.wards.lock().unwrap_or_else(PoisonError::into_inner);
        wards.retain(|watched| !Arc::ptr_eq(&watched.verdicts, verdicts));
    }

    /// Ends the thread at its next look.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The body of the thread.
    pub fn run(&self) {
        let mut quiet_rounds = 0u32;
        let mut pulse = 0;
        while !self.stop.load(Ordering::Acquire) {
            let (busy, now_pulse) = self.look(monotonic_ns());
            quiet_rounds = if busy || now_pulse != pulse { 0 } else { quiet_rounds.saturating_add(1) };
            pulse = now_pulse;
            let pause = if quiet_rounds > 20 { REST_NS } else { LOOK_NS };
            std::thread::park_timeout(Duration::from_nanos(pause));
        }
    }

    /// One look at everybody: whether anybody is in a plugin, and a number that changes with any progress.
    fn look(&self, now: u64) -> (bool, u64) {
        // Held by the controller only while it adds or removes a ward, on no lane's road.
        let mut wards = self.wards.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = false;
        let mut pulse = 0u64;
        for watched in wards.iter_mut() {
            if let Ward::Lane(lane) = &watched.ward {
                pulse = pulse.wrapping_add(lane.stats.turns.get());
            }
            let beat = watched.ward.ownership().beat();
            busy |= beat.doing != Doing::Own;
            watched.look(beat, now);
        }
        (busy, pulse)
    }
}

impl Watched {
    fn look(&mut self, beat: Beat, now: u64) {
        if !self.beat.is_some_and(|last| last.same_call(&beat)) {
            self.beat = Some(beat);
            self.since_ns = now;
            self.demoted = false;
            if beat.doing != Doing::Own
                && let Some(thread) = self.ward.thread()
            {
                self.cpu_ns = scheduling::cpu_time_ns(thread);
            }
            return;
        }
        let Some(thread) = self.ward.thread() else { return };
        let stuck_ns = now.saturating_sub(self.since_ns);
        let (demote, disown) = self.limits(stuck_ns, now);
        if !demote || self.is_starved(thread, stuck_ns) {
            return;
        }
        if !self.demoted {
            self.demoted = true;
            let _ = scheduling::demote(thread);
            self.verdicts.demoted.store(true, Ordering::Release);
        }
        if disown && self.ward.ownership().disown(beat) {
            self.beat = None;
            self.verdicts.disowned.store(true, Ordering::Release);
        }
    }

    /// Whether it is time to demote, and to disown.
    fn limits(&self, stuck_ns: u64, now: u64) -> (bool, bool) {
        match &self.ward {
            Ward::Lane(_) => (stuck_ns >= DEMOTE_AFTER_NS, stuck_ns >= DISOWN_AFTER_NS),
            Ward::Function(function) => match function.deadline_ns.load(Ordering::Relaxed) {
                // Without a deadline a function may take as long as it likes, but not at real-time priority.
                0 => (stuck_ns >= DEMOTE_AFTER_NS, false),
                deadline => (now > deadline + FUNCTION_GRACE_NS, now > deadline + FUNCTION_DISOWN_NS),
            },
        }
    }

    /// A thread that could run but gets no CPU is not stuck. Asleep in a plugin it is; and so is one that has
    /// used up in this call what the call may take at most: it may get little because it was demoted for it.
    fn is_starved(&self, thread: ThreadId, stuck_ns: u64) -> bool {
        let Some(usage) = scheduling::usage(thread) else { return false };
        let used = scheduling::cpu_time_ns(thread).saturating_sub(self.cpu_ns);
        usage.state == b'R' && used < stuck_ns / 4 && used < self.budget_ns()
    }

    /// The CPU time that one call may take at most.
    fn budget_ns(&self) -> u64 {
        match &self.ward {
            Ward::Lane(_) => LANE_BUDGET_NS,
            Ward::Function(function) => {
                let deadline_ns = function.deadline_ns.load(Ordering::Relaxed);
                deadline_ns.saturating_sub(self.since_ns).max(FUNCTION_BUDGET_NS)
            }
        }
    }
}
