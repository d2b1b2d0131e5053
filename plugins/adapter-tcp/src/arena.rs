//! The buffers of all connections in one mapping (mmap(2)): reserved when the channel is opened, and only
//! touched as far as connections use them. A connection that sends small frames costs one page or two.

use std::io;
use std::ptr::{NonNull, null_mut};

/// Rows of equal length.
pub struct Arena {
    start: NonNull<u8>,
    rows: usize,
    row_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Arena {}

impl Arena {
    /// Reserves `rows` buffers of `row_bytes`, all zeroes.
    ///
    /// # Errors
    /// What the system says (ENOMEM).
    pub fn new(rows: usize, row_bytes: usize) -> io::Result<Self> {
        let bytes = rows.checked_mul(row_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let start =
            unsafe { libc::mmap(null_mut(), bytes.max(1), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arena { start, rows, row_bytes })
    }

    /// The length of each buffer.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The buffer of a row.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&mut self, row: usize) -> &mut [u8] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row lies within the mapping, and `self` is borrowed for as long as the buffer is.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(row * self.row_bytes), self.row_bytes)
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), (self.rows * self.row_bytes).max(1)) };
    }
}
