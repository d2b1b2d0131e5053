//! A QoS level as it is requested: a named lane through the node.

use serde::{Deserialize, Serialize};

use crate::{Origin, Value};

/// The name of the level that is served before every other.
pub const STRICT: &str = "strict";
/// The name of the level that takes what is left.
pub const BEST_EFFORT: &str = "best-effort";
/// The most levels that a node may have.
pub const LEVELS_MAX: usize = 16;

/// How the operating system is to schedule the threads of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheduler {
    /// SCHED_OTHER with a nice value of -20 to 19.
    Other {
        /// The nice value.
        nice: i32,
    },
    /// SCHED_RR with a priority of 1 to 98 (99 only where `forced`).
    RoundRobin {
        /// The real-time priority of the queue worker.
        priority: u8,
    },
    /// SCHED_FIFO with a priority of 1 to 98 (99 only where `forced`).
    Fifo {
        /// The real-time priority of the queue worker.
        priority: u8,
    },
    /// SCHED_DEADLINE; all three in nanoseconds, `runtime <= deadline <= period` (sched(7)).
    Deadline {
        /// CPU time granted in each period.
        runtime_ns: u64,
        /// Time from the start of a period within which the runtime is given.
        deadline_ns: u64,
        /// The period.
        period_ns: u64,
    },
}

/// What happens to an event that finds its queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullQueue {
    /// The lane stops reading its channels until there is room: senders feel it where the protocol lets them.
    Block,
    /// The oldest queued event makes room, and is counted as dropped.
    DropOldest,
    /// The new event is dropped and counted.
    DropNew,
}

/// The queue of a level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// The queue policy plugin: `fifo`, `priority`, `edf`, `drr`, `newest`, or another that is loaded.
    pub policy: String,
    /// The most events waiting, 1 to 1,048,576.
    pub capacity_events: u32,
    /// The most bytes of payload waiting; the lane's event pool is of this size.
    pub capacity_bytes: u64,
    /// What happens when either is reached.
    pub full: FullQueue,
    /// Events older than this are dropped instead of sent; `None` keeps them.
    pub time_to_live_ns: Option<u64>,
    /// Further options of the policy plugin, checked against its option table.
    pub options: Vec<(String, Value)>,
}

/// What the adapters are to ask of the network for this level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMarks {
    /// SO_PRIORITY (socket(7)); above 6 needs CAP_NET_ADMIN.
    pub socket_priority: Option<u32>,
    /// The differentiated services code point, 0 to 63 (RFC 2474).
    pub dscp: Option<u8>,
    /// The VLAN priority code point, 0 to 7 (IEEE 802.1Q).
    pub pcp: Option<u8>,
}

/// How many events of a level may leave its queue in a second, and how many are to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateBounds {
    /// Fewer than these while events wait degrade the level, with a sentence; `None`: nothing is promised.
    pub min: Option<u32>,
    /// More than these wait in the queue; `None`: no bound.
    pub max: Option<u32>,
}

/// A level as requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelSpec {
    /// Its name.
    pub name: String,
    /// Where it stands among the levels, 0 to 255: a higher rank is served before a lower one.
    pub rank: u8,
    /// Scheduling of the queue worker.
    pub scheduler: Scheduler,
    /// Real-time priority of the function workers; `None`: one below the queue worker's.
    pub function_priority: Option<u8>,
    /// Priority 99 belongs to the kernel's watchdogs: it is refused unless this is set.
    pub forced: bool,
    /// The CPUs that the lane's threads may run on; empty: all.
    pub cpus: Vec<u32>,
    /// Number of function workers, 1 to 64.
    pub workers: u32,
    /// Most events taken from a channel or handed to one in a single call, 1 to 64.
    pub batch: u32,
    /// How long a frame may wait for others so that they leave in one call; 0: not at all.
    pub linger_ns: u64,
    /// The least CPU time that its threads get whatever runs above them, in percent of one CPU; 0: what is
    /// left.
    pub share_percent: u8,
    /// How many events may leave its queue in a second, and how many are to.
    pub rate: RateBounds,
    /// Largest event of this level in bytes, payload and attributes together.
    pub event_bytes_max: u32,
    /// Its queue.
    pub queue: QueueSettings,
    /// Its marks on the network.
    pub network: NetworkMarks,
    /// Where it was declared.
    pub origin: Origin,
}

impl LevelSpec {
    /// The preset `strict`: FIFO, queue worker 45, function workers 40, one event at a time.
    ///
    /// 50 is where a real-time kernel runs its interrupt threads: a lane stays below them.
    pub fn strict() -> Self {
        LevelSpec {
            name: STRICT.into(),
            rank: 200,
            scheduler: Scheduler::Fifo { priority: 45 },
            function_priority: Some(40),
            forced: false,
            cpus: Vec::new(),
            workers: 1,
            batch: 1,
            linger_ns: 0,
            share_percent: 0,
            rate: RateBounds::default(),
            event_bytes_max: 65_536,
            queue: QueueSettings {
                policy: "fifo".into(),
                capacity_events: 4096,
                capacity_bytes: 4 << 20,
                full: FullQueue::DropNew,
                time_to_live_ns: None,
                options: Vec::new(),
            },
            network: NetworkMarks { socket_priority: Some(6), dscp: Some(46), pcp: Some(6) },
            origin: Origin::builtin(),
        }
    }

    /// The preset `best-effort`: SCHED_OTHER, batches of up to 32.
    pub fn best_effort() -> Self {
        LevelSpec {
            name: BEST_EFFORT.into(),
            rank: 50,
            scheduler: Scheduler::Other { nice: 0 },
            function_priority: None,
            batch: 32,
            share_percent: 5,
            network: NetworkMarks { socket_priority: Some(0), dscp: Some(0), pcp: Some(0) },
            queue: QueueSettings { full: FullQueue::DropOldest, ..LevelSpec::strict().queue },
            ..LevelSpec::strict()
        }
    }

    /// A level between the two presets, as a declaration without any key makes it.
    pub fn named(name: &str, origin: &Origin) -> Self {
        match name {
            STRICT => LevelSpec { origin: origin.clone(), ..LevelSpec::strict() },
            _ => LevelSpec {
                name: name.into(),
                origin: origin.clone(),
                rank: if name == BEST_EFFORT { 50 } else { 100 },
                ..LevelSpec::best_effort()
            },
        }
    }
}
