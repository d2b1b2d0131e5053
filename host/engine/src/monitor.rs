//! Whether a grant is kept: judges one topic or workflow by what its hops took since the last look. Pure: time and
//! figures are handed in.
//!
//! It is violated once more than 1 of 100 events, and at least three, took longer than the whole way has, and a hop
//! longer than it has of that, counted over the last second, or over so much longer that there are a hundred events;
//! or once a hop holds events and is done with none for longer than the whole way has. It is kept again once that has not been
//! for a hold of three seconds, which doubles, up to a minute, each time that it is violated again within a minute:
//! whoever acts upon it is not called to and fro.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tempos_control::units::show_ns;

use crate::grants::Watched;

/// The window of busy topics.
const WINDOW: Duration = Duration::from_secs(1);
/// The longest window.
const WINDOW_MAX: Duration = Duration::from_secs(30);
/// So many events are enough to speak of a p99.
const EVENTS: u64 = 100;
/// So many must have taken too long: one or two are anybody's.
const OVER_MIN: u64 = 3;
/// The shortest and the longest hold, and how soon is again.
const HOLD: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

/// What a hop did since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Events that were through.
    pub events: u64,
    /// Those of them that took longer than the limit.
    pub over: u64,
    /// Their p99 (ns).
    pub p99_ns: u64,
    /// For how long it has held events and been done with none (ns).
    pub stuck_ns: u64,
}

impl Reading {
    fn is_slow(&self) -> bool {
        self.over * 100 > self.events
    }
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is violated: the sentence names the hop.
    Violated(String),
    /// It is kept again, after so long.
    Kept(Duration),
}

/// The last looks at one hop, or at the whole.
#[derive(Clone, Debug, Default)]
struct Window(VecDeque<(Instant, Reading)>);

impl Window {
    fn add(&mut self, now: Instant, reading: Reading) {
        self.0.push_back((now, reading));
        loop {
            let Some((at, first)) = self.0.front() else { return };
            let age = now.saturating_duration_since(*at);
            let is_enough = age >= WINDOW && self.sum().events - first.events >= EVENTS;
            if age < WINDOW_MAX && !is_enough {
                return;
            }
            self.0.pop_front();
        }
    }

    fn sum(&self) -> Reading {
        self.0.iter().fold(Reading::default(), |sum, (_, one)| Reading {
            events: sum.events + one.events,
            over: sum.over + one.over,
            p99_ns: sum.p99_ns.max(one.p99_ns),
            stuck_ns: one.stuck_ns,
        })
    }

    fn is_over(&self) -> bool {
        let sum = self.sum();
        sum.over >= OVER_MIN && sum.is_slow()
    }
}

/// The judgement of one grant.
#[derive(Clone, Debug)]
pub struct Judge {
    hops: Vec<Window>,
    whole: Window,
    /// Since when it is violated.
    violated: Option<Instant>,
    clean_since: Option<Instant>,
    hold: Duration,
    kept_at: Option<Instant>,
}

impl Judge {
    /// Of a grant with so many hops.
    pub fn new(hops: usize) -> Self {
        Judge {
            hops: vec![Window::default(); hops],
            whole: Window::default(),
            violated: None,
            clean_since: None,
            hold: HOLD.0,
            kept_at: None,
        }
    }

    /// The same under another grant: what was violated stays so until it has been kept for its hold.
    #[must_use]
    pub fn under(self, hops: usize, now: Instant) -> Self {
        Judge {
            hops: vec![Window::default(); hops],
            whole: Window::default(),
            clean_since: self.violated.map(|_| now),
            ..self
        }
    }

    /// Whether it is violated.
    #[cfg(test)]
    pub fn is_violated(&self) -> bool {
        self.violated.is_some()
    }

    /// What each hop took over its window: the p99 (ns), none where nothing came through.
    pub fn measured(&self) -> impl Iterator<Item = Option<u64>> {
        self.hops.iter().map(|hop| Some(hop.sum()).filter(|sum| sum.events > 0).map(|sum| sum.p99_ns))
    }

