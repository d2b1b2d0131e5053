//! Frames in: a listener and a bounded table of connections, each with a buffer of its own.
//!
//! Connections that have something take turns, and each gets an equal part of a call, so a fast sender never
//! keeps a slow one waiting, and a broken one costs its own connection only. All buffers are reserved when
//! the channel is opened.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::RxSlot;
use tempos_abi::std_types::RArc;
use tempos_sockets::{Buffer, Poller, resize_buffer};

use crate::arena::Arena;
use crate::config;
use crate::connection::{Buffers, Connection, End, read};
use crate::ferries::{Ferries, Side};
use crate::frames::{Assembly, FRAME_BYTES_MAX, HEAD_BYTES};
use crate::handover::{self, Parts};
use crate::listener::{adopt, listen};
use crate::sockets::{Peer, is_tcp, keep_alive};
use crate::streams::{STREAMS, Streams};

const LISTENER: u64 = 1 << 32;
const PREDECESSOR: u64 = 2 << 32;
const GREETED: u64 = 3 << 32;
/// Connections accepted or taken over in one call, so that a storm of them cannot hold up a lane.
const NEW_PER_CALL: usize = 4;
/// What is read of a connection at once, at least: small frames come many at a time.
const READ_BYTES_MIN: usize = 32 << 10;
const PAGE_BYTES: usize = 4096;
/// The kernel's buffer for what a sender is told: a full window of answers, each on its own.
const ANSWERS_BYTES: usize = 256 << 10;

/// What the predecessor still hands over: the connection that is arriving, with the bytes to come of it.
struct Predecessor {
    carrier: Socket,
    /// No row: there was no place for it, its bytes are dropped.
    arriving: Option<(Option<usize>, usize)>,
}

/// A listener and its connections.
pub struct Ingress {
    poller: Poller,
    pub(crate) listener: Socket,
    connections: Box<[Option<Connection>]>,
    buffers: Arena,
    /// The places of frames in segments, all of a connection in one row.
    streams: Arena,
    open: usize,
    /// How many connections there were.
    numbered: u64,
    /// The connections that have something, in their turn. Made with room for all.
    round: VecDeque<u32>,
    /// Given up for a moment where descriptors run out, to take a connection in and refuse it.
    spare: Option<File>,
    frame_bytes_max: usize,
    pub(crate) config: config::Ingress,
    /// Takes connections in, where TLS is spoken.
    ferries: Option<Ferries>,
    predecessor: Option<Predecessor>,
    successor: Option<Socket>,
    counters: RArc<ChannelCounters>,
}

