//! The end of a program that sends.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::link::{Link, Open, deadline};
use crate::ring::{Span, Writer};
use crate::wire::{self, Heard, Role};

/// Sends frames to an ingress channel of a node.
///
/// A frame is staged, by [`loan`](Self::loan) in place or by [`stage`](Self::stage) with a copy, and then
/// [published](Self::publish): all that was staged at once, with one wake-up at the most. [`send`](Self::send)
/// and [`try_send`](Self::try_send) do both.
///
/// Where the node goes, calls answer [`Error::Disconnected`] and look for it again; what it had not taken is
/// counted in [`lost`](Self::lost).
///
/// ```no_run
/// use tempos_shm::Producer;
///
/// let mut producer = Producer::connect("/run/press.shm")?;
/// producer.send(b"one", None)?;
/// // In place, without a copy; several at once.
/// for reading in [7u64, 8, 9] {
///     producer.loan(8)?.copy_from_slice(&reading.to_le_bytes());
/// }
/// producer.publish()?;
/// # Ok::<(), tempos_shm::Error>(())
/// ```
#[derive(Debug)]
pub struct Producer {
    link: Link<Writer>,
    lost: u64,
    /// Publications since it was looked whether the node is still there.
    unchecked: u32,
}

/// A node that dies while it is awake is not woken any more, so its end is looked for now and then.
const CHECK_EVERY: u32 = 256;

