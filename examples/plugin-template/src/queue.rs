//! A message queue: the system calls, and nothing that knows of TEMPOS.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An open queue; closed when it is dropped. On Linux its descriptor is one like any other
/// (mq_overview(7)): it can be polled and duplicated.
pub struct Queue {
    descriptor: OwnedFd,
    message_bytes_max: usize,
}

impl Queue {
    /// Opens a queue that never blocks; makes it where it does not exist.
    pub fn open(name: &CStr, write: bool, messages: i64, message_bytes: i64) -> io::Result<Self> {
        let direction = if write { libc::O_WRONLY } else { libc::O_RDONLY };
        let flags = direction | libc::O_CREAT | libc::O_NONBLOCK | libc::O_CLOEXEC;
        // SAFETY: all zeroes is a value of the struct.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = messages;
        attributes.mq_msgsize = message_bytes;
        let mode: libc::mode_t = 0o660;
        // SAFETY: the name is a C string, the attributes are live.
        let descriptor = unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const attributes) };
        Queue::of(descriptor)
    }

    /// The queue behind a descriptor; an error where it is something else. Ours from here on, either way.
    pub fn of(descriptor: RawFd) -> io::Result<Self> {
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the caller hands the descriptor over.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: all zeroes is a value of the struct.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes are live.
        if unsafe { libc::mq_getattr(descriptor.as_raw_fd(), &raw mut attributes) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Queue { descriptor, message_bytes_max: attributes.mq_msgsize as usize })
    }

    /// The largest message that it takes. A buffer to receive into must be at least as large.
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// Takes the first message out; the answer is its length.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (data, null) = (buffer.as_mut_ptr().cast(), std::ptr::null_mut());
        // SAFETY: the buffer is live and of the length given.
        let length = unsafe { libc::mq_receive(self.number(), data, buffer.len(), null) };
        usize::try_from(length).map_err(|_| io::Error::last_os_error())
    }

    /// Puts a message in; one of a higher priority overtakes those of a lower one.
    pub fn send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        // SAFETY: the message is live and of the length given.
        let done = unsafe { libc::mq_send(self.number(), message.as_ptr().cast(), message.len(), priority) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// A duplicate of the descriptor, or -1.
    pub fn duplicate(&self) -> RawFd {
        // SAFETY: the call makes a new descriptor and touches nothing else.
        unsafe { libc::fcntl(self.number(), libc::F_DUPFD_CLOEXEC, 3) }
    }

    /// Takes a queue's name away: it ends when the last one closes it.
    pub fn remove(name: &CStr) {
        // SAFETY: the name is a C string.
        unsafe { libc::mq_unlink(name.as_ptr()) };
    }

    /// The descriptor's number.
    pub fn number(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}
