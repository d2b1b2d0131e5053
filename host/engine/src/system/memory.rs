//! Memory that real-time threads may touch: mapped, faulted in and locked when the wiring is applied.
//!
//! `mlockall(MCL_FUTURE)` is never used: in a process with a WebAssembly pool it would lock gigabytes.
//! What the lanes use is locked piece by piece instead.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mlock, mmap_anonymous, munlock, munmap};

const PAGE_BYTES: usize = 4096;

static LOCKED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes locked by this process through this module.
pub fn locked_bytes() -> u64 {
    LOCKED_BYTES.load(Ordering::Relaxed)
}

/// A private mapping, faulted in, and locked where the system allows it.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    locked: bool,
}

// SAFETY: the mapping belongs to no thread; whoever holds the region decides who touches it.
unsafe impl Send for Region {}
// SAFETY: the region itself only hands out its address.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes (rounded up to pages), zeroed, and touches every page; `lock` asks for mlock(2),
    /// whose refusal is not an error: see [`Region::is_locked`].
    ///
    /// # Errors
    /// What the system says (ENOMEM).
    pub fn new(len: usize, lock: bool) -> io::Result<Self> {
        let len = len.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: a new anonymous private mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        // SAFETY: the whole of the fresh mapping, which nobody else knows.
        let locked = lock && unsafe { mlock(start, len) }.is_ok();
        if locked {
            LOCKED_BYTES.fetch_add(len as u64, Ordering::Relaxed);
        }
        let region =
            Region { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len, locked };
        for at in (0..len).step_by(PAGE_BYTES) {
            // SAFETY: inside the mapping; volatile so that the write is really made.
            unsafe { region.start.as_ptr().add(at).write_volatile(0) };
        }
        Ok(region)
    }

    /// Its address.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a region has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the system locked it.
    pub fn is_locked(&self) -> bool {
        self.locked
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast();
        if self.locked {
            LOCKED_BYTES.fetch_sub(self.len as u64, Ordering::Relaxed);
            // SAFETY: mapped by `new`, and nobody holds it any more.
            let _ = unsafe { munlock(start, self.len) };
        }
        // SAFETY: as above.
        let _ = unsafe { munmap(start, self.len) };
    }
}

/// Touches every page of a heap object that was zeroed by the allocator, so that its first use by a
/// real-time thread faults nothing in, and locks it where asked; a refusal is not an error.
pub fn settle<T>(slice: &mut [T], lock: bool) {
    let (start, len) = (slice.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(slice));
    for at in (0..len).step_by(PAGE_BYTES).chain(len.checked_sub(1)) {
        // SAFETY: inside the exclusive slice; the byte is written back as it was.
        unsafe {
            let byte = start.add(at);
            byte.write_volatile(byte.read_volatile());
        }
    }
    if lock && len > 0 {
        // SAFETY: locking pages changes nothing in them.
        let _ = unsafe { mlock(start.cast(), len) };
    }
}

/// An empty vector with room for so many, every page of which is touched: no lane waits for one when it first
/// fills it.
pub fn room<T>(capacity: usize) -> Vec<T> {
    let mut room: Vec<T> = Vec::with_capacity(capacity);
    let spare = room.spare_capacity_mut();
    let (start, len) = (spare.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(spare));
    for at in (0..len).step_by(PAGE_BYTES).chain(len.checked_sub(1)) {
        // SAFETY: inside the exclusive slice, of which nothing is read before it is written.
        unsafe { start.add(at).write_volatile(0) };
    }
    room
}

/// Touches this thread's stack down to `bytes` below the caller and locks it where asked.
#[inline(never)]
pub fn settle_stack(lock: bool) {
    const STACK_BYTES: usize = 96 * 1024;
    let mut reach = std::mem::MaybeUninit::<[u8; STACK_BYTES]>::uninit();
    let start: *mut u8 = reach.as_mut_ptr().cast();
    for at in (0..STACK_BYTES).step_by(PAGE_BYTES) {
        // SAFETY: inside the local array, of which nothing is read before it is written.
        unsafe { start.add(at).write_volatile(0) };
    }
    if lock {
        // SAFETY: locking pages changes nothing in them.
        let _ = unsafe { mlock(start.cast(), STACK_BYTES) };
    }
    std::hint::black_box(start);
}

/// Faults in and locks code and data of the mapped files whose path `wanted` accepts, so that the first run
/// of a rarely used branch waits for no disk and takes no fault. Refusals are not errors. The answer is how
/// many bytes were locked.
pub fn lock_code(wanted: impl Fn(&str) -> bool) -> u64 {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return 0 };
    let mut locked = 0;
    for line in maps.lines() {
        let Some((from, to, path)) = mapping(line) else { continue };
        if wanted(path) && lock(from, to) {
            locked += (to - from) as u64;
        }
    }
    LOCKED_BYTES.fetch_max(locked, Ordering::Relaxed);
    locked
}

/// Faults in and locks what is mapped from one address to another.
fn lock(from: usize, to: usize) -> bool {
    // SAFETY: locking pages changes nothing in them; a mapping that went away meanwhile is ENOMEM.
    unsafe { mlock(from as *mut _, to - from) }.is_ok()
}

/// A private, readable mapping of proc_pid_maps(5): its bounds and its path.
fn mapping(line: &str) -> Option<(usize, usize, &str)> {
    // address perms offset dev inode path
    let mut fields = line.splitn(6, ' ');
    let (range, permissions, path) = (fields.next()?, fields.next()?, fields.nth(3)?.trim_start());
    if path.is_empty() || !permissions.starts_with('r') || permissions.contains('s') {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(from)?, address(to)?, path))
}

/// The resident set of this process in KiB (proc_pid_statm(5)).
pub fn resident_kib() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * (PAGE_BYTES as u64 / 1024))
}

/// The locked memory of this process in KiB (VmLck of proc_pid_status(5)).
pub fn locked_kib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmLck:"))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_and_shared_ones_left_alone() {
        let line = "7f3a10000000-7f3a10002000 r-xp 00001000 fe:00 1234   /usr/bin/temposd";
        assert_eq!(mapping(line), Some((0x7f3a_1000_0000, 0x7f3a_1000_2000, "/usr/bin/temposd")));
        assert_eq!(mapping("1000-2000 rw-s 00000000 00:01 1 /dev/shm/x"), None);
        assert_eq!(mapping("1000-2000 ---p 00000000 00:00 0"), None);
        assert_eq!(mapping("1000-2000 rw-p 00000000 00:00 0 "), None, "it has no path");
        let spaces = "1000-2000 rw-p 00000000 00:00 1                  /run/a node/x.so";
        assert_eq!(mapping(spaces), Some((0x1000, 0x2000, "/run/a node/x.so")));
    }

    #[test]
    fn the_code_of_a_file_is_locked_where_the_system_allows_it() {
        let program = std::env::current_exe().expect("a running test has a path").display().to_string();
        let before = locked_kib();
        let bytes = lock_code(|path| path == program);
        // Without the capability and a sufficient limit nothing can be locked, and that is no error.
        if bytes > 0 {
            assert!(locked_kib() > before);
        }
    }
}
