//! The queue policy `newest`: of each key, the last `keep` events wait; a newer one takes the oldest out.
//!
//! For state rather than happenings: a reading that nobody has fetched yet is worth nothing once the next
//! one is here. A key is the hash that the adapter found, within its topic; an event without one is of the
//! topic as a whole. Otherwise it is first in, first out over the topics that are not on hold: the order of
//! a topic is never changed. So a newer event waits where it arrived, not where the older one stood, and of
//! a key that is renewed faster than its turn comes nothing goes until it, or the others, slow down; give
//! such a key a topic of its own, or a lane that keeps up.
//!
//! A superseded event counts as evicted, whatever a full queue does. A full queue refuses the newcomer, or
//! evicts the oldest event of all. It refuses to know ranks, deadlines and payloads. Every call is
//! O(log topics), with one look into a hash table. Called by one lane's queue worker.

mod keys;
mod queue;

use tempos_abi::{OptionKind, OptionSpec};

/// The option table.
const OPTIONS: &[OptionSpec] =
    &[OptionSpec::new("keep", OptionKind::INTEGER, "1", "How many events of a key may wait.")
        .unit("1 to 65536")];

tempos_abi::export_plugin! {
    name: "newest",
    summary: "The last events of each key, first in, first out.",
    options: OPTIONS,
    queue_policy: queue::Newest::new,
}
