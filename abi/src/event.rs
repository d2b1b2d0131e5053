//! Buffers and events as they cross the border on an event's road: plain structs over host memory.

use std::marker::PhantomData;

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

use crate::attributes::{AttributeWriter, Attributes};
use crate::level::QosLevel;

/// A buffer of the host that an adapter fills with one received frame.
///
/// The host makes sure that both buffers live and belong to nobody else while the slot is lent.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct RxSlot<'a> {
    buffer: *mut u8,
    capacity: u32,
    len: u32,
    attributes: *mut u8,
    attributes_capacity: u32,
    attributes_len: u32,
    /// Bits of [`RxSlot::TRUNCATED`] and the like.
    pub flags: u32,
    reserved: u32,
    /// When the frame came to be, in nanoseconds since the epoch; 0 where the protocol does not say.
    pub source_time_ns: u64,
    /// A key for grouping (`hash` pick, key-ordered queues); 0: none.
    pub key_hash: u64,
    reserved_words: [u64; 2],
    lifetime: PhantomData<&'a mut u8>,
}

impl<'a> RxSlot<'a> {
    /// The frame was longer than the slot: the host drops it as `too-large`.
    pub const TRUNCATED: u32 = 1;

    /// A slot over two buffers.
    pub fn new(buffer: &'a mut [u8], attributes: &'a mut [u8]) -> Self {
        RxSlot {
            buffer: buffer.as_mut_ptr(),
            capacity: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
            len: 0,
            attributes: attributes.as_mut_ptr(),
            attributes_capacity: u32::try_from(attributes.len()).unwrap_or(u32::MAX),
            attributes_len: 0,
            flags: 0,
            reserved: 0,
            source_time_ns: 0,
            key_hash: 0,
            reserved_words: [0; 2],
            lifetime: PhantomData,
        }
    }

    /// Empties it for the next frame.
    pub fn reset(&mut self) {
        self.len = 0;
        self.attributes_len = 0;
        self.flags = 0;
        self.source_time_ns = 0;
        self.key_hash = 0;
        self.reserved_words = [0; 2];
    }

    /// Says who sent the frame: a number that is the same for all frames of one sender (a hash of its
    /// address, the number of its connection) and another for every other sender; 0: unknown. Order and
    /// repetitions are minded for each producer (since 1.1).
    pub fn set_producer(&mut self, producer: u64) {
        self.reserved_words[0] = producer;
    }

    /// Who sent the frame; 0: unknown (since 1.1).
    pub fn producer(&self) -> u64 {
        self.reserved_words[0]
    }

    /// The whole buffer, to be filled from its start.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        // SAFETY: made from an exclusive slice that outlives `self` (see `new`).
        unsafe { std::slice::from_raw_parts_mut(self.buffer, self.capacity as usize) }
    }

    /// Says how many bytes the frame has; more than the buffer holds marks it as truncated.
    pub fn set_len(&mut self, len: usize) {
        if len > self.capacity as usize {
            self.flags |= Self::TRUNCATED;
        }
        self.len = len.min(self.capacity as usize) as u32;
    }

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        // SAFETY: as in `buffer_mut`; `len` never exceeds the capacity.
        unsafe { std::slice::from_raw_parts(self.buffer, self.len.min(self.capacity) as usize) }
    }

    /// Writes the frame's attributes, in place of earlier ones.
    pub fn write_attributes(&mut self, write: impl FnOnce(&mut AttributeWriter<'_>)) {
        // SAFETY: as in `buffer_mut`.
        let block =
            unsafe { std::slice::from_raw_parts_mut(self.attributes, self.attributes_capacity as usize) };
        let mut writer = AttributeWriter::new(block);
        write(&mut writer);
        self.attributes_len = writer.len() as u32;
    }

    /// The block of attributes.
    pub fn attributes(&self) -> &[u8] {
        let len = self.attributes_len.min(self.attributes_capacity) as usize;
        // SAFETY: as in `buffer_mut`; `len` never exceeds the capacity.
        unsafe { std::slice::from_raw_parts(self.attributes, len) }
    }
}

/// A frame to be sent: `head` (empty, or an event header) and `payload`, to go out as one.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// What stands before the payload.
    pub head: RSlice<'a, u8>,
    /// The payload.
    pub payload: RSlice<'a, u8>,
    /// The block of attributes, for protocols that carry them.
    pub attributes: RSlice<'a, u8>,
    /// The event.
    pub event_id: u64,
    /// When the event is late (CLOCK_MONOTONIC, ns); 0: never.
    pub deadline_ns: u64,
    /// When the frame is to leave (CLOCK_TAI, ns); 0: at once.
    pub launch_ns: u64,
    /// Its level.
    pub level: QosLevel,
    /// For later minor versions; zero.
    pub reserved: [u64; 2],
}

impl<'a> TxFrame<'a> {
    /// A frame without head, attributes or times.
    pub fn payload(payload: &'a [u8], level: QosLevel) -> Self {
        TxFrame {
            head: RSlice::from_slice(&[]),
            payload: RSlice::from_slice(payload),
            attributes: RSlice::from_slice(&[]),
            event_id: 0,
            deadline_ns: 0,
            launch_ns: 0,
            level,
            reserved: [0; 2],
        }
    }

