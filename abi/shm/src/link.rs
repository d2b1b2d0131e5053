//! What a producer and a consumer share: the connection that comes, goes and comes again, and the descriptor
//! that a program may wait on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::connector::{Connector, Joined, RECONNECT_EVERY};
use crate::error::Error;
use crate::memory::Memory;
use crate::wire::{self, Heard, Role};

/// An end of a connection, `E` being the ring's.
#[derive(Debug)]
pub struct Link<E> {
    connector: Connector,
    open: Option<Open<E>>,
    /// Readable where the socket is; the same for life.
    set: OwnedFd,
    make: fn(Memory) -> E,
    connections: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Open<E> {
    pub socket: OwnedFd,
    pub end: E,
    pub frame_bytes_max: usize,
}

impl<E> Link<E> {
    pub fn new(name: &Path, role: Role, make: fn(Memory) -> E) -> Result<Self, Error> {
        // SAFETY: the call makes a new descriptor and touches nothing else.
        let set = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if set < 0 {
            return Err(Error::System(io::Error::last_os_error()));
        }
        Ok(Link {
            connector: Connector::new(name, role).map_err(Error::System)?,
            open: None,
            // SAFETY: the descriptor was just made and belongs to nobody else.
            set: unsafe { OwnedFd::from_raw_fd(set) },
            make,
            connections: 0,
        })
    }

    pub fn set(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }

    pub fn connections(&self) -> u64 {
        self.connections
    }

    pub fn open(&self) -> Option<&Open<E>> {
        self.open.as_ref()
    }

    /// The connection; where there is none it is looked for.
    #[inline]
    pub fn get(&mut self) -> Result<&mut Open<E>, Error> {
        if self.open.is_none() {
            self.look()?;
        }
        self.open.as_mut().ok_or(Error::Disconnected)
    }

    /// Ends the connection: the next call looks for another.
    pub fn end(&mut self) -> Option<Open<E>> {
        self.open.take()
    }

    /// Waits for a connection.
    pub fn wait_until(&mut self, until: Option<Instant>) -> Result<(), Error> {
        loop {
            match self.get() {
                Ok(_) => return Ok(()),
                Err(Error::Disconnected) => {}
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            let left = until.map_or(RECONNECT_EVERY, |until| until.saturating_duration_since(now));
            if left.is_zero() {
                return Err(Error::Disconnected);
            }
            let pause = left.min(RECONNECT_EVERY);
            match self.connector.greeting() {
                Some(socket) => drop(wire::wait(socket, milliseconds(Some(pause)))),
                None => std::thread::sleep(pause),
            }
        }
    }

    /// Waits for the bell, and quiets it. The answer is whether the connection still stands.
    pub fn wait(&mut self, until: Option<Instant>) -> bool {
        let Some(open) = &self.open else { return false };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        !wire::wait(open.socket.as_fd(), milliseconds(left)) || wire::drain(open.socket.as_fd()) != Heard::End
    }

    fn look(&mut self) -> Result<(), Error> {
        let Some(Joined { socket, memory, frame_bytes_max }) = self.connector.look()? else {
            return Err(Error::Disconnected);
        };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (set, fd) = (self.set.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: the event is live for the call. The socket leaves the set when it is closed.
        if unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) } != 0 {
            return Err(Error::System(io::Error::last_os_error()));
        }
        self.connections += 1;
        self.open = Some(Open { socket, end: (self.make)(memory), frame_bytes_max });
        Ok(())
    }
}

/// For poll(2): rounded up, so that a wait never ends too early.
fn milliseconds(left: Option<Duration>) -> i32 {
    left.map_or(-1, |left| i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

/// When a wait that begins now ends.
pub fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
