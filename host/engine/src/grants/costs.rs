//! What a hop costs: CPU time for each event, and how long a thread takes to wake up.
//!
//! Stated figures stand for what was not measured on this machine. They are on the safe side of what a virtual
//! machine with two CPUs showed for events of 256 bytes (SPECIFICATION.md), never a promise of their own: every
//! grant says on which figures it rests.

use std::collections::BTreeMap;

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
    /// By hop: `channel/udp`, `queue/fifo`, `method/wasm`, `wake/real-time`, `wake/ordinary` (ns).
    measured: BTreeMap<String, u64>,
    basis: Option<String>,
}

impl Costs {
    /// Stated figures alone.
    pub fn stated() -> Self {
        Costs::default()
    }

    /// Measured figures where there are, stated ones for the rest. `basis`: when and where they were taken.
    #[cfg(test)]
    pub fn measured(basis: &str, figures: impl IntoIterator<Item = (String, u64)>) -> Self {
        Costs { measured: figures.into_iter().collect(), basis: Some(basis.to_owned()) }
    }

    /// What the figures are, for sentences.
    pub fn basis(&self) -> &str {
        self.basis.as_deref().unwrap_or("stated costs, not measured on this machine")
    }

    /// CPU time of an event through a channel, one way (ns).
    pub fn channel_ns(&self, adapter: &str) -> u64 {
        self.figure("channel", adapter, || stated(CHANNELS_NS, adapter))
    }

    /// CPU time of an event in a queue (ns).
    pub fn queue_ns(&self, policy: &str) -> u64 {
        self.figure("queue", policy, || QUEUE_NS)
    }

    /// CPU time of an invocation beside the function's own (ns).
    pub fn method_ns(&self, method: &str) -> u64 {
        self.figure("method", method, || stated(METHODS_NS, method))
    }

    /// How long a thread takes to wake up (ns), p99.
    pub fn wake_ns(&self, real_time: bool) -> u64 {
        match real_time {
            true => self.figure("wake", "real-time", || WAKE_REAL_TIME_NS),
            false => self.figure("wake", "ordinary", || WAKE_ORDINARY_NS),
        }
    }

    fn figure(&self, what: &str, name: &str, otherwise: impl FnOnce() -> u64) -> u64 {
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

    #[test]
    fn what_was_not_measured_is_stated() {
        let costs = Costs::measured("the calibration of today", [(String::from("channel/udp"), 4_321)]);
        assert_eq!((costs.channel_ns("udp"), costs.channel_ns("unix")), (4_321, 6_000));
        assert_eq!((costs.channel_ns("mine"), costs.method_ns("mine")), (15_000, 1_000_000));
        assert_eq!(costs.basis(), "the calibration of today");
        assert!(Costs::stated().basis().contains("not measured"));
    }
}
