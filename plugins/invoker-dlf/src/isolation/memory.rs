//! The memory that a node and a function's process share: one event there, one answer back.
//!
//! Its size is sealed: the process cannot make it smaller under the node's feet. What the process writes is
//! copied, checked and never believed.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Topic, attributes and payload of an event together. Pages that no event has needed cost nothing.
pub const EVENT_BYTES_MAX: usize = 64 << 20;
/// A function's sentence.
pub const SENTENCE_BYTES_MAX: usize = 256;
const HEADER_BYTES: usize = 4096;
/// What is faulted in when the memory is made: the largest datagram fits.
const POPULATED_BYTES: usize = 128 << 10;

/// A word on a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Word(pub AtomicU32);

/// What stands before the two areas.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// The number of the event to be worked on; the node counts it up and wakes the process.
    pub request: Word,
    /// The number of the event that was worked on; the process writes it and wakes the node.
    pub response: Word,
    /// The number of the event that was begun: one that was not can be given to another process.
    pub begun: AtomicU32,
    /// The event.
    pub level: AtomicU32,
    /// Its id.
    pub id: AtomicU64,
    /// When it came to be.
    pub source_time_ns: AtomicU64,
    /// When it arrived.
    pub arrival_ns: AtomicU64,
    /// When it is late.
    pub deadline_ns: AtomicU64,
    /// When the invocation must be over.
    pub call_deadline_ns: AtomicU64,
    /// Lengths of topic, attributes and payload, which lie in the event's area in this order.
    pub lengths: [AtomicU32; 3],
    /// The number of `Outcome`.
    pub outcome: AtomicI32,
    /// The output's length, [`NO_OUTPUT`] where there is none.
    pub output_bytes: AtomicU32,
    /// The sentence's length.
    pub sentence_bytes: AtomicU32,
    /// Written by the process while it dies: the signal, and whether memory had been refused just before.
    pub signal: AtomicU32,
    /// See [`Header::signal`].
    pub starved: AtomicU32,
    sentence: [u8; SENTENCE_BYTES_MAX],
}

/// [`Header::output_bytes`] where the function made no output.
pub const NO_OUTPUT: u32 = u32::MAX;

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);

/// The memory, mapped.
#[derive(Debug)]
pub struct Memory {
    start: *mut u8,
    bytes: usize,
    output_bytes_max: usize,
}

// SAFETY: the header is made of atomics; of the areas each side touches one at a time, as the two numbers say.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// New memory, for outputs of that size, and its descriptor (close-on-exec).
    ///
    /// # Errors
    /// As memfd_create(2), ftruncate(2), fcntl(2), mmap(2).
    pub fn new(output_bytes_max: u32) -> io::Result<(Self, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string.
        let number = unsafe { libc::memfd_create(c"tempos-function".as_ptr(), flags) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(number) };
        let bytes = whole(output_bytes_max);
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: calls on a descriptor that is ours.
        let done = unsafe {
            libc::ftruncate(number, bytes as libc::off_t) == 0
                && libc::fcntl(number, libc::F_ADD_SEALS, seals) == 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        Ok((Memory::map(file.as_fd(), output_bytes_max)?, file))
    }

    /// Maps what [`Memory::new`] made on the other side.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map(file: BorrowedFd<'_>, output_bytes_max: u32) -> io::Result<Self> {
        let bytes = whole(output_bytes_max);
        // SAFETY: a new mapping of a descriptor that is live.
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = Memory { start: start.cast(), bytes, output_bytes_max: output_bytes_max as usize };
        // The first event is to wait for no page. An old kernel refuses; then they come as they are used.
        for (at, room) in [(0, bytes), (HEADER_BYTES + EVENT_BYTES_MAX, output_area(output_bytes_max))] {
            // SAFETY: both ranges lie within the mapping.
            unsafe {
                let at: *mut c_void = memory.start.add(at).cast();
                libc::madvise(at, room.min(POPULATED_BYTES), libc::MADV_POPULATE_WRITE);
            }
        }
        Ok(memory)
    }

    /// What stands before the areas.
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping begins with a header, whose bytes are valid whatever they are, and lives as
        // long as `self`.
        unsafe { &*self.start.cast::<Header>() }
    }

    /// The area of the event.
    pub fn event(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.start.add(HEADER_BYTES) }
    }

    /// The area of the output.
    pub fn output(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.start.add(HEADER_BYTES + EVENT_BYTES_MAX) }
    }

    /// The most bytes of an output.
    pub fn output_bytes_max(&self) -> usize {
        self.output_bytes_max
    }

    /// Puts a sentence down, cut where it does not fit.
    pub fn write_sentence(&self, text: &[u8]) {
        let bytes = text.len().min(SENTENCE_BYTES_MAX);
        // SAFETY: the source is live, the target has room for as many; the other side looks at it later.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.sentence(), bytes) };
        self.header().sentence_bytes.store(bytes as u32, Ordering::Relaxed);
    }

    /// Takes the sentence out; its length.
    pub fn read_sentence(&self, into: &mut [u8; SENTENCE_BYTES_MAX]) -> usize {
        let bytes = self.header().sentence_bytes.load(Ordering::Relaxed) as usize;
        // SAFETY: both have as much room.
        unsafe { std::ptr::copy_nonoverlapping(self.sentence(), into.as_mut_ptr(), SENTENCE_BYTES_MAX) };
        bytes.min(SENTENCE_BYTES_MAX)
    }

    fn sentence(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.start.add(std::mem::offset_of!(Header, sentence)) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing points into it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

fn output_area(output_bytes_max: u32) -> usize {
    (output_bytes_max as usize).max(1).next_multiple_of(4096)
}

fn whole(output_bytes_max: u32) -> usize {
    HEADER_BYTES + EVENT_BYTES_MAX + output_area(output_bytes_max)
}
