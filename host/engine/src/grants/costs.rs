//! What a hop costs: CPU time for each event, and how long a thread takes to wake up.
//!
//! Stated figures stand for what was not measured on this machine. They are on the safe side of what a virtual
//! machine with two CPUs showed for events of 256 bytes (SPECIFICATION.md), never a promise of their own: every
//! grant says on which figures it rests. Measured ones are those of a calibration (`calibration`): of each the worst of
//! those that were taken of such a thread, quiet or beside load.
//!
//! A figure is what so many of a million events may be above ([`MISSES_PPM`]). Which one counts depends on how many
//! figures a way is made of: where they are exceeded by `m1`, `m2` and so on of a million events, their sum is by at most
//! `m1 + m2 + …`, whether or not they come together (Boole's inequality). How the 1 of 100 is split over the pieces of work
//! and the wake-ups, which are measured as often in a row as the way has them, is free: the split with the least sum is
//! taken. Stated figures have no tail: there it is the same one throughout.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibration::Calibration;

/// A queue worker or function worker under real-time scheduling runs within this of being woken (ns): p99.
const WAKE_REAL_TIME_NS: u64 = 150_000;
/// The same of an ordinary thread: a slice of its neighbours'.
const WAKE_ORDINARY_NS: u64 = 5_000_000;
/// How long the kernel may keep a CPU from the thread that should have it (ns): sections that it cannot leave. Where
/// wake-ups were measured it is a part of what they took.
const BLOCKING_NS: u64 = 50_000;
/// What a function takes that declares no deadline (ns).
pub const FUNCTION_BODY_NS: u64 = 100_000;
/// What a queue policy takes for an event (ns): admission, choice, and the lane's own work around them.
const QUEUE_NS: u64 = 2_000;
/// The lane's own work around a policy that was measured (ns): stated, for it cannot be had apart from a lane.
const LANE_NS: u64 = 1_500;

/// CPU time of one event on its way in, or out (ns), by adapter; the last is for all others.
const CHANNELS_NS: &[(&str, u64)] =
    &[("shm", 3_000), ("unix", 6_000), ("udp", 6_000), ("tcp", 8_000), ("", 15_000)];
/// What an invocation method takes beside the function's own body (ns); the last is for all others. A process for
/// each event takes 0.6 ms to start.
const METHODS_NS: &[(&str, u64)] =
    &[("dlf", 3_000), ("wasm", 20_000), ("spawn", 1_000_000), ("container", 60_000_000), ("", 1_000_000)];

/// How many of a million events may be above a figure: p99, p99.2, p99.5, p99.8, p99.9 and p99.95.
pub const MISSES_PPM: [u64; 6] = [10_000, 8_000, 5_000, 2_000, 1_000, 500];
/// The rarest of them.
pub const RAREST: usize = MISSES_PPM.len() - 1;
/// Wake-ups in a row that are measured, by their names.
const WAKES: [(u64, &str); 3] = [(1, "wake"), (3, "wake-3"), (5, "wake-5")];
/// A figure says something where at least so many of its samples are above it.
const BEYOND_MIN: u64 = 2;

/// What was measured of one hop, on threads of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    /// The worst of quiet and loaded (ns), by [`MISSES_PPM`].
    ns: [u64; MISSES_PPM.len()],
    /// How many samples were taken beside load, the least of all that count together; 0: none were.
    loaded_samples: u64,
}

/// The figures.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// By hop: `channel/udp`, `queue/fifo`, `method/wasm`, `wake` (ns); of threads in real time, and of ordinary ones.
    measured: [BTreeMap<String, Measured>; 2],
    basis: Option<String>,
    /// The versions of the plugins that were measured.
    versions: BTreeMap<String, String>,
    /// The files of the plugins that were measured, by SHA-256; of an older daemon none.
    files: BTreeMap<String, String>,
    /// Plugins of which another version was measured, or another file of the same version.
    other: BTreeSet<String>,
    /// The program that measured is not this one.
    of_another_build: bool,
}

impl Costs {
    /// Stated figures alone.
    pub fn stated() -> Self {
        Costs::default()
    }

    /// Measured figures where there are, stated ones for the rest. `basis`: when and where they were taken.
    pub fn measured(basis: &str, calibration: &Calibration) -> Self {
        let mut measured: [BTreeMap<String, Measured>; 2] = [BTreeMap::new(), BTreeMap::new()];
        for cost in &calibration.costs {
            let [_, p99, p99_9, _] = cost.ns;
            let [p99_2, p99_5, p99_8, p99_95] = cost.tail_ns;
            let mut ns = [p99, p99_2, p99_5, p99_8, p99_9, p99_95];
            let key = match cost.what.split_once('/') {
                Some(("send" | "receive", name)) => format!("channel/{name}"),
                _ => cost.what.clone(),
            };
            if key.starts_with("queue/") {
                ns = ns.map(|ns| ns + LANE_NS);
            }
            let known = measured[usize::from(!cost.real_time)].entry(key).or_default();
            for (worst, ns) in known.ns.iter_mut().zip(ns) {
                *worst = ns.max(*worst);
            }
            if cost.loaded {
                let least = if known.loaded_samples == 0 { u64::MAX } else { known.loaded_samples };
                // A tail that was not kept is none.
                known.loaded_samples = if p99_95 == 0 { 1 } else { cost.samples.min(least) };
            }
        }
        Costs {
            measured,
            basis: Some(basis.to_owned()),
            versions: calibration.plugins.clone(),
            files: calibration.files.clone(),
            ..Costs::default()
        }
    }

