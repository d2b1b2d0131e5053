//! A histogram of nanoseconds in fixed memory: 32 steps to each doubling, so that a figure is at most
//! 3 % above the truth and never below it.

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
const BUCKETS: usize = ((64 - STEP_BITS + 1) as usize) << STEP_BITS;

/// Latencies.
#[derive(Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { buckets: vec![0; BUCKETS], count: 0, sum_ns: 0, max_ns: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// The least value that `share` of all do not exceed; 0 where there is none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut passed = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            passed += count;
            if passed >= wanted {
                return highest_of(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// The mean; 0 where there is none.
    pub fn mean_ns(&self) -> u64 {
        u64::try_from(self.sum_ns / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// The highest.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }
}

/// Values below `STEPS` have a bucket each, above that each doubling has `STEPS` of them.
fn bucket(ns: u64) -> usize {
    let shift = (64 - STEP_BITS - 1).saturating_sub(ns.leading_zeros());
    ((u64::from(shift) << STEP_BITS) + (ns >> shift)) as usize
}

/// The highest value that falls into a bucket.
fn highest_of(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let shift = (index >> STEP_BITS) - 1;
    let lowest = u128::from(index - (shift << STEP_BITS)) << shift;
    u64::try_from(lowest + (1 << shift) - 1).unwrap_or(u64::MAX)
}

/// Nanoseconds for a reader.
pub fn show_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_never_tells_less_than_the_truth_nor_much_more() {
        for ns in (0..64).map(|bit| 1u64 << bit).flat_map(|n| [n - 1, n, n + 1, n + n / 3]).chain([u64::MAX])
        {
            let told = highest_of(bucket(ns));
            assert!(told >= ns && told - ns <= ns / STEPS, "{ns} is told as {told}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.quantile(0.5), latencies.mean_ns(), latencies.max_ns()), (0, 0, 0));
        (1..=50).for_each(|ns| latencies.add(ns));
        assert_eq!((latencies.quantile(0.5), latencies.quantile(1.0), latencies.max_ns()), (25, 50, 50));
        assert_eq!(latencies.mean_ns(), 25, "rounded down");
    }
}
