//! Frames out by one connection, to a receiver that may not be there yet, may go, and may come back.
//!
//! Small frames are written together, as many as the kernel takes. Of a frame that it takes in part, a copy is
//! kept until the rest is gone, so that the stream stays whole even where the host gives the frame up
//! meanwhile; the host hears that it is done when its last byte is. Frames larger than a segment are taken at
//! once and leave piece by piece, small ones between.
//!
//! While there is no receiver, frames are given up and counted. Not so with `acknowledge`: there the host hears
//! that there is none, and of each event that it is delivered or lost.

use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use tempos_abi::adapter::{ChannelSpec, ChannelTraits, Receipt};
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::TxFrame;
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_sockets::{Heard, Window};

use crate::config;
use crate::frames::FRAME_BYTES_MAX;
use crate::large::Large;
use crate::link::{Line, Link};
use crate::unsent::Unsent;

/// How often the host is called back about room that it does not use: it may have nothing to send any more.
const CALLS_FOR_ROOM: u8 = 8;

/// A connection that frames leave by.
pub struct Egress {
    link: Link,
    frame_bytes_max: usize,
    unsent: Unsent,
    large: Option<Large>,
    window: Option<Window>,
    /// How often the host is still called back about room for a frame that found none.
    calls_for_room: u8,
    /// A small frame found no room: it goes before the next segment.
    small_waits: bool,
    /// Nothing was asked for since frames were last sent: the socket was looked at just now.
    fresh: bool,
    counters: RArc<ChannelCounters>,
}

