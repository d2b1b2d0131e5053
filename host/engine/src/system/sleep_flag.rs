//! The flag of a waiting place: whoever brings work makes a system call only where somebody sleeps, and
//! nobody sleeps while there is work.

use crate::system::atomic::{AtomicBool, Ordering, fence};

/// The flag.
///
/// The sleeper sets it, looks once more for work, and sleeps; whoever brings work puts it down first and
/// then looks at the flag. The two fences make sure that at least one of them sees the other.
#[derive(Debug, Default)]
pub struct SleepFlag {
    asleep: AtomicBool,
}

impl SleepFlag {
    /// Whether the caller may sleep. `more_work` is asked once after he has shown himself.
    #[inline]
    pub fn lie_down(&self, more_work: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !more_work()
    }

    /// The caller sleeps no longer.
    #[inline]
    pub fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether the sleeper is to be woken: once for each time that he lies down. The work must be in place
    /// before.
    #[inline]
    pub fn is_to_be_woken(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.swap(false, Ordering::Relaxed)
    }
}
