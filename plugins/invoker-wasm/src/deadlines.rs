//! Which invocations are under way, and when each must be over: written by the threads that run guests, read
//! by the watchdog. Pure bookkeeping: no clock, no engine, no lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Places beyond a function's concurrency: for threads that the node has given up and replaced, and that are
/// still on their way out.
const SPARE: u32 = 4;
const FREE: u64 = 0;
const NO_DEADLINE: u64 = u64::MAX;

/// One invocation under way, or the room for one. A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    deadline_ns: AtomicU64,
    begun: AtomicU64,
    worker: AtomicU32,
    cancelled: AtomicBool,
}

/// The invocations of one function.
#[derive(Debug)]
pub struct Deadlines {
    places: Box<[Place]>,
}

/// What the watchdog sees at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The earliest deadline that is still to come; `u64::MAX`: none.
    pub next_ns: u64,
    /// An invocation is past its deadline, or was cancelled.
    pub overdue: bool,
    /// Some invocation is under way.
    pub busy: bool,
    /// Invocations begun since the start, modulo 2^64.
    pub begun: u64,
}

impl Glance {
    /// Nothing at all.
    pub const NOTHING: Glance = Glance { next_ns: NO_DEADLINE, overdue: false, busy: false, begun: 0 };

    /// Both together.
    pub fn and(self, other: Glance) -> Glance {
        Glance {
            next_ns: self.next_ns.min(other.next_ns),
            overdue: self.overdue || other.overdue,
            busy: self.busy || other.busy,
            begun: self.begun.wrapping_add(other.begun),
        }
    }
}

impl Deadlines {
    /// Room for so many invocations at once, and a few more.
    pub fn new(concurrency: u32) -> Self {
        Deadlines { places: (0..concurrency.max(1) + SPARE).map(|_| Place::default()).collect() }
    }

    /// An invocation begins: the answer is its place, `None` where there is none left. A deadline of 0 means
    /// that there is none.
    pub fn begin(&self, worker: u32, deadline_ns: u64) -> Option<usize> {
        let deadline_ns = if deadline_ns == 0 { NO_DEADLINE } else { deadline_ns };
        let (count, first) = (self.places.len(), worker as usize);
        for at in (0..count).map(|step| (first + step) % count) {
            let place = &self.places[at];
            if place.deadline_ns.load(Ordering::Relaxed) != FREE {
                continue;
            }
            if place
                .deadline_ns
                .compare_exchange(FREE, deadline_ns, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                place.worker.store(worker, Ordering::Relaxed);
                place.cancelled.store(false, Ordering::Relaxed);
                place.begun.fetch_add(1, Ordering::SeqCst);
                return Some(at);
            }
        }
        None
    }

    /// It is over.
    pub fn end(&self, place: usize) {
        self.places[place].deadline_ns.store(FREE, Ordering::Release);
    }

    /// Whether the invocation at that place is to stop now: its deadline is past, or it was cancelled.
    pub fn is_over(&self, place: usize, now_ns: u64) -> bool {
        let place = &self.places[place];
        place.deadline_ns.load(Ordering::Relaxed) <= now_ns || place.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the invocation at that place was cancelled.
    pub fn is_cancelled(&self, place: usize) -> bool {
        self.places[place].cancelled.load(Ordering::Relaxed)
    }

    /// Asks the invocations of a worker to end; whether there was one.
    pub fn cancel(&self, worker: u32) -> bool {
        let mut some = false;
        for place in &self.places {
            let busy = place.deadline_ns.load(Ordering::Acquire) != FREE;
            if busy && place.worker.load(Ordering::Relaxed) == worker {
                place.cancelled.store(true, Ordering::Relaxed);
                some = true;
            }
        }
        some
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.places.iter().filter(|place| place.deadline_ns.load(Ordering::Acquire) != FREE).count()
    }

    /// What is under way.
    pub fn glance(&self, now_ns: u64) -> Glance {
        self.places.iter().fold(Glance::NOTHING, |sum, place| {
            let deadline_ns = place.deadline_ns.load(Ordering::SeqCst);
            let busy = deadline_ns != FREE;
            let overdue = busy && (deadline_ns <= now_ns || place.cancelled.load(Ordering::Relaxed));
            let next_ns = if busy && !overdue { deadline_ns } else { NO_DEADLINE };
            sum.and(Glance { next_ns, overdue, busy, begun: place.begun.load(Ordering::SeqCst) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_that_is_to_come_is_seen_and_the_past_ones_too() {
        let deadlines = Deadlines::new(2);
        assert_eq!(deadlines.glance(0), Glance::NOTHING);
        let first = deadlines.begin(0, 100).expect("room");
        let second = deadlines.begin(1, 50).expect("room");
        assert_eq!(deadlines.glance(10), Glance { next_ns: 50, overdue: false, busy: true, begun: 2 });
        assert_eq!(deadlines.glance(50), Glance { next_ns: 100, overdue: true, busy: true, begun: 2 });
        assert!(deadlines.is_over(second, 50) && !deadlines.is_over(first, 50));
        deadlines.end(second);
        deadlines.end(first);
        assert_eq!(deadlines.glance(200), Glance { begun: 2, ..Glance::NOTHING });
    }

    #[test]
    fn one_without_a_deadline_is_never_over_unless_it_is_cancelled() {
        let deadlines = Deadlines::new(1);
        let place = deadlines.begin(0, 0).expect("room");
        assert!(!deadlines.is_over(place, u64::MAX - 1));
        assert!(!deadlines.cancel(7) && deadlines.cancel(0));
        assert!(deadlines.is_over(place, 0) && deadlines.glance(0).overdue);
        deadlines.end(place);
        let again = deadlines.begin(0, 0).expect("room");
        assert!(!deadlines.is_over(again, 1), "the next one is not cancelled");
    }

    #[test]
    fn two_of_one_worker_do_not_share_a_place_and_there_is_an_end_to_the_room() {
        let deadlines = Deadlines::new(1);
        let places: Vec<usize> = (0..5).map(|_| deadlines.begin(0, 9).expect("room")).collect();
        assert_eq!(deadlines.begin(0, 9), None);
        assert_eq!(deadlines.under_way(), 5);
        deadlines.end(places[3]);
        assert_eq!(deadlines.begin(8, 9), Some(places[3]));
    }
}
