//! How many requests a caller may make in a second. Deciding is pure: the time is an argument.

use std::collections::HashMap;
use std::time::Instant;

use crate::limits::{RATES, REQUESTS_PER_SECOND, STRANGERS_PER_SECOND};
use crate::places::Taker;

/// The rates of all callers.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: HashMap<Taker, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Rates {
    /// Whether this caller may make one more request now; `known`: not a stranger.
    pub fn take(&mut self, who: &Taker, known: bool, now: Instant) -> bool {
        let rate = f64::from(if known { REQUESTS_PER_SECOND } else { STRANGERS_PER_SECOND });
        if self.buckets.len() >= RATES && !self.buckets.contains_key(who) {
            // Whoever has been quiet for a second has his full rate again, and need not be kept.
            self.buckets.retain(|_, bucket| now.duration_since(bucket.filled).as_secs() < 1);
            // Strangers may come from any number of addresses; they do not keep out who is known.
            if self.buckets.len() >= RATES && !known {
                return false;
            }
        }
        let bucket = self.buckets.entry(who.clone()).or_insert(Bucket { left: rate, filled: now });
        let passed = now.duration_since(bucket.filled).as_secs_f64();
        bucket.left = (bucket.left + passed * rate).min(rate);
        bucket.filled = now;
        let granted = bucket.left >= 1.0;
        if granted {
            bucket.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_caller_has_his_rate_and_the_others_have_theirs() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut granted = |uid, known, at| {
            (0..2 * REQUESTS_PER_SECOND).filter(|_| rates.take(&Taker::User(uid), known, at)).count()
        };
        assert_eq!(granted(1, true, start), REQUESTS_PER_SECOND as usize);
        assert_eq!(granted(2, false, start), STRANGERS_PER_SECOND as usize);
        assert_eq!(granted(1, true, start), 0);
        assert_eq!(granted(1, true, start + Duration::from_millis(500)), REQUESTS_PER_SECOND as usize / 2);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_quiet() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        for uid in 0..RATES as u32 {
            assert!(rates.take(&Taker::User(uid), false, start));
        }
        assert!(!rates.take(&Taker::User(u32::MAX), false, start), "the table is full");
        assert!(rates.take(&Taker::User(u32::MAX - 1), true, start), "of strangers");
        assert!(rates.take(&Taker::User(u32::MAX), false, start + Duration::from_secs(1)));
        assert_eq!(rates.buckets.len(), 1);
    }
}
