//! The shaper of a rate: a token bucket, as the generic cell rate algorithm (ITU-T I.371, annex A) has it.
//!
//! Pure: the time is handed in.

/// Time is kept in parts of a nanosecond, so that high rates are exact.
const PARTS: u128 = 1 << 20;

/// A bucket.
#[derive(Clone, Debug)]
pub struct Shaper {
    /// Between two events at the rate, in parts.
    interval: u128,
    /// How far ahead of the rate a burst may be, in parts.
    ahead: u128,
    /// When the bucket is full again, in parts.
    full_at: u128,
}

impl Shaper {
    /// A full bucket for `rate` events a second (at least 1), and `burst` at once after a pause; `None`: a
    /// hundredth of a second's, at least one.
    pub fn new(rate: u32, burst: Option<u32>) -> Self {
        let rate = u128::from(rate.max(1));
        let interval = (1_000_000_000 * PARTS) / rate;
        let burst = burst.map_or(rate / 100, u128::from).max(1);
        Shaper { interval, ahead: interval * burst, full_at: 0 }
    }

    /// How many events may go now, at most `most`.
    pub fn allows(&self, now_ns: u64, most: usize) -> usize {
        let now = u128::from(now_ns) * PARTS;
        let used = self.full_at.saturating_sub(now);
        (self.ahead.saturating_sub(used) / self.interval).min(most as u128) as usize
    }

    /// Notes that so many went. More than were allowed are paid for later.
    pub fn take(&mut self, now_ns: u64, count: usize) {
        let now = u128::from(now_ns) * PARTS;
        self.full_at = self.full_at.max(now) + self.interval * count as u128;
    }

    /// When the next event may go (ns); in the past where one may go now.
    pub fn next_ns(&self) -> u64 {
        ((self.full_at + self.interval).saturating_sub(self.ahead)).div_ceil(PARTS) as u64
    }
}

/// Producers remembered for each source; the one that was silent longest is forgotten for a new one, and gets a
/// full bucket again.
pub const PRODUCERS_MAX: usize = 64;

/// A bucket for each producer of a source. Made with all the memory that it will ever need.
#[derive(Clone, Debug)]
pub struct Shapers {
    full: Shaper,
    producers: Box<[(u64, u64, Shaper)]>,
    calls: u64,
}

impl Shapers {
    /// No producer yet; each gets a bucket like `full`.
    pub fn new(full: Shaper) -> Self {
        Shapers { producers: vec![(0, 0, full.clone()); PRODUCERS_MAX].into(), full, calls: 0 }
    }

    /// Whether a producer (0: the one without a name) may bring an event now; it is counted where it may.
    pub fn lets_in(&mut self, producer: u64, now_ns: u64) -> bool {
        self.calls += 1;
        let name = producer.wrapping_add(1).max(1);
        let known = self.producers.iter().position(|(known, ..)| *known == name);
        let at = known.unwrap_or_else(|| {
            let silent = (0..self.producers.len()).min_by_key(|at| self.producers[*at].1).unwrap_or(0);
            self.producers[silent] = (name, 0, self.full.clone());
            silent
        });
        let (_, heard, shaper) = &mut self.producers[at];
        *heard = self.calls;
        let allowed = shaper.allows(now_ns, 1) == 1;
        if allowed {
            shaper.take(now_ns, 1);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut shaper = Shaper::new(1000, Some(5));
        assert_eq!(shaper.allows(1_000_000_000, 64), 5);
        shaper.take(1_000_000_000, 5);
        assert_eq!(shaper.allows(1_000_000_000, 64), 0);
        assert_eq!(shaper.next_ns(), 1_001_000_000);
        assert_eq!(shaper.allows(1_000_999_999, 64), 0);
        assert_eq!(shaper.allows(1_001_000_000, 64), 1);
        assert_eq!(shaper.allows(1_004_000_000, 64), 4);
        assert_eq!(shaper.allows(9_000_000_000, 64), 5);
    }

    #[test]
    fn each_producer_has_a_bucket_of_its_own() {
        let mut shapers = Shapers::new(Shaper::new(10, Some(2)));
        let mut lets_in = |producer| shapers.lets_in(producer, 1_000_000_000);
        assert_eq!([1, 1, 1, 2, 2, 2].map(&mut lets_in), [true, true, false, true, true, false]);
        assert!((100..100 + PRODUCERS_MAX as u64).all(&mut lets_in), "each new one gets a full bucket");
        assert!(lets_in(1), "and one that was forgotten");
    }

    #[test]
    fn over_any_second_no_more_than_rate_and_burst_go() {
        for (rate, burst) in [(1, 1), (7, 3), (1000, 10), (1_000_000, 100), (100_000_000, 64)] {
            let mut shaper = Shaper::new(rate, Some(burst));
            let (mut now, mut went) = (5_000_000_000u64, 0u64);
            let end = now + 1_000_000_000;
            let mut draw = 12345u64;
            while now < end {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let count = shaper.allows(now, 1 + (draw >> 58) as usize);
                shaper.take(now, count);
                went += count as u64;
                now = if count > 0 { now + 100 } else { shaper.next_ns().max(now + 1) };
            }
            let most = u64::from(rate) + u64::from(burst) + 1;
            assert!(went <= most, "{rate}/{burst}: {went}");
            // Calls of at most 64 events cannot fill the highest rates.
            if rate <= 1_000_000 {
                assert!(went >= u64::from(rate), "{rate}/{burst}: {went}");
            }
        }
    }
}
