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

/// Now, on TAI.
pub fn tai_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live; CLOCK_TAI is there since Linux 3.10.
    unsafe { libc::clock_gettime(libc::CLOCK_TAI, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until an instant that lies ahead; one that has passed is not waited for.
pub fn sleep_until(instant: Instant) {
    let left = instant.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}
