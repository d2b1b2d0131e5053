//! What a queue policy takes for an event: admission and choice, with others waiting.

use std::sync::Arc;

use tempos_abi::queue::{Admission, NextItem, QueueBox, QueueItem};
use tempos_control::LevelSpec;

use super::{Bench, Samples, cpu_ns};
use crate::opening;
use crate::plugin::Plugin;
use crate::system::clock::monotonic_ns;

/// Events of one sample: the clock costs more than one of them.
const EVENTS: u32 = 16;
/// Samples between two pauses: nobody is woken for one.
const SAMPLES: u32 = 4;
/// Events that wait meanwhile.
const WAITING: u32 = 64;
const TOPICS: u32 = 16;

struct Policy {
    what: String,
    queue: QueueBox,
    /// Handles that are not in the queue.
    free: Vec<u32>,
    count: u64,
}

/// Opens a queue of a policy.
///
/// # Errors
/// Why it cannot be measured.
pub fn open(plugin: &Arc<Plugin>) -> Result<Box<dyn Bench>, String> {
    let mut level = LevelSpec::best_effort();
    level.queue.policy = plugin.info.name.clone();
    level.queue.options = Vec::new();
    level.queue.capacity_events = WAITING + EVENTS + 1;
    let handles = WAITING + EVENTS;
    let queue = opening::open_queue(plugin, &level, handles, TOPICS).map_err(|all| all.join("; "))?;
    let mut policy =
        Policy { what: format!("queue/{}", plugin.info.name), queue, free: (0..handles).collect(), count: 0 };
    for _ in 0..WAITING {
        policy.put();
    }
    Ok(Box::new(policy))
}

impl Policy {
    fn put(&mut self) {
        let Some(handle) = self.free.pop() else { return };
        self.count += 1;
        let now = monotonic_ns();
        let item = QueueItem {
            handle,
            topic: handle % TOPICS,
            size: super::EVENT_BYTES as u32,
            rank: handle % 4,
            arrival_ns: now,
            deadline_ns: now + 1_000_000_000 + u64::from(handle) * 1000,
            // Keys of their own, so that `newest` takes none in another's place.
            key_hash: self.count,
            reserved: 0,
        };
        let admission = self.queue.admit(&item, now);
        match admission.verdict {
            Admission::ACCEPTED => {}
            Admission::EVICTED => self.free.push(admission.evicted),
            _ => self.free.push(handle),
        }
    }

    fn take(&mut self) {
        let next = self.queue.next(monotonic_ns());
        if next.verdict == NextItem::GO || next.verdict == NextItem::EXPIRED {
            self.free.push(next.handle);
        }
    }
}

impl Bench for Policy {
    fn burst(&mut self, samples: &mut Samples) {
        for _ in 0..SAMPLES {
            let begun = cpu_ns();
            for _ in 0..EVENTS {
                self.put();
                self.take();
            }
            samples.add(&self.what, (cpu_ns() - begun) / u64::from(EVENTS));
        }
    }
}
