//! Frames out by a seqpacket connection whose receiver acknowledges each: what became of every event is known.
//!
//! Nothing is given up while there is no receiver: the host hears that there is none. What is under way when
//! the connection ends, or when the receiver stops answering, is lost, so that another one may have it.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::PluginError;
use tempos_abi::adapter::{ChannelSpec, Receipt};
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::TxFrame;
use tempos_abi::std_types::RArc;
use tempos_sockets::{Heard, Poller, Window};

use crate::config::{Acknowledge, Config};
use crate::egress::{Egress, is_gone};

const SOCKET: u64 = 0;
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// How often the host is called back about room that it does not use: it may have nothing to send any more.
const CALLS_FOR_ROOM: u8 = 8;

/// A connection, what is under way on it, and what the host is called back for.
pub struct Acknowledged {
    egress: Egress,
    window: Window,
    poller: Poller,
    watched: bool,
    room_watched: bool,
    calls_for_room: u8,
    delay: Duration,
    retry_at: Instant,
    counters: RArc<ChannelCounters>,
}

impl Acknowledged {
    /// Connects, as [`Egress::open`]; it adopts nothing of a predecessor but a connection without a path, as
    /// what comes back belongs to whom it was sent by.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(
        spec: &ChannelSpec,
        config: Config,
        how: &Acknowledge,
        inherited: Option<Socket>,
    ) -> Result<Self, PluginError> {
        let inherited = inherited.filter(|_| config.name.is_none());
        let poller = Poller::new().map_err(|error| {
            let what = format!("unix channel \"{}\": cannot make an epoll descriptor", spec.name);
            PluginError::system(what, &error)
        })?;
        let mut channel = Acknowledged {
            egress: Egress::open(spec, config, inherited)?,
            window: Window::new(how.window, how.timeout),
            poller,
            watched: false,
            room_watched: false,
            calls_for_room: 0,
            delay: DELAY_MIN,
            retry_at: Instant::now(),
            counters: spec.counters.clone(),
        };
        channel.is_connected();
        channel.settle();
        Ok(channel)
    }

    pub fn readiness(&self) -> RawFd {
        self.poller.readiness()
    }

    pub fn address(&self) -> String {
        self.egress.address()
    }

    pub fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let sent = self.send(frames);
        let waits = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.calls_for_room = if waits { CALLS_FOR_ROOM } else { 0 };
        self.settle();
        sent
    }

    pub fn receipts(&mut self, receipts: &mut [Receipt]) -> usize {
        self.look();
        let mut filled = 0;
        loop {
            let (told, malformed) = self.window.receipts(&mut receipts[filled..]);
            filled += told;
            if malformed {
                self.speaks_something_else();
                continue;
            }
            if filled == receipts.len() || !self.is_connected() {
                break;
            }
            match self.window.hear(self.egress.socket()) {
                Heard::Some => self.delay = DELAY_MIN,
                Heard::Ended => self.lose(Duration::ZERO),
                Heard::Malformed => self.speaks_something_else(),
                Heard::Nothing if self.window.deadline().is_some_and(|when| when <= Instant::now()) => {
                    self.lose(self.delay);
                    self.delay = (self.delay * 2).min(DELAY_MAX);
                }
                Heard::Nothing => break,
            }
        }
        self.settle();
        filled
    }

    fn send(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        if !self.is_connected() {
            // What is under way is to be told first.
            return Err(match self.window.owes() {
                true => io::ErrorKind::WouldBlock.into(),
                false => io::Error::from_raw_os_error(libc::ENOTCONN),
            });
        }
        match self.window.room().min(frames.len()) {
            0 if frames.is_empty() => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => match self.egress.send_once(&frames[..room]) {
                Ok(sent) => {
                    let now = Instant::now();
                    frames[..sent].iter().for_each(|frame| self.window.sent(frame.event_id, now));
                    Ok(sent)
                }
                Err(error) if is_gone(&error) => {
                    self.lose(Duration::ZERO);
                    self.send(&[]).and(Err(io::ErrorKind::WouldBlock.into()))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Whether there is a connection, after an attempt where it is time for one.
    fn is_connected(&mut self) -> bool {
        if !self.egress.is_connected() && self.retry_at <= Instant::now() && !self.egress.reconnect() {
            self.retry_at = Instant::now() + self.delay;
            self.delay = (self.delay * 2).min(DELAY_MAX);
        }
        let connected = self.egress.is_connected();
        if connected && !self.watched {
            self.watched = self.poller.watch(self.egress.socket(), SOCKET).is_ok();
            self.room_watched = false;
        }
        connected
    }

    fn lose(&mut self, retry_in: Duration) {
        if std::mem::take(&mut self.watched) {
            self.poller.forget(self.egress.socket());
        }
        self.egress.disconnect();
        self.retry_at = Instant::now() + retry_in;
        self.window.lose();
    }

    fn speaks_something_else(&mut self) {
        self.counters.malformed.add(1);
        self.window.forget_heard();
        self.lose(self.delay);
    }

    /// Looks what the host was called back for.
    fn look(&mut self) {
        for at in 0..self.poller.look().unwrap_or(0) {
            match self.poller.token(at) {
                None => {}
                Some(token) if Poller::is_timer(token) => self.poller.rang(),
                Some(_) if self.poller.has_room(at) => {
                    self.calls_for_room = self.calls_for_room.saturating_sub(1);
                }
                Some(_) => {}
            }
        }
    }

    /// Says when the host is to call again.
    fn settle(&mut self) {
        let room = self.calls_for_room > 0 && self.window.room() > 0;
        if self.watched
            && self.room_watched != room
            && self.poller.watch_room(self.egress.socket(), SOCKET, room).is_ok()
        {
            self.room_watched = room;
        }
        self.poller.flag(self.window.owes());
        let retry_at = (!self.egress.is_connected()).then_some(self.retry_at);
        if let Some(when) = [self.window.deadline(), retry_at].into_iter().flatten().min() {
            self.poller.ring_by(when);
        }
    }
}
