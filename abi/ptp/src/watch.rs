//! Whether a clock counts as synchronised: pure, with time handed in.
//!
//! A clock is lost at once, and with the first cause found. It counts again when everything was in its bounds without a
//! break for the hold time; so it is at the start.

use crate::message::{Identity, PortState};

/// What the port is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows the grandmaster.
    Follower,
    /// It gives the time.
    Leader,
    /// Either.
    Any,
}

/// What a clock must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What the port is to be.
    pub role: Role,
    /// Nanoseconds that it may be from the grandmaster, and a card's clock from CLOCK_TAI, either way.
    pub offset_max_ns: u64,
    /// How long everything must be in its bounds before a clock that was lost counts again, in nanoseconds.
    pub hold_ns: u64,
    /// How long ptp4l may say nothing, and a follower may hear no Sync, in nanoseconds.
    pub silence_max_ns: u64,
}

/// What was read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The port's number.
    pub port: u16,
    /// Its state.
    pub state: PortState,
    /// Nanoseconds from the grandmaster.
    pub offset_ns: i64,
    /// When the last Sync came, by a clock that only moves on with each.
    pub ingress_ns: i64,
    /// The grandmaster.
    pub grandmaster: Identity,
    /// TAI minus UTC in seconds as the grandmaster says it, where it is sure.
    pub utc_offset_s: Option<i32>,
    /// TAI minus UTC in seconds as the kernel has it, where that could be read.
    pub tai_offset_s: Option<i32>,
    /// Nanoseconds that the card's clock is ahead of CLOCK_TAI, where that counts.
    pub hardware_ahead_ns: Option<i64>,
}

/// Why a clock does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// ptp4l says nothing, or not enough.
    Silence,
    /// The port is not what it is to be.
    Port,
    /// No Sync is heard.
    Sync,
    /// It is too far from the grandmaster.
    Offset,
    /// The kernel's TAI is not the grandmaster's.
    Tai,
    /// The card's clock is too far from CLOCK_TAI, or cannot be read.
    Card,
    /// Everything is in its bounds, and the hold time is not over.
    Hold,
}

/// What a clock is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether gates and launch times may rest on it.
    pub granted: bool,
    /// Whether everything is in its bounds; where it is not granted all the same, the hold time is not over.
    pub in_bounds: bool,
    /// Why it is not granted; none where it is.
    pub cause: Option<Cause>,
    /// One sentence: how good it is, or what is wrong with it.
    pub reason: String,
}

/// A clock under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    bounds: Bounds,
    granted: bool,
    /// Everything is in its bounds since then.
    good_since: Option<u64>,
    /// When something was read last; at the start: when the watch began.
    heard_ns: u64,
    /// The last Sync, and when it was first seen.
    sync: Option<(i64, u64)>,
    cause: Option<Cause>,
    reason: String,
}

impl Watch {
    /// Begins at that instant, with a clock that does not count yet.
    pub fn new(bounds: Bounds, now_ns: u64) -> Self {
        let reason = String::from("ptp4l has not answered yet");
        let cause = Some(Cause::Silence);
        Watch { bounds, granted: false, good_since: None, heard_ns: now_ns, sync: None, cause, reason }
    }

    /// Takes note of what was read.
    pub fn see(&mut self, now_ns: u64, reading: &Reading) {
        self.heard_ns = now_ns;
        match self.wrong(now_ns, reading) {
            Some((cause, sentence)) => self.lose(cause, sentence),
            None => {
                let since = *self.good_since.get_or_insert(now_ns);
                let good_ns = now_ns.saturating_sub(since);
                self.granted |= good_ns >= self.bounds.hold_ns;
                self.cause = (!self.granted).then_some(Cause::Hold);
                self.reason = match self.granted {
                    true => good(reading),
                    false => format!(
                        "{}; it counts after {} without a break, which have lasted {}",
                        good(reading),
                        show_ns(self.bounds.hold_ns),
                        show_ns(good_ns)
                    ),
                };
            }
        }
    }

