//! Frames in: a bounded table of connections, each with a ring of its own.
//!
//! Connections that have something take turns, and each gets an equal part of a call. One that has nothing
//! more is left sleeping: its producer rings its bell with the next frame, and the lane wakes up by the
//! channel's descriptor. While frames keep coming no system call is made.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use socket2::Socket;
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::attributes::AttributeValue;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::RxSlot;
use tempos_abi::std_types::RArc;
use tempos_shm::connector::{Connector, Joined, RECONNECT_EVERY};
use tempos_shm::ring::Reader;
use tempos_shm::wire::{Heard, Role, drain, ring};
use tempos_sockets::Poller;

use crate::config::{Config, End};
use crate::listener::{Accepted, Arrival, Listener, pack, peer_of};

const LISTENER: u64 = 1 << 32;
/// Connections accepted in one call, so that a storm of them cannot hold up a lane.
const ACCEPTS_PER_CALL: usize = 2;
/// How many calls may go by without a look at who is new and who went.
const LOOK_EVERY: u32 = 64;

/// A producer.
struct Connection {
    socket: OwnedFd,
    peer: libc::ucred,
    reader: Reader,
    /// Its number, for [`RxSlot::set_producer`].
    number: u64,
    /// It is in the round.
    awake: bool,
    /// Its bell rings, or is about to: the channel's descriptor is readable by it.
    rings: bool,
    /// Its producer has gone; what is in the ring still counts.
    ended: bool,
    /// What it wrote made no sense.
    broken: bool,
}

/// Where the connections come from.
enum Source {
    Listener(Listener),
    Connector(Connector),
}

/// The connections of a channel.
pub struct Ingress {
    poller: Poller,
    connections: Box<[Option<Connection>]>,
    open: usize,
    round: VecDeque<u32>,
    /// What a predecessor handed over: taken in with the first call, for it may read on until then.
    adopted: Vec<Arrival>,
    calls: u32,
    numbers: u64,
    counters: RArc<ChannelCounters>,
    address: String,
    source: Source,
}

