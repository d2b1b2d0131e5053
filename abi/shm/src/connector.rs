//! How the end that connects finds the end that listens, and finds it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::memory::Memory;
use crate::wire::{Address, Role, receive_greeting};

/// How often it is looked whether somebody listens.
pub const RECONNECT_EVERY: Duration = Duration::from_millis(100);

/// A connection that has just been made.
#[derive(Debug)]
pub struct Joined {
    /// The socket: bell and life line.
    pub socket: OwnedFd,
    /// The ring's memory.
    pub memory: Memory,
    /// The largest frame in bytes.
    pub frame_bytes_max: usize,
}

/// Looks for the end that listens. Nothing here waits or allocates while nobody says no.
#[derive(Debug)]
pub struct Connector {
    address: Address,
    role: Role,
    /// Connected, and not greeted yet.
    greeting: Option<OwnedFd>,
    tried_at: Option<Instant>,
}

impl Connector {
    /// One that looks for a name: a path, or `@NAME`.
    ///
    /// # Errors
    /// `InvalidInput` where that is no name.
    pub fn new(name: &Path, role: Role) -> io::Result<Self> {
        Ok(Connector { address: Address::new(name)?, role, greeting: None, tried_at: None })
    }

    /// The socket that the greeting is to come by; none where nobody listens.
    pub fn greeting(&self) -> Option<BorrowedFd<'_>> {
        self.greeting.as_ref().map(AsFd::as_fd)
    }

    /// The next look happens at once.
    pub fn hurry(&mut self) {
        self.tried_at = None;
    }

    /// Looks, at most every [`RECONNECT_EVERY`]; `None` where the greeting has not come yet.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where nobody listens, or whoever did went; [`Error::Refused`] where the node
    /// says no; else what the system says.
    pub fn look(&mut self) -> Result<Option<Joined>, Error> {
        if self.greeting.is_none() {
            if self.tried_at.is_some_and(|at| at.elapsed() < RECONNECT_EVERY) {
                return Err(Error::Disconnected);
            }
            self.tried_at = Some(Instant::now());
            self.greeting = Some(self.address.connect().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock => {
                    Error::Disconnected
                }
                _ => Error::System(error),
            })?);
        }
        let Some(socket) = &self.greeting else { return Ok(None) };
        let (greeting, memory) = match receive_greeting(socket.as_fd()) {
            Ok(None) => return Ok(None),
            Ok(Some(greeted)) => greeted,
            Err(error) => {
                self.greeting = None;
                return Err(match error.kind() {
                    io::ErrorKind::InvalidData => Error::Refused(error.to_string()),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Error::Disconnected,
                    _ => Error::System(error),
                });
            }
        };
        let Some(socket) = self.greeting.take() else { return Ok(None) };
        if greeting.role != self.role {
            let sentence = match greeting.role {
                Role::Producer => "an ingress channel listens there: producers connect to it, not consumers",
                Role::Consumer => "an egress channel listens there: consumers connect to it, not producers",
            };
            return Err(Error::Refused(String::from(sentence)));
        }
        if greeting.capacity == 0 {
            let sentence = "the channel has no place for another connection (its option connections)";
            return Err(Error::Refused(String::from(sentence)));
        }
        let memory = memory.ok_or_else(|| Error::Refused(String::from("the node handed over no memory")))?;
        let memory = Memory::adopt(memory, greeting.capacity).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::Refused(String::from(
                "the node handed over memory that is not sealed, or of another size",
            )),
            _ => Error::System(error),
        })?;
        let most = greeting.frame_bytes_max.min(greeting.capacity / 2 - 8) as usize;
        Ok(Some(Joined { socket, memory, frame_bytes_max: most }))
    }
}
