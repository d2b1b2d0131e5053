//! A topic as it is requested: ingress channels, a queue, egress channels (the paper's T).

use crate::{Origin, QosRequest, Value};

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
    /// What an ingress channel lets in.
    pub endpoint: EndpointSpec,
    /// The adapter's own options, checked against its option table.
    pub options: Vec<(String, Value)>,
    /// Where it was declared.
    pub origin: Origin,
}

/// What an ingress channel does with an event whose source is over its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// It is read later: senders feel it where the protocol lets them.
    #[default]
    Wait,
    /// It is dropped and counted as `over-rate`.
    Drop,
}

/// What an ingress channel lets in: the bounds of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The highest level that its senders may ask for, by an attribute `qos` or by a rule of the topic;
    /// `None`: none above the endpoint's own.
    pub qos_max: Option<String>,
    /// The most events in a second, on the long run; `None`: no bound.
    pub rate: Option<u32>,
    /// The most events in a second of each of its producers (a sender's address or connection); more are dropped
    /// as `over-rate`. `None`: no bound.
    pub producer_rate: Option<u32>,
    /// The most events at once after a pause; `None`: a hundredth of a second's, at least one.
    pub burst: Option<u32>,
    /// What happens to more.
    pub over_rate: OverRate,
    /// The most of its events that the node holds at a time; `None`: no bound.
    pub in_flight: Option<u32>,
    /// Its largest event in bytes, payload and attributes together; `None`: the level's.
    pub event_bytes_max: Option<u32>,
    /// Whether an event whose id was seen before from the same producer is dropped.
    pub drops_duplicates: bool,
    /// Whether an event is dropped that is not newer than the last one from the same producer.
    pub drops_older: bool,
}

/// What an attribute is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Matcher {
    /// It is this text; a `*` at either end stands for anything.
    Text(String),
    /// It is a whole number from `min` to `max`.
    Range {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
}

/// A rule: events whose attributes match go at a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelRule {
    /// Attributes and what they are compared with; all must match.
    pub matches: Vec<(String, Matcher)>,
    /// The level.
    pub qos: String,
}

/// The most rules of a topic.
pub const RULES_MAX: usize = 64;
/// The most attributes that one rule looks at.
pub const MATCHES_MAX: usize = 8;

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
    /// How long a member may take nothing before the others get its events.
    pub stall_ns: u64,
    /// Where it was declared.
    pub origin: Origin,
}

/// How long a member may take nothing where its group does not say.
pub const STALL_NS: u64 = 1_000_000_000;

/// A topic as requested.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The level of its events, unless an endpoint says otherwise. Where it is free, what is in force here was
    /// chosen by the controller.
    pub qos: String,
    /// Whether the user left the level to the controller, which then chooses it by the request.
    pub qos_is_free: bool,
    /// The level that the user named, where `on_unmet = "degrade"` has put its events on a lower one.
    pub qos_given_up: Option<String>,
    /// What is asked for beside a level.
    pub request: Option<Box<QosRequest>>,
    /// Where its events come from. Events also come from workflows and from `Publish`.
    pub ingress: Vec<ChannelSpec>,
    /// Where they go. Each group gets each event once.
    pub egress: Vec<GroupSpec>,
    /// Its place among the topics of its lane for the policy `priority`, 0 to 255; 128 by default.
    pub rank: u8,
    /// Its weight for the policy `drr`, 1 to 1000; 1 by default.
    pub weight: u32,
    /// The least that it gets of what its lane serves while it waits, in percent, for the policy `drr`; 0: none.
    pub share_percent: u8,
    /// An event is late when it leaves later than this after its arrival; counted and signalled.
    pub deadline_ns: Option<u64>,
    /// Overrides the level's time to live.
    pub time_to_live_ns: Option<u64>,
    /// Whether an event that is late already when its turn comes is dropped, as `expired`.
    pub drops_late: bool,
    /// Whether outputs of workflows come here whose event names this topic in its attribute `reply-to`.
    pub takes_replies: bool,
    /// Rules that give events another level, the first that matches; only for endpoints that name none.
    pub rules: Vec<LevelRule>,
    /// Where it was declared.
    pub origin: Origin,
}

impl TopicSpec {
    /// A topic without channels, as a declaration without any key makes it.
    pub fn named(name: &str, origin: &Origin) -> Self {
        TopicSpec {
            name: name.into(),
            qos: crate::level::BEST_EFFORT.into(),
            qos_is_free: false,
            qos_given_up: None,
            request: None,
            ingress: Vec::new(),
            egress: Vec::new(),
            rank: 128,
            weight: 1,
            share_percent: 0,
            deadline_ns: None,
            time_to_live_ns: None,
            drops_late: false,
            takes_replies: false,
            rules: Vec::new(),
            origin: origin.clone(),
        }
    }
}
