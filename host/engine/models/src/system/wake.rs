//! The waiting place: the engine's flag, with a bell in the place of epoll and eventfd.

use loom::sync::atomic::{AtomicBool, Ordering};

use super::sleep_flag::SleepFlag;

/// The place.
#[derive(Debug)]
pub struct WaitingPlace {
    flag: SleepFlag,
    /// What the eventfd says.
    rung: AtomicBool,
}

impl WaitingPlace {
    /// An empty place.
    ///
    /// # Errors
    /// None.
    pub fn new() -> std::io::Result<Self> {
        Ok(WaitingPlace { flag: SleepFlag::default(), rung: AtomicBool::new(false) })
    }

    /// As the engine's, without a limit: whoever is never woken goes over the model's bound.
    pub fn wait(&self, more_work: impl FnOnce() -> bool) {
        if self.flag.lie_down(more_work) {
            while !self.rung.swap(false, Ordering::AcqRel) {
                loom::thread::yield_now();
            }
        }
        self.flag.get_up();
    }

    /// As the engine's.
    pub fn wake(&self) {
        if self.flag.is_to_be_woken() {
            self.rung.swap(true, Ordering::AcqRel);
        }
    }
}
