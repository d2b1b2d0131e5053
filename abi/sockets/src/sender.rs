//! Frames from the host to a connected socket: one by send(2) or sendmsg(2), several by sendmmsg(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use tempos_abi::event::TxFrame;

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The arrays that the system calls need, made once.
pub struct Sender {
    headers: Box<[libc::mmsghdr]>,
    pieces: Box<[[libc::iovec; 2]]>,
}

// SAFETY: the pointers in the arrays are set anew in every call and mean nothing between calls.
unsafe impl Send for Sender {}

impl Sender {
    /// Makes the arrays for calls of up to `batch_max` frames.
    pub fn new(batch_max: usize) -> Self {
        let rows = batch_max.max(1);
        // SAFETY: all zeroes is a value of the struct.
        let header = unsafe { std::mem::zeroed() };
        let piece = libc::iovec { iov_base: null_mut(), iov_len: 0 };
        Sender {
            headers: vec![header; rows].into_boxed_slice(),
            pieces: vec![[piece; 2]; rows].into_boxed_slice(),
        }
    }

    /// Sends frames from the first on, each as one message; the answer is how many were sent.
    ///
    /// # Errors
    /// What kept the first frame from being sent; `WouldBlock` where there is no room for it now.
    pub fn send(&mut self, socket: BorrowedFd<'_>, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let rows = frames.len().min(self.headers.len());
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
                self.point(0, frame);
                // SAFETY: `point` made the first header point at the frame, which is live for the call.
                let sent = unsafe { libc::sendmsg(fd, &raw const self.headers[0].msg_hdr, FLAGS) };
                if sent < 0 { -1 } else { 1 }
            }
            _ => {
                for (row, frame) in frames[..rows].iter().enumerate() {
                    self.point(row, frame);
                }
                // SAFETY: as above, for the first `rows` headers.
                unsafe { libc::sendmmsg(fd, self.headers.as_mut_ptr(), rows as u32, FLAGS as _) }
            }
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Points a row's header at a frame's two parts.
    fn point(&mut self, row: usize, frame: &TxFrame<'_>) {
        let piece =
            |part: &[u8]| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        self.pieces[row] = [piece(frame.head.as_slice()), piece(frame.payload.as_slice())];
        let header = &mut self.headers[row].msg_hdr;
        header.msg_iov = self.pieces[row].as_mut_ptr();
        header.msg_iovlen = 2;
    }
}
