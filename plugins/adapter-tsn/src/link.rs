//! Frames to and from a socket, one by one: each has its own launch time.
//!
//! On Ethernet two bytes with the length stand before an event: the wire pads what is shorter than 46 bytes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use tempos_abi::event::{RxSlot, TxFrame};

/// Bytes of the length before an event on Ethernet.
pub const LENGTH_BYTES: usize = 2;
const CONTROL_WORDS: usize = 4;

/// Sends one frame: to an Ethernet address, or to where the socket is connected.
pub fn send(
    socket: BorrowedFd<'_>,
    frame: &TxFrame<'_>,
    to: Option<&libc::sockaddr_ll>,
    launch_ns: Option<u64>,
) -> io::Result<()> {
    let length = match u16::try_from(frame.len()) {
        Ok(length) => length.to_be_bytes(),
        Err(_) => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
    };
    let piece =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let pieces = [piece(&length), piece(frame.head.as_slice()), piece(frame.payload.as_slice())];
    let pieces = if to.is_some() { &pieces[..] } else { &pieces[1..] };
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_ptr().cast_mut();
    header.msg_iovlen = pieces.len() as _;
    if let Some(to) = to {
        header.msg_name = std::ptr::from_ref(to).cast_mut().cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    }
    if let Some(launch_ns) = launch_ns {
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control block has room for one message of 8 bytes and is aligned for it.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(8) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_TXTIME;
            (*message).cmsg_len = libc::CMSG_LEN(8) as _;
            libc::CMSG_DATA(message).cast::<u64>().write_unaligned(launch_ns);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at live memory of the lengths that it gives; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Fills one slot from an Ethernet frame; `false` where the frame was not one of these, or for somebody else.
pub fn receive(socket: BorrowedFd<'_>, slot: &mut RxSlot<'_>) -> io::Result<bool> {
    slot.reset();
    let mut length = [0u8; LENGTH_BYTES];
    let room = slot.buffer_mut();
    let mut pieces = [
        libc::iovec { iov_base: length.as_mut_ptr().cast(), iov_len: LENGTH_BYTES },
        libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() },
    ];
    // SAFETY: all zeroes is a value of both structs.
    let (mut from, mut header): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = pieces.len() as _;
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    let length = usize::from(u16::from_be_bytes(length));
    let ours =
        matches!(from.sll_pkttype, libc::PACKET_HOST | libc::PACKET_BROADCAST | libc::PACKET_MULTICAST);
    if !ours || read < LENGTH_BYTES + length {
        return Ok(false);
    }
    slot.set_len(length);
    // The sender's address, and a bit that keeps it from being 0.
    let bytes = from.sll_addr;
    slot.set_producer(u64::from_be_bytes([1, 0, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]));
    Ok(true)
}

/// Now, on the clock of launch times.
pub fn tai_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live; CLOCK_TAI is there since Linux 3.10.
    unsafe { libc::clock_gettime(libc::CLOCK_TAI, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
