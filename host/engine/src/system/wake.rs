//! Waiting and waking: an epoll set with an eventfd in it, and the protocol that makes a wake-up a
//! system call only where somebody sleeps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::sleep_flag::SleepFlag;

/// What an epoll set reports for its own eventfd.
pub const WAKE_TOKEN: u64 = u64::MAX;

/// Waits until a descriptor can be read, at most so long; one that is negative or closed never can.
pub fn wait_readable(descriptor: RawFd, limit: std::time::Duration) -> bool {
    if descriptor < 0 {
        std::thread::sleep(limit);
        return false;
    }
    // SAFETY: only borrowed for the call; poll(2) says of a closed one that it is none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut fds = [rustix::event::PollFd::new(&borrowed, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()) as _,
    };
    rustix::event::poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// The waiting place of one lane.
#[derive(Debug)]
pub struct WaitingPlace {
    set: OwnedFd,
    /// The same without the sources: where a lane waits whose full queue blocks its senders.
    quiet: OwnedFd,
    wake: OwnedFd,
    flag: SleepFlag,
}

impl WaitingPlace {
    /// Makes the set and the eventfd.
    ///
    /// # Errors
    /// What the system says (EMFILE, ENOMEM).
    pub fn new() -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let quiet = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        for each in [&set, &quiet] {
            epoll::add(each, &wake, epoll::EventData::new_u64(WAKE_TOKEN), epoll::EventFlags::IN)?;
        }
        Ok(WaitingPlace { set, quiet, wake, flag: SleepFlag::default() })
    }

    /// Watches a descriptor for reading, level-triggered. Any thread may call this.
    ///
    /// # Errors
    /// What the system says.
    pub fn watch_readable(&self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.set, descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Watches a descriptor for reading, level-triggered, also while sources are not looked at.
    ///
    /// # Errors
    /// What the system says.
    pub fn watch_always(&self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        for set in [&self.set, &self.quiet] {
            epoll::add(set, descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    /// Asks to be told once when a descriptor can be written to. The descriptor is added where it is not
    /// yet watched.
    ///
    /// # Errors
    /// What the system says.
    pub fn watch_writable_once(&self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
        let data = epoll::EventData::new_u64(token);
        for set in [&self.set, &self.quiet] {
            match epoll::modify(set, descriptor, data, flags) {
                Err(rustix::io::Errno::NOENT) => epoll::add(set, descriptor, data, flags)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Reports a readable descriptor no longer, until [`end_rest`](Self::end_rest). One that is not watched
    /// stays so.
    pub fn rest(&self, descriptor: RawFd, token: u64) {
        // Errors and hang-ups are always reported; so they are once at the most.
        self.change_readable(descriptor, token, epoll::EventFlags::ONESHOT);
    }

    /// Reports it again, level-triggered.
    pub fn end_rest(&self, descriptor: RawFd, token: u64) {
        self.change_readable(descriptor, token, epoll::EventFlags::IN);
    }

    fn change_readable(&self, descriptor: RawFd, token: u64, flags: epoll::EventFlags) {
        if descriptor < 0 {
            return;
        }
        // SAFETY: the caller's source is in use, and owns the descriptor for as long.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // ENOENT: the controller has taken it out, the source is about to go.
        let _ = epoll::modify(&self.set, descriptor, epoll::EventData::new_u64(token), flags);
    }

    /// Stops watching a descriptor; one that is not watched is no error.
    pub fn forget(&self, descriptor: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.set, descriptor);
        let _ = epoll::delete(&self.quiet, descriptor);
    }

    /// Waits until something is ready, somebody wakes the place, or the time is up (`None`: no limit).
    /// `more_work` is asked once after the sleeper has shown itself: where it answers yes nothing waits.
    /// With `quiet`, sources are not looked at.
    /// The answer is how many of `events` were filled.
    pub fn wait(
        &self,
        events: &mut [epoll::Event],
        timeout_ns: Option<u64>,
        quiet: bool,
        more_work: impl FnOnce() -> bool,
    ) -> usize {
        let mut limit = timeout_ns;
        if limit != Some(0) && !self.flag.lie_down(more_work) {
            limit = Some(0);
        }
        let set = if quiet { &self.quiet } else { &self.set };
        let timeout = |ns: u64| rustix::event::Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as _,
        };
        if let Some(ns) = limit.filter(|ns| ns % 1_000_000 != 0) {
            // epoll_wait(2) counts whole milliseconds, and a rate or a linger is shorter than one: poll(2) does not.
            let mut fds = [rustix::event::PollFd::new(set, rustix::event::PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Some(&timeout(ns)));
            limit = Some(0);
        }
        // An interrupted wait is one in which nothing was ready.
        let filled = epoll::wait(set, events, limit.map(timeout).as_ref()).unwrap_or(0);
        self.flag.get_up();
        filled
    }

    /// Wakes the sleeper; costs no system call where nobody sleeps. The work must be in place before.
    pub fn wake(&self) {
        if self.flag.is_to_be_woken() {
            // EAGAIN means that a wake-up is already on its way.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Takes note of a wake-up, so that the eventfd is quiet again.
    pub fn acknowledge(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }

    /// The same for a bare descriptor; a negative one is not watched.
    pub fn forget_raw(&self, descriptor: i32) {
        if descriptor >= 0 {
            // SAFETY: only borrowed for the call; one that was closed meanwhile is EBADF.
            self.forget(unsafe { BorrowedFd::borrow_raw(descriptor) });
        }
    }

    /// The descriptor of the set, for sentences.
    pub fn descriptor(&self) -> i32 {
        self.set.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::monotonic_ns;

    #[test]
    fn a_wait_shorter_than_a_millisecond_is_one() {
        let place = WaitingPlace::new().expect("a set");
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        let waits = (0..200).map(|_| {
            let begun = monotonic_ns();
            assert_eq!(place.wait(&mut events, Some(100_000), false, || false), 0);
            monotonic_ns() - begun
        });
        // The shortest of two hundred, for a busy machine makes some of them longer.
        let shortest = waits.min().unwrap_or(u64::MAX);
        assert!((100_000..1_000_000).contains(&shortest), "{shortest} ns");
    }
}
