//! Arrival order of the ledger, and beside it what each key has waiting.

use tempos_abi::PluginError;
use tempos_abi::queue::{Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec, WhenFull};
use tempos_abi::queue_ledger::Ledger;

use crate::keys::Keys;

/// The one class of the ledger.
const CLASS: u8 = 0;
const KEEP: std::ops::RangeInclusive<i64> = 1..=65_536;

/// Makes queues in which a newer event takes the place of an older one.
pub struct Newest;

impl Newest {
    /// The policy; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Newest)
    }
}

impl QueuePolicy for Newest {
    type Queue = NewestQueue;

    fn open(&self, spec: &QueueSpec) -> Result<NewestQueue, PluginError> {
        let keep = spec.options.integer("keep").unwrap_or(1);
        if !KEEP.contains(&keep) {
            return Err(PluginError::bad_option(format!(
                "queue policy newest: keep = {keep} is not within 1 to 65536"
            )));
        }
        Ok(NewestQueue {
            ledger: Ledger::open(spec, 1)?,
            keys: Keys::new(spec.handles),
            sizes: vec![u32::MAX; spec.handles as usize].into_boxed_slice(),
            keep: keep as u32,
            capacity_bytes: spec.capacity_bytes,
            when_full: spec.when_full,
        })
    }
}

/// The queue of one lane.
pub struct NewestQueue {
    ledger: Ledger,
    keys: Keys,
    /// The size of each handle that is queued.
    sizes: Box<[u32]>,
    keep: u32,
    capacity_bytes: u64,
    when_full: WhenFull,
}

impl NewestQueue {
    /// Whether the newcomer could be taken in once `older` is out: nothing is given up for one that is
    /// refused all the same.
    fn makes_room(&self, older: u32, item: &QueueItem) -> bool {
        let left = self.ledger.bytes() - u64::from(self.sizes[older as usize]);
        self.when_full == WhenFull::EVICT || left + u64::from(item.size) <= self.capacity_bytes
    }
}

impl Queue for NewestQueue {
    fn admit(&mut self, item: &QueueItem, _now_ns: u64) -> Admission {
        let key = (item.topic, item.key_hash);
        if (item.handle as usize) >= self.sizes.len()
            || self.ledger.is_queued(item.handle)
            || u64::from(item.size) > self.capacity_bytes
        {
            return Admission::refused();
        }
        let (count, oldest) = self.keys.of(key);
        if let Some(oldest) = oldest.filter(|_| count >= self.keep) {
            if !self.makes_room(oldest, item) {
                return Admission::refused();
            }
            self.forget(oldest);
            return Admission::evicted(oldest);
        }
        let admission = self.ledger.admit(item, CLASS);
        match admission.verdict {
            Admission::ACCEPTED => {
                self.keys.add(item.handle, key);
                self.sizes[item.handle as usize] = item.size;
            }
            Admission::EVICTED => self.keys.remove(admission.evicted),
            _ => {}
        }
        admission
    }

    fn next(&mut self, _now_ns: u64) -> NextItem {
        match self.ledger.take_next() {
            Some(handle) => {
                self.keys.remove(handle);
                NextItem::go(handle)
            }
            None => NextItem::nothing(0),
        }
    }

    fn forget(&mut self, handle: u32) -> bool {
        let queued = self.ledger.forget(handle);
        if queued {
            self.keys.remove(handle);
        }
        queued
    }

    fn queued(&self) -> u32 {
        self.ledger.events()
    }

    fn hold(&mut self, topic: u32, held: bool) {
        self.ledger.hold(topic, held);
    }
}

#[cfg(test)]
mod tests;
