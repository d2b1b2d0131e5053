//! What an ingress channel hands to its successor, through a socket of their own that the host carries from
//! one to the other: the listener at once, and each connection with what was read of it and not taken when
//! the predecessor closes. So no byte of a stream is read twice or by the wrong one of the two.
//!
//! A record is [`HEAD_BYTES`] bytes (a mark, the bytes that follow, the bytes to be passed over) with one
//! descriptor (SCM_RIGHTS, unix(7)), then the bytes. Where frames are under way in segments it has another mark,
//! a word more for each stream, and their bytes come after the others.

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Socket, Type};

use crate::streams::STREAMS;

const MARK: u32 = 0x7463_7031;
const HEAD_BYTES: usize = 12;
const MARK_STREAMS: u32 = 0x7463_7032;
const LONG_HEAD_BYTES: usize = HEAD_BYTES + 4 * STREAMS;
/// The word of a stream that is not open.
const NOT_OPEN: u32 = u32::MAX;
/// The word of a stream whose frame is too large.
const TOO_LARGE: u32 = u32::MAX - 1;
/// Room for what all connections have read and not taken; the kernel may give less.
const BUFFER_BYTES: usize = 8 << 20;

/// Two connected sockets: one to keep, one to be carried.
///
/// # Errors
/// What the system says (EMFILE).
pub fn pair() -> io::Result<(Socket, Socket)> {
    let (near, far) = Socket::pair_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    tempos_sockets::resize_buffer(
        std::os::fd::AsFd::as_fd(&near),
        tempos_sockets::Buffer::Send,
        BUFFER_BYTES,
    )?;
    Ok((near, far))
}

/// Whether a descriptor that was handed over may be such a socket.
pub fn is_carrier(socket: &Socket) -> bool {
    socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
        && socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
        && socket.peer_addr().is_ok_and(|peer| peer.is_unnamed())
        && socket.set_nonblocking(true).is_ok()
}

/// What follows the head of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Bytes that were read and not taken.
    pub unread: usize,
    /// Bytes of the stream to be passed over after them.
    pub skip: usize,
    /// Of the frames in segments: as [`crate::streams::Streams::lengths`] has it.
    pub streams: [Option<Option<usize>>; STREAMS],
}

impl Parts {
    /// All bytes that follow.
    pub fn bytes(&self) -> usize {
        self.unread + self.streams.iter().flatten().flatten().sum::<usize>()
    }

    fn head(&self) -> ([u8; LONG_HEAD_BYTES], usize) {
        let in_segments = self.streams.iter().any(Option::is_some);
        let mut head = [0; LONG_HEAD_BYTES];
        let (mark, length) = if in_segments { (MARK_STREAMS, LONG_HEAD_BYTES) } else { (MARK, HEAD_BYTES) };
        let streams = self.streams.map(|stream| match stream {
            None => NOT_OPEN,
            Some(None) => TOO_LARGE,
            Some(Some(bytes)) => bytes as u32,
        });
        let words = [mark, self.unread as u32, self.skip as u32].into_iter().chain(streams);
        head.chunks_exact_mut(4)
            .zip(words)
            .for_each(|(part, word)| part.copy_from_slice(&word.to_be_bytes()));
        (head, length)
    }

    /// What a head says; `None` where it is none.
    fn read(head: &[u8]) -> Option<Self> {
        let word = |at: usize| head[at..at + 4].try_into().map_or(0, u32::from_be_bytes);
        let mut streams = [None; STREAMS];
        match (head.len() >= HEAD_BYTES).then(|| word(0))? {
            MARK if head.len() == HEAD_BYTES => {}
            MARK_STREAMS if head.len() == LONG_HEAD_BYTES => {
                streams = std::array::from_fn(|number| match word(HEAD_BYTES + 4 * number) {
                    NOT_OPEN => None,
                    TOO_LARGE => Some(None),
                    bytes => Some(Some(bytes as usize)),
                });
            }
            _ => return None,
        }
        Some(Parts { unread: word(4) as usize, skip: word(8) as usize, streams })
    }
}

/// Sends the head of a record and what was not taken; `wait` is asked to wait for room and says whether there
/// may be some. The streams' bytes are to follow by [`send_bytes`].
///
/// # Errors
/// What kept it from being sent whole; nothing may be sent after it.
pub fn send(
    near: &Socket,
    descriptor: BorrowedFd<'_>,
    parts: &Parts,
    unread: &[u8],
    mut wait: impl FnMut() -> bool,
) -> io::Result<()> {
    let (head, head_bytes) = parts.head();
    let mut control = [0u64; 4];
    let piece = IoSlice::new(&head[..head_bytes]);
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw const piece).cast_mut().cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control block has room for one descriptor and a header, and is aligned for it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(message).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
    }
    loop {
        // SAFETY: the header points at live memory of the lengths that it gives.
        let sent = unsafe { libc::sendmsg(near.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        match sent {
            // Shorter than the kernel's smallest buffer: it is taken whole or not at all.
            0.. => break,
            _ => may_go_on(&mut wait)?,
        }
    }
    send_bytes(near, unread, wait)
}

/// Sends bytes of a record.
///
/// # Errors
/// As [`send`].
pub fn send_bytes(near: &Socket, bytes: &[u8], mut wait: impl FnMut() -> bool) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        // SAFETY: the bytes are live for the call.
        let sent =
            unsafe { libc::send(near.as_raw_fd(), rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => at += sent,
            Err(_) => may_go_on(&mut wait)?,
        }
    }
    Ok(())
}

fn may_go_on(wait: &mut impl FnMut() -> bool) -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock && wait() { Ok(()) } else { Err(error) }
}

/// The head of a record.
pub struct Record {
    /// The listener, or a connection.
    pub descriptor: OwnedFd,
    /// What follows.
    pub parts: Parts,
}

/// Receives the head of the next record.
///
/// # Errors
/// `WouldBlock` where none is there yet; every other error is the end.
pub fn receive(carrier: &Socket) -> io::Result<Record> {
    let mut control = [0u64; 4];
    let mut head = [0u8; LONG_HEAD_BYTES];
    let mut piece = std::io::IoSliceMut::new(&mut head);
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw mut piece).cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let length = unsafe { libc::recvmsg(carrier.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel wrote the control block; a descriptor in it is new and belongs to nobody else.
    let descriptor = unsafe {
        libc::CMSG_FIRSTHDR(&raw const header).as_ref().and_then(|message| {
            let ours = (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
                && message.cmsg_len >= libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
            let read = || libc::CMSG_DATA(message).cast::<RawFd>().read_unaligned();
            ours.then(|| OwnedFd::from_raw_fd(read()))
        })
    };
    match (descriptor, Parts::read(&head[..length.min(head.len())])) {
        (Some(descriptor), Some(parts)) => Ok(Record { descriptor, parts }),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
