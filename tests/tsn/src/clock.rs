//! The two clocks of the rig: CLOCK_MONOTONIC to send by, TAI to judge by.

use std::time::{Duration, Instant};

/// What TAI is ahead of CLOCK_REALTIME (adjtimex(2)); 0 where nobody has told the kernel.
pub fn tai_offset_ns() -> i64 {
    // SAFETY: all zeroes is a value of the struct, and asks for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the state is live for the call.
    unsafe { libc::adjtimex(&raw mut state) };
    i64::from(state.tai) * 1_000_000_000
}

/// Sleeps until an instant that lies ahead; one that has passed is not waited for.
pub fn sleep_until(instant: Instant) {
    let left = instant.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}
