//! Tells when the clock is stepped (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), and by how much.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Far enough ahead that it never comes: the year 2255.
const NEVER_S: libc::time_t = 9_000_000_000;
/// Looks at both clocks, of which the quickest counts.
const LOOKS: usize = 5;
/// What two looks may differ by without a step.
const NOISE_NS: i64 = 20_000;

/// Watches the clock of schedules.
#[derive(Debug)]
pub struct ClockWatch {
    timer: OwnedFd,
    ahead_ns: i64,
}

impl ClockWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new() -> io::Result<Self> {
        // SAFETY: timerfd_create(2) makes a new descriptor and touches nothing else.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let timer = unsafe { OwnedFd::from_raw_fd(fd) };
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let never =
            libc::itimerspec { it_interval: zero, it_value: libc::timespec { tv_sec: NEVER_S, tv_nsec: 0 } };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the value is live for the call.
        if unsafe { libc::timerfd_settime(fd, flags, &raw const never, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(ClockWatch { timer, ahead_ns: tai_ahead_ns() })
    }

    /// By how much TAI was stepped since the last look; nothing where it was not. The timer tells of steps at once,
    /// but not of a change of the offset between TAI and UTC: look now and then.
    pub fn stepped(&mut self) -> Option<i64> {
        let mut count = 0u64;
        // It answers ECANCELED once for each step; what it says is seen by the clocks.
        // SAFETY: the buffer is live and of the length given.
        unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut count).cast(), 8) };
        let now = tai_ahead_ns();
        let step = now - self.ahead_ns;
        self.ahead_ns = now;
        (step.abs() > NOISE_NS).then_some(step)
    }
}

impl AsRawFd for ClockWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live for the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Now, on the clock of schedules.
pub fn tai_ns() -> u64 {
    read(libc::CLOCK_TAI).max(0).cast_unsigned()
}

/// What TAI is ahead of CLOCK_MONOTONIC: it changes by steps alone, for both are slewed together.
fn tai_ahead_ns() -> i64 {
    let look = || {
        let (before, tai, after) =
            (read(libc::CLOCK_MONOTONIC), read(libc::CLOCK_TAI), read(libc::CLOCK_MONOTONIC));
        (after - before, tai - before - (after - before) / 2)
    };
    (0..LOOKS).map(|_| look()).min().map_or(0, |(_, ahead)| ahead)
}