    /// The same, measured by another program than this one: good enough to reckon with, not to promise by.
    pub fn of_another_build(self) -> Self {
        Costs { of_another_build: true, ..self }
    }

    /// The same without the figures of plugins that have another version by now, or are gone. `now`: a plugin's version
    /// and the SHA-256 of its file. Another file of the same version is good enough to reckon with.
    pub fn of_versions(&self, now: impl Fn(&str) -> Option<(String, String)>) -> Self {
        let mut costs = self.clone();
        let mut other: BTreeSet<&str> = BTreeSet::new();
        for (plugin, version) in &self.versions {
            let now = now(plugin);
            if now.as_ref().map(|(version, _)| version) != Some(version) {
                other.insert(plugin);
            } else if now.as_ref().map(|(_, file)| file) == self.files.get(plugin) {
                continue;
            }
            costs.other.insert(plugin.clone());
        }
        if other.is_empty() {
            return costs;
        }
        let is_other = |what: &str| what.split_once('/').is_some_and(|(_, name)| other.contains(name));
        for measured in &mut costs.measured {
            measured.retain(|what, _| !is_other(what));
        }
        let names: Vec<&str> = other.into_iter().collect();
        costs.basis = self.basis.as_ref().map(|basis| {
            format!("{basis}; stated costs for {}, of which another version was measured", names.join(", "))
        });
        costs
    }

    /// What the figures are, for sentences.
    pub fn basis(&self) -> &str {
        self.basis.as_deref().unwrap_or("stated costs, not measured on this machine")
    }

    /// Those of a lane, as far as 1 of 100 events may be above each.
    pub fn on(&self, real_time: bool) -> LaneCosts<'_> {
        LaneCosts { measured: &self.measured[usize::from(!real_time)], real_time, nth: 0 }
    }

    /// Why nothing can be promised by a figure of threads in real time, with what would mend it; `None` where it can.
    /// `nth`: which of [`MISSES_PPM`].
    pub fn lacks(&self, what: &str, nth: usize) -> Option<String> {
        if self.basis.is_none() {
            return Some(String::from(
                "costs are stated, not measured on this machine: run temposctl calibrate",
            ));
        }
        if self.of_another_build {
            return Some(String::from("another build of temposd was calibrated: run temposctl calibrate"));
        }
        let name = what.split_once('/').map_or("", |(_, name)| name);
        let subject = match name {
            "" => String::from("how long threads take to wake up"),
            name => format!("the cost of {name}"),
        };
        if self.other.contains(name) {
            return Some(format!("another build of {name} was calibrated: run temposctl calibrate"));
        }
        let Some(known) = self.measured[0].get(what) else {
            return Some(format!(
                "{subject} is stated, the calibration did not measure it on threads in real time"
            ));
        };
        if known.loaded_samples == 0 {
            return Some(format!("{subject} was not measured beside load: run temposctl calibrate"));
        }
        let misses = MISSES_PPM[nth.min(RAREST)];
        let needed = BEYOND_MIN * 1_000_000 / misses;
        (known.loaded_samples < needed).then(|| {
            format!(
                "{subject} was measured {} times, and {needed} are needed: run temposctl calibrate --time 2min",
                known.loaded_samples
            )
        })
    }
}

/// The name of the figure for so many wake-ups in a row; `None` where so many are not measured together.
pub fn wakes_figure(wakes: u64) -> Option<&'static str> {
    WAKES.iter().find(|(row, _)| *row >= wakes).map(|(_, name)| *name)
}

/// Which of [`MISSES_PPM`] count on a way with so many pieces of work: for each of those, and for its wake-ups together.
/// In all they leave 1 of 100, a look of the supervisor included; empty where there are too many pieces.
pub fn rarities(pieces: u64) -> impl Iterator<Item = (usize, usize)> {
    MISSES_PPM.iter().enumerate().filter_map(move |(of_pieces, misses)| {
        let left = MISSES_PPM[0].checked_sub(pieces * misses + MISSES_PPM[RAREST])?;
        Some((of_pieces, MISSES_PPM.iter().position(|misses| *misses <= left)?))
    })
}

/// What hops cost on a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneCosts<'a> {
    measured: &'a BTreeMap<String, Measured>,
    real_time: bool,
    nth: usize,
}

