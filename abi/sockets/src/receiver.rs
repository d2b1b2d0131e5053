//! Frames from a socket into the host's slots: one by recvmsg(2), several by recvmmsg(2).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use tempos_abi::event::RxSlot;

/// Room for exactly one control message of 16 bytes: credentials or a time stamp. Descriptors that a
/// peer passes along (SCM_RIGHTS) then find no room, and the kernel does not install them here.
const CONTROL_WORDS: usize = 4;

/// What is wanted with each frame besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// Who sent it ([`Arrival::source`]).
    pub source: bool,
    /// The control message that the socket was asked for.
    pub control: bool,
}

/// Frames of one call. The tables of a call lie on the caller's stack, where they cost nothing while
/// nothing is received: a node may have thousands of sockets.
const ROWS_MAX: usize = 64;

/// Receives from a socket.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    batch_max: usize,
    want: Want,
}

/// The places that one row of a call needs beside its header.
struct Row {
    piece: libc::iovec,
    source: libc::sockaddr_storage,
    control: [u64; CONTROL_WORDS],
}

/// What a call is made with. A row is written before the kernel sees it, and no other row is looked at.
struct Table<const ROWS: usize> {
    headers: [MaybeUninit<libc::mmsghdr>; ROWS],
    rows: [MaybeUninit<Row>; ROWS],
}

impl Receiver {
    /// For calls of up to `batch_max` slots; more than 64 are taken as 64.
    pub fn new(batch_max: usize, want: Want) -> Self {
        Receiver { batch_max: batch_max.clamp(1, ROWS_MAX), want }
    }

    /// Fills slots with what is waiting, without waiting for more; `each` is called for every frame, in
    /// order. A frame that is longer than its slot is marked as truncated.
    ///
    /// # Errors
    /// The error of the system call, `WouldBlock` where nothing is waiting.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: &mut [RxSlot<'_>],
        each: impl FnMut(&mut RxSlot<'_>, Arrival<'_>),
    ) -> io::Result<usize> {
        match slots.len().min(self.batch_max) {
            0 => Ok(0),
            1 => self.receive_rows::<1>(socket, &mut slots[..1], each),
            rows => self.receive_rows::<ROWS_MAX>(socket, &mut slots[..rows], each),
        }
    }

    fn receive_rows<const ROWS: usize>(
        self,
        socket: BorrowedFd<'_>,
        slots: &mut [RxSlot<'_>],
        mut each: impl FnMut(&mut RxSlot<'_>, Arrival<'_>),
    ) -> io::Result<usize> {
        let mut table = Table::<ROWS> {
            headers: [MaybeUninit::uninit(); ROWS],
            rows: [const { MaybeUninit::uninit() }; ROWS],
        };
        for (row, slot) in slots.iter_mut().enumerate() {
            slot.reset();
            table.point(row, slot.buffer_mut(), self.want);
        }
        // MSG_TRUNC makes the answer the real length, also where the slot was too short (recv(2)).
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
        let fd = socket.as_raw_fd();
        let headers: *mut libc::mmsghdr = table.headers.as_mut_ptr().cast();
        let received = if ROWS == 1 {
            // SAFETY: `point` wrote the first header, which points at live memory of the lengths that it
            // gives.
            unsafe {
                let length = libc::recvmsg(fd, &raw mut (*headers).msg_hdr, flags);
                (*headers).msg_len = length.max(0) as u32;
                if length < 0 { -1 } else { 1 }
            }
        } else {
            // SAFETY: as above, for a header of each slot.
            unsafe { libc::recvmmsg(fd, headers, slots.len() as u32, flags as _, null_mut()) }
        };
        let Ok(received) = usize::try_from(received) else {
            return Err(io::Error::last_os_error());
        };
        for (slot, header) in slots.iter_mut().zip(&table.headers).take(received) {
            // SAFETY: `point` wrote a header for each slot.
            let header = unsafe { header.assume_init_ref() };
            slot.set_len(header.msg_len as usize);
            each(slot, Arrival { header: &header.msg_hdr });
        }
        Ok(received)
    }
}

