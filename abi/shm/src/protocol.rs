//! Who may write where in the ring, and who wakes whom: positions and flags, without memory or sockets.
//!
//! One side writes, the other reads. Positions count bytes from the ring's beginning and never go back. A side
//! that waits says so in a word of its own, looks once more, and only then waits; the other side first moves
//! its position and then looks at that word. The two fences make sure that at least one of them sees the
//! other, so no wake-up is lost, and none is sent while nobody waits. The two flags are only ever swapped: each change
//! follows the one before it, whoever made it, which is what `model` at the end of this file relies on. It tries the
//! interleavings with up to five preemptions.
//!
//! Nothing that the other side wrote is believed: a position that it could not have reached is [`Broken`].

use std::sync::atomic::Ordering;

/// Records begin at multiples of this many bytes.
pub const RECORD_ALIGN: u64 = 8;
/// What stands before each frame: its length.
pub const RECORD_HEAD_BYTES: u64 = 8;

/// The words that both sides share. Each is written by one side alone, but for the two flags, which the other
/// side clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// How far has been written, in bytes: the writer's.
    Tail,
    /// How many frames have been written: the writer's.
    Written,
    /// How far has been read, in bytes: the reader's.
    Head,
    /// How many frames have been read: the reader's.
    Read,
    /// The reader waits for a frame: 1.
    Sleeps,
    /// The writer waits for room: for how many bytes.
    Waits,
}

/// Where the words lie: in shared memory, or in a model of it.
pub trait Words {
    /// Reads a word.
    fn load(&self, word: Word, order: Ordering) -> u64;
    /// Writes a word.
    fn store(&self, word: Word, value: u64, order: Ordering);
    /// Writes a word and reads what it was.
    fn swap(&self, word: Word, value: u64) -> u64;
    /// A sequentially consistent fence.
    fn fence(&self);
}

/// The other side wrote what makes no sense: nothing more is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The bytes that a frame takes in the ring.
pub const fn record_bytes(frame_bytes: u64) -> u64 {
    (RECORD_HEAD_BYTES + frame_bytes).next_multiple_of(RECORD_ALIGN)
}

/// The writer's side.
#[derive(Clone, Debug)]
pub struct Writing {
    capacity: u64,
    /// Where the next record goes.
    tail: u64,
    published: u64,
    frames: u64,
    published_frames: u64,
    /// The reader's position when it was looked at last.
    head: u64,
}

impl Writing {
    /// The writer of an empty ring.
    pub fn new(capacity: u64) -> Self {
        Writing { capacity, tail: 0, published: 0, frames: 0, published_frames: 0, head: 0 }
    }

    /// The successor of a writer that has gone: it goes on where that one stopped.
    ///
    /// # Errors
    /// Where the positions make no sense.
    pub fn resume(words: &impl Words, capacity: u64) -> Result<Self, Broken> {
        let (head, tail) =
            (words.load(Word::Head, Ordering::Acquire), words.load(Word::Tail, Ordering::Acquire));
        let frames = words.load(Word::Written, Ordering::Relaxed);
        if tail.wrapping_sub(head) > capacity || !(tail | head).is_multiple_of(RECORD_ALIGN) {
            return Err(Broken);
        }
        Ok(Writing { capacity, tail, published: tail, frames, published_frames: frames, head })
    }

    /// Where the next record goes.
    #[inline]
    pub fn place(&self) -> u64 {
        self.tail
    }

    /// Whether there is room for a record of so many bytes.
    ///
    /// # Errors
    /// Where the reader's position makes no sense.
    #[inline]
    pub fn has_room(&mut self, words: &impl Words, bytes: u64) -> Result<bool, Broken> {
        if self.capacity - self.tail.wrapping_sub(self.head) >= bytes {
            return Ok(true);
        }
        self.look(words)?;
        Ok(self.capacity - self.tail.wrapping_sub(self.head) >= bytes)
    }

    /// Counts a record of so many bytes in, for which there is room. The reader does not see it yet.
    #[inline]
    pub fn stage(&mut self, bytes: u64) {
        self.tail = self.tail.wrapping_add(bytes);
        self.frames = self.frames.wrapping_add(1);
    }

    /// Gives up what was staged and not published.
    pub fn discard(&mut self) {
        self.tail = self.published;
        self.frames = self.published_frames;
    }