impl LaneCosts<'_> {
    /// The same with rarer figures: those of that place in [`MISSES_PPM`].
    pub fn rarer(self, nth: usize) -> Self {
        LaneCosts { nth: nth.min(RAREST), ..self }
    }

    /// CPU time of an event through a channel, one way (ns).
    pub fn channel_ns(self, adapter: &str) -> u64 {
        self.figure("channel", adapter, || stated(CHANNELS_NS, adapter))
    }

    /// CPU time of an event in a queue (ns).
    pub fn queue_ns(self, policy: &str) -> u64 {
        self.figure("queue", policy, || QUEUE_NS)
    }

    /// What an invocation takes beside the function's own body (ns).
    pub fn method_ns(self, method: &str) -> u64 {
        self.figure("method", method, || stated(METHODS_NS, method))
    }

    /// How long a thread takes to wake up (ns).
    pub fn wake_ns(self) -> u64 {
        let stated = if self.real_time { WAKE_REAL_TIME_NS } else { WAKE_ORDINARY_NS };
        self.measured.get("wake").map_or(stated, |known| self.of(known))
    }

    /// How long so many wake-ups in a row take (ns): the least row that is measured and has them all, or more than one.
    pub fn wakes_ns(self, wakes: u64) -> u64 {
        let known = |name: &str| self.measured.get(name).map(|known| self.of(known));
        let row = wakes_figure(wakes).filter(|_| wakes > 0).and_then(known);
        let (most, longest) = WAKES[WAKES.len() - 1];
        row.unwrap_or_else(|| match known(longest) {
            Some(ns) if wakes > most => ns.saturating_add(self.wakes_ns(wakes - most)),
            _ => self.wake_ns().saturating_mul(wakes),
        })
    }

    /// How long the kernel may keep the CPU from the lane beside that (ns).
    pub fn blocking_ns(self) -> u64 {
        if self.real_time && !self.measured.contains_key("wake") { BLOCKING_NS } else { 0 }
    }

    fn figure(self, what: &str, name: &str, otherwise: impl FnOnce() -> u64) -> u64 {
        if self.measured.is_empty() {
            return otherwise();
        }
        self.measured.get(&format!("{what}/{name}")).map_or_else(otherwise, |known| self.of(known))
    }

    /// A file of an older daemon has p99 and p99.9 alone.
    fn of(self, known: &Measured) -> u64 {
        match known.ns[self.nth] {
            0 if self.nth > 0 => known.ns[0].max(known.ns[4]),
            ns => ns,
        }
    }
}

fn stated(table: &[(&str, u64)], name: &str) -> u64 {
    table.iter().find(|(known, _)| known.is_empty() || *known == name).map_or(0, |(_, ns)| *ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Cost;

    fn calibration() -> Calibration {
        let cost = |what: &str, real_time, loaded, p99| Cost {
            what: what.into(),
            real_time,
            loaded,
            ns: [p99 / 2, p99, p99 * 4, p99 * 6],
            tail_ns: [p99 * 2, p99 * 2, p99 * 3, p99 * 5],
            samples: 1000,
        };
        Calibration {
            costs: vec![
                cost("wake", true, false, 20_000),
                cost("wake", true, true, 40_000),
                cost("wake", false, true, 900_000),
                cost("send/udp", true, false, 4_321),
                cost("receive/udp", false, true, 4_000),
                cost("queue/fifo", true, false, 300),
            ],
            left_out: Vec::new(),
            plugins: BTreeMap::from([("udp".into(), "0.1.0".into()), ("fifo".into(), "0.1.0".into())]),
            files: BTreeMap::from([("udp".into(), "u".into()), ("fifo".into(), "f".into())]),
        }
    }

    #[test]
    fn what_was_not_measured_is_stated() {
        let costs = Costs::measured("the calibration of today", &calibration());
        let (strict, other) = (costs.on(true), costs.on(false));
        assert_eq!((strict.channel_ns("udp"), strict.channel_ns("unix")), (4_321, 6_000));
        assert_eq!((strict.channel_ns("mine"), strict.method_ns("mine")), (15_000, 1_000_000));
        assert_eq!((strict.wake_ns(), other.wake_ns()), (40_000, 900_000), "the worst of what was taken");
        assert_eq!((strict.queue_ns("fifo"), strict.queue_ns("edf")), (1_800, 2_000));
        assert_eq!((other.channel_ns("udp"), other.queue_ns("fifo")), (4_000, 2_000), "each by its own");
        assert_eq!(costs.basis(), "the calibration of today");
        assert!(Costs::stated().basis().contains("not measured"));
    }

    #[test]
    fn another_version_was_not_measured() {
        let costs = Costs::measured("the calibration of today", &calibration());
        let now = |udp: &'static str| {
            move |plugin: &str| {
                let (version, file) = if plugin == "udp" { (udp, "u") } else { ("0.1.0", "f") };
                Some((version.to_owned(), file.to_owned()))
            }
        };
        assert_eq!(costs.of_versions(now("0.1.0")).on(true).channel_ns("udp"), 4_321);
        let other = costs.of_versions(now("0.2.0"));
        let strict = other.on(true);
        assert_eq!(
            (strict.channel_ns("udp"), strict.queue_ns("fifo"), strict.wake_ns()),
            (6_000, 1_800, 40_000)
        );
        assert_eq!(
            other.basis(),
            "the calibration of today; stated costs for udp, of which another version was measured"
        );
    }
}