impl<const ROWS: usize> Table<ROWS> {
    /// Writes a row's header: it points at the slot's buffer and at the row's own places.
    fn point(&mut self, row: usize, buffer: &mut [u8], want: Want) {
        let places = self.rows[row].as_mut_ptr();
        // SAFETY: all zeroes is a value of the struct.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        // SAFETY: the row is this table's own, and lives as long as the header that points at it. Its
        // source is read back only where its family was written, by the kernel or here.
        unsafe {
            (&raw mut (*places).piece)
                .write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
            header.msg_hdr.msg_iov = &raw mut (*places).piece;
            header.msg_hdr.msg_iovlen = 1;
            if want.source {
                (&raw mut (*places).source.ss_family).write(libc::AF_UNSPEC as libc::sa_family_t);
                header.msg_hdr.msg_name = (&raw mut (*places).source).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            }
            if want.control {
                (&raw mut (*places).control).write([0; CONTROL_WORDS]);
                header.msg_hdr.msg_control = (&raw mut (*places).control).cast();
                header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            }
        }
        self.headers[row].write(header);
    }
}

/// What came along with a frame.
pub struct Arrival<'a> {
    header: &'a libc::msghdr,
}

impl<'a> Arrival<'a> {
    /// What a header says that recvmsg(2) has just filled in.
    pub(crate) fn of(header: &'a libc::msghdr) -> Self {
        Arrival { header }
    }

    /// The internet address that it came from, where it was wanted and there is one.
    pub fn source(&self) -> Option<SocketAddr> {
        if self.header.msg_name.is_null()
            || (self.header.msg_namelen as usize) < size_of::<libc::sockaddr_in>()
        {
            return None;
        }
        // SAFETY: `point` set it to a place as large and as aligned as any address, which the kernel wrote.
        let family = unsafe { (*self.header.msg_name.cast::<libc::sockaddr_storage>()).ss_family };
        match i32::from(family) {
            libc::AF_INET => {
                // SAFETY: as above, and the family says which struct it is.
                let address = unsafe { *self.header.msg_name.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above, and the family says which struct it is.
                let address = unsafe { *self.header.msg_name.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr).to_canonical();
                Some(SocketAddr::new(ip, u16::from_be(address.sin6_port)))
            }
            _ => None,
        }
    }

    /// The sender's credentials (unix(7), SO_PASSCRED).
    pub fn credentials(&self) -> Option<libc::ucred> {
        // SAFETY: a message of this type holds this struct (unix(7)).
        unsafe { self.control(libc::SCM_CREDENTIALS) }
    }

    /// When the kernel took it in, nanoseconds since the epoch (socket(7), SO_TIMESTAMPNS).
    pub fn kernel_time_ns(&self) -> Option<u64> {
        // SAFETY: a message of this type holds this struct (socket(7)).
        let time: libc::timespec = unsafe { self.control(libc::SCM_TIMESTAMPNS) }?;
        Some((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
    }

    /// Bytes of each datagram of a bundle (udp(7), UDP_GRO); the last one may be shorter.
    pub fn segment_bytes(&self) -> Option<usize> {
        // SAFETY: a message of this type holds an int (udp(7)).
        let bytes: i32 = unsafe { self.control_of(libc::SOL_UDP, libc::UDP_GRO) }?;
        usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }

    /// What the socket's own level says.
    ///
    /// # Safety
    /// A message of that type holds a `T`.
    unsafe fn control<T: Copy>(&self, kind: i32) -> Option<T> {
        // SAFETY: see above.
        unsafe { self.control_of(libc::SOL_SOCKET, kind) }
    }

    /// The first control message of that level and type.
    ///
    /// # Safety
    /// A message of that type holds a `T`.
    unsafe fn control_of<T: Copy>(&self, level: i32, kind: i32) -> Option<T> {
        if self.header.msg_control.is_null() {
            return None;
        }
        // SAFETY: CMSG_LEN only computes.
        let needed = unsafe { libc::CMSG_LEN(size_of::<T>() as u32) } as usize;
        // SAFETY: the kernel wrote the control block and its length; CMSG_FIRSTHDR checks that a header fits.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(self.header) };
        // SAFETY: as above, and CMSG_NXTHDR does so for each that follows.
        while let Some(message) = unsafe { next.as_ref() } {
            if (message.cmsg_level, message.cmsg_type) == (level, kind) {
                let fits = message.cmsg_len >= needed && needed <= self.header.msg_controllen;
                // SAFETY: the message holds a `T`, as the caller says and its length confirms.
                return fits.then(|| unsafe { libc::CMSG_DATA(message).cast::<T>().read_unaligned() });
            }
            // SAFETY: as above.
            next = unsafe { libc::CMSG_NXTHDR(self.header, message) };
        }
        None
    }
}
