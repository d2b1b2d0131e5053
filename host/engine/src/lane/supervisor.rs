//! The supervisor: one thread above every lane that notices an owner who does not come back from a plugin.
//!
//! It looks every 50 ms while anything moves and once a second while nothing does. After 200 ms in one and
//! the same call an owner is demoted, so that it no longer holds up its CPU; after 500 ms it loses its
//! lane, and the controller starts a successor. An owner that merely gets no CPU is left alone, and so is a
//! function without a deadline that waits and does not compute. Whoever comes back after he was demoted has his
//! scheduling again at the next look.
//!
//! It also keeps minimum shares: a thread that wants to run and got less than its level's share of the CPU time,
//! while lanes above it were busy, runs above them for what it is owed, a few milliseconds at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempos_control::{LevelSpec, Scheduler};

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
/// CPU time within one call from which on a function without a deadline is demoted.
const UNBOUNDED_BUDGET_NS: u64 = 150_000_000;
/// How far past its deadline a function is demoted, and loses its worker.
const FUNCTION_GRACE_NS: u64 = 10_000_000;
const FUNCTION_DISOWN_NS: u64 = 300_000_000;
/// The priority at which what is missing of a share is made up for: above all lanes, below the supervisor.
const SHARE_PRIORITY: u8 = scheduling::PRIORITY_MAX - 1;
/// The longest that lanes are held up for it at a time.
const SHARE_SLICE_NS: u64 = 5_000_000;

/// The most that a thread is owed, so that no old debt is paid in one go.
const OWED_MAX_NS: u64 = 50_000_000;
/// The most threads that are helped at a time.
const STARVED_MAX: usize = 8;

/// What a ward's level says of its CPU time.
#[derive(Clone, Debug)]
pub struct Share {
    rank: u8,
    percent: u8,
    scheduler: Scheduler,
}

