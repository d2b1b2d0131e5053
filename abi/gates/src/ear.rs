//! A thread that hears of each change on one interface, and of steps of the clock, before ordinary threads run, and has
//! frames held back until the keeper has looked at it: whoever changed the gates is ordinary, too, and would go on first.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread::JoinHandle;

use tempos_qdisc::ChangeBell;

use crate::bell::Bell;
use crate::clock::ClockWatch;
use crate::urgent::Urgent;

/// Above whoever changes the gates for this node ([`Urgent::CHANGE`]), beneath the lanes.
const PRIORITY: libc::c_int = Urgent::CHANGE + 1;

/// The ear at one interface; it ends when it is dropped.
pub struct Ear {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How the keeper is called.
#[derive(Debug)]
pub struct Call {
    /// What it waits for.
    pub bell: Bell,
    /// The number of its thread, as soon as that runs.
    pub thread: AtomicI32,
}

struct Shared {
    /// Frames are held back for what was heard, and the keeper has not looked yet.
    holds: AtomicBool,
    changing: Arc<AtomicU32>,
    keeper: Arc<Call>,
    end: Bell,
}

impl Ear {
    /// Hears from now on. What the keeper listens with has to be opened afterwards: the kernel tells the newest first,
    /// and so the keeper has been told what the ear hears.
    ///
    /// # Errors
    /// What the system says (EMFILE, EAGAIN).
    pub fn start(index: i32, name: &str, changing: Arc<AtomicU32>, keeper: Arc<Call>) -> io::Result<Self> {
        let (changes, clock) = (ChangeBell::new(index)?, ClockWatch::new()?);
        let shared = Arc::new(Shared { holds: AtomicBool::new(false), changing, keeper, end: Bell::new()? });
        let heard = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("ear-{name}")).spawn(move || {
            let _urgent = Urgent::begin(PRIORITY);
            heard.listen(&changes, clock);
        })?;
        Ok(Ear { shared, thread: Some(thread) })
    }

    /// The keeper holds frames back itself from here on, and looks at what stands there.
    pub fn taken_over(&self) {
        if self.shared.holds.swap(false, Ordering::SeqCst) {
            self.shared.changing.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether something was heard that nobody has taken over.
    pub fn has_heard(&self) -> bool {
        self.shared.holds.load(Ordering::SeqCst)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.shared.end.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in it has said what it had to say.
            let _ = thread.join();
        }
        self.taken_over();
    }
}

impl Shared {
    fn listen(&self, changes: &ChangeBell, mut clock: ClockWatch) {
        let of = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        loop {
            let mut all = [of(self.end.as_raw_fd()), of(changes.as_raw_fd()), of(clock.as_raw_fd())];
            // SAFETY: the array is live for the call and of the length given.
            let ready = unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, -1) };
            if ready > 0 && all[0].revents != 0 {
                return;
            }
            if ready > 0 && all[2].revents != 0 {
                self.hold();
                // By how much is the keeper's to say.
                let _ = clock.stepped();
            }
            match changes.has_rung() {
                Ok(true) => self.hold(),
                Ok(false) => {}
                // Deaf: the keeper hears by itself, only later.
                Err(_) => return,
            }
        }
    }

    fn hold(&self) {
        // While this node changes the gates frames are held back anyway, and this is its echo.
        if self.changing.load(Ordering::SeqCst) == 0 {
            self.changing.fetch_add(1, Ordering::SeqCst);
            self.holds.store(true, Ordering::SeqCst);
            // Lanes wait for it: among ordinary threads it would come too late.
            Urgent::lend(self.keeper.thread.load(Ordering::SeqCst));
            self.keeper.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear() -> (Ear, Arc<AtomicU32>, Arc<Call>) {
        let changing = Arc::<AtomicU32>::default();
        let call = Arc::new(Call { bell: Bell::new().expect("a descriptor"), thread: AtomicI32::new(0) });
        let ear = Ear::start(1, "lo", Arc::clone(&changing), Arc::clone(&call)).expect("a thread");
        (ear, changing, call)
    }

    #[test]
    fn what_is_heard_holds_once_until_the_keeper_has_taken_it_over() {
        let (ear, changing, call) = ear();
        let now = || changing.load(Ordering::SeqCst);
        assert!(!ear.has_heard() && now() == 0);
        ear.shared.hold();
        ear.shared.hold();
        assert!(ear.has_heard() && now() == 1);
        let mut polled = libc::pollfd { fd: call.bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the array of one is live for the call.
        assert_eq!(unsafe { libc::poll(&raw mut polled, 1, 0) }, 1, "the keeper is called");
        ear.taken_over();
        ear.taken_over();
        assert!(!ear.has_heard() && now() == 0);
        changing.fetch_add(1, Ordering::SeqCst);
        ear.shared.hold();
        assert!(!ear.has_heard() && now() == 1, "its own echo");
    }

    #[test]
    fn an_ear_that_has_ended_holds_nothing() {
        let (ear, changing, _call) = ear();
        ear.shared.hold();
        drop(ear);
        assert_eq!(changing.load(Ordering::SeqCst), 0);
    }
}
