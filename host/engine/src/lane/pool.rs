//! The event pool of a lane: buffers in size classes, with reference counts for fan-out.
//!
//! Only the lane's owner takes and gives back; other threads read payloads through addresses that they
//! were handed. An event is its payload, then its attributes, in one buffer.

use std::io;

use crate::stats::Reason;
use crate::system::memory::Region;

/// The index of a buffer; unique in its pool.
pub type Handle = u32;

/// The topic of an event whose topic has gone.
pub const NO_TOPIC: u32 = u32::MAX;

/// Where an event is on its road.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The buffer is free.
    #[default]
    Free,
    /// Being made.
    Arriving,
    /// In the lane's queue.
    Queued,
    /// With its receivers.
    Delivering,
    /// Done with, but a thread that did not come back may still read it: never given back.
    Lost,
}

/// What is known of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Its topic's index on this lane.
    pub topic: u32,
    /// Where it is.
    pub stage: Stage,
    /// Receivers that are not done with it.
    pub references: u16,
    /// Whether a receiver took it.
    pub delivered: bool,
    /// Why the last receiver that did not take it did not.
    pub reason: Option<Reason>,
    /// How many receivers did not.
    pub copies_lost: u16,
    /// How often it was given to another member than the one before.
    pub attempts: u8,
    /// The source that counts it as in flight, plus one; 0: none does.
    pub source: u32,
    /// A thread that did not come back may still read it.
    pub lost: bool,
    /// Its place in the order in which this pool's buffers were taken.
    pub number: u64,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Bytes of attributes, which follow the payload.
    pub attribute_bytes: u32,
    /// Hash of its key; 0: none.
    pub key_hash: u64,
    /// Nanoseconds since the epoch at its source; 0: unknown.
    pub source_time_ns: u64,
    /// When it, or the event that it came from, arrived in this node (CLOCK_MONOTONIC).
    pub origin_ns: u64,
    /// When it arrived on this topic.
    pub arrival_ns: u64,
    /// When the queue worker took it.
    pub taken_ns: u64,
    /// When it is late; 0: never.
    pub deadline_ns: u64,
    /// When it is dropped; 0: never.
    pub expires_ns: u64,
}

impl Record {
    /// Bytes that it takes of the lane's capacity.
    pub fn bytes(&self) -> u32 {
        self.payload_bytes + self.attribute_bytes
    }

    /// Whether its deadline has passed.
    pub fn is_late(&self, now_ns: u64) -> bool {
        self.deadline_ns != 0 && now_ns > self.deadline_ns
    }

    /// Whether its time to live is over.
    pub fn is_expired(&self, now_ns: u64) -> bool {
        self.expires_ns != 0 && now_ns > self.expires_ns
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: usize,
    capacity: u32,
    class: u8,
}

const CLASSES: usize = 3;
const SMALL_BYTES: usize = 512;
const MEDIUM_BYTES: usize = 4096;

/// How a pool is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Events that the queue may hold.
    pub events: u32,
    /// Bytes that the buffers take together, about.
    pub bytes: u64,
    /// The largest event.
    pub event_bytes_max: u32,
    /// Whether to ask for locked memory.
    pub lock: bool,
}

impl PoolSize {
    /// Size and number of the buffers of each class: half of the bytes small, a quarter medium, a quarter
    /// of the largest size; never more small ones than the queue and what is in flight can hold.
    fn classes(&self) -> [(usize, usize); CLASSES] {
        let largest = (self.event_bytes_max as usize).next_multiple_of(64).max(MEDIUM_BYTES);
        let bytes = self.bytes as usize;
        let wanted = self.events as usize + 128;
        let small = (bytes / 2 / SMALL_BYTES).clamp(64, wanted.max(64));
        let medium = (bytes / 4 / MEDIUM_BYTES).clamp(16, wanted);
        let large = (bytes / 4 / largest).clamp(4, wanted);
        [(SMALL_BYTES, small), (MEDIUM_BYTES, medium), (largest, large)]
    }
}

/// How many buffers a pool of that size has.
pub fn handles_of(size: PoolSize) -> u32 {
    size.classes().iter().map(|(_, count)| *count as u32).sum()
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    region: Region,
    records: Box<[Record]>,
    places: Box<[Place]>,
    free: [Vec<Handle>; CLASSES],
    taken: u64,
    size: PoolSize,
}

impl Pool {
    /// Maps, faults in and locks all buffers.
    ///
    /// # Errors
    /// What the system says (ENOMEM).
    pub fn new(size: PoolSize) -> io::Result<Self> {
        let classes = size.classes();
        let total = classes.iter().map(|(bytes, count)| bytes * count).sum();
        let region = Region::new(total, size.lock)?;
        let count = classes.iter().map(|(_, count)| count).sum::<usize>();
        let mut places = Vec::with_capacity(count);
        let mut free: [Vec<Handle>; CLASSES] = Default::default();
        let mut offset = 0;
        for (class, (bytes, count)) in classes.into_iter().enumerate() {
            // The last buffer goes first, so that the ones used most are always the same few.
            free[class] = (places.len()..places.len() + count).rev().map(|handle| handle as Handle).collect();
            for _ in 0..count {
                places.push(Place { offset, capacity: bytes as u32, class: class as u8 });
                offset += bytes;
            }
        }
        let records = vec![Record::default(); count].into();
        Ok(Pool { region, records, places: places.into(), free, taken: 0, size })
    }

    /// How it was made.
    pub fn size(&self) -> PoolSize {
        self.size
    }

