//! Frames out, to one consumer that may not be there yet, may go, and may come back.
//!
//! The channel's descriptor is readable when the host is to call [`Egress::flush`]: there is room again, or a
//! consumer came or went (`ChannelTraits::FLUSHES`).

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::TxFrame;
use tempos_abi::std_types::RArc;
use tempos_shm::connector::{Connector, Joined};
use tempos_shm::ring::Writer;
use tempos_shm::wire::{Heard, Role, drain, ring};
use tempos_sockets::Poller;

use crate::config::{Config, End};
use crate::listener::{Accepted, Arrival, Listener, pack};

const LISTENER: u64 = 1 << 32;
const CONNECTION: u64 = 0;
/// How many calls may go by without a look whether the consumer is still there.
const LOOK_EVERY: u32 = 64;
/// How long frames wait for the greeting of a node that was connected to.
const GREETING: Duration = Duration::from_secs(1);

/// A consumer.
struct Connection {
    socket: OwnedFd,
    user: u32,
    writer: Writer,
    frame_bytes_max: usize,
}

/// Where the consumer comes from.
enum Source {
    Listener(Listener),
    Connector(Connector, Option<Instant>),
}

/// A channel to one consumer.
pub struct Egress {
    poller: Poller,
    connection: Option<Connection>,
    /// What a predecessor handed over: taken in with the first call, for it may write on until then.
    adopted: Vec<Arrival>,
    calls: u32,
    /// The length of the frame that room is waited for.
    waits_for: Option<usize>,
    /// Something was sent since the last flush: that one is the host's habit, not an answer to the descriptor.
    sent: bool,
    /// The flag is up: there is room after all.
    told: bool,
    counters: RArc<ChannelCounters>,
    address: String,
    source: Source,
}