impl Ingress {
    /// Adopts what the predecessor had, or begins anew.
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
                let (listener, adopted) = Listener::open(spec, config, name, Role::Producer, inherited)?;
                let watched = poller.watch(listener.socket(), LISTENER);
                watched.map_err(|error| system("cannot watch the listener", &error))?;
                (Source::Listener(listener), adopted, format!("shm://{name}"))
            }
            End::Connects(name) => {
                let connector = Connector::new(name, Role::Consumer);
                let connector = connector.map_err(|error| system("connect", &error))?;
                (Source::Connector(connector), Vec::new(), format!("shm://{}", name.display()))
            }
        };
        poller.flag(!adopted.is_empty());
        let mut ingress = Ingress {
            poller,
            connections: (0..config.connections).map(|_| None).collect(),
            open: 0,
            round: VecDeque::with_capacity(config.connections),
            adopted,
            calls: 0,
            numbers: 0,
            counters: spec.counters.clone(),
            address,
            source,
        };
        ingress.connect();
        Ok(ingress)
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
        let both = |one: &Connection| {
            // SAFETY: both descriptors live as long as the connection, which outlives the call.
            unsafe {
                use std::os::fd::{AsRawFd, BorrowedFd};
                [
                    BorrowedFd::borrow_raw(one.socket.as_raw_fd()),
                    BorrowedFd::borrow_raw(one.reader.memory().descriptor().as_raw_fd()),
                ]
            }
        };
        pack(listener, self.connections.iter().flatten().filter(|one| !one.broken).map(both))
    }

    pub fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        self.calls = self.calls.wrapping_add(1);
        if !self.adopted.is_empty() {
            self.adopt();
        }
        if self.round.is_empty() {
            self.scan();
        }
        if self.round.is_empty() || self.calls.is_multiple_of(LOOK_EVERY) {
            self.look()?;
        }
        let mut filled = 0;
        let mut more = true;
        // Every pass but the last fills a slot or takes a connection out of the round.
        while more && filled < slots.len() {
            more = false;
            for turns_left in (1..=self.round.len()).rev() {
                let part = (slots.len() - filled).div_ceil(turns_left);
                let Some(row) = self.round.pop_front() else { break };
                let (frames, stays) = self.turn(row as usize, &mut slots[filled..filled + part]);
                filled += frames;
                more |= frames > 0 && frames == part;
                if stays {
                    self.round.push_back(row);
                }
                if filled == slots.len() {
                    break;
                }
            }
        }
        // A single frame is no flood: the lane need not look again before the next.
        if filled <= 1 {
            self.rest();
        }
        let unheard = self.round.iter().any(|row| {
            self.connections.get(*row as usize).and_then(Option::as_ref).is_some_and(|one| !one.rings)
        });
        self.poller.flag(unheard);
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// A connection's turn: how many slots it filled, and whether it stays in the round.
    fn turn(&mut self, row: usize, slots: &mut [RxSlot<'_>]) -> (usize, bool) {
        let Some(connection) = &mut self.connections[row] else { return (0, false) };
        let mut filled = 0;
        while filled < slots.len() {
            match connection.reader.peek() {
                Ok(Some(span)) => {
                    let slot = &mut slots[filled];
                    slot.reset();
                    connection.reader.copy(span, slot.buffer_mut());
                    slot.set_len(span.length);
                    slot.set_producer(connection.number);
                    write_credentials(slot, &connection.peer);
                    connection.reader.take(span);
                    filled += 1;
                }
                Ok(None) => break,
                Err(_) => {
                    connection.broken = true;
                    break;
                }
            }
        }
        if connection.reader.release() {
            ring(connection.socket.as_fd());
        }
        if connection.broken {
            self.counters.malformed.add(1);
            self.end(row);
            return (filled, false);
        }
        let stays = filled > 0 || self.stays_awake(row);
        (filled, stays)
    }

    /// Lets those that have nothing sleep.
    fn rest(&mut self) {
        for _ in 0..self.round.len() {
            let Some(row) = self.round.pop_front() else { break };
            if self.stays_awake(row as usize) {
                self.round.push_back(row);
            }
        }
    }

    /// Has a connection sleep, where it has nothing; whether it stays awake.
    fn stays_awake(&mut self, row: usize) -> bool {
        let Some(connection) = &mut self.connections[row] else { return false };
        match connection.reader.peek() {
            Ok(None) => {}
            // What is wrong with it is found, and counted, in its next turn.
            Ok(Some(_)) | Err(_) => return true,
        }
        // The bell is quieted before the connection sleeps: see the protocol's model.
        if connection.rings && !connection.ended {
            match drain(connection.socket.as_fd()) {
                Heard::End => connection.ended = true,
                Heard::Bell | Heard::Nothing => connection.rings = false,
            }
        }
        match connection.reader.sleep() {
            Ok(true) if connection.ended => {
                self.end(row);
                false
            }
            Ok(true) => {
                connection.awake = false;
                false
            }
            Ok(false) | Err(_) => true,
        }
    }

    /// Finds who has something without asking the system.
    fn scan(&mut self) {
        for row in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[row]
                && !matches!(connection.reader.peek(), Ok(None))
            {
                // Its producer has rung, or is about to.
                self.wakes(row, true);
            }
        }
    }

    /// Asks the system who rang, who went and who is new.
    fn look(&mut self) -> io::Result<()> {
        for at in 0..self.poller.look()? {
            match self.poller.token(at) {
                None => {}
                Some(token) if Poller::is_timer(token) => {
                    self.poller.rang();
                    self.connect();
                }
                Some(LISTENER) => (0..ACCEPTS_PER_CALL).for_each(|_| self.accept()),
                Some(row) if self.connections.get(row as usize).is_some_and(Option::is_some) => {
                    self.wakes(row as usize, true);
                }
                Some(_) => self.connect(),
            }
        }
        Ok(())
    }

    fn wakes(&mut self, row: usize, rings: bool) {
        if let Some(connection) = &mut self.connections[row] {
            connection.rings |= rings;
            if !connection.awake {
                connection.awake = true;
                connection.reader.wake();
                self.round.push_back(row as u32);
            }
        }
    }

    fn accept(&mut self) {
        let Source::Listener(listener) = &mut self.source else { return };
        match listener.accept() {
            Accepted::Nobody => {}
            Accepted::Refused => self.counters.refused.add(1),
            Accepted::Arrived(Arrival { socket, peer, memory }) => {
                self.add(socket, peer, Reader::new(memory), true);
            }
        }
    }

    /// Takes in what the predecessor read from until now.
    fn adopt(&mut self) {
        while let Some(Arrival { socket, peer, memory }) = self.adopted.pop() {
            match Reader::resume(memory) {
                Ok(reader) => self.add(socket, peer, reader, true),
                Err(_) => self.counters.malformed.add(1),
            }
        }
    }

    /// Looks for the node to connect to, where there is none.
    fn connect(&mut self) {
        let Source::Connector(connector) = &mut self.source else { return };
        if self.open > 0 {
            return;
        }
        let was_pending = connector.greeting().is_some();
        match connector.look() {
            Ok(Some(Joined { socket, memory, .. })) => {
                let peer = peer_of(socket.as_fd()).unwrap_or(libc::ucred { pid: 0, uid: 0, gid: 0 });
                self.add(socket, peer, Reader::new(memory), !was_pending);
                return;
            }
            Ok(None) => {
                if let Some(socket) = connector.greeting().filter(|_| !was_pending) {
                    let _ = self.poller.watch(socket, 0);
                }
            }
            Err(tempos_shm::Error::Refused(_)) => self.counters.refused.add(1),
            Err(_) => {}
        }
        self.poller.ring_in(RECONNECT_EVERY);
    }

    fn add(&mut self, socket: OwnedFd, peer: libc::ucred, reader: Reader, watch: bool) {
        let free = self.connections.iter().position(Option::is_none);
        let Some(row) = free.filter(|row| !watch || self.poller.watch(socket.as_fd(), *row as u64).is_ok())
        else {
            self.counters.refused.add(1);
            return;
        };
        self.numbers += 1;
        self.connections[row] = Some(Connection {
            socket,
            peer,
            reader,
            number: self.numbers,
            awake: false,
            rings: false,
            ended: false,
            broken: false,
        });
        self.open += 1;
        self.counters.connections.set(self.open as u64);
        self.wakes(row, false);
    }

    fn end(&mut self, row: usize) {
        let Some(connection) = self.connections[row].take() else { return };
        self.poller.forget(connection.socket.as_fd());
        self.open -= 1;
        self.counters.connections.set(self.open as u64);
        match &mut self.source {
            Source::Listener(listener) => {
                listener.give_back(connection.reader.into_memory(), connection.peer.uid);
            }
            Source::Connector(_) => self.poller.ring_in(RECONNECT_EVERY),
        }
    }
}

/// Writes who sent a frame.
fn write_credentials(slot: &mut RxSlot<'_>, sender: &libc::ucred) {
    slot.write_attributes(|writer| {
        writer.put("peer.pid", AttributeValue::Unsigned(sender.pid.max(0) as u64));
        writer.put("peer.uid", AttributeValue::Unsigned(u64::from(sender.uid)));
        writer.put("peer.gid", AttributeValue::Unsigned(u64::from(sender.gid)));
    });
}