    /// Shows the reader all that was staged; whether it has to be woken.
    #[inline]
    #[must_use]
    pub fn publish(&mut self, words: &impl Words) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.published_frames = self.frames;
        words.store(Word::Written, self.frames, Ordering::Relaxed);
        words.store(Word::Tail, self.tail, Ordering::Release);
        words.fence();
        words.load(Word::Sleeps, Ordering::Relaxed) != 0 && words.swap(Word::Sleeps, 0) != 0
    }

    /// Says that the writer is going to wait for room: for a record of so many bytes, and for a quarter of
    /// the ring where that is more, so that the two do not change places for each frame. `false` where there
    /// is room already, and nothing to wait for.
    ///
    /// # Errors
    /// Where the reader's position makes no sense.
    pub fn wait_for(&mut self, words: &impl Words, bytes: u64) -> Result<bool, Broken> {
        words.swap(Word::Waits, bytes.max(self.capacity / 4));
        words.fence();
        self.look(words)?;
        if self.capacity - self.tail.wrapping_sub(self.head) < bytes {
            return Ok(true);
        }
        words.swap(Word::Waits, 0);
        Ok(false)
    }

    /// How many of the published frames the reader has not given back: at most what the ring can hold,
    /// whatever the reader says.
    pub fn unread(&self, words: &impl Words) -> u64 {
        let unread = self.published_frames.wrapping_sub(words.load(Word::Read, Ordering::Acquire));
        unread.min(self.published.wrapping_sub(self.head) / RECORD_ALIGN)
    }

    fn look(&mut self, words: &impl Words) -> Result<(), Broken> {
        let head = words.load(Word::Head, Ordering::Acquire);
        let unread = self.published.wrapping_sub(head);
        if !head.is_multiple_of(RECORD_ALIGN) || unread > self.published.wrapping_sub(self.head) {
            return Err(Broken);
        }
        self.head = head;
        Ok(())
    }
}

/// The reader's side.
#[derive(Clone, Debug)]
pub struct Reading {
    capacity: u64,
    /// Where the next record begins.
    head: u64,
    released: u64,
    frames: u64,
    /// The writer's position when it was looked at last.
    tail: u64,
}

impl Reading {
    /// The reader of an empty ring.
    pub fn new(capacity: u64) -> Self {
        Reading { capacity, head: 0, released: 0, frames: 0, tail: 0 }
    }

    /// The successor of a reader that has gone: it goes on where that one stopped.
    ///
    /// # Errors
    /// Where the position makes no sense.
    pub fn resume(words: &impl Words, capacity: u64) -> Result<Self, Broken> {
        let head = words.load(Word::Head, Ordering::Acquire);
        let frames = words.load(Word::Read, Ordering::Relaxed);
        if !head.is_multiple_of(RECORD_ALIGN) {
            return Err(Broken);
        }
        Ok(Reading { capacity, head, released: head, frames, tail: head })
    }

    /// Where the next record begins.
    #[inline]
    pub fn place(&self) -> u64 {
        self.head
    }

    /// How many bytes may be read from [`Reading::place`] on.
    ///
    /// # Errors
    /// Where the writer's position makes no sense.
    #[inline]
    pub fn available(&mut self, words: &impl Words) -> Result<u64, Broken> {
        if self.head == self.tail {
            self.look(words)?;
        }
        Ok(self.tail.wrapping_sub(self.head))
    }

    /// Takes a record of so many bytes, of those available. The writer does not know yet.
    #[inline]
    pub fn take(&mut self, bytes: u64) {
        self.head = self.head.wrapping_add(bytes);
        self.frames = self.frames.wrapping_add(1);
    }

    /// How many bytes were taken and are not released.
    #[inline]
    pub fn unreleased(&self) -> u64 {
        self.head.wrapping_sub(self.released)
    }

    /// Gives the writer the room of all that was taken; whether it has to be woken.
    #[inline]
    #[must_use]
    pub fn release(&mut self, words: &impl Words) -> bool {
        if self.released == self.head {
            return false;
        }
        self.released = self.head;
        words.store(Word::Read, self.frames, Ordering::Relaxed);
        words.store(Word::Head, self.head, Ordering::Release);
        words.fence();
        let wanted = words.load(Word::Waits, Ordering::Relaxed);
        let room = self.capacity - self.tail.wrapping_sub(self.head);
        wanted != 0 && room >= wanted.min(self.capacity) && words.swap(Word::Waits, 0) != 0
    }

    /// Says that the reader is going to wait for a frame. `false` where there is one already, and nothing to
    /// wait for.
    ///
    /// # Errors
    /// Where the writer's position makes no sense.
    #[inline]
    pub fn sleep(&mut self, words: &impl Words) -> Result<bool, Broken> {
        words.swap(Word::Sleeps, 1);
        words.fence();
        if self.available(words)? == 0 {
            return Ok(true);
        }
        self.wake(words);
        Ok(false)
    }

    /// Says that the reader does not wait any more.
    #[inline]
    pub fn wake(&self, words: &impl Words) {
        words.swap(Word::Sleeps, 0);
    }

    fn look(&mut self, words: &impl Words) -> Result<(), Broken> {
        let tail = words.load(Word::Tail, Ordering::Acquire);
        if !tail.is_multiple_of(RECORD_ALIGN) || tail.wrapping_sub(self.head) > self.capacity {
            return Err(Broken);
        }
        self.tail = tail;
        Ok(())
    }
}

#[cfg(test)]
mod model;
