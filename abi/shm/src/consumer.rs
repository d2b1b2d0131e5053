//! The end of a program that receives.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::link::{Link, deadline};
use crate::ring::{Reader, Span};
use crate::wire::{self, Heard, Role};

/// Receives frames from an egress channel of a node.
///
/// A frame is lent where it lies, without a copy, until the next call. The node has its room back when a later
/// call finds an eighth of the ring read, or nothing more to read, and with [`release`](Self::release) at once:
/// a program that dies has not taken what it had not released.
///
/// Where the node goes, what it had sent is still received; then calls answer [`Error::Disconnected`] and look
/// for it again.
///
/// ```no_run
/// use std::time::Duration;
/// use tempos_shm::Consumer;
///
/// let mut consumer = Consumer::connect("/run/alarms.shm")?;
/// while let Some(frame) = consumer.recv(Some(Duration::from_secs(1)))? {
///     println!("{} bytes", frame.len());
/// }
/// # Ok::<(), tempos_shm::Error>(())
/// ```
#[derive(Debug)]
pub struct Consumer {
    link: Link<Reader>,
    /// Looks in a row that found nothing.
    idle: u32,
}

/// A program that only ever looks, and never waits, finds out in so many looks that the node went.
const CHECK_EVERY: u32 = 64;

impl Consumer {
    /// A consumer for a channel that listens at a path, or at `@NAME`. It connects with the first call; the
    /// node need not be there yet.
    ///
    /// # Errors
    /// Where that is no name of a socket, or descriptors run out.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Consumer { link: Link::new(path.as_ref(), Role::Consumer, Reader::new)?, idle: 0 })
    }

    /// As [`new`](Self::new), and waits up to a second for the node.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where nobody serves there, [`Error::Refused`] where the node says no.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut consumer = Self::new(path)?;
        consumer.link.wait_until(deadline(Some(Duration::from_secs(1))))?;
        Ok(consumer)
    }

    /// The next frame, where there is one; it is taken with this call, and lent until the next.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where the node is not there, [`Error::Refused`] where it says no,
    /// [`Error::Broken`].
    pub fn try_recv(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.take()? {
            Some(span) => self.bytes(span).map(Some),
            None => Ok(None),
        }
    }

    /// The next frame; waits for it as long as `timeout` says (`None`: without limit), and for the node
    /// likewise where it is not there. `None` where none came.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where the node went meanwhile, once, or was not there at the end of the time;
    /// [`Error::Refused`], [`Error::Broken`].
    pub fn recv(&mut self, timeout: Option<Duration>) -> Result<Option<&[u8]>, Error> {
        let mut until = None;
        let span = loop {
            if self.link.open().is_none() {
                self.link.wait_until(*until.get_or_insert_with(|| deadline(timeout)))?;
            }
            if let Some(span) = self.take()? {
                break span;
            }
            if !self.wants_frames()? {
                continue;
            }
            let until = *until.get_or_insert_with(|| deadline(timeout));
            let stands = self.link.wait(until);
            if let Some(open) = self.link.open() {
                open.end.wake();
            }
            // What came before the end, or with the last moment, still counts.
            match self.take()? {
                Some(span) => break span,
                None if !stands => {
                    self.link.end();
                    return Err(Error::Disconnected);
                }
                None if until.is_some_and(|until| Instant::now() >= until) => return Ok(None),
                None => {}
            }
        };
        self.bytes(span).map(Some)
    }

    /// Takes up to `most` frames that are there, hands each to `each`, and releases them together; how many.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> Result<usize, Error> {
        let mut count = 0;
        while count < most {
            let Some(span) = self.take()? else { break };
            each(self.bytes(span)?);
            count += 1;
        }
        self.release();
        Ok(count)
    }

    /// The next frame, where there is one, without taking it: the next call sees it again.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn peek(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.look()? {
            Some(span) => self.bytes(span).map(Some),
            None => Ok(None),
        }
    }

    /// Gives the node the room of all frames that were taken.
    pub fn release(&mut self) {
        if self.link.open().is_some()
            && let Ok(open) = self.link.get()
            && open.end.release()
        {
            wire::ring(open.socket.as_fd());
        }
    }

    /// For a poll loop of one's own: whether there is something to wait for. With `true`,
    /// [`as_fd`](AsFd::as_fd) becomes readable when there is a frame or the node went; with `false` there is
    /// a frame already. Releases what was taken.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn wants_frames(&mut self) -> Result<bool, Error> {
        self.release();
        let open = self.link.get()?;
        // Quieted before it is waited for: what rings from now on is news.
        let heard = wire::drain(open.socket.as_fd());
        match open.end.sleep() {
            Ok(true) if heard == Heard::End => {
                self.link.end();
                Err(Error::Disconnected)
            }
            Ok(waits) => Ok(waits),
            Err(broken) => {
                self.link.end();
                Err(broken.into())
            }
        }
    }

    /// Whether it is connected, as far as it knows.
    pub fn is_connected(&self) -> bool {
        self.link.open().is_some()
    }

    /// How often it has connected.
    pub fn connections(&self) -> u64 {
        self.link.connections()
    }

    #[inline]
    fn take(&mut self) -> Result<Option<Span>, Error> {
        let open = self.link.get()?;
        if open.end.unreleased() >= open.end.memory().capacity() / 8 && open.end.release() {
            wire::ring(open.socket.as_fd());
        }
        let span = self.look()?;
        match span {
            Some(span) => {
                self.idle = 0;
                self.link.get()?.end.take(span);
            }
            None => {
                self.release();
                self.idle += 1;
                if self.idle >= CHECK_EVERY {
                    self.idle = 0;
                    return self.check();
                }
            }
        }
        Ok(span)
    }

    /// Whether the node is still there. What it sent last still counts.
    #[cold]
    fn check(&mut self) -> Result<Option<Span>, Error> {
        let ended = self.link.open().is_some_and(|open| wire::drain(open.socket.as_fd()) == Heard::End);
        match self.look()? {
            Some(span) => {
                self.link.get()?.end.take(span);
                Ok(Some(span))
            }
            None if ended => {
                self.link.end();
                Err(Error::Disconnected)
            }
            None => Ok(None),
        }
    }

    #[inline]
    fn look(&mut self) -> Result<Option<Span>, Error> {
        match self.link.get()?.end.peek() {
            Ok(span) => Ok(span),
            Err(broken) => {
                self.link.end();
                Err(broken.into())
            }
        }
    }

    fn bytes(&self, span: Span) -> Result<&[u8], Error> {
        let open = self.link.open().ok_or(Error::Disconnected)?;
        // SAFETY: the node does not change what it has published. One that does harms a program that trusts it.
        Ok(unsafe { open.end.bytes(span) })
    }
}

/// Readable when something happened that [`Consumer::wants_frames`] asked for; the same descriptor for life.
impl AsFd for Consumer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.set()
    }
}
