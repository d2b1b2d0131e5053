//! Arrival order is all that decides: every item is of one class.

use tempos_abi::PluginError;
use tempos_abi::queue::{Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec};
use tempos_abi::queue_ledger::Ledger;

/// The one class.
const CLASS: u8 = 0;

/// Makes queues in which the oldest event goes first.
pub struct Fifo;

impl Fifo {
    /// The policy; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Fifo)
    }
}

impl QueuePolicy for Fifo {
    type Queue = FifoQueue;

    fn open(&self, spec: &QueueSpec) -> Result<FifoQueue, PluginError> {
        Ok(FifoQueue { ledger: Ledger::open(spec, 1)? })
    }
}

/// The queue of one lane.
pub struct FifoQueue {
    ledger: Ledger,
}

impl Queue for FifoQueue {
    fn admit(&mut self, item: &QueueItem, _now_ns: u64) -> Admission {
        self.ledger.admit(item, CLASS)
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
