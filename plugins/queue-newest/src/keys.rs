//! The keys of what is queued, each with its items: a hash table that never grows.
//!
//! There are never more keys than items, so one entry for each handle is enough. The hash is seeded
//! (SipHash), because whoever sends events chooses their keys. Nothing is allocated after [`Keys::new`].

use std::hash::{BuildHasher, RandomState};

use tempos_abi::queue_ledger::{Chain, Link, Links};

const NONE: u32 = u32::MAX;

/// What makes two items the same thing: the topic, and the hash within it; 0: the topic as a whole.
pub type Key = (u32, u64);

/// One key. Entries in use hang below their bucket, the others in the list of free ones.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// Its items, oldest first.
    items: Chain,
    count: u32,
    /// The next entry of the bucket, or the next free one.
    next: u32,
}

/// What is kept of an item.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Its entry, or `NONE`.
    entry: u32,
    link: Link,
}

struct Items(Box<[Item]>);

impl Links for Items {
    fn link(&mut self, row: u32) -> &mut Link {
        &mut self.0[row as usize].link
    }
}

/// The keys of what is queued.
pub struct Keys {
    seed: RandomState,
    buckets: Box<[u32]>,
    entries: Box<[Entry]>,
    free: u32,
    items: Items,
}

impl Keys {
    /// A table for items below `handles`, with nothing in it.
    pub fn new(handles: u32) -> Self {
        let entries = (0..handles).map(|entry| Entry {
            key: (NONE, 0),
            items: Chain::EMPTY,
            count: 0,
            next: if entry + 1 < handles { entry + 1 } else { NONE },
        });
        Keys {
            seed: RandomState::new(),
            buckets: vec![NONE; handles.next_power_of_two() as usize].into_boxed_slice(),
            entries: entries.collect(),
            free: 0,
            items: Items(vec![Item { entry: NONE, link: Link::NONE }; handles as usize].into_boxed_slice()),
        }
    }

    /// How many items a key has, and the oldest of them.
    pub fn of(&self, key: Key) -> (u32, Option<u32>) {
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.key == key {
                return (entry.count, entry.items.first());
            }
            at = entry.next;
        }
        (0, None)
    }

    /// Adds an item, which is in no key, as the newest of its key.
    pub fn add(&mut self, handle: u32, key: Key) {
        let at = self.entry(key);
        let entry = &mut self.entries[at as usize];
        entry.items.append(handle, &mut self.items);
        entry.count += 1;
        self.items.0[handle as usize].entry = at;
    }

    /// Takes an item out of its key, where it is in one.
    pub fn remove(&mut self, handle: u32) {
        let at = std::mem::replace(&mut self.items.0[handle as usize].entry, NONE);
        if at == NONE {
            return;
        }
        let entry = &mut self.entries[at as usize];
        entry.items.unlink(handle, &mut self.items);
        entry.count -= 1;
        if entry.count == 0 {
            self.release(at);
        }
    }

    fn bucket(&self, key: Key) -> usize {
        // A power of two: the mask keeps the hash within the table.
        self.seed.hash_one(key) as usize & (self.buckets.len() - 1)
    }

    /// The entry of a key, made where there is none. One is free: there are as many as items.
    fn entry(&mut self, key: Key) -> u32 {
        let bucket = self.bucket(key);
        let mut at = self.buckets[bucket];
        while at != NONE && self.entries[at as usize].key != key {
            at = self.entries[at as usize].next;
        }
        if at == NONE {
            at = self.free;
            let entry = &mut self.entries[at as usize];
            self.free = entry.next;
            *entry = Entry { key, items: Chain::EMPTY, count: 0, next: self.buckets[bucket] };
            self.buckets[bucket] = at;
        }
        at
    }

    /// Takes an entry without items out of its bucket.
    fn release(&mut self, entry: u32) {
        let Entry { key, next, .. } = self.entries[entry as usize];
        let bucket = self.bucket(key);
        if self.buckets[bucket] == entry {
            self.buckets[bucket] = next;
        } else {
            let mut at = self.buckets[bucket];
            while self.entries[at as usize].next != entry {
                at = self.entries[at as usize].next;
            }
            self.entries[at as usize].next = next;
        }
        self.entries[entry as usize].next = self.free;
        self.free = entry;
    }
}
