//! The shared memory of one connection: a page of words, and the ring behind it.
//!
//! The ring is mapped twice, one after the other, so that a frame lies in one piece wherever it begins: an
//! offset below the ring's size and a length of at most that size always stay within the mapping, whatever the
//! other side wrote. The memory is a sealed memfd_create(2): it has no name, nobody can shorten it under
//! anybody's feet, and it is gone with the last process that has it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::protocol::{RECORD_HEAD_BYTES, Word, Words};

/// The words' page: the ring begins behind it.
const PAGE_BYTES: usize = 4096;
/// The smallest ring in bytes.
pub const CAPACITY_MIN: u64 = PAGE_BYTES as u64;
/// The largest ring in bytes.
pub const CAPACITY_MAX: u64 = 1 << 30;
/// Older headers do not have it: not executable, and sealed so (since Linux 6.3).
const MFD_NOEXEC_SEAL: u32 = 8;
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// A mapped ring and its descriptor.
#[derive(Debug)]
pub struct Memory {
    descriptor: OwnedFd,
    start: NonNull<u8>,
    capacity: u64,
    page_bytes: usize,
}

// SAFETY: the mapping belongs to this value; what is shared in it is accessed by atomics and by copies.
unsafe impl Send for Memory {}

impl Memory {
    /// Makes memory for a ring of so many bytes: a power of two of at least a page. All of it is there at
    /// once: nothing is faulted in later.
    ///
    /// # Errors
    /// What the system says (ENOMEM, EMFILE), or `InvalidInput` for another size.
    pub fn new(capacity: u64) -> io::Result<Self> {
        let bytes = file_bytes(capacity)?;
        let make = |flags| {
            // SAFETY: the name is a C string; the answer is a new descriptor or an error.
            let descriptor = unsafe { libc::memfd_create(c"tempos-shm".as_ptr(), flags) };
            // SAFETY: the descriptor was just made and belongs to nobody else.
            (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
        };
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let descriptor =
            make(flags | MFD_NOEXEC_SEAL).or_else(|| make(flags)).ok_or_else(io::Error::last_os_error)?;
        let fd = descriptor.as_raw_fd();
        // SAFETY: both calls only change the file, which is ours.
        let done = unsafe {
            libc::ftruncate(fd, bytes as libc::off_t) == 0
                && libc::fcntl(fd, libc::F_ADD_SEALS, SEALS | libc::F_SEAL_SEAL) == 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        Self::map(descriptor, capacity)
    }

    /// Maps memory that another process made.
    ///
    /// # Errors
    /// `InvalidData` where it is not sealed or not of that size; else what the system says.
    pub fn adopt(descriptor: OwnedFd, capacity: u64) -> io::Result<Self> {
        let bytes = file_bytes(capacity)?;
        let fd = descriptor.as_raw_fd();
        // SAFETY: all zeroes is a value of the struct.
        let mut file: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the struct is live; both calls only answer.
        let (seals, told) = unsafe { (libc::fcntl(fd, libc::F_GET_SEALS), libc::fstat(fd, &raw mut file)) };
        if seals < 0 || told != 0 {
            return Err(io::Error::last_os_error());
        }
        if seals & SEALS != SEALS || file.st_size != bytes as libc::off_t {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(descriptor, capacity)
    }

    fn map(descriptor: OwnedFd, capacity: u64) -> io::Result<Self> {
        let page_bytes = page_bytes();
        let (ring, nowhere) = (capacity as usize, null_mut());
        let reserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let whole = page_bytes + 2 * ring;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(nowhere, whole, libc::PROT_NONE, reserve, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Memory { descriptor, start, capacity, page_bytes };
        let fd = memory.descriptor.as_raw_fd();
        let (access, fixed) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: both mappings lie within the one just made, which nothing points into yet.
        let done = unsafe {
            let again = start.as_ptr().add(page_bytes + ring).cast();
            let (first, second) = (start.as_ptr().cast(), page_bytes as libc::off_t);
            libc::mmap(first, page_bytes + ring, access, fixed | libc::MAP_POPULATE, fd, 0)
                != libc::MAP_FAILED
                && libc::mmap(again, ring, access, fixed | libc::MAP_POPULATE, fd, second) != libc::MAP_FAILED
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is the mapping's. A child of fork(2) must not be a second writer; where the call
        // fails it is one at its own risk.
        unsafe { libc::madvise(start.as_ptr().cast(), whole, libc::MADV_DONTFORK) };
        Ok(memory)
    }

    /// Keeps all of it in memory; whether the system granted that (RLIMIT_MEMLOCK).
    pub fn lock(&self) -> bool {
        // SAFETY: the range is the mapping's.
        unsafe { libc::mlock(self.start.as_ptr().cast(), self.page_bytes + 2 * self.capacity as usize) == 0 }
    }

    /// The ring's size in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Its descriptor, to be handed to the other side.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Sets all words to nothing: a new connection begins.
    pub fn reset(&self) {
        for word in [Word::Sleeps, Word::Waits, Word::Written, Word::Read, Word::Tail, Word::Head] {
            self.store(word, 0, Ordering::SeqCst);
        }
    }

    /// The length that stands at a position.
    #[inline]
    pub fn length_at(&self, place: u64) -> u64 {
        // SAFETY: the head of a record lies within the mapping, and is aligned where `place` is.
        u64::from(unsafe { (*self.at(place & !7).cast::<AtomicU32>()).load(Ordering::Relaxed) })
    }

    /// Writes the length of a frame at a position.
    #[inline]
    pub fn set_length_at(&self, place: u64, length: u32) {
        // SAFETY: as above.
        unsafe { (*self.at(place & !7).cast::<AtomicU32>()).store(length, Ordering::Relaxed) };
    }

    /// Copies what stands behind the record's head at a position, as far as it fits.
    ///
    /// # Panics
    /// Where that is more than the ring holds.
    #[inline]
    pub fn copy_out(&self, place: u64, into: &mut [u8]) {
        assert!(into.len() as u64 <= self.capacity - RECORD_HEAD_BYTES, "longer than the ring");
        // SAFETY: both ranges are live and of that length, and the one belongs to the caller alone. The other
        // side may write meanwhile: then what is copied is nonsense, but no more than that.
        unsafe { std::ptr::copy_nonoverlapping(self.frame_at(place), into.as_mut_ptr(), into.len()) };
    }

    /// Copies bytes behind the record's head at a position, `offset` bytes into the frame.
    ///
    /// # Panics
    /// Where that is more than the ring holds.
    #[inline]
    pub fn copy_in(&self, place: u64, offset: usize, from: &[u8]) {
        let end = (offset as u64).saturating_add(from.len() as u64);
        assert!(end <= self.capacity - RECORD_HEAD_BYTES, "longer than the ring");
        // SAFETY: as above, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.frame_at(place).add(offset), from.len()) };
    }

    /// Where the frame of the record at a position begins. So many bytes as the ring holds, less the record's
    /// head, lie in one piece from there on.
    #[inline]
    pub fn frame_at(&self, place: u64) -> *mut u8 {
        // SAFETY: the head of a record lies within the mapping.
        unsafe { self.at(place & !7).add(RECORD_HEAD_BYTES as usize) }
    }

    #[inline]
    fn at(&self, place: u64) -> *mut u8 {
        let offset = self.page_bytes + (place & (self.capacity - 1)) as usize;
        // SAFETY: below the page and the ring, which is mapped twice behind it.
        unsafe { self.start.as_ptr().add(offset) }
    }

    #[inline]
    fn word(&self, word: Word) -> &AtomicU64 {
        // Each side's positions have two lines of their own, and each flag: a flag that nobody touches costs
        // nothing to look at.
        let offset = match word {
            Word::Tail => 128,
            Word::Written => 136,
            Word::Head => 256,
            Word::Read => 264,
            Word::Sleeps => 384,
            Word::Waits => 512,
        };
        // SAFETY: an aligned word within the first page.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

impl Words for Memory {
    #[inline]
    fn load(&self, word: Word, order: Ordering) -> u64 {
        self.word(word).load(order)
    }

    #[inline]
    fn store(&self, word: Word, value: u64, order: Ordering) {
        self.word(word).store(value, order);
    }

    #[inline]
    fn swap(&self, word: Word, value: u64) -> u64 {
        self.word(word).swap(value, Ordering::Relaxed)
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.page_bytes + 2 * self.capacity as usize) };
    }
}

fn page_bytes() -> usize {
    // SAFETY: the call only answers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(PAGE_BYTES).max(PAGE_BYTES)
}

fn file_bytes(capacity: u64) -> io::Result<u64> {
    let fits = (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) && capacity.is_power_of_two();
    let page = page_bytes() as u64;
    if fits && capacity >= page { Ok(page + capacity) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