impl Ingress {
    /// Adopts the predecessor's listener where it has the address asked for, or listens anew.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(
        spec: &ChannelSpec,
        config: &config::Ingress,
        inherited: Option<Socket>,
    ) -> Result<Self, PluginError> {
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("tcp channel \"{}\": {what}", spec.name), error)
        };
        let adopted = inherited.and_then(|carrier| adopt(carrier, config.bind, &config.marking));
        let (listener, predecessor) = match adopted {
            Some((listener, carrier)) => (listener, Some(Predecessor { carrier, arriving: None })),
            None => {
                let listening = listen(config.bind, &config.marking);
                (listening.map_err(|e| system(&format!("cannot listen on {}", config.bind), &e))?, None)
            }
        };
        if let Some(bytes) = config.receive_buffer {
            // Connections inherit it (tcp(7)).
            let sized = resize_buffer(listener.as_fd(), Buffer::Receive, bytes);
            sized.map_err(|error| system("the kernel's buffer cannot be sized", &error))?;
        }
        if config.acknowledge {
            let sized = resize_buffer(listener.as_fd(), Buffer::Send, ANSWERS_BYTES);
            sized.map_err(|error| system("the kernel's buffer for answers cannot be sized", &error))?;
        }
        let frame_bytes_max = spec.event_bytes_max.min(FRAME_BYTES_MAX) as usize;
        let buffer_bytes = (HEAD_BYTES + frame_bytes_max).max(READ_BYTES_MIN).next_multiple_of(PAGE_BYTES);
        let buffers = Arena::new(config.connections, buffer_bytes)
            .map_err(|error| system("the connections' buffers cannot be reserved", &error))?;
        let streams = Arena::new(config.connections, STREAMS * frame_bytes_max)
            .map_err(|error| system("the buffers for segments cannot be reserved", &error))?;
        let poller = Poller::new().map_err(|error| system("cannot make an epoll descriptor", &error))?;
        let ferries = match &config.tls {
            None => {
                let watched = poller.watch(listener.as_fd(), LISTENER);
                watched.map_err(|error| system("cannot watch the listener", &error))?;
                None
            }
            Some(tls) => {
                let session = tls.server(&spec.name)?;
                let start = || {
                    keep_alive(&listener, config.keepalive)?;
                    let side = Side::Server(listener.try_clone()?, session, config.connections);
                    let ferries = Ferries::start(side, config.frame_timeout, spec.counters.clone())?;
                    poller.watch(ferries.news(), GREETED).map(|()| ferries)
                };
                Some(start().map_err(|error| system("the thread for TLS cannot be started", &error))?)
            }
        };
        if let Some(Predecessor { carrier, .. }) = &predecessor {
            let watched = poller.watch(carrier.as_fd(), PREDECESSOR);
            watched.map_err(|error| system("cannot watch the predecessor", &error))?;
        }
        Ok(Ingress {
            poller,
            listener,
            connections: (0..config.connections).map(|_| None).collect(),
            buffers,
            streams,
            open: 0,
            numbered: 0,
            round: VecDeque::with_capacity(config.connections),
            spare: File::open("/dev/null").ok(),
            frame_bytes_max,
            config: config.clone(),
            ferries,
            predecessor,
            successor: None,
            counters: spec.counters.clone(),
        })
    }

    pub fn readiness(&self) -> RawFd {
        self.poller.readiness()
    }

    pub fn address(&self) -> String {
        match self.listener.local_addr().ok().and_then(|address| address.as_socket()) {
            Some(address) => format!("tcp://{address}"),
            None => format!("tcp://{}", self.config.bind),
        }
    }

    pub fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        let rang = self.look()?;
        let mut filled = 0;
        // Every turn fills a slot or takes a connection out of the round.
        while filled < slots.len() && !self.round.is_empty() {
            for turns_left in (1..=self.round.len()).rev() {
                let part = (slots.len() - filled).div_ceil(turns_left);
                if part == 0 {
                    break;
                }
                let Some(row) = self.round.pop_front() else { break };
                let (frames, has_more) = self.turn(row as usize, &mut slots[filled..filled + part]);
                filled += frames;
                if let Some(connection) = &mut self.connections[row as usize] {
                    connection.waits = has_more;
                    if has_more {
                        self.round.push_back(row);
                    }
                }
            }
        }
        if rang {
            self.close_the_slow();
        }
        self.poller.flag(!self.round.is_empty());
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    pub fn take_over(&mut self) -> RawFd {
        let Ok((near, far)) = handover::pair() else { return -1 };
        if handover::send(&near, self.listener.as_fd(), &Parts::default(), &[], || false).is_err() {
            return -1;
        }
        self.successor = Some(near);
        OwnedFd::from(far).into_raw_fd()
    }

    /// Hands every connection to the successor, where there is one, and closes what is left.
    pub fn close(&mut self, deadline_ns: u64) {
        self.take_in(usize::MAX);
        // A session cannot be handed over: its sender sees the end, and greets the successor.
        let successor = self.successor.take().filter(|_| self.ferries.is_none());
        for row in 0..self.connections.len() {
            let Some(connection) = self.connections[row].take() else { continue };
            self.poller.forget(connection.socket.as_fd());
            let Some(near) = &successor else { continue };
            let parts = Parts {
                unread: connection.assembly.unread_bytes(),
                skip: connection.assembly.skip(),
                streams: connection.streams.lengths(),
            };
            let wait = || wait_for_room(near, deadline_ns);
            let unread = connection.assembly.unread(self.buffers.row(row));
            let sent = handover::send(near, connection.socket.as_fd(), &parts, unread, wait).and_then(|()| {
                (0..STREAMS).try_for_each(|number| {
                    let bytes = connection.streams.bytes(number, self.streams.row(row));
                    handover::send_bytes(near, bytes, wait)
                })
            });
            if sent.is_err() {
                break;
            }
        }
        self.ferries = None;
        self.open = 0;
        self.round.clear();
        self.counters.connections.set(0);
    }

    /// Notes who has something, takes in who is new; whether the timer rang.
    fn look(&mut self) -> io::Result<bool> {
        let mut rang = false;
        for at in 0..self.poller.look()? {
            match self.poller.token(at) {
                None => {}
                Some(token) if Poller::is_timer(token) => {
                    self.poller.rang();
                    rang = true;
                }
                Some(LISTENER) => (0..NEW_PER_CALL).for_each(|_| self.accept()),
                Some(GREETED) => (0..NEW_PER_CALL).for_each(|_| self.take_greeted()),
                Some(PREDECESSOR) => self.take_in(NEW_PER_CALL),
                Some(row) => self.has_something(row as usize),
            }
        }
        Ok(rang)
    }

    fn has_something(&mut self, row: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(row)
            && !connection.waits
        {
            connection.waits = true;
            self.round.push_back(row as u32);
        }
    }

    /// A connection's turn: how many slots it filled, and whether it has more that is read already.
    fn turn(&mut self, row: usize, slots: &mut [RxSlot<'_>]) -> (usize, bool) {
        let Some(connection) = &mut self.connections[row] else { return (0, false) };
        let buffers = Buffers { unread: self.buffers.row(row), streams: self.streams.row(row) };
        let turn = connection.turn(buffers, self.frame_bytes_max, slots, self.config.acknowledge);
        if let Some(end) = turn.end {
            match end {
                End::Closed => {}
                End::Malformed => self.counters.malformed.add(1),
                End::Deaf => self.counters.refused.add(1),
            }
            self.end(row);
        } else if turn.has_more || connection.is_between_frames() {
            connection.incomplete_since = None;
        } else {
            if turn.filled > 0 || connection.incomplete_since.is_none() {
                connection.incomplete_since = Some(Instant::now());
            }
            self.poller.ring_in(self.config.frame_timeout);
        }
        (turn.filled, turn.has_more)
    }

    /// Closes the connections whose frame takes too long.
    fn close_the_slow(&mut self) {
        let (now, limit) = (Instant::now(), self.config.frame_timeout);
        let mut oldest = None;
        for row in 0..self.connections.len() {
            let Some(Some(since)) = self.connections[row].as_ref().map(|c| c.incomplete_since) else {
                continue;
            };
            let waited = now.saturating_duration_since(since);
            // One that has something now is heard first.
            let waits = self.connections[row].as_ref().is_some_and(|connection| connection.waits);
            if waited >= limit && !waits {
                self.counters.refused.add(1);
                self.end(row);
            } else {
                oldest = oldest.max(Some(waited));
            }
        }
        if let Some(waited) = oldest {
            self.poller.ring_in(limit.saturating_sub(waited));
        }
    }

    fn end(&mut self, row: usize) {
        if self.connections[row].take().is_some() {
            self.open -= 1;
            self.counters.connections.set(self.open as u64);
        }
    }

    fn accept(&mut self) {
        let accept = |listener: &Socket| listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        match accept(&self.listener) {
            Ok((socket, _)) => {
                self.add(socket, None, Assembly::default(), Streams::default());
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.spare = None;
                drop(accept(&self.listener));
                self.spare = File::open("/dev/null").ok();
                self.counters.refused.add(1);
            }
            Err(_) => {}
        }
    }

    /// Takes in a connection that the thread for TLS has greeted.
    fn take_greeted(&mut self) {
        if let Some(Some((socket, peer))) = self.ferries.as_mut().and_then(Ferries::next) {
            self.add(socket.into(), Some(peer), Assembly::default(), Streams::default());
        }
    }

    /// Takes a connection into the table, and says where; where there is no place it is closed and counted
    /// as refused.
    fn add(
        &mut self,
        socket: Socket,
        greeted: Option<SocketAddr>,
        assembly: Assembly,
        streams: Streams,
    ) -> Option<usize> {
        let set_up = || -> io::Result<Peer> {
            if let Some(peer) = greeted {
                return Ok(Peer::new(peer));
            }
            keep_alive(&socket, self.config.keepalive)?;
            // Answers are small, and wait for nothing.
            socket.set_tcp_nodelay(self.config.acknowledge)?;
            let peer = socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(Peer::new(peer))
        };
        let prepared = set_up();
        let free = self.connections.iter().position(Option::is_none).or_else(|| self.make_place());
        let (Some(row), Ok(peer)) = (free, prepared) else {
            self.counters.refused.add(1);
            return None;
        };
        self.numbered += 1;
        self.connections[row] = Some(Connection {
            socket: socket.into(),
            peer,
            number: self.numbered,
            assembly,
            streams,
            incomplete_since: None,
            silent_since: Some(Instant::now()),
            waits: false,
        });
        self.open += 1;
        self.counters.connections.set(self.open as u64);
        // With bytes still to come from the predecessor it is watched when they are here.
        if assembly == Assembly::default() && streams.is_idle() && !self.watch(row) {
            return None;
        }
        Some(row)
    }

    /// Closes the connection that has been silent the longest, from its start and for too long.
    fn make_place(&mut self) -> Option<usize> {
        let now = Instant::now();
        let silent = |one: &Option<Connection>| one.as_ref().filter(|one| !one.waits)?.silent_since;
        let rows = self.connections.iter().enumerate();
        let (since, row) = rows.filter_map(|(row, one)| Some((silent(one)?, row))).min()?;
        if now.saturating_duration_since(since) < self.config.idle_timeout {
            return None;
        }
        self.counters.refused.add(1);
        self.end(row);
        Some(row)
    }

    /// Watches a connection; where that is refused it is closed and counted.
    fn watch(&mut self, row: usize) -> bool {
        let Some(Some(connection)) = self.connections.get(row) else { return false };
        let watched = self.poller.watch(connection.socket.as_fd(), row as u64).is_ok();
        if !watched {
            self.counters.refused.add(1);
            self.end(row);
        }
        watched
    }

    /// Takes in up to `most` connections of the predecessor, as far as they are here.
    fn take_in(&mut self, most: usize) {
        let Some(mut predecessor) = self.predecessor.take() else { return };
        for _ in 0..most {
            match self.take_in_one(&mut predecessor) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // It has closed; of a connection that came in part the rest is lost.
                    if let Some((Some(row), _)) = predecessor.arriving {
                        self.end(row);
                    }
                    return;
                }
            }
        }
        self.predecessor = Some(predecessor);
    }

    fn take_in_one(&mut self, predecessor: &mut Predecessor) -> io::Result<()> {
        let (row, mut missing) = match predecessor.arriving {
            Some(arriving) => arriving,
            None => {
                let record = handover::receive(&predecessor.carrier)?;
                let parts = record.parts;
                let fits = parts.unread <= self.buffers.row_bytes()
                    && parts.streams.iter().flatten().flatten().all(|bytes| *bytes <= self.frame_bytes_max);
                let assembly = Assembly::resumed(if fits { parts.unread } else { 0 }, parts.skip);
                let socket = Socket::from(record.descriptor);
                let usable = fits && is_tcp(&socket) && socket.set_nonblocking(true).is_ok();
                let streams = if usable { Streams::resumed(parts.streams) } else { Streams::default() };
                (if usable { self.add(socket, None, assembly, streams) } else { None }, parts.bytes())
            }
        };
        while missing > 0 {
            predecessor.arriving = Some((row, missing));
            let mut nowhere = [0; PAGE_BYTES];
            let place = match (row, self.connections.get(row.unwrap_or(usize::MAX))) {
                (Some(row), Some(Some(connection))) => {
                    place_of(connection, self.buffers.row(row), self.streams.row(row), missing)
                }
                _ => {
                    let most = missing.min(nowhere.len());
                    &mut nowhere[..most]
                }
            };
            match read(&predecessor.carrier, place)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => missing -= bytes,
            }
        }
        predecessor.arriving = None;
        if let Some(row) = row {
            let resumed = matches!(&self.connections[row], Some(c) if c.assembly != Assembly::default()
                || !c.streams.is_idle());
            if !resumed || self.watch(row) {
                self.has_something(row);
            }
        }
        Ok(())
    }
}

/// Where the next bytes of a connection that arrives belong, of which `missing` are still to come: first what
/// was not taken, then stream by stream.
fn place_of<'a>(
    connection: &Connection,
    unread: &'a mut [u8],
    streams: &'a mut [u8],
    missing: usize,
) -> &'a mut [u8] {
    let lengths = connection.streams.lengths().map(|stream| stream.flatten().unwrap_or(0));
    let mut after = lengths.iter().sum::<usize>();
    let end = connection.assembly.unread_bytes();
    if missing > after {
        return &mut unread[end - (missing - after)..end];
    }
    let mut number = 0;
    while missing <= after - lengths[number] {
        after -= lengths[number];
        number += 1;
    }
    &mut connection.streams.bytes(number, streams)[lengths[number] - (missing - (after - lengths[number]))..]
}

/// Waits until the successor has taken something, or the deadline (CLOCK_MONOTONIC) is over.
fn wait_for_room(near: &Socket, deadline_ns: u64) -> bool {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32);
    let left = Duration::from_nanos(deadline_ns).saturating_sub(now).as_millis();
    let mut asked = libc::pollfd { fd: near.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live entry.
    left > 0 && unsafe { libc::poll(&raw mut asked, 1, left.min(1000) as i32) } > 0
}
