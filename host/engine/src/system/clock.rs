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
    let time = clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
