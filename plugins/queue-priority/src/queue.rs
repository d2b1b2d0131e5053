//! Ranks become classes of the ledger, turned round: class 0 goes first.

use tempos_abi::PluginError;
use tempos_abi::queue::{Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec};
use tempos_abi::queue_ledger::{CLASSES_MAX, Ledger};

/// Makes queues in which the highest rank goes first.
pub struct Priority;

impl Priority {
    /// The policy; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Priority)
    }
}

impl QueuePolicy for Priority {
    type Queue = PriorityQueue;

    fn open(&self, spec: &QueueSpec) -> Result<PriorityQueue, PluginError> {
        Ok(PriorityQueue { ledger: Ledger::open(spec, CLASSES_MAX)? })
    }
}

/// The queue of one lane.
pub struct PriorityQueue {
    ledger: Ledger,
}

/// Rank 255, and any above it, is class 0.
fn class(rank: u32) -> u8 {
    u8::MAX - u8::try_from(rank).unwrap_or(u8::MAX)
}

impl Queue for PriorityQueue {
    fn admit(&mut self, item: &QueueItem, _now_ns: u64) -> Admission {
        self.ledger.admit(item, class(item.rank))
    }

    fn next(&mut self, _now_ns: u64) -> NextItem {
        self.ledger.take_next().map_or(NextItem::nothing(0), NextItem::go)
    }

    fn forget(&mut self, handle: u32) -> bool {
        self.ledger.forget(handle)
    }

    fn queued(&self) -> u32 {
        self.ledger.events()
    }

    fn hold(&mut self, topic: u32, held: bool) {
        self.ledger.hold(topic, held);
    }
}

#[cfg(test)]
mod tests {
    use tempos_abi::Options;
    use tempos_abi::queue::WhenFull;

    use super::*;

    fn queue(capacity_events: u32, when_full: WhenFull) -> PriorityQueue {
        let (options, capacity_bytes, reserved) = (Options::new(), 1000, [0; 4]);
        let spec = QueueSpec {
            handles: 16,
            topics: 4,
            capacity_events,
            when_full,
            capacity_bytes,
            options,
            reserved,
        };
        Priority.open(&spec).expect("opens")
    }

    fn item(handle: u32, topic: u32, rank: u32) -> QueueItem {
        QueueItem { handle, topic, size: 10, rank, arrival_ns: 0, deadline_ns: 0, key_hash: 0, reserved: 0 }
    }

    #[test]
    fn the_highest_rank_goes_first_then_the_oldest() {
        let mut queue = queue(16, WhenFull::REFUSE);
        for (handle, topic, rank) in [(0, 0, 10), (1, 1, 255), (2, 2, 10), (3, 1, 255), (4, 3, 900)] {
            assert_eq!(queue.admit(&item(handle, topic, rank), 0), Admission::accepted());
        }
        queue.hold(3, true);
        let order: Vec<u32> = (0..4).map(|_| queue.next(0).handle).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(queue.next(0), NextItem::nothing(0));
        queue.hold(3, false);
        assert_eq!(queue.next(0), NextItem::go(4));
    }

    #[test]
    fn a_full_queue_gives_up_the_lowest_rank_and_never_a_higher_one() {
        let mut queue = queue(3, WhenFull::EVICT);
        for (handle, topic, rank) in [(0, 0, 5), (1, 0, 5), (2, 1, 7)] {
            queue.admit(&item(handle, topic, rank), 0);
        }
        assert_eq!(queue.admit(&item(3, 2, 4), 0), Admission::refused());
        assert_eq!(queue.admit(&item(3, 2, 6), 0), Admission::evicted(0));
        assert_eq!(queue.admit(&item(3, 2, 6), 0), Admission::accepted());
        assert_eq!(queue.admit(&item(4, 3, 5), 0), Admission::evicted(1));
        assert_eq!(queue.admit(&item(4, 3, 5), 0), Admission::accepted());
        assert_eq!((queue.queued(), queue.next(0).handle), (3, 2));
    }

    #[test]
    fn a_topic_whose_rank_changes_keeps_its_order() {
        let mut queue = queue(16, WhenFull::REFUSE);
        queue.admit(&item(0, 0, 1), 0);
        queue.admit(&item(1, 0, 200), 0);
        assert_eq!([queue.next(0).handle, queue.next(0).handle], [0, 1]);
    }
}
