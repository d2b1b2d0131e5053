//! Times of one and the same thing, and what is printed of them.

use std::time::Instant;

/// In nanoseconds.
#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    /// Measures one.
    pub fn take<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = what();
        self.0.push(begun.elapsed().as_nanos() as u64);
        result
    }

    /// One that was measured elsewhere.
    pub fn push(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// That share of them took no longer, in microseconds.
    pub fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let index = self.0.len().saturating_sub(1) as f64 * share;
        self.0.get(index as usize).map_or(f64::NAN, |ns| *ns as f64 / 1000.0)
    }

    /// p50, p99 and max in microseconds, or nothing where nothing was measured.
    pub fn figures(&mut self) -> String {
        if self.0.is_empty() {
            return format!("{:>28}", "-");
        }
        format!("{:>9} {:>9} {:>8}", us(self.at(0.5)), us(self.at(0.99)), us(self.at(1.0)))
    }
}

fn us(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
