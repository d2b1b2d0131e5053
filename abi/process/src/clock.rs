//! The clock, and waiting for descriptors until a time on it.

use std::os::fd::RawFd;

/// Now (CLOCK_MONOTONIC, ns).
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An entry for [`wait`]; a descriptor below 0 is left out.
pub fn polled(descriptor: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd: descriptor, events, revents: 0 }
}

/// Waits until one of them is ready or the time has come (CLOCK_MONOTONIC, ns; 0: no bound). `false` where
/// none is: the time has come, or a signal.
pub fn wait(descriptors: &mut [libc::pollfd], until_ns: u64) -> bool {
    let left = until_ns.saturating_sub(if until_ns == 0 { 0 } else { now_ns() });
    let time = libc::timespec { tv_sec: (left / 1_000_000_000) as _, tv_nsec: (left % 1_000_000_000) as _ };
    let time = if until_ns == 0 { std::ptr::null() } else { &raw const time };
    // SAFETY: the array and the time live through the call.
    let ready = unsafe {
        libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, time, std::ptr::null())
    };
    if ready <= 0 {
        descriptors.iter_mut().for_each(|entry| entry.revents = 0);
    }
    ready > 0
}
