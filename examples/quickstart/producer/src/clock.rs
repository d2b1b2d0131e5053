//! The monotonic clock, sleeping until an instant of it, and the thread's scheduling.

/// Nanoseconds of CLOCK_MONOTONIC: the same for every process of this machine.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives across the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds until CLOCK_TAI is that far into a second. Cycles of gates that divide a second begin with it.
pub fn until_phase_ns(phase_ns: u64) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives across the call; the clock is there since Linux 3.10.
    unsafe { libc::clock_gettime(libc::CLOCK_TAI, &raw mut time) };
    (phase_ns + 1_000_000_000 - time.tv_nsec.unsigned_abs()) % 1_000_000_000
}

/// Sleeps until that instant; does not if it has passed. An absolute time does not drift, however late
/// the thread wakes (clock_nanosleep(2)).
pub fn sleep_until(ns: u64) {
    let time = libc::timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    };
    // SAFETY: the pointer is to a timespec that lives across the call; no rest is asked for.
    while unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    } == libc::EINTR
    {}
}

/// Asks for SCHED_FIFO. Whether it was granted: a machine that refuses it only measures worse.
pub fn ask_for_fifo(priority: u8) -> bool {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the pointer is to a sched_param that lives across the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}
