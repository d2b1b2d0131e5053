//! When frames arrived, modulo the cycle, and whether that was within a window.

use std::str::FromStr;

/// Phases that are kept.
const PHASES_MAX: usize = 1 << 20;

/// A part of the cycle, from its start up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from_ns: u64,
    /// Its end, which is not within it.
    pub to_ns: u64,
}

impl FromStr for Window {
    type Err = ();

    /// `FROM-TO`, in nanoseconds.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (from, to) = text.split_once('-').ok_or(())?;
        let window = Window { from_ns: from.parse().map_err(drop)?, to_ns: to.parse().map_err(drop)? };
        if window.from_ns < window.to_ns { Ok(window) } else { Err(()) }
    }
}

/// Phases of arrivals.
#[derive(Clone, Debug)]
pub struct Phases {
    cycle_ns: u64,
    all: Vec<u64>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Frames that arrived.
    pub frames: usize,
    /// Those that arrived before their window, or later behind it than is tolerated.
    pub outside: usize,
    /// The latest behind the window's end, tolerated or not.
    pub worst_late_ns: u64,
    /// The earliest before its start.
    pub worst_early_ns: u64,
}

impl Phases {
    /// None yet. A cycle of 0 counts as 1.
    pub fn new(cycle_ns: u64) -> Self {
        Phases { cycle_ns: cycle_ns.max(1), all: Vec::new() }
    }

    /// Reads what [`lines`](Self::lines) wrote.
    ///
    /// # Errors
    /// A line that is no number, by its place.
    pub fn read(cycle_ns: u64, text: &str) -> Result<Self, String> {
        let mut phases = Phases::new(cycle_ns);
        for (at, line) in text.lines().enumerate() {
            phases.add(line.trim().parse().map_err(|_| format!("line {}: {line:?} is no number", at + 1))?);
        }
        Ok(phases)
    }

    /// Adds an arrival (TAI). Only so many are kept.
    pub fn add(&mut self, time_ns: u64) {
        if self.all.len() < PHASES_MAX {
            self.all.push(time_ns % self.cycle_ns);
        }
    }

    /// One number in each line.
    pub fn lines(&self) -> String {
        self.all.iter().map(|phase| format!("{phase}\n")).collect()
    }

    /// The cycle.
    pub fn cycle_ns(&self) -> u64 {
        self.cycle_ns
    }

    /// How many arrived in each of `bins` equal parts of the cycle.
    pub fn histogram(&self, bins: usize) -> Vec<usize> {
        let mut counts = vec![0; bins.max(1)];
        for phase in &self.all {
            let bin = u128::from(*phase) * counts.len() as u128 / u128::from(self.cycle_ns);
            counts[bin as usize] += 1;
        }
        counts
    }

    /// How far the histograms of two are apart, with that many bins: the largest difference of their sums up to any
    /// bin, in thousandths of all frames. 1000 where one of them is empty.
    pub fn distance_permille(&self, other: &Phases, bins: usize) -> u64 {
        if self.all.is_empty() || other.all.is_empty() {
            return 1000;
        }
        let share = |phases: &Phases, count: usize| count as f64 / phases.all.len() as f64;
        let (mut sum, mut most) = (0.0f64, 0.0f64);
        for (ours, theirs) in self.histogram(bins).into_iter().zip(other.histogram(bins)) {
            sum += share(self, ours) - share(other, theirs);
            most = most.max(sum.abs());
        }
        (most * 1000.0).round() as u64
    }

    /// Judges them. Nothing is ever early: a closed gate lets nothing out. What left just before its gate closed
    /// arrives a little later: that is what `tolerance_ns` is for.
    pub fn judge(&self, window: Window, tolerance_ns: u64) -> Verdict {
        let mut verdict = Verdict { frames: self.all.len(), ..Verdict::default() };
        let length = window.to_ns - window.from_ns;
        for phase in &self.all {
            let into = (phase + self.cycle_ns - window.from_ns % self.cycle_ns) % self.cycle_ns;
            if into < length {
                continue;
            }
            let (late, early) = (into - length, self.cycle_ns - into);
            // Whichever end of the window is nearer.
            if late <= early {
                verdict.worst_late_ns = verdict.worst_late_ns.max(late);
            } else {
                verdict.worst_early_ns = verdict.worst_early_ns.max(early);
            }
            verdict.outside += usize::from(late >= tolerance_ns);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Window = Window { from_ns: 0, to_ns: 500 };
    const SECOND: Window = Window { from_ns: 500, to_ns: 1000 };

    fn phases(times: &[u64]) -> Phases {
        let mut phases = Phases::new(1000);
        times.iter().for_each(|time| phases.add(*time));
        phases
    }

    #[test]
    fn what_is_within_is_within_and_the_end_is_not() {
        let verdict = phases(&[0, 499, 7000, 3250]).judge(FIRST, 0);
        assert_eq!(verdict, Verdict { frames: 4, ..Verdict::default() });
        let verdict = phases(&[500]).judge(FIRST, 0);
        assert_eq!((verdict.outside, verdict.worst_late_ns), (1, 0));
    }

    #[test]
    fn only_lateness_is_tolerated_also_over_the_end_of_the_cycle() {
        let verdict = phases(&[519, 520, 999]).judge(FIRST, 20);
        assert_eq!((verdict.outside, verdict.worst_late_ns, verdict.worst_early_ns), (2, 20, 1));
        let verdict = phases(&[2019, 2020, 499]).judge(SECOND, 20);
        assert_eq!((verdict.outside, verdict.worst_late_ns, verdict.worst_early_ns), (2, 20, 1));
    }

    #[test]
    fn traffic_of_the_other_window_is_seen() {
        let other: Vec<u64> = (500..1000).collect();
        assert_eq!(phases(&other).judge(FIRST, 20).outside, 480);
    }

    #[test]
    fn a_histogram_counts_everything_once() {
        assert_eq!(phases(&[0, 99, 100, 999, 1000, 12_345]).histogram(10), [3, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn histograms_that_are_alike_are_near_and_others_are_not() {
        let some = phases(&[1, 100, 200, 300]);
        assert_eq!(some.distance_permille(&some, 20), 0);
        assert_eq!(some.distance_permille(&phases(&[1, 100, 200, 900]), 20), 250);
        assert_eq!(some.distance_permille(&phases(&[600, 700]), 20), 1000);
        assert_eq!(some.distance_permille(&phases(&[]), 20), 1000);
    }

    #[test]
    fn phases_are_read_as_they_were_written() {
        let some = phases(&[1, 2, 1003]);
        assert_eq!(Phases::read(1000, &some.lines()).expect("numbers").lines(), "1\n2\n3\n");
        assert_eq!(Phases::read(1000, "1\nx\n").expect_err("no number"), "line 2: \"x\" is no number");
    }

    #[test]
    fn a_window_is_two_numbers_in_order() {
        assert_eq!("0-500".parse(), Ok(FIRST));
        for wrong in ["", "5", "5-5", "6-5", "a-b", "-5"] {
            assert_eq!(wrong.parse::<Window>(), Err(()), "{wrong}");
        }
    }
}