    /// Looks at a grant. `readings`: of its hops; `whole`: of its events from their arrival to their end, where they
    /// can be told from others.
    pub fn look(
        &mut self,
        watched: &Watched,
        readings: &[Reading],
        whole: Option<Reading>,
        now: Instant,
    ) -> Option<Change> {
        for (window, reading) in self.hops.iter_mut().zip(readings) {
            window.add(now, *reading);
        }
        if let Some(whole) = whole {
            self.whole.add(now, whole);
        }
        let stuck = |at: usize| readings[at].stuck_ns > watched.whole_ns;
        // Where the whole is not seen, its hops together stand for it.
        let together =
            |p99s: &mut dyn Iterator<Item = u64>| p99s.fold(0, u64::saturating_add) > watched.whole_ns;
        let whole_is_over = match whole {
            Some(_) => self.whole.is_over(),
            None => together(&mut self.hops.iter().map(|hop| hop.sum().p99_ns)),
        };
        if self.violated.is_none() {
            // The hops are read one after the other: the slow one may be an event behind the whole. A hop whose excess
            // cannot make up that of the whole is not the slow one, though it be over.
            let least = match whole {
                Some(_) => {
                    self.whole.sum().p99_ns.saturating_sub(watched.whole_ns) / (readings.len() as u64).max(1)
                }
                None => 0,
            };
            let is_slow = |at: usize| match whole {
                Some(_) => self.hops[at].sum().is_slow(),
                None => self.hops[at].is_over(),
            };
            let slow = (0..self.hops.len().min(readings.len()))
                .filter(|at| {
                    stuck(*at) || whole_is_over && is_slow(*at) && self.excess(watched, *at) >= least
                })
                .max_by_key(|at| self.excess(watched, *at))?;
            let again = self.kept_at.is_some_and(|at| now.saturating_duration_since(at) < HOLD.1);
            self.hold = if again { (self.hold * 2).min(HOLD.1) } else { HOLD.0 };
            (self.violated, self.clean_since) = (Some(now), None);
            return Some(Change::Violated(self.sentence(watched, slow)));
        }
        let whole_is_slow = match whole {
            Some(whole) => whole.is_slow(),
            None => together(&mut readings.iter().map(|reading| reading.p99_ns)),
        };
        let is_slow = (0..readings.len()).any(|at| stuck(at) || whole_is_slow && readings[at].is_slow());
        if is_slow {
            self.clean_since = None;
            return None;
        }
        let since = *self.clean_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.hold {
            return None;
        }
        let began = self.violated.take()?;
        self.kept_at = Some(now);
        self.hops.iter_mut().chain([&mut self.whole]).for_each(|window| window.0.clear());
        Some(Change::Kept(now.saturating_duration_since(began)))
    }

    /// How much longer than it may a hop took (ns): of several, the one that costs the way most is the slow one.
    fn excess(&self, watched: &Watched, at: usize) -> u64 {
        let sum = self.hops[at].sum();
        sum.p99_ns.max(sum.stuck_ns).saturating_sub(watched.hops[at].limit_ns)
    }

    fn sentence(&self, watched: &Watched, at: usize) -> String {
        let (hop, sum) = (&watched.hops[at], self.hops[at].sum());
        if sum.stuck_ns > watched.whole_ns {
            return format!(
                "{} has been done with no event for {}, and holds some; the whole way has {}",
                hop.name,
                show_ns(sum.stuck_ns),
                show_ns(watched.whole_ns)
            );
        }
        format!(
            "{} takes too long: {} of its last {} events took more than the {} that it has, p99 {}; the whole way has {}",
            hop.name,
            sum.over,
            sum.events,
            show_ns(hop.limit_ns),
            show_ns(sum.p99_ns),
            show_ns(watched.whole_ns)
        )
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
