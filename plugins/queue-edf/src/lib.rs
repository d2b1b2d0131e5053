//! The queue policy `edf`: the earliest absolute deadline goes first (Liu & Layland, "Scheduling Algorithms
//! for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973).
//!
//! Events without a deadline go after all that have one. Equal deadlines, and none, keep the order of
//! arrival. Events of one topic are reordered where their deadlines say so: with one deadline for the whole
//! topic, which is what a wiring declares, later events have later deadlines and nothing is reordered.
//! What is late (its deadline lies before now) is given up (`late = "drop"`, also while its topic is on
//! hold) or goes like the rest (`late = "pass"`). A full queue refuses the newcomer, or evicts the event
//! with the latest deadline, the oldest of those that share it; a newcomer whose deadline is later than all
//! that are queued is refused.
//!
//! It refuses to know ranks and payloads. Every call is O(log n) at worst. Called by one lane's queue worker.

mod queue;
mod tree;

use tempos_abi::{OptionKind, OptionSpec};

/// The option table.
const OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    "late",
    OptionKind::TEXT,
    "drop",
    "What becomes of an event whose deadline has passed.",
)
.words("drop|pass")];

tempos_abi::export_plugin! {
    name: "edf",
    summary: "The earliest deadline first.",
    options: OPTIONS,
    queue_policy: queue::Edf::new,
}
