//! A lane's part of the wiring: made by the controller, never changed, found by one atomic load.
//!
//! Tables are swapped whole. The controller keeps the old ones, and every cell in them, until the lane has
//! said that it uses the new ones; only then are they taken apart, on an ordinary thread.

use std::sync::Arc;

use tempos_abi::queue::TopicShare;
use tempos_control::LevelRule;
use tempos_control::level::LEVELS_MAX;

use super::cell::LaneCell;
use super::crossing::{CrossingIn, CrossingOut};
use crate::bridging::endpoint::Source;
use crate::bridging::rules::LevelTable;
use crate::delivery::group::Group;
use crate::delivery::outlet::Outlet;
use crate::processing::workflow::Call;
use crate::stats::TopicStats;

/// A topic on this lane.
#[derive(Debug)]
pub struct TopicEntry {
    /// Its name.
    pub name: Arc<str>,
    /// Tells topics apart that had the same index one after the other.
    pub number: u64,
    /// What is counted.
    pub stats: Arc<TopicStats>,
    /// Its groups: those that the wiring names, then taps.
    pub groups: Vec<Group>,
    /// How many of them the wiring names. A tap never holds anybody up.
    pub receivers: usize,
    /// Its rank for the queue policy.
    pub rank: u32,
    /// An event is late after this; 0: never.
    pub deadline_ns: u64,
    /// An event is dropped after this; 0: never.
    pub time_to_live_ns: u64,
    /// An event that is late when its turn comes is dropped.
    pub drops_late: bool,
    /// Outputs may come here by an event's `reply-to`.
    pub takes_replies: bool,
    /// What gives its events other levels; none for most topics.
    pub rules: Option<Arc<TopicRules>>,
}

/// Rules of a topic, and where it stands on the other lanes.
#[derive(Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// The rules.
    pub rules: Vec<LevelRule>,
    /// Its index and its number on each lane.
    pub routes: [Option<(u32, u64)>; LEVELS_MAX],
}

/// A member and the place where it stands.
#[derive(Debug)]
pub struct MemberEntry<T> {
    /// Its topic.
    pub topic: u32,
    /// Its group among those of the topic.
    pub group: u32,
    /// It.
    pub cell: Arc<LaneCell<T>>,
}

/// The tables. Indices are stable from one wiring to the next; what went leaves a hole.
pub struct LaneTables {
    /// Topics by index.
    pub topics: Vec<Option<TopicEntry>>,
    /// Ingress channels by id.
    pub sources: Vec<Option<Arc<LaneCell<Source>>>>,
    /// Egress channels by id.
    pub outlets: Vec<Option<MemberEntry<Outlet>>>,
    /// Workflows' calls by id.
    pub calls: Vec<Option<MemberEntry<Call>>>,
    /// Shares to be told to the queue when these tables come into force.
    pub shares: Vec<(u32, TopicShare)>,
    /// Most frames moved by one call.
    pub batch: u32,
    /// Whether a full queue stops the reading.
    pub block: bool,
    /// How long a frame may wait for others (ns); 0: not at all.
    pub linger_ns: u64,
    /// Most events dispatched in a second; 0: no bound.
    pub rate_max: u32,
    /// The levels of the node.
    pub levels: Arc<LevelTable>,
    /// Topics that take replies, by name, sorted.
    pub reply_topics: Vec<(Arc<str>, u32)>,
    /// What the lane takes over once, when these tables come into force.
    pub handover: LaneCell<Handover>,
}

/// What changes hands with new tables.
#[derive(Default)]
pub struct Handover {
    /// Sources that go: what their sockets hold already is taken in first.
    pub sources: Vec<u32>,
    /// Outlets whose waiting events move to their successors: old, new id.
    pub outlets: Vec<(Arc<LaneCell<Outlet>>, Option<u32>)>,
    /// Calls whose waiting events move to their successors: old, new id.
    pub calls: Vec<(Arc<LaneCell<Call>>, Option<u32>)>,
    /// Crossings to other lanes, by their index.
    /// What they replace stands in their place afterwards.
    pub crossings_out: Vec<(u8, Option<CrossingOut>)>,
    /// Crossings from other lanes, in the same way.
    pub crossings_in: Vec<(u8, Option<CrossingIn>)>,
}

impl std::fmt::Debug for LaneTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneTables").field("topics", &self.topics.len()).finish_non_exhaustive()
    }
}

/// Tokens of the epoll set.
pub mod token {
    const KIND: u64 = 1 << 32;

    /// A source.
    pub fn source(id: u32) -> u64 {
        u64::from(id)
    }

    /// An outlet.
    pub fn outlet(id: u32) -> u64 {
        KIND | u64::from(id)
    }

    /// Whose token it is: the id of a source, or of an outlet.
    pub fn read(token: u64) -> Result<u32, u32> {
        if token & KIND == 0 { Ok(token as u32) } else { Err(token as u32) }
    }
}
