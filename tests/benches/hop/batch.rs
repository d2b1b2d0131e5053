//! recvmmsg(2) and sendmmsg(2) with buffers of their own: for the bare forwarder of floods and for the
//! client that floods.

use std::net::SocketAddrV4;
use std::os::fd::RawFd;

/// Datagrams moved by one call.
pub const BATCH: usize = 32;
const BUFFER_BYTES: usize = 2048;

/// Buffers and headers. Boxed slices, so that the headers' pointers stay valid when this moves.
pub struct Batch {
    buffers: Box<[[u8; BUFFER_BYTES]]>,
    pieces: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    target: Box<libc::sockaddr_in>,
}

impl Batch {
    /// Empty buffers; what is sent goes to `target`.
    pub fn new(target: SocketAddrV4) -> Batch {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: target.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*target.ip()).to_be() },
            sin_zero: [0; 8],
        };
        let mut batch = Batch {
            buffers: vec![[0; BUFFER_BYTES]; BATCH].into(),
            // SAFETY: all zeroes are null pointers and lengths of zero.
            pieces: (0..BATCH).map(|_| unsafe { std::mem::zeroed() }).collect(),
            // SAFETY: as above.
            headers: (0..BATCH).map(|_| unsafe { std::mem::zeroed() }).collect(),
            target: Box::new(address),
        };
        for at in 0..BATCH {
            batch.pieces[at].iov_base = batch.buffers[at].as_mut_ptr().cast();
            batch.headers[at].msg_hdr.msg_iov = &raw mut batch.pieces[at];
            batch.headers[at].msg_hdr.msg_iovlen = 1;
        }
        batch
    }

    /// Receives up to a batch; 0 where nothing is there (with `MSG_DONTWAIT`) or the call failed.
    /// `MSG_WAITFORONE` waits for the first one only.
    pub fn receive(&mut self, socket: RawFd, flags: i32) -> usize {
        for at in 0..BATCH {
            self.pieces[at].iov_len = BUFFER_BYTES;
            self.headers[at].msg_hdr.msg_name = std::ptr::null_mut();
            self.headers[at].msg_hdr.msg_namelen = 0;
        }
        // SAFETY: the headers point at buffers of the lengths given, all of which this owns.
        let count = unsafe {
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut())
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// Sends on the first `count` datagrams as they were received; the answer is how many went.
    pub fn pass_on(&mut self, socket: RawFd, count: usize) -> usize {
        for at in 0..count {
            self.pieces[at].iov_len = self.headers[at].msg_len as usize;
        }
        self.send(socket, count)
    }

    /// Sends `count` datagrams of `bytes` bytes, whatever the buffers hold.
    pub fn send_filled(&mut self, socket: RawFd, count: usize, bytes: usize) -> usize {
        for at in 0..count {
            self.pieces[at].iov_len = bytes.min(BUFFER_BYTES);
        }
        self.send(socket, count)
    }

    fn send(&mut self, socket: RawFd, count: usize) -> usize {
        let count = count.min(BATCH);
        for header in &mut self.headers[..count] {
            header.msg_hdr.msg_name = (&raw mut *self.target).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        // SAFETY: the headers point at buffers and an address, all of which this owns.
        let sent = unsafe { libc::sendmmsg(socket, self.headers.as_mut_ptr(), count as u32, 0) };
        usize::try_from(sent).unwrap_or(0)
    }
}
