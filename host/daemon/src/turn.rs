//! One wiring order at a time, and a bounded wait for one's turn.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A turn that one caller has at a time.
#[derive(Debug, Default)]
pub struct Turn {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// The turn while it is held.
#[derive(Debug)]
pub struct Held<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn; `None` when it does not come within `limit`.
    pub fn wait(&self, limit: Duration) -> Option<Held<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, _) = self
            .freed
            .wait_timeout_while(taken, limit, |taken| *taken)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken {
            return None;
        }
        *taken = true;
        Some(Held(self))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_turn_and_the_next_gets_it_afterwards() {
        let turn = Turn::default();
        let held = turn.wait(Duration::ZERO).unwrap();
        assert!(turn.wait(Duration::from_millis(1)).is_none());
        drop(held);
        assert!(turn.wait(Duration::ZERO).is_some());
    }
}
