//! The clocks: everything inside the node is measured on CLOCK_MONOTONIC, which no step can move.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on CLOCK_MONOTONIC (clock_gettime(2), through the vDSO).
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds since the epoch on CLOCK_REALTIME: for stamps that leave the node, never for waits.
pub fn realtime_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// Microseconds since the epoch, as D-Bus properties show it.
pub fn realtime_us() -> u64 {
    realtime_ns() / 1_000
}

fn nanoseconds(clock: ClockId) -> u64 {
    #[cfg(test)]
    if let Some(now) = virtual_time::read() {
        return now;
    }
    let time = clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// A clock of the calling thread's own, for tests that decide what time it is.
#[cfg(test)]
pub(crate) mod virtual_time {
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on both clocks stand at `now`, and go on by 1 ns whenever somebody looks; `None`: they are
    /// the system's again.
    pub fn set(now: Option<u64>) {
        NOW.set(now);
    }

    /// Lets time pass.
    pub fn advance(ns: u64) {
        NOW.set(NOW.get().map(|now| now + ns));
    }

    /// Looks at the clock without moving it; 0 where it is the system's.
    pub fn now() -> u64 {
        NOW.get().unwrap_or(0)
    }

    pub(super) fn read() -> Option<u64> {
        let now = NOW.get()? + 1;
        NOW.set(Some(now));
        Some(now)
    }
}
