//! The socket of a connection: who listens, the one message that begins it, and the bell.
//!
//! A node listens at a stream socket (unix(7)). To whoever connects it says what the channel is for and how
//! large the ring is, and hands over the memory. From then on the socket carries nothing but single bytes,
//! each of which says "look again", and its end is the end of the connection.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What every greeting begins with.
pub const MAGIC: [u8; 8] = *b"TMPOSSHM";
/// The version of memory and messages.
pub const VERSION: u32 = 1;
/// The bytes of a greeting.
pub const GREETING_BYTES: usize = 64;
/// Bytes of a bell that are taken at once.
const DRAIN_BYTES: usize = 64;
const CONTROL_WORDS: usize = 4;

/// What the one that connects does with the ring.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes: the other side is an ingress channel.
    Producer = 1,
    /// It reads: the other side is an egress channel.
    Consumer = 2,
}

/// The message that begins a connection, from the one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What the other side is to do.
    pub role: Role,
    /// The ring in bytes; 0: there is no place for another connection.
    pub capacity: u64,
    /// The largest frame in bytes.
    pub frame_bytes_max: u64,
}

impl Greeting {
    /// As it crosses the socket.
    pub fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut bytes = [0; GREETING_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.role as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.frame_bytes_max.to_le_bytes());
        bytes
    }

    /// Takes a message apart.
    ///
    /// # Errors
    /// One sentence.
    pub fn decode(bytes: &[u8; GREETING_BYTES]) -> Result<Self, String> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        if bytes[..8] != MAGIC {
            return Err(String::from("what listens there is not a shm channel of a TEMPOS node"));
        }
        let (version, role) = (word(8) as u32, (word(8) >> 32) as u32);
        if version != VERSION {
            return Err(format!("the node speaks version {version}, this program {VERSION}"));
        }
        let role = match role {
            1 => Role::Producer,
            2 => Role::Consumer,
            other => return Err(format!("the node's greeting names the role {other}, which does not exist")),
        };
        Ok(Greeting { role, capacity: word(16), frame_bytes_max: word(24) })
    }
}

/// The address of a socket: a path, or `@NAME` in the abstract namespace.
#[derive(Clone, Copy)]
pub struct Address {
    address: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address")
    }
}

impl Address {
    /// Reads a name.
    ///
    /// # Errors
    /// `InvalidInput` where it is empty, holds a NUL byte, or has more than 107 bytes.
    pub fn new(name: &Path) -> io::Result<Self> {
        let name = name.as_os_str().as_bytes();
        // SAFETY: all zeroes is a value of the struct.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        if name.is_empty() || name == b"@" || name.contains(&0) || name.len() >= address.sun_path.len() {
            let sentence = format!(
                "{:?} is no name of a socket: a path of 1 to 107 bytes, or @NAME",
                OsStr::from_bytes(name)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        let is_abstract = name[0] == b'@';
        if is_abstract {
            address.sun_path[0] = 0;
        }
        let length = size_of::<libc::sa_family_t>() + name.len() + usize::from(!is_abstract);
        Ok(Address { address, length: length as libc::socklen_t })
    }

    /// Connects, without waiting.
    ///
    /// # Errors
    /// `ConnectionRefused` or `NotFound` where nobody listens; else what the system says.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call makes a new descriptor and touches nothing else.
        let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: the address is live and of that length.
        let done =
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const self.address).cast(), self.length) };
        if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }
}

/// What a look at a socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// The bell: it is quiet now.
    Bell,
    /// The end of the connection.
    End,
}

/// Rings the other side's bell; whether it is still there. A bell that is full is ringing already.
#[inline]
pub fn ring(socket: BorrowedFd<'_>) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: one live byte.
    let sent = unsafe { libc::send(socket.as_raw_fd(), [1u8].as_ptr().cast(), 1, flags) };
    sent == 1 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Quiets the own bell, without waiting. Descriptors that the other side passes along do not stay.
#[inline]
pub fn drain(socket: BorrowedFd<'_>) -> Heard {
    let mut bytes = [0u8; DRAIN_BYTES];
    // SAFETY: the buffer is live and of that length. A plain recv(2) has no room for descriptors.
    let got =
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), DRAIN_BYTES, libc::MSG_DONTWAIT) };
    match got {
        1.. => Heard::Bell,
        0 => Heard::End,
        _ => match io::Error::last_os_error().kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
            _ => Heard::End,
        },
    }
}

/// Waits until the socket has something, or the time is up (milliseconds; -1: no limit).
pub fn wait(socket: BorrowedFd<'_>, timeout_ms: i32) -> bool {
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, timeout_ms) > 0 }
}

/// Sends a greeting, with the memory where there is some.
///
/// # Errors
/// What the system says.
pub fn greet(socket: BorrowedFd<'_>, greeting: &Greeting, memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = greeting.encode();
    let mut control = [0u64; CONTROL_WORDS];
    let piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw const piece).cast_mut();
    header.msg_iovlen = 1;
    if let Some(memory) = memory {
        const BYTES: u32 = size_of::<RawFd>() as u32;
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control block has room for one descriptor and a header, and is aligned for it.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(BYTES) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(BYTES) as _;
            libc::CMSG_DATA(message).cast::<RawFd>().write_unaligned(memory.as_raw_fd());
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    match usize::try_from(sent) {
        Ok(GREETING_BYTES) => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives a greeting, without waiting; `None` where it has not come yet.
///
/// # Errors
/// `UnexpectedEof` at the end of the connection, `InvalidData` for anything but a greeting, with a sentence;
/// else what the system says.
pub fn receive_greeting(socket: BorrowedFd<'_>) -> io::Result<Option<(Greeting, Option<OwnedFd>)>> {
    let mut bytes = [0u8; GREETING_BYTES];
    let mut control = [0u64; CONTROL_WORDS];
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    if got < 0 {
        let error = io::Error::last_os_error();
        let later = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
        return if later { Ok(None) } else { Err(error) };
    }
    let mut memory = None;
    // SAFETY: the kernel wrote the control block, which has room for at most two descriptors; each of them is
    // new and belongs to nobody else.
    unsafe {
        if let Some(message) = libc::CMSG_FIRSTHDR(&raw const header).as_ref()
            && (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
        {
            let first = libc::CMSG_DATA(message).cast::<RawFd>();
            let count = (message.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
            for at in 0..count {
                memory = Some(OwnedFd::from_raw_fd(first.add(at).read_unaligned()));
            }
        }
    }
    match got as usize {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        GREETING_BYTES => match Greeting::decode(&bytes) {
            Ok(greeting) => Ok(Some((greeting, memory))),
            Err(sentence) => Err(io::Error::new(io::ErrorKind::InvalidData, sentence)),
        },
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what listens there does not greet as a node does",
        )),
    }
}
