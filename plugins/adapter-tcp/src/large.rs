//! Frames that are larger than a segment, on their way out: copied into one of a few slots, and written segment
//! by segment, one frame after the other, so that small frames go between.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use tempos_abi::event::TxFrame;

use crate::frames::{HEAD_BYTES, segment_word};
use crate::unsent::{touch, write_pieces};

/// Frames that are held at once; of frames of more than 4 MiB half as many.
const SLOTS: usize = 4;
const MANY_BYTES: usize = 4 << 20;

struct Slot {
    bytes: Box<[u8]>,
    length: usize,
    event_id: u64,
}

/// The frames held, in their order.
pub struct Large {
    slots: Box<[Slot]>,
    first: usize,
    count: usize,
    segment_bytes: usize,
    /// Of the first frame: the bytes whose segments are written whole.
    sent: usize,
    /// Of the segment after them: the bytes that are written, its length word among them; 0: it is not begun.
    begun: usize,
    /// When something was written last, or the first frame came.
    since: Instant,
}

impl Large {
    /// For frames of up to `frame_bytes_max`, in segments of `segment_bytes`. Its memory is touched here.
    pub fn new(frame_bytes_max: usize, segment_bytes: usize) -> Self {
        let slots = if frame_bytes_max > MANY_BYTES { SLOTS / 2 } else { SLOTS };
        let slot = || {
            let mut bytes = vec![0; frame_bytes_max].into_boxed_slice();
            touch(&mut bytes);
            Slot { bytes, length: 0, event_id: 0 }
        };
        Large {
            slots: (0..slots).map(|_| slot()).collect(),
            first: 0,
            count: 0,
            segment_bytes,
            sent: 0,
            begun: 0,
            since: Instant::now(),
        }
    }

    /// The length from which on a frame is too large to go whole.
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// How many frames are held.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a segment is written in part: nothing else may be written before its end.
    pub fn is_partial(&self) -> bool {
        self.begun > 0
    }

    /// Since when nothing has left, where frames are held.
    pub fn stuck_since(&self) -> Option<Instant> {
        (self.count > 0).then_some(self.since)
    }

    /// Takes a frame; `false` where no slot is free.
    pub fn take(&mut self, frame: &TxFrame<'_>) -> bool {
        if self.count == self.slots.len() {
            return false;
        }
        if self.count == 0 {
            self.since = Instant::now();
        }
        let free = (self.first + self.count) % self.slots.len();
        let slot = &mut self.slots[free];
        let (head, payload) = (frame.head.as_slice(), frame.payload.as_slice());
        slot.bytes[..head.len()].copy_from_slice(head);
        slot.bytes[head.len()..frame.len()].copy_from_slice(payload);
        (slot.length, slot.event_id) = (frame.len(), frame.event_id);
        self.count += 1;
        true
    }

    /// Goes on with the segment that is begun, or begins the next; the event of the frame where that was its
    /// end. Nothing to do where no frame is held.
    ///
    /// # Errors
    /// The error of the system call, `WouldBlock` where the segment is not written whole.
    pub fn write(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
        if self.count == 0 {
            return Ok(None);
        }
        let slot = &self.slots[self.first];
        let length = (slot.length - self.sent).min(self.segment_bytes);
        let more = self.sent + length < slot.length;
        let head = segment_word(self.first as u32, more, length).to_be_bytes();
        let bytes = &slot.bytes[self.sent..self.sent + length];
        while self.begun < HEAD_BYTES + length {
            let head_left = &head[self.begun.min(HEAD_BYTES)..];
            let bytes_left = &bytes[self.begun.saturating_sub(HEAD_BYTES)..];
            self.begun += write_pieces(socket, [head_left, bytes_left])?;
            self.since = Instant::now();
        }
        self.begun = 0;
        if more {
            self.sent += length;
            return Ok(None);
        }
        Ok(self.pop())
    }

    /// Lets go of the first frame, and says which event it was.
    pub fn pop(&mut self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let event_id = self.slots[self.first].event_id;
        (self.sent, self.begun) = (0, 0);
        self.first = (self.first + 1) % self.slots.len();
        self.count -= 1;
        Some(event_id)
    }

    /// The connection has ended: the first frame begins anew.
    pub fn rewind(&mut self) {
        (self.sent, self.begun) = (0, 0);
    }
}
