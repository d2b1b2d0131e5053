//! What a node says of its own accord.

use crate::Kind;

/// Something that happened. Each but the last three is a D-Bus signal of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A new wiring is in force.
    WiringApplied {
        /// Its generation.
        generation: u64,
        /// What changed.
        report: String,
    },
    /// A wiring was refused; the old one goes on.
    WiringRejected {
        /// The mistakes.
        report: String,
    },
    /// A plugin moved to another state of its life.
    PluginStateChanged {
        /// The plugin.
        name: String,
        /// `declared`, `loaded`, `started`, `draining`, `gone` or `failed`.
        state: String,
        /// Why.
        report: String,
    },
    /// An event left, or was finished, after its deadline.
    DeadlineMissed {
        /// Its topic.
        topic: String,
        /// The event.
        event_id: u64,
        /// By how much, in nanoseconds.
        late_ns: u64,
    },
    /// Events of a topic were dropped since the last such notice (at most one a second for each
    /// topic and reason).
    EventsDropped {
        /// The topic.
        topic: String,
        /// Why: a name of `tempos_abi`'s drop reasons.
        reason: String,
        /// How many.
        count: u64,
    },
    /// A function failed on an event.
    FunctionFailed {
        /// The workflow.
        workflow: String,
        /// The event.
        event_id: u64,
        /// What the method reported.
        error: String,
    },
    /// The machine's clock counts as synchronised, or does not any more.
    ClockChanged {
        /// Which one: ptp4l's socket.
        clock: String,
        /// Whether it counts.
        granted: bool,
        /// Why.
        reason: String,
    },
    /// Objects appeared or went: `names` should be read again.
    ObjectsChanged,
    /// The state or reason of an object changed.
    StateChanged {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
}