impl Egress {
    /// Connects. A receiver that is not there yet is no error.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: config::Egress) -> Result<Self, PluginError> {
        let frame_bytes_max = spec.event_bytes_max.min(FRAME_BYTES_MAX) as usize;
        let segment = config.segment.filter(|segment| *segment < frame_bytes_max);
        let window = config.acknowledge.as_ref().map(|how| Window::new(how.window, how.timeout));
        let link = Link::open(spec, config, segment.is_some() || window.is_some())?;
        let mut egress = Egress {
            link,
            frame_bytes_max,
            unsent: Unsent::new(segment.unwrap_or(frame_bytes_max)),
            large: segment.map(|segment| Large::new(frame_bytes_max, segment)),
            window,
            calls_for_room: 0,
            small_waits: false,
            fresh: false,
            counters: spec.counters.clone(),
        };
        egress.settle();
        Ok(egress)
    }

    pub fn readiness(&self) -> RawFd {
        self.link.readiness()
    }

    pub fn address(&self) -> String {
        self.link.address()
    }

    /// # Errors
    /// The sentence where an option of the endpoint was refused.
    pub fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        self.link.set_qos(qos)
    }

    pub fn traits(&self) -> ChannelTraits {
        let receipts = if self.window.is_some() { ChannelTraits::RECEIPTS } else { 0 };
        let flushes = if self.large.is_some() { ChannelTraits::FLUSHES } else { 0 };
        ChannelTraits(receipts | flushes)
    }

    pub fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let sent = self.send_all(frames);
        match &sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.calls_for_room = CALLS_FOR_ROOM;
                self.small_waits = frames.first().is_some_and(|frame| !self.is_large(frame));
            }
            _ => (self.calls_for_room, self.small_waits) = (0, false),
        }
        self.fresh = sent.is_ok();
        self.settle();
        sent
    }

    pub fn receipts(&mut self, receipts: &mut [Receipt]) -> usize {
        let room = self.link.look();
        self.called_for_room(room);
        self.line();
        let mut filled = 0;
        while let Some(window) = &mut self.window {
            let (told, malformed) = window.receipts(&mut receipts[filled..]);
            filled += told;
            if malformed {
                self.speaks_something_else();
                continue;
            }
            if filled == receipts.len() || self.line() != Line::Up {
                break;
            }
            match self.window.as_mut().map(|window| window.hear(self.link.socket())) {
                Some(Heard::Some) => self.link.is_good(),
                Some(Heard::Ended) => self.lose(Link::lose),
                Some(Heard::Malformed) => self.speaks_something_else(),
                _ if self.is_overdue() => self.lose(Link::fail),
                _ => break,
            }
        }
        self.settle();
        filled
    }

    pub fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.fresh) && self.large.as_ref().is_none_or(|large| large.count() == 0) {
            return Ok(());
        }
        if self.window.is_none() {
            let room = self.link.look();
            self.called_for_room(room);
        }
        let flushed = self.flush_one();
        self.settle();
        flushed
    }

    fn send_all(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let mut done = 0;
        // A connection that ends in this call is made anew once; what is then not sent waits or is given up.
        let mut attempts_left = 2;
        while done < frames.len() {
            let sent = match self.line() {
                Line::Up => self.send(&frames[done..]),
                Line::Coming => Err(io::ErrorKind::WouldBlock.into()),
                // What is under way is to be told first.
                Line::Down(_) if self.window.as_ref().is_some_and(Window::owes) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                // The host may have another receiver for them.
                Line::Down(_) => {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(io::Error::from_raw_os_error(libc::ENOTCONN))
                    };
                }
            };
            match sent {
                Ok(sent) => done += sent,
                Err(error) if is_of_the_frame(&error) || attempts_left == 0 => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(_) => {
                    attempts_left -= 1;
                    self.lose(Link::lose);
                }
            }
        }
        Ok(done)
    }

    /// Sends what is left of an earlier frame, then frames from the first on; how many are done.
    fn send(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        self.finish_small()?;
        if let Some((event_id, again)) = self.unsent.tell(frames.first()) {
            if let Some(window) = &mut self.window {
                window.told(event_id, again);
            }
            if again {
                return Ok(1);
            }
        }
        let Some(first) = frames.first() else { return Ok(0) };
        if first.len() > self.frame_bytes_max {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let room = self.room().min(frames.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.is_large(first) {
            let taken = self.large.as_mut().is_some_and(|large| large.take(first));
            return if taken { Ok(1) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        while let Some(large) = &self.large
            && large.is_partial()
        {
            self.write_large()?;
        }
        let whole = |frame: &&TxFrame<'_>| !self.is_large(frame) && frame.len() <= self.frame_bytes_max;
        let count = frames[..room].iter().take_while(whole).count();
        let done = self.unsent.write(self.link.socket(), &frames[..count])?;
        if let Some(window) = &mut self.window {
            let now = Instant::now();
            frames[..done].iter().for_each(|frame| window.sent(frame.event_id, now));
        }
        Ok(done)
    }

    /// Goes on with what is held: at most one segment is begun in a call, so that small frames get between.
    fn flush_one(&mut self) -> io::Result<()> {
        let line = self.line();
        let held = self.large.as_ref().map_or(0, Large::count);
        if held == 0 {
            return Ok(());
        }
        match line {
            Line::Up => {}
            Line::Coming => return Err(io::ErrorKind::WouldBlock.into()),
            Line::Down(_) => {
                // As every frame without a receiver; where receipts are wanted nothing is held any more.
                while self.large.as_mut().and_then(Large::pop).is_some() {
                    self.counters.send_errors.add(1);
                }
                return Ok(());
            }
        }
        match self.write_held() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.lose(Link::lose);
                self.flush_one()
            }
            Ok(()) if self.large.as_ref().is_some_and(|large| large.count() > 0) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other,
        }
    }

    fn write_held(&mut self) -> io::Result<()> {
        self.finish_small()?;
        let partial = self.large.as_ref().is_some_and(Large::is_partial);
        if partial {
            self.write_large()?;
        }
        if self.small_waits {
            // Its turn comes first, unless it does not come at all.
            self.small_waits = !self.link.look();
            return Ok(());
        }
        if partial { Ok(()) } else { self.write_large() }
    }

    fn write_large(&mut self) -> io::Result<()> {
        let Some(large) = &mut self.large else { return Ok(()) };
        let ended = large.write(self.link.socket())?;
        if let (Some(event_id), Some(window)) = (ended, &mut self.window) {
            window.sent(event_id, Instant::now());
        }
        Ok(())
    }

    fn finish_small(&mut self) -> io::Result<()> {
        let ended = self.unsent.finish(self.link.socket())?;
        if let (Some(event_id), Some(window)) = (ended, &mut self.window) {
            window.sent_untold(event_id, Instant::now());
        }
        Ok(())
    }

    /// How many frames may be taken now.
    fn room(&self) -> usize {
        let Some(window) = &self.window else { return usize::MAX };
        let held = self.large.as_ref().map_or(0, Large::count) + usize::from(self.unsent.is_held());
        window.room().saturating_sub(held)
    }

    fn is_large(&self, frame: &TxFrame<'_>) -> bool {
        self.large.as_ref().is_some_and(|large| frame.len() > large.segment_bytes())
    }

    /// When the receiver has been silent for too long.
    fn deadline(&self) -> Option<Instant> {
        let window = self.window.as_ref()?;
        let stuck = self.large.as_ref().and_then(Large::stuck_since).map(|since| since + window.timeout());
        [window.deadline(), stuck].into_iter().flatten().min()
    }

    fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn speaks_something_else(&mut self) {
        self.counters.malformed.add(1);
        if let Some(window) = &mut self.window {
            window.forget_heard();
        }
        self.lose(Link::fail);
    }

    /// The connection has ended, in the way given.
    fn lose(&mut self, how: fn(&mut Link)) {
        how(&mut self.link);
        self.line();
    }

    /// Where the connection stands, after what can be done for it now; what was of one that ended is seen to.
    fn line(&mut self) -> Line {
        let line = self.link.line();
        if self.link.take_ended() {
            self.let_go();
        }
        line
    }

    /// What is under way is lost, what is held begins anew.
    fn let_go(&mut self) {
        self.unsent.clear();
        let Some(large) = &mut self.large else {
            self.window.iter_mut().for_each(Window::lose);
            return;
        };
        large.rewind();
        if let Some(window) = &mut self.window {
            while let Some(event_id) = large.pop() {
                window.sent(event_id, Instant::now());
            }
            window.lose();
        }
    }

    fn called_for_room(&mut self, room: bool) {
        if room {
            self.calls_for_room = self.calls_for_room.saturating_sub(1);
        }
    }

    /// Says when the host is to call again.
    fn settle(&mut self) {
        if self.large.is_none() && self.window.is_none() {
            return;
        }
        let held = self.large.as_ref().is_some_and(|large| large.count() > 0);
        self.link.watch_room(held || self.calls_for_room > 0 && self.room() > 0);
        self.link.flag(self.window.as_ref().is_some_and(Window::owes));
        self.link.ring_by(self.deadline());
    }
}

/// Whether the error says nothing against the connection.
fn is_of_the_frame(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EMSGSIZE)
}
