//! Topics in the order of the rounds in which their first items may go.

use tempos_abi::PluginError;
use tempos_abi::queue::{
    Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec, TopicShare, WhenFull,
};
use tempos_abi::queue_ledger::{Chain, IndexHeap, Link, Links, check_bounds};

use crate::config::Share;
use crate::minimum::Minimums;
use crate::rounds::Turn;

const NOT_QUEUED: u32 = u32::MAX;

/// Makes queues in which each topic has its share.
pub struct Drr;

impl Drr {
    /// The policy; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Drr)
    }
}

impl QueuePolicy for Drr {
    type Queue = DrrQueue;

    fn open(&self, spec: &QueueSpec) -> Result<DrrQueue, PluginError> {
        check_bounds(spec)?;
        let share = Share::read(&spec.options)?;
        let topic = Topic { items: Chain::EMPTY, length: 0, held: false, turn: Turn::new(share.portion(1)) };
        Ok(DrrQueue {
            share,
            rows: Rows(vec![Row::EMPTY; spec.handles as usize].into_boxed_slice()),
            topics: vec![topic; spec.topics as usize].into_boxed_slice(),
            ready: IndexHeap::new(spec.topics),
            lengths: IndexHeap::new(spec.topics),
            minimums: Minimums::new(spec.topics),
            round: 1,
            events: 0,
            bytes: 0,
            capacity_events: spec.capacity_events,
            capacity_bytes: spec.capacity_bytes,
            when_full: spec.when_full,
        })
    }
}

/// What is kept of a queued item.
#[derive(Clone, Copy, Debug)]
struct Row {
    topic: u32,
    size: u32,
    link: Link,
}

impl Row {
    const EMPTY: Row = Row { topic: NOT_QUEUED, size: 0, link: Link::NONE };
}

struct Rows(Box<[Row]>);

impl Links for Rows {
    fn link(&mut self, row: u32) -> &mut Link {
        &mut self.0[row as usize].link
    }
}

#[derive(Clone, Copy, Debug)]
struct Topic {
    /// Its items, oldest first.
    items: Chain,
    /// What they cost together.
    length: u64,
    held: bool,
    turn: Turn,
}

/// The queue of one lane.
pub struct DrrQueue {
    share: Share,
    rows: Rows,
    topics: Box<[Topic]>,
    /// The topics that have an item and are not on hold, by the round in which it may go.
    ready: IndexHeap,
    /// The topics that have an item, the longest first.
    lengths: IndexHeap,
    /// What topics with a minimum share are owed.
    minimums: Minimums,
    /// The latest round in which something went.
    round: u64,
    events: u32,
    bytes: u64,
    capacity_events: u32,
    capacity_bytes: u64,
    when_full: WhenFull,
}

impl DrrQueue {
    fn is_queued(&self, handle: u32) -> bool {
        self.rows.0.get(handle as usize).is_some_and(|row| row.topic != NOT_QUEUED)
    }

    /// The oldest item of the longest topic, a newcomer of `topic` counted in.
    fn victim(&self, topic: u32, cost: u64) -> Option<u32> {
        let longest = self.lengths.first()?;
        let own = &self.topics[topic as usize];
        let own_is_longest = own.length + cost >= self.topics[longest as usize].length;
        own.items.first().filter(|_| own_is_longest).or(self.topics[longest as usize].items.first())
    }

    fn insert(&mut self, item: &QueueItem) {
        let Row { topic, size, .. } = &mut self.rows.0[item.handle as usize];
        (*topic, *size) = (item.topic, item.size);
        let topic = &mut self.topics[item.topic as usize];
        if topic.items.first().is_none() {
            topic.turn.begin(self.round);
            self.minimums.begin(item.topic);
        }
        topic.items.append(item.handle, &mut self.rows);
        topic.length += self.share.cost(item.size);
        self.events += 1;
        self.bytes += u64::from(item.size);
        self.settle(item.topic);
    }

    /// Takes a queued item out of everything.
    fn remove(&mut self, handle: u32) {
        let Row { topic, size, .. } = self.rows.0[handle as usize];
        let entry = &mut self.topics[topic as usize];
        entry.items.unlink(handle, &mut self.rows);
        entry.length -= self.share.cost(size);
        self.rows.0[handle as usize].topic = NOT_QUEUED;
        self.events -= 1;
        self.bytes -= u64::from(size);
        self.settle(topic);
    }

    /// Puts a topic where its items, its turn and its hold say.
    fn settle(&mut self, topic: u32) {
        let Topic { items, length, held, turn } = &self.topics[topic as usize];
        let Some(first) = items.first() else {
            self.ready.remove(topic);
            self.lengths.remove(topic);
            self.minimums.remove(topic);
            return;
        };
        self.lengths.put(topic, u64::MAX - length);
        if *held {
            self.ready.remove(topic);
            self.minimums.remove(topic);
        } else {
            let cost = self.share.cost(self.rows.0[first as usize].size);
            self.ready.put(topic, turn.round_for(cost));
            self.minimums.put(topic, cost);
        }
    }
}

impl Queue for DrrQueue {
    fn admit(&mut self, item: &QueueItem, _now_ns: u64) -> Admission {
        let known = (item.handle as usize) < self.rows.0.len() && (item.topic as usize) < self.topics.len();
        let size = u64::from(item.size);
        if !known || self.is_queued(item.handle) || size > self.capacity_bytes {
            return Admission::refused();
        }
        if self.events < self.capacity_events && self.bytes + size <= self.capacity_bytes {
            self.insert(item);
            return Admission::accepted();
        }
        let evicts = self.when_full == WhenFull::EVICT;
        match self.victim(item.topic, self.share.cost(item.size)).filter(|_| evicts) {
            Some(victim) => {
                self.remove(victim);
                Admission::evicted(victim)
            }
            None => Admission::refused(),
        }
    }

    fn next(&mut self, _now_ns: u64) -> NextItem {
        let owed = self.minimums.first();
        let topic = owed.or_else(|| self.ready.first());
        let Some((topic, handle)) = topic.and_then(|t| Some((t, self.topics[t as usize].items.first()?)))
        else {
            return NextItem::nothing(0);
        };
        let turn = &mut self.topics[topic as usize].turn;
        let cost = self.share.cost(self.rows.0[handle as usize].size);
        if owed.is_some() {
            turn.spend_early(cost, self.round);
        } else {
            self.round = self.round.max(turn.round_for(cost));
            turn.spend(cost);
        }
        self.minimums.serve(topic, cost);
        self.remove(handle);
        NextItem::go(handle)
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
        let Some(entry) = self.topics.get_mut(topic as usize) else { return };
        match (entry.held, held) {
            (false, true) => entry.turn.settle(self.round),
            (true, false) => {
                entry.turn.go_on(self.round);
                self.minimums.begin(topic);
            }
            _ => return,
        }
        entry.held = held;
        self.settle(topic);
    }

    fn set_topic(&mut self, topic: u32, share: &TopicShare) {
        let Some(entry) = self.topics.get_mut(topic as usize) else { return };
        if !entry.held {
            entry.turn.settle(self.round);
        }
        entry.turn.portion = self.share.portion(share.weight);
        self.minimums.set(topic, share.minimum_permille());
        self.settle(topic);
    }
}

#[cfg(test)]
mod tests;
