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
