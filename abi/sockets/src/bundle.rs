//! Datagrams that arrive bundled (udp(7), UDP_GRO): one recvmsg(2) brings many of one sender, in one buffer, and
//! they are handed out one by one.
//!
//! What is read and not handed out yet is ready although the socket is not: the readiness is an epoll(7) set with
//! the socket and a flag in it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tempos_abi::event::RxSlot;

use crate::descriptor::set_option;
use crate::receiver::Arrival;

/// The most that one call brings.
const BUFFER_BYTES: usize = 65_536;
/// Calls for one batch: where nothing is bundled each of them brings one datagram.
const CALLS_MAX: usize = 16;
const CONTROL_WORDS: usize = 16;

/// Receives bundles from a UDP socket.
#[derive(Debug)]
pub struct BundleReceiver {
    buffer: Box<[u8]>,
    /// What is read and not handed out.
    start: usize,
    end: usize,
    /// Bytes of each datagram of the bundle; the last one may be shorter.
    segment: usize,
    source: Option<SocketAddr>,
    time_ns: Option<u64>,
    set: OwnedFd,
    flag: OwnedFd,
    flagged: bool,
}

impl BundleReceiver {
    /// For a socket, which takes bundles from then on.
    ///
    /// # Errors
    /// What the system says (ENOPROTOOPT before Linux 5.0, EMFILE).
    pub fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        set_option(socket, libc::IPPROTO_UDP, libc::UDP_GRO, 1)?;
        // SAFETY: each call makes a new descriptor and touches nothing else.
        let set = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        // SAFETY: as above.
        let flag = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        for descriptor in [socket, flag.as_fd()] {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: the event is live for the call.
            let done = unsafe {
                let fd = descriptor.as_raw_fd();
                libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(BundleReceiver {
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            segment: 0,
            source: None,
            time_ns: None,
            set,
            flag,
            flagged: false,
        })
    }

    /// The descriptor that is readable while anything waits, in the socket or here.
    pub fn readiness(&self) -> RawFd {
        self.set.as_raw_fd()
    }

    /// Fills slots with what is waiting, without waiting for more; `each` is called for every frame, in order,
    /// with its source and the kernel's time of receipt. A frame that is longer than its slot is marked as
    /// truncated.
    ///
    /// # Errors
    /// The error of the system call, `WouldBlock` where nothing is waiting.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: &mut [RxSlot<'_>],
        mut each: impl FnMut(&mut RxSlot<'_>, Option<SocketAddr>, Option<u64>),
    ) -> io::Result<usize> {
        let (mut filled, mut calls) = (0, 0);
        while filled < slots.len() {
            let empty = if self.start == self.end {
                if calls == CALLS_MAX {
                    break;
                }
                calls += 1;
                match self.read(socket) {
                    Ok(bytes) => bytes == 0,
                    Err(error) if filled == 0 => {
                        self.raise(false);
                        return Err(error);
                    }
                    Err(_) => break,
                }
            } else {
                false
            };
            let length = if empty { 0 } else { self.segment.clamp(1, self.end - self.start) };
            let frame = &self.buffer[self.start..self.start + length];
            let slot = &mut slots[filled];
            slot.reset();
            let room = slot.buffer_mut();
            let fits = length.min(room.len());
            room[..fits].copy_from_slice(&frame[..fits]);
            slot.set_len(length);
            each(slot, self.source, self.time_ns);
            self.start += length;
            filled += 1;
        }
        self.raise(self.start < self.end);
        Ok(filled)
    }

    /// Reads the next bundle; how many bytes it has.
    fn read(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut piece = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: all zeroes is a value of the struct.
        let mut source: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut control = [0u64; CONTROL_WORDS];
        // SAFETY: as above.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut source).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points at live memory of the lengths that it gives.
        let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        let bytes = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        let arrival = Arrival::of(&header);
        self.source = arrival.source();
        self.time_ns = arrival.kernel_time_ns();
        self.segment = arrival.segment_bytes().unwrap_or(bytes);
        (self.start, self.end) = (0, bytes);
        Ok(bytes)
    }

    /// Puts the flag up or down, where it is not so already.
    fn raise(&mut self, up: bool) {
        if self.flagged == up {
            return;
        }
        self.flagged = up;
        let mut count = 1u64;
        let (fd, count) = (self.flag.as_raw_fd(), (&raw mut count).cast::<libc::c_void>());
        // SAFETY: eight live bytes, as an eventfd takes and gives (eventfd(2)).
        unsafe {
            if up {
                libc::write(fd, count, 8);
            } else {
                libc::read(fd, count, 8);
            }
        }
    }
}

/// # Safety
/// The descriptor was just made and nobody else owns it; a negative one is an error.
unsafe fn owned(descriptor: i32) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
