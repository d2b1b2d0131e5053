//! Bytes of frames that are not larger than a segment, on their way into the kernel: copied together, so that
//! many go with one system call, and kept where the kernel took a frame in part.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use tempos_abi::event::TxFrame;

use crate::frames::HEAD_BYTES;

/// What is copied together at most.
const TOGETHER_BYTES: usize = 128 << 10;
/// A larger frame goes by itself, straight from the host's memory.
const COPIED_BYTES_MAX: usize = 8 << 10;
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The buffer, and where the frame stands in it that was written in part.
pub struct Unsent {
    bytes: Box<[u8]>,
    start: usize,
    written: usize,
    end: usize,
    event_id: u64,
    /// Its last byte has left, and the host has not asked for it again.
    untold: bool,
}

impl Unsent {
    /// For frames of up to `frame_bytes_max`. Its memory is touched here.
    pub fn new(frame_bytes_max: usize) -> Self {
        let mut bytes = vec![0; HEAD_BYTES + frame_bytes_max.max(TOGETHER_BYTES)].into_boxed_slice();
        touch(&mut bytes);
        Unsent { bytes, start: 0, written: 0, end: 0, event_id: 0, untold: false }
    }

    /// Whether a frame is written in part.
    pub fn is_partial(&self) -> bool {
        self.written < self.end
    }

    /// Whether a frame is in it that the host has not been told of as done.
    pub fn is_held(&self) -> bool {
        self.is_partial() || self.untold
    }

    /// The connection has ended: the frame is sent again as a whole, by whoever still has it.
    pub fn clear(&mut self) {
        (self.start, self.written, self.end, self.untold) = (0, 0, 0, false);
    }

    /// Writes the rest of the frame that was written in part; its event where that was its end just now.
    ///
    /// # Errors
    /// The error of the system call, `WouldBlock` where some is left.
    pub fn finish(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
        if !self.is_partial() {
            return Ok(None);
        }
        while self.is_partial() {
            self.written += write(socket, &self.bytes[self.written..self.end])?;
        }
        self.untold = true;
        Ok(Some(self.event_id))
    }

    /// The event whose last byte left since the host last asked, and whether that is the frame it asks for.
    pub fn tell(&mut self, frame: Option<&TxFrame<'_>>) -> Option<(u64, bool)> {
        if !self.untold {
            return None;
        }
        let bytes = &self.bytes[self.start..self.end];
        let again = frame.is_some_and(|frame| frame.event_id == self.event_id && is_frame(bytes, frame));
        self.clear();
        Some((self.event_id, again))
    }

    /// Writes frames from the first on with one system call; how many left whole. Of one that left in part the
    /// rest is kept. None of them is larger than the buffer, and none is in it.
    ///
    /// # Errors
    /// The error of the system call, `WouldBlock` where not even the first left whole.
    pub fn write(&mut self, socket: BorrowedFd<'_>, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        if let Some(first) = frames.first()
            && first.len() > COPIED_BYTES_MAX
        {
            return self.write_one(socket, first);
        }
        let (mut end, mut count) = (0, 0);
        for frame in frames {
            let bytes = HEAD_BYTES + frame.len();
            if frame.len() > COPIED_BYTES_MAX || end + bytes > self.bytes.len() {
                break;
            }
            copy(frame, &mut self.bytes[end..end + bytes]);
            (end, count) = (end + bytes, count + 1);
        }
        let mut left = write(socket, &self.bytes[..end])?;
        let mut start = 0;
        for (done, frame) in frames[..count].iter().enumerate() {
            let bytes = HEAD_BYTES + frame.len();
            if left < bytes {
                if left > 0 {
                    (self.start, self.written, self.end) = (start, start + left, start + bytes);
                    self.event_id = frame.event_id;
                }
                // Nothing done: the kernel has no room for the rest of the first one.
                return if done > 0 { Ok(done) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            left -= bytes;
            start += bytes;
        }
        Ok(count)
    }

    /// One frame by sendmsg(2), without a copy unless it leaves in part.
    fn write_one(&mut self, socket: BorrowedFd<'_>, frame: &TxFrame<'_>) -> io::Result<usize> {
        let head = (frame.len() as u32).to_be_bytes();
        let written = write_pieces(socket, [&head, frame.head.as_slice(), frame.payload.as_slice()])?;
        let bytes = HEAD_BYTES + frame.len();
        if written == bytes {
            return Ok(1);
        }
        if written > 0 {
            copy(frame, &mut self.bytes[..bytes]);
            (self.start, self.written, self.end, self.event_id) = (0, written, bytes, frame.event_id);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Writes a frame and its length into a buffer of exactly that size.
fn copy(frame: &TxFrame<'_>, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(HEAD_BYTES);
    head.copy_from_slice(&(frame.len() as u32).to_be_bytes());
    let (first, second) = rest.split_at_mut(frame.head.len());
    first.copy_from_slice(frame.head.as_slice());
    second.copy_from_slice(frame.payload.as_slice());
}

/// Whether `bytes` are that frame, its length before it.
fn is_frame(bytes: &[u8], frame: &TxFrame<'_>) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return false };
    u32::from_be_bytes(*head) as usize == frame.len()
        && rest.len() == frame.len()
        && rest.starts_with(frame.head.as_slice())
        && rest.ends_with(frame.payload.as_slice())
}

/// Writes bytes as far as the kernel takes them.
fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are live for the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes pieces one after the other, as far as the kernel takes them.
///
/// # Errors
/// The error of the system call.
pub fn write_pieces<const N: usize>(socket: BorrowedFd<'_>, pieces: [&[u8]; N]) -> io::Result<usize> {
    let mut rows =
        pieces.map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = rows.as_mut_ptr();
    header.msg_iovlen = N;
    // SAFETY: the header points at the rows, which point at pieces that are live for the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Touches every page, so that the lane faults none in.
pub fn touch(bytes: &mut [u8]) {
    const PAGE_BYTES: usize = 4096;
    for byte in bytes.iter_mut().step_by(PAGE_BYTES) {
        // SAFETY: a live byte, written as it is.
        unsafe { std::ptr::from_mut(byte).write_volatile(0) };
    }
}
