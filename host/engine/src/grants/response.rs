//! How long an event waits for the CPU at most: response-time analysis of lanes with fixed priorities, and the
//! bounds of reservations under SCHED_DEADLINE.
//!
//! The analysis is that of M. Joseph, P. Pandya, "Finding Response Times in a Real-Time System", The Computer
//! Journal 29(5), 1986, and N. Audsley, A. Burns, M. Richardson, K. Tindell, A. Wellings, "Applying new
//! scheduling theory to static priority pre-emptive scheduling", Software Engineering Journal 8(5), 1993: the
//! least `R` with `R = B + Σ (⌈R / T⌉ + b - 1) · C` over everything of the same or a higher priority on the same CPUs.
//! Events of one lane are served one after the other, so those of the same priority count as higher ones; `R` is
//! then the length of the busy period, which no response in it exceeds, also where it is longer than `T`.
//! Threads that are not pinned are taken as sharing one CPU with whatever may meet them: never too little.
//!
//! Pure: integers in, integers out.

use std::cmp::Ordering;

/// The priority of ordinary threads: below every real-time one.
pub const ORDINARY: u8 = 0;
/// The priority that reservations under SCHED_DEADLINE count as: they run before every other (sched(7)).
pub const RESERVED: u8 = u8::MAX;
/// The part of a CPU that real-time threads may use, in millionths: `sched_rt_runtime_us` by
/// `sched_rt_period_us`, 950 of 1000 ms where nobody changed it (sched(7)).
pub const REAL_TIME_PPM: u64 = 950_000;
/// A CPU in millionths.
pub const WHOLE_PPM: u64 = 1_000_000;
/// A response that is longer than this is no response.
const RESPONSE_NS_MAX: u64 = 60_000_000_000;
/// The most steps towards it; each but the last is longer by at least one event's cost.
const STEPS_MAX: u32 = 100_000;

/// A set of CPUs, of which those above 255 are not told apart from all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSet([u64; 4]);

impl CpuSet {
    /// Every CPU.
    pub const ALL: CpuSet = CpuSet([u64::MAX; 4]);

    /// The set of a level's `cpus`: empty means all.
    pub fn of(cpus: &[u32]) -> Self {
        if cpus.is_empty() || cpus.iter().any(|cpu| *cpu > 255) {
            return CpuSet::ALL;
        }
        let mut set = CpuSet([0; 4]);
        for cpu in cpus {
            set.0[(*cpu / 64) as usize] |= 1 << (*cpu % 64);
        }
        set
    }

    /// Whether a thread of the one may meet a thread of the other.
    pub fn meets(self, other: CpuSet) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }
}

/// Where something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The real-time priority of its thread, [`ORDINARY`] or [`RESERVED`].
    pub priority: u8,
    /// The CPUs that it may run on.
    pub cpus: CpuSet,
}

impl Place {
    /// Whether what runs at `other` may go first here.
    pub fn yields_to(self, other: Place) -> bool {
        other.priority >= self.priority && self.cpus.meets(other.cpus)
    }
}

/// Work that comes again and again: at most `count` times the cost in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where it runs.
    pub place: Place,
    /// What one event costs (ns of CPU time).
    pub cost_ns: u64,
    /// The least time between two events (ns), at least 1.
    pub interval_ns: u64,
    /// How many such tasks there are.
    pub count: u64,
    /// How many events may come at once where they come after a pause, at least 1: the release jitter of K. Tindell,
    /// "An extendible approach for analysing fixed priority hard real-time tasks", Real-Time Systems 6, 1994, in
    /// events instead of time.
    pub burst: u64,
}

impl Task {
    /// The part of a CPU that it needs, in millionths of a millionth: exact enough to add up.
    fn parts(&self) -> u128 {
        (u128::from(self.cost_ns) * u128::from(self.count) * 1_000_000_000_000)
            .div_ceil(u128::from(self.interval_ns.max(1)))
    }

    /// What it needs within `ns` that begin with one event of it.
    pub fn demand(&self, ns: u64) -> u64 {
        let events = ns.div_ceil(self.interval_ns.max(1)).max(1) + self.burst.max(1) - 1;
        self.cost_ns.saturating_mul(events).saturating_mul(self.count)
    }
}

