//! That gates are being changed: the kernel opens all of them while it takes a schedule, and where they were deleted there
//! are none. Whoever sends through them holds back until it is over.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::urgent::Urgent;

/// Whoever looked just before a change began has sent by then.
const GRACE: Duration = Duration::from_micros(50);

/// One change; it is over when this says so, or is dropped.
#[derive(Debug)]
pub struct Changing {
    count: Arc<AtomicU32>,
    /// While it goes on.
    urgent: RefCell<Option<Urgent>>,
}

impl Changing {
    /// Begins one, and waits a moment for those who are sending.
    pub fn begin(count: &Arc<AtomicU32>) -> Self {
        let changing = Changing { count: Arc::clone(count), urgent: RefCell::new(None) };
        changing.again();
        changing
    }

    /// It goes on after all.
    pub fn again(&self) {
        let mut urgent = self.urgent.borrow_mut();
        if urgent.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
            *urgent = Some(Urgent::begin(Urgent::CHANGE));
            std::thread::sleep(GRACE);
        }
    }

    /// The gates are in force.
    pub fn over(&self) {
        let urgent = self.urgent.borrow_mut().take();
        if urgent.is_some() {
            // First: once it is not urgent any more this thread may have to wait.
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_counts_once_and_ends_in_any_case() {
        let count = Arc::<AtomicU32>::default();
        let now = || count.load(Ordering::SeqCst);
        let one = Changing::begin(&count);
        one.again();
        let other = Changing::begin(&count);
        assert_eq!(now(), 2);
        one.over();
        one.over();
        assert_eq!(now(), 1);
        one.again();
        drop((one, other));
        assert_eq!(now(), 0);
    }
}