    /// Head and payload together.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Whether there is nothing to send but an empty frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An event as a function sees it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Its id.
    pub id: u64,
    /// Its topic.
    pub topic: RStr<'a>,
    /// Its level.
    pub level: QosLevel,
    /// When it came to be, nanoseconds since the epoch; 0 where unknown.
    pub source_time_ns: u64,
    /// When it arrived here (CLOCK_MONOTONIC, ns).
    pub arrival_ns: u64,
    /// When it is late (CLOCK_MONOTONIC, ns); 0: never.
    pub deadline_ns: u64,
    /// Its payload.
    pub payload: RSlice<'a, u8>,
    /// Its attributes; read them with [`EventView::attributes`].
    pub attribute_block: RSlice<'a, u8>,
    /// For later minor versions; zero.
    pub reserved: [u64; 4],
}

impl<'a> EventView<'a> {
    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.attribute_block.as_slice())
    }
}

/// Where a function puts its output: a buffer of the host, of the workflow's largest output.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Output<'a> {
    buffer: *mut u8,
    capacity: u32,
    len: u32,
    emitted: bool,
    overflowed: bool,
    error: *mut u8,
    error_capacity: u32,
    error_len: u32,
    lifetime: PhantomData<&'a mut u8>,
}

impl<'a> Output<'a> {
    /// An empty output over a buffer, and another for a sentence that says what went wrong.
    pub fn new(buffer: &'a mut [u8], error: &'a mut [u8]) -> Self {
        Output {
            buffer: buffer.as_mut_ptr(),
            capacity: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
            len: 0,
            emitted: false,
            overflowed: false,
            error: error.as_mut_ptr(),
            error_capacity: u32::try_from(error.len()).unwrap_or(u32::MAX),
            error_len: 0,
            lifetime: PhantomData,
        }
    }

    /// Says in one sentence why the invocation fails; cut where it does not fit. Allocates nothing.
    pub fn explain(&mut self, sentence: &str) {
        let mut len = sentence.len().min(self.error_capacity as usize);
        while !sentence.is_char_boundary(len) {
            len -= 1;
        }
        // SAFETY: the error buffer is exclusive (see `new`) and `len` is within both.
        unsafe { std::ptr::copy_nonoverlapping(sentence.as_ptr(), self.error, len) };
        self.error_len = len as u32;
    }

    /// Names the branch by which the output goes, of those in the workflow's `to` (since 1.1). It has the place
    /// of the sentence: the host reads a branch there where the invocation ends well, a sentence where it does
    /// not. Allocates nothing.
    pub fn send_to(&mut self, branch: &str) {
        self.explain(branch);
    }

    /// The sentence; empty where none was given.
    pub fn explanation(&self) -> String {
        let len = self.error_len.min(self.error_capacity) as usize;
        // SAFETY: as in `explain`.
        let bytes = unsafe { std::slice::from_raw_parts(self.error, len) };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The length of the sentence in bytes.
    pub fn explanation_len(&self) -> usize {
        self.error_len.min(self.error_capacity) as usize
    }

    /// The most bytes that it takes.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Appends to the output; `false` where it does not fit, and the invocation then fails as
    /// `output-too-large`. An empty write makes an empty output.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let at = self.len as usize;
        if bytes.len() > self.capacity as usize - at {
            self.overflowed = true;
            return false;
        }
        // SAFETY: the buffer is exclusive (see `new`) and the range was just checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.buffer.add(at), bytes.len()) };
        self.len += bytes.len() as u32;
        self.emitted = true;
        true
    }

    /// The buffer itself, for a method that has the function write into it directly; [`Output::commit`]
    /// then says how much was written.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer is exclusive (see `new`).
        unsafe { std::slice::from_raw_parts_mut(self.buffer, self.capacity as usize) }
    }

    /// Says that the first `len` bytes of the buffer are the output; `false` and an overflow where
    /// that is more than it holds.
    pub fn commit(&mut self, len: usize) -> bool {
        if len > self.capacity as usize {
            self.overflowed = true;
            return false;
        }
        self.len = len as u32;
        self.emitted = true;
        true
    }

    /// The output, where the function made one.
    pub fn emitted(&self) -> Option<usize> {
        (self.emitted && !self.overflowed).then_some(self.len as usize)
    }

    /// Whether the function tried to write more than fits.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_what_was_written_and_no_more() {
        let (mut buffer, mut attributes) = ([0; 16], [0; 64]);
        let mut slot = RxSlot::new(&mut buffer, &mut attributes);
        slot.buffer_mut()[..5].copy_from_slice(b"frame");
        slot.set_len(5);
        slot.write_attributes(|writer| {
            assert!(writer.put("unit", crate::attributes::AttributeValue::Bytes(b"mm")));
        });
        assert_eq!(slot.frame(), b"frame");
        assert!(Attributes::new(slot.attributes()).is_well_formed() && !slot.attributes().is_empty());
        slot.set_len(17);
        assert_eq!((slot.frame().len(), slot.flags), (16, RxSlot::TRUNCATED));
        slot.set_producer(9);
        slot.reset();
        assert_eq!((slot.frame().len(), slot.attributes().len(), slot.flags, slot.producer()), (0, 0, 0, 0));
    }

    #[test]
    fn an_output_takes_what_fits() {
        let (mut buffer, mut error) = ([0; 8], [0; 5]);
        let mut output = Output::new(&mut buffer, &mut error);
        assert_eq!(output.emitted(), None);
        assert!(output.write(b"abc") && output.write(b"") && output.write(b"defgh"));
        assert_eq!(output.emitted(), Some(8));
        assert!(!output.write(b"i"));
        assert_eq!((output.emitted(), output.overflowed()), (None, true));
        // Cut where a character ends.
        output.explain("zäh und fest");
        assert_eq!(output.explanation(), "zäh ");
        let mut output = Output::new(&mut buffer, &mut error);
        output.buffer_mut()[..2].copy_from_slice(b"ok");
        assert!(output.commit(2) && !output.commit(9));
        assert!(output.overflowed());
    }
}
