//! What is to be watched of a grant while it is in force: the time that each of its hops has.

use tempos_control::Kind;

/// A topic or workflow that asks, and what it was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its hops in the order of the way, as far as this node can measure them: what an event takes to the node nobody
    /// here sees.
    pub hops: Vec<WatchedHop>,
    /// The time of the whole way for 99 of 100 events (ns): what was asked for, or what was granted where that is more
    /// or nothing was asked.
    pub whole_ns: u64,
}

/// One hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedHop {
    /// As `explain` names it.
    pub name: String,
    /// Which it is.
    pub of: HopOf,
    /// The time that it has for 99 of 100 events (ns): its share of what was asked for, or what was granted where that
    /// is more or nothing was asked.
    pub limit_ns: u64,
}

/// A hop, by what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopOf {
    /// A topic's way through the queue.
    Queue(String),
    /// A workflow's function.
    Function(String),
    /// A topic's way out.
    Egress(String),
}

impl Watched {
    /// The last topic of the way, whose events are done with there.
    pub fn last_topic(&self) -> Option<&str> {
        self.hops.iter().rev().find_map(|hop| match &hop.of {
            HopOf::Queue(topic) => Some(topic.as_str()),
            _ => None,
        })
    }
}
