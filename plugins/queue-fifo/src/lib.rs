//! The queue policy `fifo`: first in, first out over the topics that are not on hold.
//!
//! It refuses to know ranks, deadlines and payloads. A full queue refuses the newcomer, or evicts the
//! oldest event. Called by one lane's queue worker.

mod queue;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "fifo",
    summary: "First in, first out.",
    options: &[],
    queue_policy: queue::Fifo::new,
}
