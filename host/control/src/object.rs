//! The objects of a node as a door shows them: a condition and figures, read at one instant.

use std::collections::BTreeMap;

/// The kinds of objects. The words are those of the object paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// The node itself.
    Node,
    /// A QoS level: a lane.
    QosLevel,
    /// A plugin file's life.
    Plugin,
    /// A technology that channels can be opened with.
    Adapter,
    /// An open connection.
    Channel,
    /// A topic.
    Topic,
    /// A workflow.
    Workflow,
}

impl Kind {
    /// The word for this kind in sentences and object paths (`qos`, `plugin`, …).
    pub fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::QosLevel => "qos",
            Kind::Plugin => "plugin",
            Kind::Adapter => "adapter",
            Kind::Channel => "channel",
            Kind::Topic => "topic",
            Kind::Workflow => "workflow",
        }
    }
}

/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// One word: `started`, `failed`, `draining`, `granted`, `degraded`, …
    pub state: String,
    /// One sentence that says why.
    pub reason: String,
    /// When it became so: microseconds since the epoch.
    pub since_us: u64,
}

/// One figure of an object.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Figure {
    /// A text, such as a version or an address.
    Text(String),
    /// A flag.
    Flag(bool),
    /// A count or an amount; the unit is in the key.
    Count(u64),
    /// A list of texts.
    Texts(Vec<String>),
    /// Counts by name, such as drops by reason.
    Counts(BTreeMap<String, u64>),
    /// p50, p99, p99.9 and max by hop, in nanoseconds.
    Latency(BTreeMap<String, [u64; 4]>),
    /// Rows of four texts, in their order.
    Rows(Vec<[String; 4]>),
}

/// The figures of an object by their names, in `CamelCase` as D-Bus properties are.
///
/// The keys of each kind are listed in `dbus/README.md`; a door may rely on those.
pub type Figures = BTreeMap<&'static str, Figure>;

/// An object at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectState {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// Its figures.
    pub figures: Figures,
}
