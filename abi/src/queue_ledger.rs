//! The bookkeeping that queue policies share: who is queued, in which order, within which bounds.
//!
//! A [`Ledger`] keeps the items of each topic in the order of their arrival, and chooses among the topics
//! that are not on hold by the class of their first item (a lower number goes first), then by its arrival.
//! Items of one topic are therefore never reordered, even where its class changes while some are queued.
//! Separately it keeps the items of each class in the order of their arrival, to find the one that
//! matters least. All memory is taken and touched in [`Ledger::open`]; afterwards every call is
//! O(log topics), and O(1) while one topic is active.

mod chain;
mod heap;

pub use chain::{Chain, Link, Links};
pub use heap::IndexHeap;

use crate::error::PluginError;
use crate::queue::{Admission, QueueItem, QueueSpec, WhenFull};

/// The most classes; class 0 goes first.
pub const CLASSES_MAX: usize = 256;

/// The most handles or topics that a ledger makes room for.
pub const TABLE_ROWS_MAX: u32 = 1 << 24;

/// Whether a queue within these bounds can be made: for policies that keep books of their own.
///
/// # Errors
/// One sentence where a bound is zero or beyond [`TABLE_ROWS_MAX`].
pub fn check_bounds(spec: &QueueSpec) -> Result<(), PluginError> {
    for (what, rows) in [("events in the node's pool", spec.handles), ("topics", spec.topics)] {
        if rows == 0 || rows > TABLE_ROWS_MAX {
            return Err(PluginError::bad_option(format!(
                "a queue for {rows} {what} cannot be made: 1 to {TABLE_ROWS_MAX} are possible"
            )));
        }
    }
    if spec.capacity_events == 0 || spec.capacity_bytes == 0 {
        return Err(PluginError::bad_option(format!(
            "a queue of {} events and {} bytes holds nothing: both capacities must be at least 1",
            spec.capacity_events, spec.capacity_bytes
        )));
    }
    Ok(())
}

const NOT_QUEUED: u32 = u32::MAX;
const CLASS_SHIFT: u32 = 56;
const BY_TOPIC: usize = 0;
const BY_CLASS: usize = 1;

/// What is kept of a queued item: half a cache line.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The class in the highest byte, the arrival's number below it.
    key: u64,
    size: u32,
    topic: u32,
    links: [Link; 2],
}

impl Row {
    const EMPTY: Row = Row { key: u64::MAX, size: 0, topic: NOT_QUEUED, links: [Link::NONE; 2] };

    fn class(&self) -> usize {
        (self.key >> CLASS_SHIFT) as usize
    }
}

/// The items of a topic, oldest first.
#[derive(Clone, Copy, Debug)]
struct Topic {
    items: Chain,
    held: bool,
}

/// The items of a class, oldest first.
#[derive(Clone, Copy, Debug)]
struct Class {
    items: Chain,
    bytes: u64,
}

/// Who is queued, in which order, within which bounds.
#[derive(Debug)]
pub struct Ledger {
    rows: Box<[Row]>,
    topics: Box<[Topic]>,
    /// The topics that have an item and are not on hold, by the key of their first item.
    ready: IndexHeap,
    classes: Box<[Class]>,
    arrivals: u64,
    events: u32,
    bytes: u64,
    capacity_events: u32,
    capacity_bytes: u64,
    when_full: WhenFull,
}

impl Ledger {
    /// An empty ledger with the bounds of `spec` and that many classes, 1 to [`CLASSES_MAX`].
    ///
    /// # Errors
    /// One sentence where a bound is zero or beyond [`TABLE_ROWS_MAX`].
    pub fn open(spec: &QueueSpec, classes: usize) -> Result<Self, PluginError> {
        check_bounds(spec)?;
        Ok(Ledger {
            // Nothing below is all zeroes: the pages are written, so they are there before the first event.
            rows: vec![Row::EMPTY; spec.handles as usize].into_boxed_slice(),
            topics: vec![Topic { items: Chain::EMPTY, held: false }; spec.topics as usize].into_boxed_slice(),
            ready: IndexHeap::new(spec.topics),
            classes: vec![Class { items: Chain::EMPTY, bytes: 0 }; classes.clamp(1, CLASSES_MAX)]
                .into_boxed_slice(),
            arrivals: 0,
            events: 0,
            bytes: 0,
            capacity_events: spec.capacity_events,
            capacity_bytes: spec.capacity_bytes,
            when_full: spec.when_full,
        })
    }

