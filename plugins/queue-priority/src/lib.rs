//! The queue policy `priority`: the topic of the highest rank goes first, then the oldest event.
//!
//! Events of one topic keep their order, also where the topic's rank changes while some are queued. It
//! refuses to know deadlines and payloads. A full queue refuses the newcomer, or evicts the oldest event
//! of the lowest rank; a newcomer that ranks below all that are queued is refused. Called by one lane's
//! queue worker.

mod queue;

tempos_abi::export_plugin! {
    name: "priority",
    summary: "The highest rank first, then first in, first out.",
    options: &[],
    queue_policy: queue::Priority::new,
}
