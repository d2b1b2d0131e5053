//! Frames from the host to a connected socket: one by send(2) or sendmsg(2), several by sendmmsg(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use tempos_abi::event::TxFrame;

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Frames of one call; see the receiver for where its tables lie.
const ROWS_MAX: usize = 64;

/// Sends to a connected socket.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    batch_max: usize,
}

impl Sender {
    /// For calls of up to `batch_max` frames; more than 64 are taken as 64.
    pub fn new(batch_max: usize) -> Self {
        Sender { batch_max: batch_max.clamp(1, ROWS_MAX) }
    }

    /// Sends frames from the first on, each as one message; the answer is how many were sent.
    ///
    /// # Errors
    /// What kept the first frame from being sent; `WouldBlock` where there is no room for it now.
    pub fn send(&mut self, socket: BorrowedFd<'_>, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let fd = socket.as_raw_fd();
        let sent = match frames {
            [] => return Ok(0),
            [frame] if frame.head.is_empty() => {
                // SAFETY: the payload is live for the call.
                let sent =
                    unsafe { libc::send(fd, frame.payload.as_ptr().cast(), frame.payload.len(), FLAGS) };
                if sent < 0 { -1 } else { 1 }
            }
            [frame] => {
                let mut pieces = pieces(frame);
                let header = header(&mut pieces);
                // SAFETY: the header points at the frame, which is live for the call.
                let sent = unsafe { libc::sendmsg(fd, &raw const header.msg_hdr, FLAGS) };
                if sent < 0 { -1 } else { 1 }
            }
            _ => send_rows(fd, &frames[..frames.len().min(self.batch_max)]),
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// One sendmmsg(2), with its tables on the stack. A row is written before the kernel sees it.
fn send_rows(fd: i32, frames: &[TxFrame<'_>]) -> i32 {
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); ROWS_MAX];
    let mut rows = [MaybeUninit::<[libc::iovec; 2]>::uninit(); ROWS_MAX];
    let mut count = 0;
    for (frame, (place, row)) in frames.iter().zip(headers.iter_mut().zip(&mut rows)) {
        place.write(header(row.write(pieces(frame))));
        count += 1;
    }
    // SAFETY: the first `count` headers are written; they point at rows and frames that outlive the call.
    unsafe { libc::sendmmsg(fd, headers.as_mut_ptr().cast(), count, FLAGS as _) }
}

/// A frame's two parts.
fn pieces(frame: &TxFrame<'_>) -> [libc::iovec; 2] {
    let piece = |part: &[u8]| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    [piece(frame.head.as_slice()), piece(frame.payload.as_slice())]
}

/// A header that points at the parts.
fn header(pieces: &mut [libc::iovec; 2]) -> libc::mmsghdr {
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = pieces.as_mut_ptr();
    header.msg_hdr.msg_iovlen = 2;
    header
}
