//! What a topic or a workflow asks of its quality in a user's own terms, where naming a level is not enough.

use std::fmt::Write as _;

use crate::units::show_ns;

/// The most topics and workflows of a node that may ask in these terms: each is weighed against all others.
pub const REQUESTS_MAX: usize = 1024;

/// How often an event comes, held as events in an hour so that whole rates of any unit stay whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// Events in an hour, at least 1.
    pub per_hour: u64,
}

impl Rate {
    /// So many events in a second.
    pub const fn per_second(events: u64) -> Self {
        Rate { per_hour: events.saturating_mul(3600) }
    }

    /// The least time between two events (ns), rounded down: the load is never taken for less than it is.
    pub const fn interval_ns(self) -> u64 {
        let hour = 3_600_000_000_000;
        let events = if self.per_hour == 0 { 1 } else { self.per_hour };
        if events > hour { 1 } else { hour / events }
    }

    /// As a user would write it: `1000/s`.
    pub fn show(self) -> String {
        let (count, unit) = match self.per_hour {
            rate if rate.is_multiple_of(3600) => (rate / 3600, "s"),
            rate if rate.is_multiple_of(60) => (rate / 60, "min"),
            rate => (rate, "h"),
        };
        format!("{count}/{unit}")
    }
}

/// What is to hold of an event on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// It comes once or not at all.
    AtMostOnce,
    /// It comes, perhaps more than once: every receiver acknowledges it.
    AtLeastOnce,
    /// It comes, and what it does is done once.
    EffectivelyOnce,
}

impl Delivery {
    /// The words, in the order of what they ask.
    pub const WORDS: &'static [&'static str] = &["at-most-once", "at-least-once", "effectively-once"];

    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Delivery::AtMostOnce => "at-most-once",
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::EffectivelyOnce => "effectively-once",
        }
    }

    /// The delivery of that word.
    pub fn of(word: &str) -> Option<Self> {
        [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::EffectivelyOnce]
            .into_iter()
            .find(|one| one.word() == word)
    }
}

/// What happens where a request cannot be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnmet {
    /// The wiring is refused; the old one goes on.
    #[default]
    Refuse,
    /// The best that can be given is given, and shown as degraded.
    Degrade,
}

/// What the controller may choose to meet a request. An empty list allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Levels.
    pub levels: Vec<String>,
    /// Queue policies, and with them the levels that have one of them.
    pub policies: Vec<String>,
    /// Invocation methods that the functions on the way may have.
    pub methods: Vec<String>,
    /// Whether settings of channels may be changed that their peers notice, such as `acknowledge`.
    pub settings: bool,
}

/// What is asked for. What is `None` is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QosRequest {
    /// 99 of 100 events are to be through within this.
    pub latency_p99_ns: Option<u64>,
    /// The slowest is to take at most so much longer than the fastest.
    pub jitter_ns: Option<u64>,
    /// The most events that come; what is promised holds up to it.
    pub rate: Option<Rate>,
    /// The share of events that may be lost, in millionths.
    pub loss_ppm: Option<u32>,
    /// How events are delivered.
    pub delivery: Option<Delivery>,
    /// What may be chosen.
    pub allow: Allowed,
    /// What happens where it cannot be met.
    pub on_unmet: OnUnmet,
}

impl QosRequest {
    /// What is asked for, as a person would say it: `p99 2.00 ms, 1000/s`.
    pub fn words(&self) -> String {
        let mut said = String::new();
        let mut part = |text: std::fmt::Arguments<'_>| {
            if !said.is_empty() {
                said.push_str(", ");
            }
            // Writing to a text does not fail.
            let _ = said.write_fmt(text);
        };
        if let Some(ns) = self.latency_p99_ns {
            part(format_args!("p99 {}", show_ns(ns)));
        }
        if let Some(ns) = self.jitter_ns {
            part(format_args!("jitter {}", show_ns(ns)));
        }
        if let Some(rate) = self.rate {
            part(format_args!("{}", rate.show()));
        }
        if let Some(ppm) = self.loss_ppm {
            part(format_args!("loss {}", show_share(ppm)));
        }
        if let Some(delivery) = self.delivery {
            part(format_args!("{}", delivery.word()));
        }
        said
    }
}

/// A share in millionths as a decimal number.
pub fn show_share(ppm: u32) -> String {
    format!("{}", f64::from(ppm) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_shown_in_the_unit_that_keeps_it_whole() {
        assert_eq!(Rate::per_second(1000).show(), "1000/s");
        assert_eq!(Rate { per_hour: 600 }.show(), "10/min");
        assert_eq!(Rate { per_hour: 7 }.show(), "7/h");
        assert_eq!(Rate::per_second(1000).interval_ns(), 1_000_000);
        assert_eq!(Rate::per_second(3).interval_ns(), 333_333_333);
    }

    #[test]
    fn a_request_says_what_it_asks() {
        let request = QosRequest {
            latency_p99_ns: Some(2_000_000),
            rate: Some(Rate::per_second(10)),
            loss_ppm: Some(1000),
            delivery: Some(Delivery::AtLeastOnce),
            ..QosRequest::default()
        };
        assert_eq!(request.words(), "p99 2.00 ms, 10/s, loss 0.001, at-least-once");
    }
}
