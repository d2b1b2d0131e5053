//! A topic as it is requested: ingress channels, a queue, egress channels (the paper's T).

use crate::{Origin, Value};

/// How an event is laid out on the wire of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFormat {
    /// The bytes of a frame are the event's payload, nothing else.
    #[default]
    Raw,
    /// A frame carries the event header of `tempos_abi::envelope`, then the payload.
    Event,
}

/// One channel: an adapter and what it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSpec {
    /// Its name; where the user gave none, `TOPIC/in/1` or `TOPIC/GROUP/1`, counted from 1.
    pub name: String,
    /// The adapter plugin: `udp`, `unix`, …
    pub adapter: String,
    /// The level of this endpoint where it is not the topic's (ingress), or the only level that this
    /// member serves (egress).
    pub qos: Option<String>,
    /// The layout of its frames.
    pub format: EventFormat,
    /// The adapter's own options, checked against its option table.
    pub options: Vec<(String, Value)>,
    /// Where it was declared.
    pub origin: Origin,
}

/// How a subscription group chooses the member that gets an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// Each member in turn.
    #[default]
    RoundRobin,
    /// The member with the fewest events waiting.
    LeastLoaded,
    /// By a hash of the event's key: the same key, the same member.
    Hash,
    /// The same member until it fails.
    Sticky,
}

/// A subscription group: each event goes to one of its members.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    /// Its name, unique within the topic.
    pub name: String,
    /// The channels that are its members. Workflows join a group by naming it.
    pub members: Vec<ChannelSpec>,
    /// How one member is chosen.
    pub pick: Pick,
    /// Where it was declared.
    pub origin: Origin,
}

/// A topic as requested.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The level of its events, unless an endpoint says otherwise.
    pub qos: String,
    /// Where its events come from. Events also come from workflows and from `Publish`.
    pub ingress: Vec<ChannelSpec>,
    /// Where they go. Each group gets each event once.
    pub egress: Vec<GroupSpec>,
    /// Its place among the topics of its lane for the policy `priority`, 0 to 255; 128 by default.
    pub rank: u8,
    /// Its weight for the policy `drr`, 1 to 1000; 1 by default.
    pub weight: u32,
    /// An event is late when it leaves later than this after its arrival; counted and signalled.
    pub deadline_ns: Option<u64>,
    /// Overrides the level's time to live.
    pub time_to_live_ns: Option<u64>,
    /// Where it was declared.
    pub origin: Origin,
}

impl TopicSpec {
    /// A topic without channels, as a declaration without any key makes it.
    pub fn named(name: &str, origin: &Origin) -> Self {
        TopicSpec {
            name: name.into(),
            qos: crate::level::BEST_EFFORT.into(),
            ingress: Vec::new(),
            egress: Vec::new(),
            rank: 128,
            weight: 1,
            deadline_ns: None,
            time_to_live_ns: None,
            origin: origin.clone(),
        }
    }
}
