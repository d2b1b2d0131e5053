//! What an ingress channel waits for, behind one descriptor: an epoll(7) set with a flag and a timer in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::time::Duration;

const READY_MAX: usize = 64;
/// The flag that something was read and not taken.
const UNTAKEN: u64 = u64::MAX;
/// The timer for the next look.
const TIMER: u64 = u64::MAX - 1;

/// The set.
pub struct Poller {
    epoll: OwnedFd,
    flag: OwnedFd,
    timer: OwnedFd,
    flagged: bool,
    armed: bool,
    ready: Box<[libc::epoll_event]>,
}

impl Poller {
    /// A set with nothing in it but its flag and its timer, both down.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new() -> io::Result<Self> {
        // SAFETY: each call makes a new descriptor and touches nothing else.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        // SAFETY: as above.
        let flag = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: as above.
        let timer = unsafe { owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags)) }?;
        let ready = vec![libc::epoll_event { events: 0, u64: 0 }; READY_MAX].into_boxed_slice();
        let poller = Poller { epoll, flag, timer, flagged: false, armed: false, ready };
        poller.watch(poller.flag.as_fd(), UNTAKEN)?;
        poller.watch(poller.timer.as_fd(), TIMER)?;
        Ok(poller)
    }

    /// The descriptor that is readable while anything in the set is.
    pub fn readiness(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Adds a descriptor, to be known by `token`. It leaves the set where it is closed.
    ///
    /// # Errors
    /// What the system says (ENOSPC, ENOMEM).
    pub fn watch(&self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        let (epoll, fd) = (self.epoll.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: the event is live for the call.
        let done = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes a descriptor out of the set: also where a duplicate of it stays open elsewhere.
    pub fn forget(&self, descriptor: BorrowedFd<'_>) {
        let (epoll, fd) = (self.epoll.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: no event is handed over (epoll_ctl(2)).
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, null_mut()) };
    }

    /// Looks what is readable, without waiting; the answer is how many tokens [`Poller::token`] has.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn look(&mut self) -> io::Result<usize> {
        let (epoll, most) = (self.epoll.as_raw_fd(), self.ready.len() as i32);
        // SAFETY: the array is live and `most` long.
        let ready = unsafe { libc::epoll_wait(epoll, self.ready.as_mut_ptr(), most, 0) };
        usize::try_from(ready).map_err(|_| io::Error::last_os_error())
    }

    /// The token of the last look's row `at`; `None` for the flag.
    pub fn token(&self, at: usize) -> Option<u64> {
        Some(self.ready[at].u64).filter(|token| *token != UNTAKEN)
    }

    /// Whether a token is the timer's.
    pub fn is_timer(token: u64) -> bool {
        token == TIMER
    }

    /// Keeps the descriptor readable, or no longer.
    pub fn flag(&mut self, up: bool) {
        if up == self.flagged {
            return;
        }
        let (fd, mut word) = (self.flag.as_raw_fd(), 1u64);
        // SAFETY: eight live bytes, as eventfd(2) asks for.
        let done = unsafe {
            match up {
                true => libc::write(fd, (&raw const word).cast(), 8),
                false => libc::read(fd, (&raw mut word).cast(), 8),
            }
        };
        if done == 8 {
            self.flagged = up;
        }
    }

    /// Has the timer ring once, unless it is going to already.
    pub fn ring_in(&mut self, after: Duration) {
        if !self.armed {
            let value = libc::timespec {
                tv_sec: after.as_secs() as libc::time_t,
                tv_nsec: libc::c_long::from(after.subsec_nanos() as i32).max(1),
            };
            let once =
                libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            // SAFETY: the time is live for the call; the old one is not asked for.
            self.armed =
                unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const once, null_mut()) } == 0;
        }
    }

    /// The timer rang: it is quiet again.
    pub fn rang(&mut self) {
        let mut word = 0u64;
        // SAFETY: eight live bytes, as timerfd_create(2) asks for.
        unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut word).cast(), 8) };
        self.armed = false;
    }
}

/// # Safety
/// A descriptor is new and belongs to nobody else; a negative number is the answer of a call that failed.
unsafe fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller says.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
