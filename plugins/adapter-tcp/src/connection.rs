//! One sender's connection: its turn in a call, and what it is told.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use tempos_abi::event::RxSlot;
use tempos_sockets::{ACK, NAK};

use crate::frames::{Assembly, Step};
use crate::sockets::Peer;
use crate::streams::{Streams, Whole};

/// How often one connection is read in its turn: a full buffer may have more behind it.
const READS_PER_TURN: usize = 2;
/// The most slots of one call.
const SLOTS_MAX: usize = 128;

/// An open connection. Its buffers are kept by the channel.
pub struct Connection {
    pub socket: OwnedFd,
    pub peer: Peer,
    /// It is the only one of the channel's life that has this number.
    pub number: u64,
    pub assembly: Assembly,
    pub streams: Streams,
    /// Since when a frame is incomplete.
    pub incomplete_since: Option<Instant>,
    /// When it came, where no frame of it has come yet.
    pub silent_since: Option<Instant>,
    /// It is in the round of those that have something.
    pub waits: bool,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sender has closed it, or it broke, between frames.
    Closed,
    /// It ended within a frame, or what came is no frame.
    Malformed,
    /// The sender does not read what it is told.
    Deaf,
}

/// What came of a turn.
pub struct Turn {
    /// Slots that were filled.
    pub filled: usize,
    /// Whether more is read already.
    pub has_more: bool,
    /// Whether it is to be closed.
    pub end: Option<End>,
}

/// What a connection's turn works with.
pub struct Buffers<'a> {
    /// What was read and not taken.
    pub unread: &'a mut [u8],
    /// The places of frames in segments.
    pub streams: &'a mut [u8],
}

impl Connection {
    /// Fills slots from the first on, with frames of up to `most` bytes, and tells the sender of each where
    /// `acknowledge` says so.
    pub fn turn(
        &mut self,
        buffers: Buffers<'_>,
        most: usize,
        slots: &mut [RxSlot<'_>],
        acknowledge: bool,
    ) -> Turn {
        let Buffers { unread, streams } = buffers;
        let slots_most = slots.len().min(SLOTS_MAX);
        let mut verdicts = [ACK; SLOTS_MAX];
        let (mut filled, mut reads_left, mut end) = (0, READS_PER_TURN, None);
        while filled < slots_most && end.is_none() {
            let whole = match self.assembly.next(unread, most) {
                Step::Frame(frame) => Whole::Frame(frame),
                Step::TooLarge => Whole::TooLarge,
                Step::Segment(number, Some(bytes), more) => {
                    match self.streams.add(number, bytes, more, streams) {
                        Some(whole) => whole,
                        None => continue,
                    }
                }
                Step::Segment(number, None, more) => match self.streams.pass_over(number, more) {
                    true => Whole::TooLarge,
                    false => continue,
                },
                Step::Broken => {
                    end = Some(End::Malformed);
                    break;
                }
                Step::Incomplete if reads_left == 0 => break,
                Step::Incomplete => {
                    let room = self.assembly.room(unread);
                    let wanted = room.len();
                    match read(&self.socket, room) {
                        // What ends within a frame was cut.
                        Ok(0) if self.is_between_frames() => end = Some(End::Closed),
                        Ok(0) => end = Some(End::Malformed),
                        Ok(bytes) => {
                            self.assembly.read(bytes);
                            reads_left = if bytes < wanted { 0 } else { reads_left - 1 };
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(_) => end = Some(End::Closed),
                    }
                    continue;
                }
            };
            let slot = &mut slots[filled];
            match whole {
                Whole::Frame(frame) => fill(slot, frame),
                Whole::TooLarge => {
                    fill(slot, &[]);
                    slot.flags |= RxSlot::TRUNCATED;
                    verdicts[filled] = NAK;
                }
            }
            slot.set_producer(self.number);
            self.peer.write(slot);
            filled += 1;
        }
        if filled > 0 {
            self.silent_since = None;
        }
        if acknowledge && filled > 0 && !tell(&self.socket, &verdicts[..filled]) {
            end = end.or(Some(End::Deaf));
        }
        let has_more = end.is_none() && self.assembly.has_more(unread, most);
        Turn { filled, has_more, end }
    }

    /// Whether the last frame ended with the last byte.
    pub fn is_between_frames(&self) -> bool {
        self.assembly.is_between_frames() && self.streams.is_idle()
    }
}

fn fill(slot: &mut RxSlot<'_>, frame: &[u8]) {
    slot.reset();
    let buffer = slot.buffer_mut();
    let fits = frame.len().min(buffer.len());
    buffer[..fits].copy_from_slice(&frame[..fits]);
    slot.set_len(frame.len());
}

/// Reads what is there, without waiting.
///
/// # Errors
/// The error of the system call.
pub fn read(socket: &impl AsRawFd, room: &mut [u8]) -> io::Result<usize> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: the buffer is live and of the length given.
    let read = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), flags) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Tells the sender of its frames; `false` where it does not take it. It has a bounded number of frames that it
/// was not told of, so where the kernel's buffer is full it does not read at all. One that has gone is seen when
/// it is read.
fn tell(socket: &OwnedFd, verdicts: &[u8]) -> bool {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the bytes are live for the call.
    let sent = unsafe { libc::send(fd, verdicts.as_ptr().cast(), verdicts.len(), flags) };
    match usize::try_from(sent) {
        Ok(sent) => sent == verdicts.len(),
        Err(_) => io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock,
    }
}