    /// Takes an item in as the last of its topic; where the queue is full, evicts the oldest item of the
    /// last class or refuses, as the queue was opened. An item is refused without any eviction where only
    /// items of better classes could make room for it. A class beyond the last counts as the last.
    pub fn admit(&mut self, item: &QueueItem, class: u8) -> Admission {
        let class = class.min((self.classes.len() - 1) as u8);
        let known = (item.handle as usize) < self.rows.len() && (item.topic as usize) < self.topics.len();
        if !known || self.is_queued(item.handle) || u64::from(item.size) > self.capacity_bytes {
            return Admission::refused();
        }
        let bytes_over = (self.bytes + u64::from(item.size)).saturating_sub(self.capacity_bytes);
        if self.events >= self.capacity_events || bytes_over > 0 {
            return match self.least().filter(|_| self.may_make_room(class, bytes_over)) {
                Some(victim) => {
                    self.remove(victim);
                    Admission::evicted(victim)
                }
                None => Admission::refused(),
            };
        }
        self.insert(item, class);
        Admission::accepted()
    }

    /// Removes the first item of the topic that goes next.
    pub fn take_next(&mut self) -> Option<u32> {
        let topic = self.ready.first()?;
        let handle = self.topics[topic as usize].items.first()?;
        self.remove(handle);
        Some(handle)
    }

    /// Removes an item wherever it stands; `false` where it is not queued.
    pub fn forget(&mut self, handle: u32) -> bool {
        let queued = self.is_queued(handle);
        if queued {
            self.remove(handle);
        }
        queued
    }

    /// Puts a topic on hold, or releases it. A topic that does not exist is ignored.
    pub fn hold(&mut self, topic: u32, held: bool) {
        if let Some(known) = self.topics.get_mut(topic as usize) {
            known.held = held;
            self.settle(topic);
        }
    }

    /// How many items are queued.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// How many bytes are queued.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether that handle is queued.
    pub fn is_queued(&self, handle: u32) -> bool {
        self.rows.get(handle as usize).is_some_and(|row| row.topic != NOT_QUEUED)
    }

    /// The oldest item of the last class, held or not.
    fn least(&self) -> Option<u32> {
        self.classes.iter().rev().find_map(|class| class.items.first())
    }

    /// Whether evicting items of `class` and those after it would free `bytes_over` bytes and one place.
    fn may_make_room(&self, class: u8, bytes_over: u64) -> bool {
        let weaker = &self.classes[usize::from(class)..];
        self.when_full == WhenFull::EVICT
            && weaker.iter().any(|class| class.items.first().is_some())
            && weaker.iter().map(|class| class.bytes).sum::<u64>() >= bytes_over
    }

    fn insert(&mut self, item: &QueueItem, class: u8) {
        let row = &mut self.rows[item.handle as usize];
        row.key = u64::from(class) << CLASS_SHIFT | self.arrivals;
        row.size = item.size;
        row.topic = item.topic;
        // 56 bits: enough for two thousand years at a million events per second.
        self.arrivals = (self.arrivals + 1) & ((1 << CLASS_SHIFT) - 1);
        let rows = &mut self.rows;
        let topic = &mut self.topics[item.topic as usize];
        topic.items.append(item.handle, &mut RowLinks { rows, which: BY_TOPIC });
        let class = &mut self.classes[usize::from(class)];
        class.items.append(item.handle, &mut RowLinks { rows, which: BY_CLASS });
        class.bytes += u64::from(item.size);
        self.events += 1;
        self.bytes += u64::from(item.size);
        self.settle(item.topic);
    }

    /// Takes a queued item out of everything.
    fn remove(&mut self, handle: u32) {
        let row = self.rows[handle as usize];
        let rows = &mut self.rows;
        let topic = &mut self.topics[row.topic as usize];
        topic.items.unlink(handle, &mut RowLinks { rows, which: BY_TOPIC });
        let class = &mut self.classes[row.class()];
        class.items.unlink(handle, &mut RowLinks { rows, which: BY_CLASS });
        class.bytes -= u64::from(row.size);
        self.rows[handle as usize].topic = NOT_QUEUED;
        self.events -= 1;
        self.bytes -= u64::from(row.size);
        self.settle(row.topic);
    }

    /// Puts a topic where its first item and its hold say.
    fn settle(&mut self, topic: u32) {
        let Topic { items, held } = &self.topics[topic as usize];
        match items.first().filter(|_| !held) {
            Some(first) => self.ready.put(topic, self.rows[first as usize].key),
            None => self.ready.remove(topic),
        }
    }
}

/// One of the two chains of each row.
struct RowLinks<'a> {
    rows: &'a mut [Row],
    which: usize,
}

impl Links for RowLinks<'_> {
    fn link(&mut self, row: u32) -> &mut Link {
        &mut self.rows[row as usize].links[self.which]
    }
}

#[cfg(test)]
mod tests;
