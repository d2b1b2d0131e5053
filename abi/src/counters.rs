//! Counters that a plugin writes and the host reads at any time, without a call.

use std::sync::atomic::{AtomicU64, Ordering};

use abi_stable::StableAbi;

/// One counter. One thread writes it at a time; any may read it.
#[repr(transparent)]
#[derive(StableAbi, Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it: for what the operating system counts itself.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a channel counts. The host counts frames and bytes itself.
#[repr(C)]
#[derive(StableAbi, Debug, Default)]
pub struct ChannelCounters {
    /// Frames that the operating system dropped before the channel could read them (SO_RXQ_OVFL).
    pub kernel_dropped: Counter,
    /// Frames that were not what the protocol says.
    pub malformed: Counter,
    /// Frames larger than the channel's largest event.
    pub too_large: Counter,
    /// Frames that could not be sent, and were given up.
    pub send_errors: Counter,
    /// Connections open now.
    pub connections: Counter,
    /// Senders refused by the channel's own rules.
    pub refused: Counter,
    /// For later minor versions.
    pub reserved: [Counter; 10],
}

/// Why something that a channel did not bring about itself was counted (since 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident(u8);

impl Incident {
    /// A frame came after its launch time.
    pub const LAUNCH_MISSED: Incident = Incident(0);
    /// The kernel could not use a launch time.
    pub const LAUNCH_INVALID: Incident = Incident(1);
    /// A gate was closed for longer than its queue holds frames, or is too short for this one.
    pub const GATE_CLOSED: Incident = Incident(2);
    /// Gates were set again: the link had come back.
    pub const LINK_RETURNED: Incident = Incident(3);
    /// Gates were set again: another program had put something beneath them.
    pub const CHILD_GRAFTED: Incident = Incident(4);
    /// Gates were set again: another program had deleted or changed them.
    pub const GATES_LOST: Incident = Incident(5);
    /// Gates were set again: the clock had been stepped.
    pub const CLOCK_STEPPED: Incident = Incident(6);
    /// Gates were set again: nothing had left through one of them.
    pub const GATE_SILENT: Incident = Incident(7);

    /// The clock on which a schedule rests was lost: out of its bounds, or nobody says any more how it is.
    pub const CLOCK_LOST: Incident = Incident(8);

    const WORDS: [&str; 9] = [
        "launch-missed",
        "launch-invalid",
        "gate-closed",
        "link-returned",
        "child-grafted",
        "gates-lost",
        "clock-stepped",
        "gate-silent",
        "clock-lost",
    ];
}

impl ChannelCounters {
    /// The counter of an incident. It is one of `reserved`, which hosts before 1.1 do not show (since 1.1).
    pub fn incident(&self, incident: Incident) -> &Counter {
        &self.reserved[usize::from(incident.0) % Incident::WORDS.len()]
    }

    /// The words of all incidents, with what was counted.
    pub fn incidents(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Incident::WORDS.iter().zip(&self.reserved).map(|(word, counter)| (*word, counter.get()))
    }
}

/// What a function counts. The host counts invocations, failures and durations itself.
#[repr(C)]
#[derive(StableAbi, Debug, Default)]
pub struct FunctionCounters {
    /// Instances ready now.
    pub warm: Counter,
    /// Instances started since the function was prepared.
    pub started: Counter,
    /// Instances that ended other than by being retired.
    pub crashed: Counter,
    /// For later minor versions.
    pub reserved: [Counter; 13],
}