impl Producer {
    /// A producer for a channel that listens at a path, or at `@NAME`. It connects with the first call that
    /// needs it; the node need not be there yet.
    ///
    /// # Errors
    /// Where that is no name of a socket, or descriptors run out.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Producer { link: Link::new(path.as_ref(), Role::Producer, Writer::new)?, lost: 0, unchecked: 0 })
    }

    /// As [`new`](Self::new), and waits up to a second for the node.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where nobody serves there, [`Error::Refused`] where the node says no.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut producer = Self::new(path)?;
        producer.link.wait_until(deadline(Some(Duration::from_secs(1))))?;
        Ok(producer)
    }

    /// A frame of so many bytes, in the ring itself, to be written. It is staged: [`publish`](Self::publish)
    /// sends it, together with all others that are staged. What it holds before is of no meaning.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room now, [`Error::TooLarge`], [`Error::Disconnected`].
    pub fn loan(&mut self, length: usize) -> Result<&mut [u8], Error> {
        let span = self.place(length)?;
        let open = self.link.get()?;
        Ok(open.end.bytes_mut(span))
    }

    /// Stages a copy of a frame.
    ///
    /// # Errors
    /// As [`loan`](Self::loan).
    #[inline]
    pub fn stage(&mut self, frame: &[u8]) -> Result<(), Error> {
        let span = self.place(frame.len())?;
        let open = self.link.get()?;
        open.end.memory().copy_in(span.place, 0, frame);
        Ok(())
    }

    /// Sends all that is staged. Where that is much, the wake-up is one all the same.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where the node went meanwhile: what was staged is lost.
    #[inline]
    pub fn publish(&mut self) -> Result<(), Error> {
        let open = self.link.get()?;
        self.unchecked += 1;
        let stands = match open.end.publish() {
            true => wire::ring(open.socket.as_fd()),
            false if self.unchecked < CHECK_EVERY => true,
            false => {
                self.unchecked = 0;
                stands(open)
            }
        };
        if stands {
            return Ok(());
        }
        self.ended();
        Err(Error::Disconnected)
    }

    /// Gives up what is staged.
    pub fn discard(&mut self) {
        if let Ok(open) = self.link.get() {
            open.end.discard();
        }
    }

    /// Sends a frame, where there is room for it now.
    ///
    /// # Errors
    /// As [`loan`](Self::loan).
    #[inline]
    pub fn try_send(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.stage(frame)?;
        self.publish()
    }

    /// Sends a frame, waiting for room for as long as `timeout` says (`None`: without limit), and for the node
    /// likewise where it is not there.
    ///
    /// # Errors
    /// [`Error::Full`] where there was no room all that time, [`Error::Disconnected`] where the node was not
    /// there or went meanwhile: whether an earlier frame arrived is then unknown, and this one was not sent.
    pub fn send(&mut self, frame: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
        match self.try_send(frame) {
            Err(Error::Full | Error::Disconnected) => {}
            other => return other,
        }
        let until = deadline(timeout);
        loop {
            if self.link.open().is_none() {
                self.link.wait_until(until)?;
            }
            match self.try_send(frame) {
                Err(Error::Full) => {}
                other => return other,
            }
            if until.is_some_and(|until| std::time::Instant::now() >= until) {
                return Err(Error::Full);
            }
            if self.wants_room(frame.len())? && !self.link.wait(until) {
                self.ended();
                return Err(Error::Disconnected);
            }
        }
    }

    /// Sends as many of the frames as there is room for, all at once; how many.
    ///
    /// # Errors
    /// What kept the first from being sent.
    pub fn try_send_batch<F: AsRef<[u8]>>(
        &mut self,
        frames: impl IntoIterator<Item = F>,
    ) -> Result<usize, Error> {
        let mut staged = 0;
        for frame in frames {
            match self.stage(frame.as_ref()) {
                Ok(()) => staged += 1,
                Err(error) if staged == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.publish()?;
        Ok(staged)
    }

    /// For a poll loop of one's own, after [`Error::Full`]: whether there is something to wait for. With
    /// `true`, [`as_fd`](AsFd::as_fd) becomes readable when there is room for a frame of that length or the
    /// node went, and the next call takes note of it; with `false` there is room already.
    ///
    /// # Errors
    /// As [`loan`](Self::loan).
    pub fn wants_room(&mut self, length: usize) -> Result<bool, Error> {
        let open = self.link.get()?;
        // Quieted before it is waited for: what rings from now on is news.
        if wire::drain(open.socket.as_fd()) == Heard::End {
            self.ended();
            return Err(Error::Disconnected);
        }
        match open.end.wait_for(length) {
            Ok(waits) => Ok(waits),
            Err(broken) => {
                self.ended();
                Err(broken.into())
            }
        }
    }

    /// Whether it is connected, as far as it knows: what it sends to a node that has just ended is lost.
    pub fn is_connected(&self) -> bool {
        self.link.open().is_some()
    }

    /// How often it has connected.
    pub fn connections(&self) -> u64 {
        self.link.connections()
    }

    /// Frames that were published and that no node will take any more.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Frames that were published and that the node has not taken yet.
    pub fn unread(&self) -> u64 {
        self.link.open().map_or(0, |open| open.end.unread())
    }

    /// The largest frame in bytes; none while it is not connected.
    pub fn frame_bytes_max(&self) -> Option<usize> {
        self.link.open().map(|open| open.frame_bytes_max)
    }

    #[inline]
    fn place(&mut self, length: usize) -> Result<Span, Error> {
        let open = self.link.get()?;
        if length > open.frame_bytes_max {
            return Err(Error::TooLarge { length, most: open.frame_bytes_max });
        }
        match open.end.stage(length) {
            Ok(Some(span)) => Ok(span),
            Ok(None) => Err(self.full()),
            Err(broken) => {
                self.ended();
                Err(broken.into())
            }
        }
    }

    /// Full, or is nobody there any more who could take anything?
    #[cold]
    fn full(&mut self) -> Error {
        let gone = self.link.open().is_some_and(|open| !stands(open));
        if !gone {
            return Error::Full;
        }
        self.ended();
        Error::Disconnected
    }

    fn ended(&mut self) {
        if let Some(open) = self.link.end() {
            self.lost += open.end.unread();
        }
    }
}

/// Whether the node is still there.
fn stands<E>(open: &Open<E>) -> bool {
    wire::drain(open.socket.as_fd()) != Heard::End
}

/// Readable when something happened that [`Producer::wants_room`] asked for; the same descriptor for life.
impl AsFd for Producer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.set()
    }
}
