//! What the kernel tells unasked: links that go up, down and away, disciplines that are set and deleted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::link::Link;
use crate::qdisc::Qdisc;
use crate::socket::{BUFFER_BYTES, open, receive};
use crate::wire::{HEADER_BYTES, Message, messages, u32_at};

/// RTNLGRP_LINK and RTNLGRP_TC (linux/rtnetlink.h), as bits of an address.
const GROUPS: u32 = 1 << 0 | 1 << 3;
/// Changes kept that were read and not asked for: one recv(2) brings far fewer.
const WAITING_MAX: usize = 1024;
/// Messages that one look at a bell takes; what is left rings the next time.
const LOOK_MAX: usize = 256;
/// struct nlmsghdr, and of struct ifinfomsg or struct tcmsg what leads to the link's number.
const HEAD_BYTES: usize = HEADER_BYTES + 8;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is as it says now; the kernel also tells what has not changed.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// Its number.
        index: i32,
        /// The name it had.
        name: String,
    },
    /// A discipline was set, or set again.
    Qdisc {
        /// The number of its link.
        index: i32,
        /// What it is now.
        qdisc: Qdisc,
    },
    /// A discipline was deleted.
    QdiscGone {
        /// The number of its link.
        index: i32,
        /// What it was.
        qdisc: Qdisc,
    },
    /// The kernel could not tell all: whatever is of interest must be read anew.
    Lost,
}

/// Hears the changes of all links of the namespace of the thread that made it.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    waiting: VecDeque<Change>,
}

impl LinkMonitor {
    /// Hears from now on. Needs no rights.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new() -> io::Result<Self> {
        let socket = open(GROUPS, libc::SOCK_NONBLOCK)?;
        Ok(LinkMonitor { socket, buffer: vec![0; BUFFER_BYTES].into(), waiting: VecDeque::new() })
    }

    /// The next change, without waiting: nothing where there is none yet.
    ///
    /// # Errors
    /// What the system says; the monitor is of no use then.
    pub fn next_change(&mut self) -> io::Result<Option<Change>> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(Some(change));
            }
            match receive(&self.socket, &mut self.buffer) {
                Ok(read) => {
                    for change in messages(read).filter_map(|message| change(&message)) {
                        if self.waiting.len() == WAITING_MAX {
                            self.waiting.clear();
                            self.waiting.push_back(Change::Lost);
                            break;
                        }
                        self.waiting.push_back(change);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Some(Change::Lost)),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LinkMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Rings at each change of one link and of its disciplines. It allocates nothing and reads no more than whose change it
/// is: for threads that have little time.
#[derive(Debug)]
pub struct ChangeBell {
    socket: OwnedFd,
    index: i32,
}

impl ChangeBell {
    /// Hears from now on, in the namespace of the thread that made it. Needs no rights.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new(index: i32) -> io::Result<Self> {
        Ok(ChangeBell { socket: open(GROUPS, libc::SOCK_NONBLOCK)?, index })
    }

    /// Whether it has rung since the last look, without waiting. What the kernel could not tell counts as a ring.
    ///
    /// # Errors
    /// What the system says; the bell is of no use then.
    pub fn has_rung(&self) -> io::Result<bool> {
        let mut rung = false;
        for _ in 0..LOOK_MAX {
            // The head of a message and of its body, which is cut off there.
            let mut head = [0; HEAD_BYTES];
            match receive(&self.socket, &mut head) {
                Ok(read) => rung |= index_of(read).is_some_and(|index| index == self.index),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => rung = true,
                Err(error) => return Err(error),
            }
        }
        Ok(rung)
    }
}

impl AsRawFd for ChangeBell {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The number of the link that a message is about: struct ifinfomsg and struct tcmsg have it at the same place. What the
/// kernel tells at once is about one link.
pub(crate) fn index_of(read: &[u8]) -> Option<i32> {
    u32_at(read, HEADER_BYTES + 4).map(u32::cast_signed)
}

/// `None`: nothing that is told here.
pub(crate) fn change(message: &Message<'_>) -> Option<Change> {
    match message.kind {
        libc::RTM_NEWLINK => Link::decode(message.body).map(Change::Link),
        libc::RTM_DELLINK => {
            Link::decode(message.body).map(|link| Change::LinkGone { index: link.index, name: link.name })
        }
        libc::RTM_NEWQDISC => {
            Qdisc::decode(message.body).map(|(index, qdisc)| Change::Qdisc { index, qdisc })
        }
        libc::RTM_DELQDISC => {
            Qdisc::decode(message.body).map(|(index, qdisc)| Change::QdiscGone { index, qdisc })
        }
        _ => None,
    }
}
