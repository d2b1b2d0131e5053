//! What a channel hands to its successor, listener and connections: descriptors (SCM_RIGHTS, unix(7)) that wait in
//! a socket of their own. That socket is the one descriptor that the host carries from one to the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use socket2::{Domain, Socket, Type};

/// Descriptors in one message; the kernel takes 253 (SCM_MAX_FD).
const PER_MESSAGE: usize = 128;
/// The longest magic.
const MAGIC_BYTES_MAX: usize = 31;
const CONTROL_WORDS: usize = (PER_MESSAGE * size_of::<RawFd>() + 32) / 8;

/// Packs descriptors under a magic, of 1 to 31 bytes, that says what they are; the answer is the descriptor to carry.
///
/// # Errors
/// What the system refused.
pub fn pack<'a>(magic: &[u8], descriptors: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<RawFd> {
    let (near, far) = Socket::pair_raw(Domain::UNIX, Type::SEQPACKET.nonblocking().cloexec(), None)?;
    let numbers: Vec<RawFd> = descriptors.map(|descriptor| descriptor.as_raw_fd()).collect();
    for part in numbers.chunks(PER_MESSAGE) {
        send(&near, magic, part)?;
    }
    Ok(OwnedFd::from(far).into_raw_fd())
}

/// Unpacks what [`pack`] packed; nothing where the socket is something else, or
/// the magic another.
pub fn unpack(magic: &[u8], carrier: &Socket) -> Vec<OwnedFd> {
    let mut all = Vec::new();
    let nameless = carrier.peer_addr().is_ok_and(|peer| peer.is_unnamed());
    if nameless && carrier.set_nonblocking(true).is_ok() {
        while let Ok(Some(part)) = receive(carrier, magic) {
            all.extend(part);
        }
    }
    all
}

fn send(carrier: &Socket, magic: &[u8], part: &[RawFd]) -> io::Result<()> {
    let mut control = [0u64; CONTROL_WORDS];
    let bytes = size_of_val(part) as u32;
    let piece = IoSlice::new(magic);
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw const piece).cast_mut().cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control block has room for PER_MESSAGE descriptors and a header, and is aligned for it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = libc::CMSG_LEN(bytes) as _;
        std::ptr::copy_nonoverlapping(part.as_ptr().cast(), libc::CMSG_DATA(message), bytes as usize);
    }
    // SAFETY: the header points at live memory of the lengths that it gives.
    let sent = unsafe { libc::sendmsg(carrier.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One message's descriptors; `None` at the end, or where the message is not of this kind.
fn receive(carrier: &Socket, magic: &[u8]) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut text = [0u8; MAGIC_BYTES_MAX + 1];
    let mut piece = IoSliceMut::new(&mut text);
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw mut piece).cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let length = unsafe { libc::recvmsg(carrier.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut descriptors = Vec::new();
    // SAFETY: the kernel wrote the control block; every descriptor in it is new and belongs to nobody else.
    unsafe {
        if let Some(message) = libc::CMSG_FIRSTHDR(&raw const header).as_ref()
            && (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
        {
            let bytes = message.cmsg_len - libc::CMSG_LEN(0) as usize;
            let first = libc::CMSG_DATA(message).cast::<RawFd>();
            for at in 0..bytes / size_of::<RawFd>() {
                descriptors.push(OwnedFd::from_raw_fd(first.add(at).read_unaligned()));
            }
        }
    }
    let ours = text.get(..length as usize) == Some(magic);
    Ok((ours && !descriptors.is_empty()).then_some(descriptors))
}