/// The part of a CPU that the tasks need which may go first at a place, in millionths, rounded up.
pub fn used_ppm(place: Place, tasks: &[Task]) -> u64 {
    let parts: u128 = tasks.iter().filter(|task| place.yields_to(task.place)).map(Task::parts).sum();
    u64::try_from(parts.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// There is no bound: more comes than the CPU can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// What is needed, in millionths of a CPU.
    pub used_ppm: u64,
    /// What there is.
    pub limit_ppm: u64,
}

/// The longest time (ns) from the arrival of an event at a place until it and everything that may go first there
/// is done. `blocking_ns`: how long what should yield may hold the CPU all the same; `own_ns`: what the event
/// costs itself, where it is of none of the tasks.
///
/// # Errors
/// The tasks need more than `limit_ppm` of a CPU, or no bound within a minute was found.
pub fn response_ns(
    place: Place,
    own_ns: u64,
    blocking_ns: u64,
    tasks: &[Task],
    limit_ppm: u64,
) -> Result<u64, Overload> {
    let used = used_ppm(place, tasks);
    let overload = Overload { used_ppm: used, limit_ppm };
    if used > limit_ppm.min(WHOLE_PPM) {
        return Err(overload);
    }
    let first: Vec<&Task> = tasks.iter().filter(|task| place.yields_to(task.place)).collect();
    let base = blocking_ns.saturating_add(own_ns);
    settle(base, |ns| first.iter().fold(base, |sum, task| sum.saturating_add(task.demand(ns))))
        .ok_or(overload)
}

/// The same for a lane under a reservation: it gets `runtime` in each `period`, at the latest `deadline` after
/// the period's begin. Without it for at most `period + deadline - 2 · runtime`, then at the rate
/// `runtime / period` (I. Shin, I. Lee, "Periodic resource model for compositional real-time guarantees", RTSS
/// 2003). `tasks`: those of the lane alone; nothing else takes its runtime away.
///
/// # Errors
/// The tasks need more than the reservation.
pub fn reserved_response_ns(reserved: Reservation, own_ns: u64, tasks: &[Task]) -> Result<u64, Overload> {
    let parts: u128 = tasks.iter().map(Task::parts).sum();
    let used = u64::try_from(parts.div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let overload = Overload { used_ppm: used, limit_ppm: reserved.ppm() };
    if used > overload.limit_ppm || reserved.runtime_ns == 0 {
        return Err(overload);
    }
    let without = reserved
        .period_ns
        .saturating_add(reserved.deadline_ns)
        .saturating_sub(reserved.runtime_ns.saturating_mul(2));
    let slowed = |ns: u64| {
        let slowed =
            (u128::from(ns) * u128::from(reserved.period_ns)).div_ceil(u128::from(reserved.runtime_ns));
        u64::try_from(slowed).unwrap_or(u64::MAX)
    };
    let demand = |ns: u64| tasks.iter().fold(own_ns, |sum, task| sum.saturating_add(task.demand(ns)));
    settle(without.saturating_add(slowed(own_ns)), |ns| without.saturating_add(slowed(demand(ns))))
        .ok_or(overload)
}

/// The least fixed point at or above `from`; `None` where there is none within the bounds.
pub fn settle(from: u64, next: impl Fn(u64) -> u64) -> Option<u64> {
    let mut now = from;
    for _ in 0..STEPS_MAX {
        let then = next(now);
        match then.cmp(&now) {
            Ordering::Equal => return Some(now),
            _ if then > RESPONSE_NS_MAX => return None,
            _ => now = then.max(now),
        }
    }
    None
}

/// What a lane has reserved under SCHED_DEADLINE (ns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// CPU time in each period.
    pub runtime_ns: u64,
    /// Time within which it is given.
    pub deadline_ns: u64,
    /// The period.
    pub period_ns: u64,
}

impl Reservation {
    /// Its part of a CPU in millionths, rounded up.
    pub fn ppm(self) -> u64 {
        let parts =
            (u128::from(self.runtime_ns) * u128::from(WHOLE_PPM)).div_ceil(u128::from(self.period_ns.max(1)));
        u64::try_from(parts).unwrap_or(u64::MAX)
    }
}

/// Whether the kernel takes all of these reservations: `Σ runtime / period` is at most `each_ppm` of every CPU
/// (Documentation/scheduler/sched-deadline.rst, section 4, admission control over the root domain; how much of each it
/// is: `system::scheduling::reservable_ppm`).
///
/// # Errors
/// What they need, and what there is.
pub fn reservations_fit(reservations: &[Reservation], cpus: u32, each_ppm: u64) -> Result<(), Overload> {
    let used_ppm = reservations.iter().fold(0, |sum: u64, one| sum.saturating_add(one.ppm()));
    let limit_ppm = each_ppm * u64::from(cpus.max(1));
    if used_ppm > limit_ppm { Err(Overload { used_ppm, limit_ppm }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
