//! Frames in the ring: the protocol's positions over the memory. What the other side wrote is read once,
//! checked, and never read again.

use crate::memory::Memory;
use crate::protocol::{Broken, RECORD_HEAD_BYTES, Reading, Writing, record_bytes};

/// A frame in the ring: where its record begins, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The record's position.
    pub place: u64,
    /// The frame's length in bytes.
    pub length: usize,
}

/// The end that writes.
#[derive(Debug)]
pub struct Writer {
    memory: Memory,
    position: Writing,
    staged: u64,
}

impl Writer {
    /// The writer of an empty ring.
    pub fn new(memory: Memory) -> Self {
        Writer { position: Writing::new(memory.capacity()), memory, staged: 0 }
    }

    /// The successor of a writer that has gone.
    ///
    /// # Errors
    /// Where the positions make no sense.
    pub fn resume(memory: Memory) -> Result<Self, Broken> {
        Ok(Writer { position: Writing::resume(&memory, memory.capacity())?, memory, staged: 0 })
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Its memory, for the next connection.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Begins a frame of so many bytes and counts it in; where it lies, to be written. `None` where there is
    /// no room.
    ///
    /// # Errors
    /// Where the reader's position makes no sense.
    #[inline]
    pub fn stage(&mut self, length: usize) -> Result<Option<Span>, Broken> {
        let bytes = record_bytes(length as u64);
        if !self.position.has_room(&self.memory, bytes)? {
            return Ok(None);
        }
        let place = self.position.place();
        self.memory.set_length_at(place, length as u32);
        self.position.stage(bytes);
        self.staged += 1;
        Ok(Some(Span { place, length }))
    }

    /// Writes a frame of two parts, one after the other; `false` where there is no room.
    ///
    /// # Errors
    /// Where the reader's position makes no sense.
    #[inline]
    pub fn push(&mut self, head: &[u8], payload: &[u8]) -> Result<bool, Broken> {
        let Some(span) = self.stage(head.len() + payload.len())? else { return Ok(false) };
        if !head.is_empty() {
            self.memory.copy_in(span.place, 0, head);
        }
        self.memory.copy_in(span.place, head.len(), payload);
        Ok(true)
    }

    /// The bytes of a frame that was staged and not published, to be written in place.
    pub fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        // SAFETY: the range lies within the mapping and belongs to the writer until it is published, which
        // needs `self` again.
        unsafe { std::slice::from_raw_parts_mut(self.memory.frame_at(span.place), span.length) }
    }

    /// Frames that are staged and not published.
    pub fn staged(&self) -> u64 {
        self.staged
    }

    /// Shows the reader all that is staged; whether it has to be woken.
    #[inline]
    #[must_use]
    pub fn publish(&mut self) -> bool {
        self.staged = 0;
        self.position.publish(&self.memory)
    }

    /// Gives up what is staged.
    pub fn discard(&mut self) {
        self.position.discard();
        self.staged = 0;
    }

    /// Says that the writer waits for room for a frame of so many bytes; `false` where there is some.
    ///
    /// # Errors
    /// Where the reader's position makes no sense.
    pub fn wait_for(&mut self, length: usize) -> Result<bool, Broken> {
        self.position.wait_for(&self.memory, record_bytes(length as u64))
    }

    /// How many published frames the reader has not given back.
    pub fn unread(&self) -> u64 {
        self.position.unread(&self.memory)
    }
}

/// The end that reads.
#[derive(Debug)]
pub struct Reader {
    memory: Memory,
    position: Reading,
}

impl Reader {
    /// The reader of an empty ring.
    pub fn new(memory: Memory) -> Self {
        Reader { position: Reading::new(memory.capacity()), memory }
    }

    /// The successor of a reader that has gone.
    ///
    /// # Errors
    /// Where the position makes no sense.
    pub fn resume(memory: Memory) -> Result<Self, Broken> {
        Ok(Reader { position: Reading::resume(&memory, memory.capacity())?, memory })
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Its memory, for the next connection.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// The next frame; `None` where there is none. It is not taken yet.
    ///
    /// # Errors
    /// Where what the writer wrote makes no sense.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Span>, Broken> {
        let available = self.position.available(&self.memory)?;
        if available < RECORD_HEAD_BYTES {
            return if available == 0 { Ok(None) } else { Err(Broken) };
        }
        let place = self.position.place();
        let length = self.memory.length_at(place);
        if record_bytes(length) > available {
            return Err(Broken);
        }
        Ok(Some(Span { place, length: length as usize }))
    }

    /// Takes the frame that was peeked at. Its bytes stay as they are until [`Reader::release`].
    #[inline]
    pub fn take(&mut self, span: Span) {
        self.position.take(record_bytes(span.length as u64));
    }

    /// Copies a frame, as far as it fits.
    #[inline]
    pub fn copy(&self, span: Span, into: &mut [u8]) {
        let length = span.length.min(into.len());
        self.memory.copy_out(span.place, &mut into[..length]);
    }

    /// The bytes of a frame that is not released.
    ///
    /// # Safety
    /// The writer does not change what it has published: so does a TEMPOS node.
    pub unsafe fn bytes(&self, span: Span) -> &[u8] {
        // SAFETY: the range lies within the mapping, and does not change, as the caller says.
        unsafe { std::slice::from_raw_parts(self.memory.frame_at(span.place), span.length) }
    }

    /// How many bytes were taken and are not released.
    pub fn unreleased(&self) -> u64 {
        self.position.unreleased()
    }

    /// Gives the writer the room of all frames that were taken; whether it has to be woken.
    #[inline]
    #[must_use]
    pub fn release(&mut self) -> bool {
        self.position.release(&self.memory)
    }

    /// Says that the reader waits for a frame; `false` where there is one. The bell must be quiet before.
    ///
    /// # Errors
    /// Where the writer's position makes no sense.
    pub fn sleep(&mut self) -> Result<bool, Broken> {
        self.position.sleep(&self.memory)
    }

    /// Says that the reader does not wait any more.
    pub fn wake(&self) {
        self.position.wake(&self.memory);
    }
}
