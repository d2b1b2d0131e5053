//! The queue policy `drr`: deficit round robin over the topics (Shreedhar & Varghese, "Efficient Fair
//! Queuing using Deficit Round-Robin", IEEE/ACM Transactions on Networking 4(3), 1996).
//!
//! In each round a topic may send `quantum` bytes for each unit of its weight, and what it could not use for
//! want of a whole event is its in the next round: while topics wait, each gets its share of bytes to within
//! one quantum and one event, whatever the others send and however large their events are. With
//! `share_by = "events"` a topic sends as many events in a round as its weight says. Within a topic it is
//! first in, first out. A topic that has nothing waiting, or is on hold, saves nothing up.
//!
//! A topic with a minimum share (`TopicShare::minimum_permille`) gets at least that much of what the lane serves while it has
//! something waiting, whatever the weights say; what it is served so is taken from its next turn. Shares that
//! make the whole leave nothing to topics without one while all of theirs wait.
//!
//! A full queue refuses the newcomer, or evicts the oldest event of the longest topic, as fq_codel does
//! (RFC 8290, section 4.1.3): a topic that floods pays for it alone. Lengths are in what is shared, and the
//! newcomer counts for its topic. It refuses to know ranks, deadlines and payloads. Every call is
//! O(log topics). Called by one lane's queue worker.

mod config;
mod minimum;
mod queue;
mod rounds;

tempos_abi::export_plugin! {
    name: "drr",
    summary: "A share for each topic, by its weight.",
    options: config::OPTIONS,
    queue_policy: queue::Drr::new,
}
