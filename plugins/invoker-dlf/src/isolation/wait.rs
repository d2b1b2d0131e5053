//! Waiting and waking on a word of memory (futex(2)), and the clock.

use std::sync::atomic::AtomicU32;

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps while the word is `value`, until it is woken, or at most until a point in time (CLOCK_MONOTONIC,
/// ns; `u64::MAX`: none). It may also come back for no reason.
pub fn wait(word: &AtomicU32, value: u32, until_ns: u64) {
    let until = libc::timespec {
        tv_sec: (until_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (until_ns % 1_000_000_000) as libc::c_long,
    };
    let until = if until_ns == u64::MAX { std::ptr::null() } else { &raw const until };
    // SAFETY: the word and the time are live during the call. FUTEX_WAIT_BITSET takes an absolute time.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            value,
            until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        );
    }
}

/// Wakes all that sleep on the word.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the word is live during the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