    /// The card's clock could not be read.
    pub fn fail(&mut self, now_ns: u64, sentence: String) {
        self.heard_ns = now_ns;
        self.lose(Cause::Card, sentence);
    }

    /// Nothing could be read; `why` is what the system said, where it said something.
    pub fn miss(&mut self, now_ns: u64, why: Option<&str>) {
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        if silent_ns > self.bounds.silence_max_ns {
            let silent = show_ns(silent_ns);
            let sentence = match why {
                Some(why) => format!("ptp4l has not said enough for {silent}: {why}"),
                None => format!("ptp4l has not answered for {silent}"),
            };
            self.lose(Cause::Silence, sentence);
        }
    }

    /// What it is worth now.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            granted: self.granted,
            in_bounds: self.good_since.is_some(),
            cause: self.cause,
            reason: self.reason.clone(),
        }
    }

    fn lose(&mut self, cause: Cause, sentence: String) {
        (self.granted, self.good_since, self.cause, self.reason) = (false, None, Some(cause), sentence);
    }

    fn wrong(&mut self, now_ns: u64, reading: &Reading) -> Option<(Cause, String)> {
        let is_leader = reading.state == PortState::MASTER;
        let wanted: &[PortState] = match self.bounds.role {
            Role::Follower => &[PortState::SLAVE],
            Role::Leader => &[PortState::MASTER],
            Role::Any => &[PortState::SLAVE, PortState::MASTER],
        };
        if !wanted.contains(&reading.state) {
            let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            let sentence = format!(
                "port {} of ptp4l is {}, and is to be {}",
                reading.port,
                reading.state,
                wanted.join(" or ")
            );
            return Some((Cause::Port, sentence));
        }
        if !is_leader {
            let last = self.sync.filter(|(ingress_ns, _)| *ingress_ns == reading.ingress_ns);
            let (_, seen_ns) = *self.sync.insert(last.unwrap_or((reading.ingress_ns, now_ns)));
            let silent_ns = now_ns.saturating_sub(seen_ns);
            if silent_ns > self.bounds.silence_max_ns {
                let sentence = format!("port {} has heard no Sync for {}", reading.port, show_ns(silent_ns));
                return Some((Cause::Sync, sentence));
            }
            let offset_ns = reading.offset_ns.unsigned_abs();
            if offset_ns > self.bounds.offset_max_ns {
                let sentence = format!(
                    "the clock is {} from grandmaster {}, and may be {}",
                    show_ns(offset_ns),
                    reading.grandmaster,
                    show_ns(self.bounds.offset_max_ns)
                );
                return Some((Cause::Offset, sentence));
            }
        }
        if let (Some(utc), Some(tai)) = (reading.utc_offset_s, reading.tai_offset_s)
            && utc != tai
        {
            let sentence = format!(
                "the kernel has TAI {tai} s ahead of UTC, and the grandmaster {utc} s: ptp4l or phc2sys sets it where it \
                 may step the clock"
            );
            return Some((Cause::Tai, sentence));
        }
        let ahead_ns = reading.hardware_ahead_ns?.unsigned_abs();
        (ahead_ns > self.bounds.offset_max_ns).then(|| {
            let sentence = format!(
                "the card's clock is {} from CLOCK_TAI, and may be {}: phc2sys keeps them together",
                show_ns(ahead_ns),
                show_ns(self.bounds.offset_max_ns)
            );
            (Cause::Card, sentence)
        })
    }
}

fn good(reading: &Reading) -> String {
    match reading.state {
        PortState::MASTER => format!("port {} gives the time", reading.port),
        _ => format!(
            "port {} is {} from grandmaster {}",
            reading.port,
            show_ns(reading.offset_ns.unsigned_abs()),
            reading.grandmaster
        ),
    }
}

/// A duration for readers: 850 ns, 12.3 µs, 4.56 ms, 7.30 s.
fn show_ns(ns: u64) -> String {
    match ns {
        0..1000 => format!("{ns} ns"),
        1000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}
