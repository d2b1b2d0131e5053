//! What the deciding starts from: the levels as they are granted, what plugins say of themselves, the machine.

use std::collections::BTreeMap;

use tempos_control::{FullQueue, Grade, LevelSpec, Scheduler};

use super::costs::Costs;
use super::response::{CpuSet, ORDINARY, Place, RESERVED, Reservation};
use crate::system::scheduling;

/// A level.
#[derive(Clone, Debug)]
pub struct LevelFacts {
    /// Its name.
    pub name: String,
    /// Its rank.
    pub rank: u8,
    /// Where its queue worker runs.
    pub queue: Place,
    /// Where its function workers run.
    pub functions: Place,
    /// What it has reserved, where it is under SCHED_DEADLINE.
    pub reserved: Option<Reservation>,
    /// What was asked of the system: `fifo 45`.
    pub asked: String,
    /// What it runs as instead, where that is not what was asked.
    pub instead: Option<String>,
    /// What one of its function workers runs as instead of what was asked; `None` where all run as asked.
    pub functions_instead: Option<String>,
    /// Whether it runs in real time.
    pub is_real_time: bool,
    /// Whether what it touches is locked in memory.
    pub is_locked: bool,
    /// Whether its CPUs were chosen.
    pub is_pinned: bool,
    /// The policy of its queue.
    pub policy: String,
    /// What a full queue does.
    pub full: FullQueue,
    /// The most events in its queue.
    pub capacity_events: u32,
    /// Events older than this are dropped (ns).
    pub time_to_live_ns: Option<u64>,
    /// How long a frame may wait for others (ns).
    pub linger_ns: u64,
    /// The most events that leave its queue in a second.
    pub rate_max: Option<u32>,
    /// The least CPU time of its threads, in percent of a CPU.
    pub share_percent: u8,
}

impl LevelFacts {
    /// Of a level. `instead`: what its queue worker runs as, where that is not what was asked.
    pub fn of(level: &LevelSpec, instead: Option<String>) -> Self {
        let cpus = CpuSet::of(&level.cpus);
        let is_real_time = !matches!(level.scheduler, Scheduler::Other { .. }) && instead.is_none();
        let reserved = match level.scheduler {
            Scheduler::Deadline { runtime_ns, deadline_ns, period_ns } if is_real_time => {
                Some(Reservation { runtime_ns, deadline_ns, period_ns })
            }
            _ => None,
        };
        let functions = scheduling::for_functions(&level.scheduler, level.function_priority);
        let priority = |scheduler: &Scheduler| match is_real_time {
            true => scheduling::priority_of(scheduler),
            false => ORDINARY,
        };
        LevelFacts {
            name: level.name.clone(),
            rank: level.rank,
            queue: Place {
                priority: if reserved.is_some() { RESERVED } else { priority(&level.scheduler) },
                cpus,
            },
            functions: Place { priority: priority(&functions), cpus },
            reserved,
            asked: scheduling::requested(&level.scheduler),
            instead,
            functions_instead: None,
            is_real_time,
            is_locked: false,
            is_pinned: !level.cpus.is_empty(),
            policy: level.queue.policy.clone(),
            full: level.queue.full,
            capacity_events: level.queue.capacity_events,
            time_to_live_ns: level.queue.time_to_live_ns,
            linger_ns: level.linger_ns,
            rate_max: level.rate.max,
            share_percent: level.share_percent,
        }
    }

    /// What it runs as.
    pub fn runs_as(&self) -> &str {
        self.instead.as_deref().unwrap_or(&self.asked)
    }
}

/// What an adapter says of itself.
#[derive(Clone, Copy, Debug)]
pub struct AdapterFacts {
    /// The best that a channel of it can obtain.
    pub grade: Grade,
    /// Whether it holds its sender back instead of losing what it cannot take.
    pub holds_back: bool,
    /// Whether its receivers can acknowledge each event.
    pub acknowledges: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// CPUs of the machine.
    pub cpus: u32,
    /// The part of each that may be reserved under SCHED_DEADLINE, in millionths.
    pub reservable_ppm: u64,
    /// Levels, by name.
    pub levels: BTreeMap<String, LevelFacts>,
    /// Adapters that are loaded, by name.
    pub adapters: BTreeMap<String, AdapterFacts>,
    /// Channels that are open and obtained less than guaranteed, by name: the adapter; grade and reason.
    pub obtained: BTreeMap<String, (String, String)>,
    /// Why the kernel may keep a CPU from a lane for long, with what would mend it; `None` where it can be preempted.
    pub kernel: Option<&'static str>,
    /// What hops cost.
    pub costs: Costs,
}

impl Facts {
    /// What is said of an adapter; nothing good of one that is not loaded.
    pub fn adapter(&self, name: &str) -> AdapterFacts {
        let nothing = AdapterFacts { grade: Grade::Shared, holds_back: false, acknowledges: false };
        self.adapters.get(name).copied().unwrap_or(nothing)
    }
}