impl Share {
    /// The share of a level's queue worker, or of its function workers.
    pub fn of(level: &LevelSpec, functions: bool) -> Self {
        let scheduler = match functions {
            true => scheduling::for_functions(&level.scheduler, level.function_priority),
            false => level.scheduler.clone(),
        };
        // Threads under a deadline have their share by reservation.
        let reserved = matches!(scheduler, Scheduler::Deadline { .. });
        Share { rank: level.rank, percent: if reserved { 0 } else { level.share_percent }, scheduler }
    }
}

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
    share: Share,
    /// CPU time that it had used at the last look, and in the time before that look.
    used_ns: u64,
    lately_ns: u64,
    /// What it got too little of its share since lanes above it are busy.
    owed_ns: u64,
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
    pub fn watch(&self, ward: Ward, share: Share) -> Arc<Verdicts> {
        let verdicts = Arc::new(Verdicts::default());
        let watched = Watched {
            ward,
            verdicts: Arc::clone(&verdicts),
            beat: None,
            since_ns: 0,
            cpu_ns: 0,
            demoted: false,
            share,
            used_ns: 0,
            lately_ns: 0,
            owed_ns: 0,
        };
        self.wards.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        verdicts
    }

    /// Its level says something else now.
    pub fn set_share(&self, verdicts: &Arc<Verdicts>, share: &Share) {
        let mut wards = self.wards.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in wards.iter_mut().filter(|watched| Arc::ptr_eq(&watched.verdicts, verdicts)) {
            watched.share = share.clone();
            // It may just have been given back what it had before.
            if let Some(thread) = watched.ward.thread().filter(|_| !watched.demoted) {
                let _ = scheduling::apply(thread, &share.scheduler);
            }
        }
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
        let mut last_ns = monotonic_ns();
        while !self.stop.load(Ordering::Acquire) {
            let now = monotonic_ns();
            let (busy, now_pulse) = self.look(now);
            let contended = self.keep_shares(now - std::mem::replace(&mut last_ns, now));
            quiet_rounds = if busy || now_pulse != pulse { 0 } else { quiet_rounds.saturating_add(1) };
            pulse = now_pulse;
            let pause = match quiet_rounds {
                _ if contended => SHARE_SLICE_NS,
                21.. => REST_NS,
                _ => LOOK_NS,
            };
            std::thread::park_timeout(Duration::from_nanos(pause));
        }
    }

    /// Lets run for a moment who is owed CPU time; whether anybody may soon be owed some again.
    fn keep_shares(&self, elapsed_ns: u64) -> bool {
        // Held meanwhile, so that whoever changes a level's scheduling does it before or after.
        let mut wards = self.wards.lock().unwrap_or_else(PoisonError::into_inner);
        if wards.iter().all(|watched| watched.share.percent == 0) {
            return false;
        }
        let mut used_by_rank = [0u64; u8::MAX as usize + 1];
        for watched in wards.iter_mut() {
            let used_ns = watched.ward.thread().map_or(0, scheduling::cpu_clock_ns);
            watched.lately_ns = used_ns.saturating_sub(std::mem::replace(&mut watched.used_ns, used_ns));
            used_by_rank[usize::from(watched.share.rank)] += watched.lately_ns;
        }
        let mut owed: [Option<(ThreadId, &Scheduler)>; STARVED_MAX] = [None; STARVED_MAX];
        let mut slots = owed.iter_mut();
        let (mut contended, mut missing_ns) = (false, 0);
        for watched in wards.iter_mut().filter(|w| w.share.percent > 0) {
            let above_ns: u64 = used_by_rank.iter().skip(usize::from(watched.share.rank) + 1).sum();
            watched.owe(above_ns, elapsed_ns);
            if watched.owed_ns == 0 {
                contended |= watched.is_beside(above_ns, elapsed_ns);
                continue;
            }
            if let Some(thread) = watched.ward.thread()
                && scheduling::usage(thread).is_some_and(|usage| usage.state == b'R')
                && let Some(slot) = slots.next()
            {
                contended = true;
                missing_ns = missing_ns.max(watched.owed_ns);
                *slot = Some((thread, &watched.share.scheduler));
            } else {
                // Who does not want to run saves nothing up.
                watched.owed_ns = 0;
            }
        }
        if missing_ns == 0 {
            return contended;
        }
        let above = Scheduler::RoundRobin { priority: SHARE_PRIORITY };
        for (thread, _) in owed.iter().flatten() {
            let _ = scheduling::apply(*thread, &above);
        }
        std::thread::sleep(Duration::from_nanos(missing_ns.min(SHARE_SLICE_NS)));
        for (thread, own) in owed.iter().flatten() {
            let _ = scheduling::apply(*thread, own);
        }
        true
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
    /// Whether lanes above it are busy: they took a quarter of a CPU.
    fn is_beside(&self, above_ns: u64, elapsed_ns: u64) -> bool {
        !self.demoted && above_ns >= elapsed_ns / 4
    }

    /// Adds up what it is owed. The share is one of the CPU time that its level and those above it got, so that
    /// what other programs or a hypervisor take is not made up for at the expense of the lanes above.
    fn owe(&mut self, above_ns: u64, elapsed_ns: u64) {
        if !self.is_beside(above_ns, elapsed_ns) {
            self.owed_ns = 0;
            return;
        }
        let due_ns = (above_ns + self.lately_ns).min(elapsed_ns) / 100 * u64::from(self.share.percent);
        self.owed_ns = (self.owed_ns + due_ns).saturating_sub(self.lately_ns).min(OWED_MAX_NS);
    }

    fn look(&mut self, beat: Beat, now: u64) {
        if !self.beat.is_some_and(|last| last.same_call(&beat)) {
            if self.demoted {
                self.give_back();
            }
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
            // The thread that was lost stays as it is.
            self.demoted = false;
            self.verdicts.disowned.store(true, Ordering::Release);
        }
    }

    /// It came back from the call in which it was demoted: it has its scheduling again, also where it is in the
    /// next call by now.
    fn give_back(&self) {
        if let Some(thread) = self.ward.thread() {
            let _ = scheduling::apply_best(thread, &self.share.scheduler);
        }
        if matches!(self.ward, Ward::Function(_)) {
            self.verdicts.demoted.store(false, Ordering::Release);
        }
    }

    /// Whether it is time to demote, and to disown.
    fn limits(&self, stuck_ns: u64, now: u64) -> (bool, bool) {
        match &self.ward {
            Ward::Lane(_) => (stuck_ns >= DEMOTE_AFTER_NS, stuck_ns >= DISOWN_AFTER_NS),
            Ward::Function(function) => match function.deadline_ns.load(Ordering::Relaxed) {
                // Without a deadline a function may take as long as it likes, but not at real-time priority.
                0 => (stuck_ns >= DEMOTE_AFTER_NS, false),
                deadline => (
                    now > deadline.saturating_add(FUNCTION_GRACE_NS),
                    now > deadline.saturating_add(FUNCTION_DISOWN_NS),
                ),
            },
        }
    }

    /// A thread that could run but gets no CPU is not stuck. Asleep in a plugin it is; and so is one that has
    /// used up in this call what the call may take at most: it may get little because it was demoted for it. A
    /// function without a deadline may sleep as long as it likes: a process that it waits for, say, has its own
    /// CPU time.
    fn is_starved(&self, thread: ThreadId, stuck_ns: u64) -> bool {
        let used = scheduling::cpu_time_ns(thread).saturating_sub(self.cpu_ns);
        if self.is_unbounded() {
            return used < UNBOUNDED_BUDGET_NS;
        }
        let Some(usage) = scheduling::usage(thread) else { return false };
        usage.state == b'R' && used < stuck_ns / 4 && used < self.budget_ns()
    }

    /// Whether it is in a function without a deadline.
    fn is_unbounded(&self) -> bool {
        match &self.ward {
            Ward::Lane(_) => false,
            Ward::Function(function) => function.deadline_ns.load(Ordering::Relaxed) == 0,
        }
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
