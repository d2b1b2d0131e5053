//! What the node asks of the system, as its lanes and channels say it.

use tempos_control::Scheduler;

use crate::system::scheduling::priority_of;

/// What a lane asks of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneNeeds {
    /// Its level's name.
    pub level: String,
    /// How its threads are to be scheduled.
    pub scheduler: Scheduler,
    /// The CPUs that it is pinned to; empty: none.
    pub cpus: Vec<u32>,
    /// The SO_PRIORITY of its sockets; 0: none.
    pub socket_priority: u32,
    /// Whether the system locked the memory of its events.
    pub is_locked: bool,
}

impl LaneNeeds {
    /// Whether its threads are scheduled before all ordinary ones.
    pub fn is_real_time(&self) -> bool {
        !matches!(self.scheduler, Scheduler::Other { .. })
    }
}

/// The kernel's buffer that a channel asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferNeeds {
    /// The channel.
    pub channel: String,
    /// How many bytes.
    pub bytes: u64,
}

/// What the node asks of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its lanes.
    pub lanes: Vec<LaneNeeds>,
    /// Whether it locks memory.
    pub lock_memory: bool,
    /// How many channels are open.
    pub channels: usize,
    /// The largest buffer that an ingress channel asks for.
    pub receive_buffer: Option<BufferNeeds>,
    /// The largest buffer that an egress channel asks for.
    pub send_buffer: Option<BufferNeeds>,
    /// A channel that takes events from a unix socket.
    pub unix_channel: Option<String>,
}

impl Needs {
    /// The highest real-time priority that a lane asks for; 0: none does.
    pub fn priority(&self) -> u8 {
        self.lanes.iter().map(|lane| priority_of(&lane.scheduler)).max().unwrap_or(0)
    }

    /// Whether any lane is scheduled in real time.
    pub fn is_real_time(&self) -> bool {
        self.lanes.iter().any(LaneNeeds::is_real_time)
    }

    /// The CPUs that real-time lanes are pinned to, sorted; empty where one of them may run on any.
    pub fn pinned(&self) -> Vec<u32> {
        let mut lanes = self.lanes.iter().filter(|lane| lane.is_real_time()).peekable();
        if lanes.clone().any(|lane| lane.cpus.is_empty()) || lanes.peek().is_none() {
            return Vec::new();
        }
        let mut cpus: Vec<u32> = lanes.flat_map(|lane| lane.cpus.iter().copied()).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A lane of a real-time priority, or of none with 0.
    pub fn lane(level: &str, priority: u8, cpus: &[u32]) -> LaneNeeds {
        let scheduler =
            if priority == 0 { Scheduler::Other { nice: 0 } } else { Scheduler::Fifo { priority } };
        let (level, cpus) = (level.to_owned(), cpus.to_vec());
        LaneNeeds { level, scheduler, cpus, socket_priority: 0, is_locked: true }
    }

    /// A node whose only lane is pinned to these CPUs.
    pub fn pinned_to(cpus: &[u32]) -> Needs {
        Needs { lanes: vec![lane("strict", 45, cpus)], ..Needs::default() }
    }

    #[test]
    fn only_real_time_lanes_that_are_all_pinned_say_which_cpus_matter() {
        let needs = |lanes: &[LaneNeeds]| Needs { lanes: lanes.to_vec(), ..Needs::default() };
        assert_eq!(needs(&[lane("a", 45, &[3, 1]), lane("b", 40, &[1])]).pinned(), [1, 3]);
        assert_eq!(needs(&[lane("a", 45, &[1]), lane("b", 40, &[])]).pinned(), [0u32; 0]);
        assert_eq!(needs(&[lane("a", 45, &[1]), lane("b", 0, &[])]).pinned(), [1]);
        assert_eq!(needs(&[]).pinned(), [0u32; 0]);
    }
}
