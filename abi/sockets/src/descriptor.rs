//! What is asked of a socket's descriptor beyond what socket2 offers.

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// One of a socket's two kernel buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// What has arrived and was not read.
    Receive,
    /// What was sent and has not left.
    Send,
}

/// The place of the drop counter in the answer to SO_MEMINFO (linux/sock_diag.h: SK_MEMINFO_DROPS).
const MEMINFO_DROPS: usize = 8;
const MEMINFO_WORDS: usize = 9;

/// Sets an integer option (setsockopt(2)).
///
/// # Errors
/// The error of the system call.
pub fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the option's value is a live integer of the length given.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for a buffer of that many bytes, past the system's limit where the process may (CAP_NET_ADMIN,
/// socket(7): SO_RCVBUFFORCE); the answer is what the kernel gave.
///
/// # Errors
/// The error of the system call.
pub fn resize_buffer(socket: BorrowedFd<'_>, buffer: Buffer, bytes: usize) -> io::Result<usize> {
    let wanted = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2).min(c_int::MAX / 2);
    let (force, plain) = match buffer {
        Buffer::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        Buffer::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    };
    if set_option(socket, libc::SOL_SOCKET, force, wanted).is_err() {
        set_option(socket, libc::SOL_SOCKET, plain, wanted)?;
    }
    let given = option(socket, libc::SOL_SOCKET, plain)?;
    // The kernel reports twice what it was asked for: the other half is its own bookkeeping.
    Ok(given.max(0) as usize / 2)
}

/// How many frames the kernel has dropped at this socket since it was made; wraps at 2^32.
///
/// The counter is that of SO_RXQ_OVFL, but it can be read at any time: the control message only comes
/// with the next frame, so the drops at the end of a burst would stay unseen.
///
/// # Errors
/// The error of the system call.
pub fn kernel_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0u32; MEMINFO_WORDS];
    let bytes = size_of::<[u32; MEMINFO_WORDS]>();
    read_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, words.as_mut_ptr().cast(), bytes)?;
    Ok(words[MEMINFO_DROPS])
}

/// A duplicate that is closed on exec, as a bare number for whoever takes it over; -1 where there is none.
pub fn duplicate(socket: BorrowedFd<'_>) -> RawFd {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor and touches nothing else.
    let copy = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return -1;
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(copy) }.into_raw_fd()
}

/// Sets an option that is no integer (setsockopt(2)).
pub(crate) fn set_bytes(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the option's value is live and of the length given.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an integer option (getsockopt(2)).
pub(crate) fn option(socket: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    read_option(socket, level, option, (&raw mut value).cast(), size_of::<c_int>())?;
    Ok(value)
}

/// Reads an option of at most `N` bytes; what the kernel does not write is zero.
pub(crate) fn read_bytes<const N: usize>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
) -> io::Result<[u8; N]> {
    let mut value = [0; N];
    read_option(socket, level, option, value.as_mut_ptr().cast(), N)?;
    Ok(value)
}

fn read_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: *mut libc::c_void,
    bytes: usize,
) -> io::Result<()> {
    let mut length = bytes as libc::socklen_t;
    // SAFETY: every caller hands over a live buffer of `bytes` bytes.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
