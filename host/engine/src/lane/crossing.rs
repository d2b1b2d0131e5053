//! A crossing: events that a rule sends from the lane of their endpoint to the lane of another level.
//!
//! A bounded ring of bytes with one writer and one reader for each pair of lanes that needs it: an event is
//! copied once, and neither lane waits for the other. Where the ring is full the event is dropped and counted as
//! `lane-full` on the lane that it came by: what a best-effort lane brings never holds up a strict one.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::shared::LaneShared;

/// What is said of an event on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Its topic's index on the lane that it goes to.
    pub topic: u32,
    /// That topic's number there.
    pub number: u64,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Bytes of attributes.
    pub attribute_bytes: u32,
    /// Its id.
    pub id: u64,
    /// Nanoseconds since the epoch at its source; 0: unknown.
    pub source_time_ns: u64,
    /// When it is late (CLOCK_MONOTONIC); 0: never.
    pub deadline_ns: u64,
    /// When it arrived in this node (CLOCK_MONOTONIC).
    pub origin_ns: u64,
    /// Hash of its key; 0: none.
    pub key_hash: u64,
}

const HEAD_BYTES: usize = 64;
/// The least and the most room of a ring.
const ROOM_MIN: usize = 256 << 10;
const ROOM_MAX: usize = 64 << 20;

impl Passage {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        for (at, word) in [self.topic, self.payload_bytes, self.attribute_bytes, 0].into_iter().enumerate() {
            head[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let words =
            [self.id, self.source_time_ns, self.deadline_ns, self.origin_ns, self.key_hash, self.number];
        for (at, word) in words.into_iter().enumerate() {
            head[16 + at * 8..24 + at * 8].copy_from_slice(&word.to_ne_bytes());
        }
        head
    }

    fn decode(head: &[u8; HEAD_BYTES]) -> Self {
        let small = |at: usize| {
            u32::from_ne_bytes([head[at * 4], head[at * 4 + 1], head[at * 4 + 2], head[at * 4 + 3]])
        };
        let large = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[16 + at * 8..24 + at * 8]);
            u64::from_ne_bytes(bytes)
        };
        Passage {
            topic: small(0),
            payload_bytes: small(1),
            attribute_bytes: small(2),
            id: large(0),
            source_time_ns: large(1),
            deadline_ns: large(2),
            origin_ns: large(3),
            key_hash: large(4),
            number: large(5),
        }
    }

    fn bytes(&self) -> usize {
        self.payload_bytes as usize + self.attribute_bytes as usize
    }
}

/// The end that events are put in.
pub struct CrossingOut {
    ring: Producer<u8>,
    /// The lane that they go to, to wake it.
    target: Arc<LaneShared>,
}

/// The end that they come out.
pub struct CrossingIn {
    ring: Consumer<u8>,
}

/// Makes a crossing to `target` with room for some events of `event_bytes_max`, its memory faulted in.
pub fn crossing(target: Arc<LaneShared>, event_bytes_max: u32, lock: bool) -> (CrossingOut, CrossingIn) {
    let room = (8 * (HEAD_BYTES + event_bytes_max as usize)).clamp(ROOM_MIN, ROOM_MAX);
    let (mut out, into) = RingBuffer::new(room);
    if let Ok(mut chunk) = out.write_chunk(room) {
        let (first, second) = chunk.as_mut_slices();
        crate::system::memory::settle(first, lock);
        crate::system::memory::settle(second, lock);
    }
    (CrossingOut { ring: out, target }, CrossingIn { ring: into })
}

impl CrossingOut {
    /// Puts an event in and wakes the other lane; `false` where there is no room, or nobody to take it out.
    pub fn put(&mut self, passage: &Passage, payload: &[u8], attributes: &[u8]) -> bool {
        if self.ring.is_abandoned() {
            return false;
        }
        let Ok(mut chunk) = self.ring.write_chunk(HEAD_BYTES + passage.bytes()) else { return false };
        let (first, second) = chunk.as_mut_slices();
        let mut at = 0;
        for part in [&passage.encode()[..], payload, attributes] {
            write_at(first, second, at, part);
            at += part.len();
        }
        chunk.commit_all();
        self.target.place.wake();
        true
    }
}

