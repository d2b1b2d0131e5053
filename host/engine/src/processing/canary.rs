//! A canary: other code beside a function's own, for a share of the workflow's events.
//!
//! Which events it gets their ids decide, so that an event that is tried again gets the same code. Both run on
//! the same worker, from the same list of waiting events: their order is that of one function.

use std::sync::Arc;

use tempos_abi::invoker::FunctionBox;

use crate::stats::WorkflowStats;

/// What a lane holds of one.
pub struct Canary {
    /// The other code.
    pub function: Arc<FunctionBox>,
    /// How many percent of the events it gets.
    pub share_percent: u8,
    /// It panicked, or did not come back: it gets nothing more.
    pub failed: bool,
    /// What is counted for it alone.
    pub stats: Arc<WorkflowStats>,
}

impl Canary {
    /// Whether an event is one of its own.
    pub fn takes(&self, event_id: u64) -> bool {
        !self.failed && percentile(event_id) < u64::from(self.share_percent)
    }
}

/// A number from 0 to 99 that ids in a row spread over evenly (Fibonacci hashing: Knuth, volume 3, 6.4).
fn percentile(event_id: u64) -> u64 {
    let spread = event_id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread * 100) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_a_row_give_each_share_its_part() {
        for first in [1u64, 1 << 56, 0xff << 56, 77_777_777] {
            for share in [0, 1, 10, 50, 99, 100] {
                let taken = (first..first + 10_000).filter(|id| percentile(*id) < share).count() as i64;
                let due = share as i64 * 100;
                assert!((taken - due).abs() <= 20, "{taken} of 10000 for {share} % from {first}");
            }
        }
        // Every second, and every hundredth, as well as all.
        for step in [2, 3, 100, 128] {
            let taken = (0..10_000u64).filter(|n| percentile(n * step) < 10).count() as i64;
            assert!((taken - 1000).abs() <= 60, "{taken} of 10000 in steps of {step}");
        }
    }
}
