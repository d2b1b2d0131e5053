//! Deadlines become keys: a tree for each topic, one over the topics, and one over all that is queued.

use tempos_abi::PluginError;
use tempos_abi::queue::{Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec, WhenFull};
use tempos_abi::queue_ledger::check_bounds;

use crate::tree::{Nodes, Tree};

/// The deadline of an item that has none.
const NEVER: u64 = u64::MAX;
const NOT_QUEUED: u32 = u32::MAX;

/// Makes queues in which the earliest deadline goes first.
pub struct Edf;

impl Edf {
    /// The policy; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Edf)
    }
}

impl QueuePolicy for Edf {
    type Queue = EdfQueue;

    fn open(&self, spec: &QueueSpec) -> Result<EdfQueue, PluginError> {
        check_bounds(spec)?;
        let drop_late = match spec.options.text("late") {
            None | Some("drop") => true,
            Some("pass") => false,
            Some(other) => {
                return Err(PluginError::bad_option(format!(
                    "queue policy edf: late = {other:?} is neither \"drop\" nor \"pass\""
                )));
            }
        };
        let topic = Topic { items: Tree::EMPTY, held: false, is_ready: false };
        Ok(EdfQueue {
            topic_of: vec![NOT_QUEUED; spec.handles as usize].into_boxed_slice(),
            topics: vec![topic; spec.topics as usize].into_boxed_slice(),
            within_topics: Nodes::new(spec.handles),
            all: Tree::EMPTY,
            within_all: Nodes::new(spec.handles),
            ready: Tree::EMPTY,
            within_ready: Nodes::new(spec.topics),
            arrivals: 0,
            events: 0,
            bytes: 0,
            capacity_events: spec.capacity_events,
            capacity_bytes: spec.capacity_bytes,
            when_full: spec.when_full,
            drop_late,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Topic {
    items: Tree,
    held: bool,
    /// Whether it is in the tree of topics that may go.
    is_ready: bool,
}

/// The queue of one lane.
pub struct EdfQueue {
    /// The topic of each handle, or `NOT_QUEUED`.
    topic_of: Box<[u32]>,
    topics: Box<[Topic]>,
    within_topics: Nodes,
    /// Everything that is queued, on hold or not.
    all: Tree,
    within_all: Nodes,
    /// The topics that have an item and are not on hold, by the key of their first item.
    ready: Tree,
    within_ready: Nodes,
    arrivals: u64,
    events: u32,
    bytes: u64,
    capacity_events: u32,
    capacity_bytes: u64,
    when_full: WhenFull,
    drop_late: bool,
}

fn deadline(item: &QueueItem) -> u64 {
    if item.deadline_ns == 0 { NEVER } else { item.deadline_ns }
}

impl EdfQueue {
    fn is_queued(&self, handle: u32) -> bool {
        self.topic_of.get(handle as usize).is_some_and(|topic| *topic != NOT_QUEUED)
    }

    /// The oldest item of the latest deadline, where that is not before `deadline` and where all items from
    /// `deadline` on would free `bytes_over` bytes.
    fn victim(&self, deadline: u64, bytes_over: u64) -> Option<u32> {
        let last = self.all.last(&self.within_all)?;
        let (latest, _) = self.within_all.key(last);
        let (_, weaker_bytes) = self.all.from(&self.within_all, (deadline, 0));
        if latest < deadline || weaker_bytes < bytes_over {
            return None;
        }
        self.all.from(&self.within_all, (latest, 0)).0
    }

    fn insert(&mut self, item: &QueueItem) {
        let (key, bytes) = ((deadline(item), self.arrivals), u64::from(item.size));
        self.arrivals += 1;
        self.topic_of[item.handle as usize] = item.topic;
        self.all.insert(&mut self.within_all, item.handle, key, bytes);
        let items = &mut self.topics[item.topic as usize].items;
        items.insert(&mut self.within_topics, item.handle, key, bytes);
        self.events += 1;
        self.bytes += bytes;
        self.settle(item.topic);
    }

    /// Takes a queued item out of everything.
    fn remove(&mut self, handle: u32) {
        let topic = std::mem::replace(&mut self.topic_of[handle as usize], NOT_QUEUED);
        self.all.remove(&mut self.within_all, handle);
        self.topics[topic as usize].items.remove(&mut self.within_topics, handle);
        self.events -= 1;
        self.bytes -= self.within_all.bytes(handle);
        self.settle(topic);
    }

    /// Puts a topic where its first item and its hold say.
    fn settle(&mut self, topic: u32) {
        let entry = &mut self.topics[topic as usize];
        let first = entry.items.first(&self.within_topics).filter(|_| !entry.held);
        let key = first.map(|first| self.within_topics.key(first));
        if entry.is_ready && key == Some(self.within_ready.key(topic)) {
            return;
        }
        if entry.is_ready {
            self.ready.remove(&mut self.within_ready, topic);
        }
        if let Some(key) = key {
            self.ready.insert(&mut self.within_ready, topic, key, 0);
        }
        entry.is_ready = key.is_some();
    }

    fn earliest_deadline(&self) -> Option<(u32, u64)> {
        let first = self.all.first(&self.within_all)?;
        Some((first, self.within_all.key(first).0)).filter(|(_, deadline)| *deadline != NEVER)
    }
}

impl Queue for EdfQueue {
    fn admit(&mut self, item: &QueueItem, _now_ns: u64) -> Admission {
        let known = (item.handle as usize) < self.topic_of.len() && (item.topic as usize) < self.topics.len();
        if !known || self.is_queued(item.handle) || u64::from(item.size) > self.capacity_bytes {
            return Admission::refused();
        }
        let bytes_over = (self.bytes + u64::from(item.size)).saturating_sub(self.capacity_bytes);
        if self.events < self.capacity_events && bytes_over == 0 {
            self.insert(item);
            return Admission::accepted();
        }
        let victim = self.victim(deadline(item), bytes_over).filter(|_| self.when_full == WhenFull::EVICT);
        match victim {
            Some(victim) => {
                self.remove(victim);
                Admission::evicted(victim)
            }
            None => Admission::refused(),
        }
    }

    fn next(&mut self, now_ns: u64) -> NextItem {
        let earliest = self.earliest_deadline().filter(|_| self.drop_late);
        if let Some((handle, _)) = earliest.filter(|(_, deadline)| *deadline < now_ns) {
            self.remove(handle);
            return NextItem::expired(handle);
        }
        let ready = self.ready.first(&self.within_ready);
        match ready.and_then(|topic| self.topics[topic as usize].items.first(&self.within_topics)) {
            Some(handle) => {
                self.remove(handle);
                NextItem::go(handle)
            }
            // All that is left is on hold: it is given up in time, not when its topic is released.
            None => NextItem::nothing(earliest.map_or(0, |(_, deadline)| deadline.saturating_add(1))),
        }
    }

    fn forget(&mut self, handle: u32) -> bool {
        let queued = self.is_queued(handle);
        if queued {
            self.remove(handle);
        }
        queued
    }

    fn queued(&self) -> u32 {
        self.events
    }

    fn hold(&mut self, topic: u32, held: bool) {
        if let Some(entry) = self.topics.get_mut(topic as usize) {
            entry.held = held;
            self.settle(topic);
        }
    }
}

#[cfg(test)]
mod tests;