impl Egress {
    /// Adopts what the predecessor had, or begins anew. A consumer that is not there yet is no error.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: &Config, inherited: Option<Socket>) -> Result<Self, PluginError> {
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("shm channel \"{}\": {what}", spec.name), error)
        };
        let mut poller = Poller::new().map_err(|error| system("cannot make an epoll descriptor", &error))?;
        let (source, adopted, address) = match &config.end {
            End::Listens(name) => {
                let (listener, adopted) = Listener::open(spec, config, name, Role::Consumer, inherited)?;
                let watched = poller.watch(listener.socket(), LISTENER);
                watched.map_err(|error| system("cannot watch the listener", &error))?;
                (Source::Listener(listener), adopted, format!("shm://{name}"))
            }
            End::Connects(name) => {
                let connector = Connector::new(name, Role::Producer);
                let connector = connector.map_err(|error| system("connect", &error))?;
                (Source::Connector(connector, None), Vec::new(), format!("shm://{}", name.display()))
            }
        };
        poller.flag(!adopted.is_empty());
        let mut egress = Egress {
            poller,
            connection: None,
            adopted,
            calls: 0,
            waits_for: None,
            sent: false,
            told: false,
            counters: spec.counters.clone(),
            address,
            source,
        };
        egress.connect();
        Ok(egress)
    }

    pub fn readiness(&self) -> RawFd {
        self.poller.readiness()
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn is_locked(&self) -> bool {
        matches!(&self.source, Source::Listener(listener) if listener.is_locked())
    }

    pub fn take_over(&mut self) -> RawFd {
        self.adopt();
        let Source::Listener(listener) = &self.source else { return -1 };
        let both = self.connection.iter().map(|one| [one.socket.as_fd(), one.writer.memory().descriptor()]);
        pack(listener, both)
    }

    pub fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        self.calls = self.calls.wrapping_add(1);
        (self.sent, self.waits_for) = (true, None);
        if std::mem::take(&mut self.told) {
            self.poller.flag(false);
        }
        if !self.adopted.is_empty() {
            self.adopt();
        }
        if self.connection.is_none() || self.calls.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        // Twice at the most: a full ring may be that of a consumer who has gone, or have room after all.
        for _ in 0..2 {
            let Some(connection) = &mut self.connection else { return self.nobody() };
            match connection.fill(frames) {
                Filled::Some { done, given_up } => {
                    self.counters.send_errors.add(given_up);
                    if connection.writer.publish() && !ring(connection.socket.as_fd()) {
                        self.end();
                    }
                    return Ok(done);
                }
                Filled::TooLarge => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
                Filled::Broken(staged) => {
                    self.counters.malformed.add(1);
                    self.counters.send_errors.add(staged);
                    self.end();
                    return if staged > 0 { Ok(staged as usize) } else { self.nobody() };
                }
                Filled::Full => {
                    // The bell is quieted before it is waited for.
                    self.look();
                    let Some(connection) = &mut self.connection else { continue };
                    let first = frames.first().map_or(0, TxFrame::len);
                    match connection.writer.wait_for(first) {
                        Ok(true) => {
                            self.waits_for = Some(first);
                            return Err(io::ErrorKind::WouldBlock.into());
                        }
                        Ok(false) => {}
                        Err(_) => {
                            self.counters.malformed.add(1);
                            self.end();
                        }
                    }
                }
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes note of what made the descriptor readable; nothing is ever left to be sent on.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.adopted.is_empty() {
            self.adopt();
        }
        if std::mem::take(&mut self.sent) && self.waits_for.is_none() {
            return Ok(());
        }
        let waited_for = self.waits_for.take();
        self.look();
        // The look may have quieted the very bell that room was waited for by: it is asked for again. Where there
        // is some by now, the descriptor has to say so, once.
        let waits = match (waited_for, &mut self.connection) {
            (Some(bytes), Some(connection)) => connection.writer.wait_for(bytes).unwrap_or(false),
            _ => false,
        };
        self.waits_for = waited_for.filter(|_| waits);
        self.told = waited_for.is_some() && !waits && !self.told;
        self.poller.flag(self.told);
        Ok(())
    }

    /// Nobody is there: the host may have another receiver. A node that was connected to and has not greeted yet is
    /// waited for.
    fn nobody(&self) -> io::Result<usize> {
        if let Source::Connector(connector, Some(since)) = &self.source
            && connector.greeting().is_some()
            && since.elapsed() < GREETING
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Err(io::Error::from_raw_os_error(libc::ENOTCONN))
    }

    fn look(&mut self) {
        let mut arrives = false;
        for at in 0..self.poller.look().unwrap_or(0) {
            match self.poller.token(at) {
                Some(CONNECTION) if self.connection.is_some() => {
                    let ended = |one: &Connection| drain(one.socket.as_fd()) == Heard::End;
                    if self.connection.as_ref().is_some_and(ended) {
                        self.end();
                    }
                }
                Some(LISTENER) => arrives = true,
                _ => {}
            }
        }
        if arrives {
            self.accept();
        }
        self.connect();
    }

    fn accept(&mut self) {
        let Source::Listener(listener) = &mut self.source else { return };
        match listener.accept() {
            Accepted::Nobody => {}
            Accepted::Refused => self.counters.refused.add(1),
            Accepted::Arrived(Arrival { socket, peer, memory }) => {
                let frame_bytes_max = listener.frame_bytes_max();
                self.join(socket, peer.uid, Writer::new(memory), frame_bytes_max, true);
            }
        }
    }

    fn adopt(&mut self) {
        self.poller.flag(false);
        while let Some(Arrival { socket, peer, memory }) = self.adopted.pop() {
            let Source::Listener(listener) = &self.source else { return };
            let frame_bytes_max = listener.frame_bytes_max();
            match Writer::resume(memory) {
                Ok(writer) => self.join(socket, peer.uid, writer, frame_bytes_max, true),
                Err(_) => self.counters.malformed.add(1),
            }
        }
    }

    fn connect(&mut self) {
        let Source::Connector(connector, since) = &mut self.source else { return };
        if self.connection.is_some() {
            return;
        }
        let was_pending = connector.greeting().is_some();
        match connector.look() {
            Ok(Some(Joined { socket, memory, frame_bytes_max })) => {
                self.join(socket, 0, Writer::new(memory), frame_bytes_max, !was_pending);
            }
            Ok(None) => {
                if let Some(socket) = connector.greeting().filter(|_| !was_pending) {
                    *since = Some(Instant::now());
                    let _ = self.poller.watch(socket, CONNECTION);
                }
            }
            Err(tempos_shm::Error::Refused(_)) => self.counters.refused.add(1),
            Err(_) => {}
        }
    }

    fn join(&mut self, socket: OwnedFd, user: u32, writer: Writer, frame_bytes_max: usize, watch: bool) {
        if watch && self.poller.watch(socket.as_fd(), CONNECTION).is_err() {
            self.counters.refused.add(1);
            return;
        }
        self.connection = Some(Connection { socket, user, writer, frame_bytes_max });
        self.counters.connections.set(1);
    }

    /// The consumer went: what it has not given back is given up.
    fn end(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.poller.forget(connection.socket.as_fd());
        self.counters.send_errors.add(connection.writer.unread());
        self.counters.connections.set(0);
        if let Source::Listener(listener) = &mut self.source {
            listener.give_back(connection.writer.into_memory(), connection.user);
        }
    }
}

/// What became of frames.
enum Filled {
    /// So many are done with: staged, or given up as too large.
    Some { done: usize, given_up: u64 },
    /// No room for the first.
    Full,
    /// The first is longer than the consumer's channel carries.
    TooLarge,
    /// The consumer wrote nonsense; so many were staged and are lost.
    Broken(u64),
}

impl Connection {
    fn fill(&mut self, frames: &[TxFrame<'_>]) -> Filled {
        let (mut done, mut given_up) = (0, 0);
        for frame in frames {
            if frame.len() > self.frame_bytes_max {
                if done == 0 {
                    return Filled::TooLarge;
                }
                given_up += 1;
                done += 1;
                continue;
            }
            match self.writer.push(frame.head.as_slice(), frame.payload.as_slice()) {
                Ok(true) => done += 1,
                Ok(false) if done == 0 => return Filled::Full,
                Ok(false) => break,
                Err(_) => return Filled::Broken(done as u64),
            }
        }
        Filled::Some { done, given_up }
    }
}