/// Writes a part at place `at` of two slices that follow each other.
fn write_at(first: &mut [u8], second: &mut [u8], at: usize, part: &[u8]) {
    let (left, right) = part.split_at(first.len().saturating_sub(at).min(part.len()));
    if !left.is_empty() {
        first[at..at + left.len()].copy_from_slice(left);
    }
    if !right.is_empty() {
        let from = at + left.len() - first.len();
        second[from..from + right.len()].copy_from_slice(right);
    }
}

impl CrossingIn {
    /// What the next event is.
    pub fn peek(&mut self) -> Option<Passage> {
        let mut head = [0; HEAD_BYTES];
        let chunk = self.ring.read_chunk(HEAD_BYTES).ok()?;
        let (first, second) = chunk.as_slices();
        head[..first.len()].copy_from_slice(first);
        head[first.len()..].copy_from_slice(second);
        Some(Passage::decode(&head))
    }

    /// Whether an event is waiting.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// What the next event is, and its bytes (payload, then attributes) in two parts, handed to `take`; `None`
    /// where none is waiting.
    pub fn take<R>(&mut self, take: impl FnOnce(Passage, &[u8], &[u8]) -> R) -> Option<R> {
        let passage = self.peek()?;
        // The writer commits head and bytes at once.
        let chunk = self.ring.read_chunk(HEAD_BYTES + passage.bytes()).ok()?;
        let (first, second) = chunk.as_slices();
        let beyond = HEAD_BYTES.saturating_sub(first.len());
        let answer = take(passage, &first[HEAD_BYTES.min(first.len())..], &second[beyond..]);
        chunk.commit_all();
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (CrossingOut, CrossingIn) {
        let target = Arc::new(LaneShared::new("t".into()).expect("descriptors"));
        crossing(target, 1000, false)
    }

    #[test]
    fn events_cross_in_order_and_whole_wherever_the_ring_ends() {
        let (mut out, mut into) = pair();
        let (mut next, mut draw) = (0u64, 1u64);
        for id in 0..20_000u64 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let payload = vec![id as u8; (draw >> 40) as usize % 900];
            let attributes = vec![!id as u8; (draw >> 50) as usize % 90];
            let passage = Passage {
                topic: id as u32,
                number: id,
                payload_bytes: payload.len() as u32,
                attribute_bytes: attributes.len() as u32,
                id,
                source_time_ns: draw,
                deadline_ns: 3,
                origin_ns: 4,
                key_hash: 5,
            };
            assert!(out.put(&passage, &payload, &attributes));
            if draw >> 63 == 1 {
                continue;
            }
            while let Some(()) = into.take(|passage, first, second| {
                assert_eq!((passage.id, passage.topic), (next, next as u32));
                let whole = [first, second].concat();
                let (payload, attributes) = whole.split_at(passage.payload_bytes as usize);
                assert!(payload.iter().all(|byte| *byte == next as u8));
                assert!(attributes.iter().all(|byte| *byte == !next as u8));
                assert_eq!(attributes.len(), passage.attribute_bytes as usize);
                next += 1;
            }) {}
        }
        assert!(next > 19_900);
    }

    #[test]
    fn a_full_crossing_refuses_and_goes_on_once_there_is_room() {
        let (mut out, mut into) = pair();
        let passage = Passage { payload_bytes: 1000, ..Passage::default() };
        let mut put = 0;
        while out.put(&passage, &[7; 1000], &[]) {
            put += 1;
        }
        assert!(put >= 8);
        assert!(into.take(|_, _, _| ()).is_some());
        assert!(out.put(&passage, &[7; 1000], &[]));
        drop(into);
        assert!(!out.put(&passage, &[7; 1000], &[]), "nobody takes it out");
    }
}
