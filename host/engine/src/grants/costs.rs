//! What a hop costs: CPU time for each event, and how long a thread takes to wake up.
//!
//! Stated figures stand for what was not measured on this machine. They are on the safe side of what a virtual
//! machine with two CPUs showed for events of 256 bytes (SPECIFICATION.md), never a promise of their own: every
//! grant says on which figures it rests. Measured ones are those of a calibration (`calibration`): of each the worst
//! p99 of those that were taken of such a thread, quiet or beside load.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibration::Calibration;

/// A queue worker or function worker under real-time scheduling runs within this of being woken (ns): p99.
const WAKE_REAL_TIME_NS: u64 = 150_000;
/// The same of an ordinary thread: a slice of its neighbours'.
const WAKE_ORDINARY_NS: u64 = 5_000_000;
/// How long the kernel may keep a CPU from the thread that should have it (ns): sections that it cannot leave.
pub const BLOCKING_NS: u64 = 50_000;
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

/// The figures.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// By hop: `channel/udp`, `queue/fifo`, `method/wasm`, `wake` (ns); of threads in real time, and of ordinary ones.
    measured: [BTreeMap<String, u64>; 2],
    basis: Option<String>,
    /// The versions of the plugins that were measured.
    versions: BTreeMap<String, String>,
}

impl Costs {
    /// Stated figures alone.
    pub fn stated() -> Self {
        Costs::default()
    }

    /// Measured figures where there are, stated ones for the rest. `basis`: when and where they were taken.
    pub fn measured(basis: &str, calibration: &Calibration) -> Self {
        let mut measured = [BTreeMap::new(), BTreeMap::new()];
        for cost in &calibration.costs {
            let p99 = cost.ns[1];
            let (key, ns) = match cost.what.split_once('/') {
                Some(("send" | "receive", name)) => (format!("channel/{name}"), p99),
                Some(("queue", _)) => (cost.what.clone(), p99 + LANE_NS),
                _ => (cost.what.clone(), p99),
            };
            let worst = measured[usize::from(!cost.real_time)].entry(key).or_insert(0);
            *worst = ns.max(*worst);
        }
        Costs { measured, basis: Some(basis.to_owned()), versions: calibration.plugins.clone() }
    }

    /// The same without the figures of plugins that have another version by now, or are gone.
    pub fn of_versions(&self, now: impl Fn(&str) -> Option<String>) -> Self {
        let other: BTreeSet<&str> = self
            .versions
            .iter()
            .filter(|(plugin, version)| now(plugin).as_ref() != Some(version))
            .map(|(plugin, _)| plugin.as_str())
            .collect();
        let mut costs = self.clone();
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

    /// Those of a lane.
    pub fn on(&self, real_time: bool) -> LaneCosts<'_> {
        LaneCosts { measured: &self.measured[usize::from(!real_time)], real_time }
    }
}

/// What hops cost on a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneCosts<'a> {
    measured: &'a BTreeMap<String, u64>,
    real_time: bool,
}

impl LaneCosts<'_> {
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

    /// How long a thread takes to wake up (ns), p99.
    pub fn wake_ns(self) -> u64 {
        let stated = if self.real_time { WAKE_REAL_TIME_NS } else { WAKE_ORDINARY_NS };
        self.measured.get("wake").copied().unwrap_or(stated)
    }

    fn figure(self, what: &str, name: &str, otherwise: impl FnOnce() -> u64) -> u64 {
        if self.measured.is_empty() {
            return otherwise();
        }
        self.measured.get(&format!("{what}/{name}")).copied().unwrap_or_else(otherwise)
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
            ns: [p99 / 2, p99, p99 * 2, p99 * 3],
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
            move |plugin: &str| Some(if plugin == "udp" { udp } else { "0.1.0" }.to_owned())
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