    /// Handles are below this.
    pub fn handles(&self) -> u32 {
        self.places.len() as u32
    }

    /// Whether the system locked its memory.
    pub fn is_locked(&self) -> bool {
        self.region.is_locked()
    }

    /// Takes a buffer for an event of that many bytes: of the smallest class that fits and has one.
    pub fn take(&mut self, bytes: usize) -> Option<Handle> {
        let classes = self.size.classes();
        for (free, (capacity, _)) in self.free.iter_mut().zip(classes) {
            if capacity >= bytes
                && let Some(handle) = free.pop()
            {
                self.taken += 1;
                self.records[handle as usize] =
                    Record { stage: Stage::Arriving, references: 1, number: self.taken, ..Record::default() };
                return Some(handle);
            }
        }
        None
    }

    /// Gives a buffer back. It must not be lent to anybody: one that is lost stays so.
    pub fn give_back(&mut self, handle: Handle) {
        let record = &mut self.records[handle as usize];
        debug_assert!(record.stage != Stage::Free, "a buffer is given back once");
        if record.lost {
            record.stage = Stage::Lost;
            return;
        }
        record.stage = Stage::Free;
        // The list was made with room for every buffer of its class: this never grows it.
        self.free[self.places[handle as usize].class as usize].push(handle);
    }

    /// Whether a thread that did not come back may still read any of it.
    pub fn has_lost(&self) -> bool {
        self.records.iter().any(|record| record.lost)
    }

    /// How many events of the largest size would find a buffer.
    pub fn room_for_largest(&self) -> u32 {
        self.free[CLASSES - 1].len() as u32
    }

    /// How many buffers are taken.
    pub fn used(&self) -> u32 {
        self.handles() - self.free.iter().map(|list| list.len() as u32).sum::<u32>()
    }

    /// What is known of an event.
    pub fn record(&self, handle: Handle) -> &Record {
        &self.records[handle as usize]
    }

    /// The same, to be changed.
    pub fn record_mut(&mut self, handle: Handle) -> &mut Record {
        &mut self.records[handle as usize]
    }

    /// Handles of all events at a stage, in the order of their arrival. Allocates: for the controller and
    /// for a lane that was taken over.
    pub fn handles_at(&self, stage: Stage) -> Vec<Handle> {
        let mut handles: Vec<Handle> =
            (0..self.handles()).filter(|h| self.records[*h as usize].stage == stage).collect();
        handles.sort_by_key(|h| self.records[*h as usize].number);
        handles
    }

    /// Writes payload and attributes.
    pub fn fill(&mut self, handle: Handle, payload: &[u8], attributes: &[u8]) {
        let place = self.places[handle as usize];
        debug_assert!(payload.len() + attributes.len() <= place.capacity as usize);
        // SAFETY: the place lies inside the region, belongs to this handle alone, and was taken for this
        // many bytes; the sources are other memory.
        unsafe {
            let start = self.region.start().add(place.offset);
            std::ptr::copy_nonoverlapping(payload.as_ptr(), start, payload.len());
            std::ptr::copy_nonoverlapping(attributes.as_ptr(), start.add(payload.len()), attributes.len());
        }
        let record = &mut self.records[handle as usize];
        record.payload_bytes = payload.len() as u32;
        record.attribute_bytes = attributes.len() as u32;
    }

    /// Writes payload and attributes that lie one after the other in two parts.
    pub fn fill_parts(&mut self, handle: Handle, payload_bytes: u32, first: &[u8], second: &[u8]) {
        let bytes = (first.len() + second.len()) as u32;
        self.fill(handle, first, second);
        let record = &mut self.records[handle as usize];
        record.payload_bytes = payload_bytes.min(bytes);
        record.attribute_bytes = bytes - record.payload_bytes;
    }

    /// The payload. The lifetime is the caller's to mind: the bytes stay as they are until the handle is
    /// given back.
    pub fn payload(&self, handle: Handle) -> &'static [u8] {
        let record = &self.records[handle as usize];
        // SAFETY: inside the region, written by `fill`; see above for the lifetime.
        unsafe {
            std::slice::from_raw_parts(
                self.region.start().add(self.places[handle as usize].offset),
                record.payload_bytes as usize,
            )
        }
    }

    /// The attributes; see [`Pool::payload`].
    pub fn attributes(&self, handle: Handle) -> &'static [u8] {
        let record = &self.records[handle as usize];
        // SAFETY: as above; they follow the payload.
        unsafe {
            std::slice::from_raw_parts(
                self.region.start().add(self.places[handle as usize].offset + record.payload_bytes as usize),
                record.attribute_bytes as usize,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Pool {
        Pool::new(PoolSize { events: 64, bytes: 1 << 20, event_bytes_max: 65_536, lock: false })
            .expect("memory")
    }

    #[test]
    fn every_buffer_is_given_out_once_and_comes_back() {
        let mut pool = small();
        let mut taken = Vec::new();
        while let Some(handle) = pool.take(100) {
            pool.fill(handle, &handle.to_le_bytes(), b"at");
            taken.push(handle);
        }
        assert_eq!(taken.len() as u32, pool.handles());
        for handle in &taken {
            assert_eq!(pool.payload(*handle), handle.to_le_bytes());
            assert_eq!(pool.attributes(*handle), b"at");
        }
        for handle in taken {
            pool.give_back(handle);
        }
        assert!(pool.take(65_536).is_some());
    }

    #[test]
    fn an_event_larger_than_the_largest_buffer_finds_none() {
        assert_eq!(small().take(65_537), None);
    }
}
