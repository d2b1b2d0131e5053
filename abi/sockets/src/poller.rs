//! What a channel waits for, behind one descriptor: an epoll(7) set with a flag and a timer in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

const READY_MAX: usize = 64;
/// The flag that something was read and not taken.
const UNTAKEN: u64 = u64::MAX;
/// The timer.
const TIMER: u64 = u64::MAX - 1;

/// The set.
pub struct Poller {
    epoll: OwnedFd,
    flag: OwnedFd,
    timer: OwnedFd,
    flagged: bool,
    /// When the timer rings.
    armed_for: Option<Instant>,
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
        let poller = Poller { epoll, flag, timer, flagged: false, armed_for: None, ready };
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
        self.control(libc::EPOLL_CTL_ADD, descriptor, token, false)
    }

    /// Watches a descriptor of the set for room to write too, or no longer.
    ///
    /// # Errors
    /// What the system says (ENOENT).
    pub fn watch_room(&self, descriptor: BorrowedFd<'_>, token: u64, room: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, descriptor, token, room)
    }

    fn control(&self, what: i32, descriptor: BorrowedFd<'_>, token: u64, room: bool) -> io::Result<()> {
        let events = if room { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: the event is live for the call.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, descriptor.as_raw_fd(), &raw mut event) };
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

    /// Whether the last look's row `at` has room to be written to.
    pub fn has_room(&self, at: usize) -> bool {
        self.ready[at].events & libc::EPOLLOUT as u32 != 0
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
        if self.armed_for.is_none() {
            self.ring_by(Instant::now() + after);
        }
    }

    /// Has the timer ring at `when`, or earlier where it is going to already.
    pub fn ring_by(&mut self, when: Instant) {
        if self.armed_for.is_some_and(|armed_for| armed_for <= when) {
            return;
        }
        let after = when.saturating_duration_since(Instant::now());
        let value = libc::timespec {
            tv_sec: after.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(after.subsec_nanos() as i32).max(1),
        };
        let once =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the time is live for the call; the old one is not asked for.
        let done = unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const once, null_mut()) };
        self.armed_for = (done == 0).then_some(when);
    }

    /// The timer rang: it is quiet again.
    pub fn rang(&mut self) {
        let mut word = 0u64;
        // SAFETY: eight live bytes, as timerfd_create(2) asks for.
        unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut word).cast(), 8) };
        self.armed_for = None;
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
