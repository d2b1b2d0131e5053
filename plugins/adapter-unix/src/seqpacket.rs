//! Seqpacket in: a listener and a bounded table of connections behind one epoll(7) descriptor.
//!
//! Every connection that has something gets an equal part of each call, so a fast sender never keeps a
//! slow one waiting, and a broken one costs its own connection only.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Socket, Type};
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::RxSlot;
use tempos_abi::std_types::RArc;
use tempos_sockets::{ACK, Buffer, NAK, Name, Place, Receiver, Want, carrier, resize_buffer, set_option};

use crate::channel::{is_of_type, new_socket, size, write_credentials};
use crate::config::Config;

/// What is handed to a successor.
const MAGIC: &[u8] = b"tempos-unix-seqpacket-1";
const LISTENER: u64 = u64::MAX;
const BACKLOG: i32 = 64;
/// Connections accepted in one call, so that a storm of them cannot hold up a lane.
const ACCEPTS_PER_CALL: usize = 4;
const READY_MAX: usize = 64;
/// Frames of one reading.
const VERDICTS_MAX: usize = 64;
/// The kernel's buffer for what a sender is told: a full window of answers, each in a packet of its own.
const ANSWERS_BYTES: usize = 1 << 20;

/// An open connection and who is at its other end.
struct Connection {
    socket: OwnedFd,
    peer: libc::ucred,
    /// It is the only one of the channel's life that has this number.
    number: u64,
    /// When it came, where it has said nothing yet.
    silent_since: Option<Instant>,
}

/// A listener and its connections.
pub struct SeqpacketIngress {
    poller: OwnedFd,
    listener: Option<Socket>,
    connections: Box<[Option<Connection>]>,
    open: usize,
    /// How many connections there were.
    numbered: u64,
    idle_timeout: Duration,
    acknowledge: bool,
    ready: Box<[libc::epoll_event]>,
    /// Given up for a moment where descriptors run out, to take a connection in and refuse it.
    spare: Option<File>,
    receiver: Receiver,
    receive_buffer: Option<usize>,
    counters: RArc<ChannelCounters>,
    /// After the listener: see [`Place`].
    place: Option<Place>,
    address: String,
}

impl SeqpacketIngress {
    /// Adopts the predecessor's listener with its connections, or one connection that was handed over
    /// without a path, or listens anew.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: &Config, inherited: Option<Socket>) -> Result<Self, PluginError> {
        let adopted = inherited.filter(|socket| is_of_type(socket, Type::SEQPACKET));
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("unix channel \"{}\": {what}", spec.name), error)
        };
        // SAFETY: the call makes a new descriptor and touches nothing else.
        let poller = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if poller < 0 {
            return Err(system("cannot make an epoll descriptor", &io::Error::last_os_error()));
        }
        let want = Want { source: false, control: true };
        let mut channel = SeqpacketIngress {
            // SAFETY: the descriptor was just made and belongs to nobody else.
            poller: unsafe { OwnedFd::from_raw_fd(poller) },
            listener: None,
            connections: (0..config.connections).map(|_| None).collect(),
            open: 0,
            numbered: 0,
            idle_timeout: config.idle_timeout,
            acknowledge: config.acknowledge.is_some(),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; READY_MAX].into_boxed_slice(),
            spare: File::open("/dev/null").ok(),
            receiver: Receiver::new(spec.batch_max as usize, want),
            receive_buffer: config.receive_buffer,
            counters: spec.counters.clone(),
            place: None,
            address: String::from("unix://inherited"),
        };
        match (&config.name, adopted) {
            (None, Some(connection)) => channel.add(connection.into()),
            (None, None) => {
                return Err(PluginError::bad_option(format!(
                    "unix channel \"{}\": the descriptor handed over is not a seqpacket socket, and there is no path",
                    spec.name
                )));
            }
            (Some(name), adopted) => {
                channel.address = format!("unix://{name}");
                let packed = adopted.map(|carrier| carrier::unpack(MAGIC, &carrier)).unwrap_or_default();
                if !channel.adopt(name, packed) {
                    let socket = new_socket(&spec.name, Type::SEQPACKET)?;
                    channel.place = Place::bind(
                        &format!("unix channel \"{}\"", spec.name),
                        &socket,
                        name,
                        Type::SEQPACKET,
                        config.access,
                    )?;
                    size(&spec.name, &socket, Buffer::Receive, config.receive_buffer)?;
                    socket.listen(BACKLOG).map_err(|error| system("cannot listen", &error))?;
                    channel.listener = Some(socket);
                }
                if let Some(listener) = &channel.listener {
                    channel
                        .watch(listener.as_fd(), LISTENER)
                        .map_err(|error| system("cannot watch the listener", &error))?;
                }
            }
        }
        Ok(channel)
    }

    pub fn readiness(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn take_over(&mut self) -> RawFd {
        let listener = self.listener.iter().map(AsFd::as_fd);
        let connections = self.connections.iter().flatten().map(|connection| connection.socket.as_fd());
        carrier::pack(MAGIC, listener.chain(connections)).unwrap_or(-1)
    }

    pub fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        let mut filled = 0;
        let mut accepts_left = ACCEPTS_PER_CALL;
        // Every round fills a slot, ends a connection or accepts one; else it is the last.
        while filled < slots.len() {
            let ready = self.ask(slots.len() - filled)?;
            let before = (filled, self.open, accepts_left);
            for at in 0..ready {
                let part = (slots.len() - filled).div_ceil(ready - at);
                match self.ready[at].u64 {
                    LISTENER if accepts_left == 0 => {}
                    LISTENER => {
                        accepts_left -= 1;
                        self.accept();
                    }
                    row => filled += self.read(row as usize, &mut slots[filled..filled + part]),
                }
            }
            if (filled, self.open, accepts_left) == before {
                break;
            }
        }
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Which of them have something, at most `most`; the kernel turns the order round from call to call.
    fn ask(&mut self, most: usize) -> io::Result<usize> {
        let most = most.min(self.ready.len()) as i32;
        // SAFETY: the array is live and at least `most` long.
        let ready = unsafe { libc::epoll_wait(self.poller.as_raw_fd(), self.ready.as_mut_ptr(), most, 0) };
        usize::try_from(ready).map_err(|_| io::Error::last_os_error())
    }

    /// Reads up to `slots.len()` frames of one connection, and ends it where its peer did.
    fn read(&mut self, row: usize, slots: &mut [RxSlot<'_>]) -> usize {
        let Some(Some(connection)) = self.connections.get_mut(row) else { return 0 };
        let (peer, number) = (connection.peer, connection.number);
        // An empty frame comes with credentials, the end of the connection without: that tells them apart.
        let (mut frames, mut ended) = (0, false);
        let mut verdicts = [ACK; VERDICTS_MAX];
        let received = self.receiver.receive(connection.socket.as_fd(), slots, |slot, arrival| {
            ended |= arrival.credentials().is_none();
            if !ended {
                write_credentials(slot, &peer);
                slot.set_producer(number);
                if slot.flags & RxSlot::TRUNCATED != 0 {
                    verdicts[frames] = NAK;
                }
                frames += 1;
            }
        });
        if frames > 0 {
            connection.silent_since = None;
        }
        let broken = received.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
        let deaf = self.acknowledge && frames > 0 && !tell(&connection.socket, &verdicts[..frames]);
        self.counters.refused.add(u64::from(deaf));
        if ended || broken || deaf {
            self.end(row);
        }
        frames
    }

    fn end(&mut self, row: usize) {
        self.connections[row] = None;
        self.open -= 1;
        self.counters.connections.set(self.open as u64);
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let accept = || {
            let null = std::ptr::null_mut();
            // SAFETY: no address is asked for; the answer is a new descriptor or an error.
            let socket = unsafe { libc::accept4(listener.as_raw_fd(), null, null.cast(), flags) };
            // SAFETY: the descriptor was just made and belongs to nobody else.
            (socket >= 0).then(|| unsafe { OwnedFd::from_raw_fd(socket) })
        };
        match accept() {
            Some(socket) => self.add(socket),
            None if matches!(
                io::Error::last_os_error().raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE)
            ) =>
            {
                self.spare = None;
                drop(accept());
                self.spare = File::open("/dev/null").ok();
                self.counters.refused.add(1);
            }
            None => {}
        }
    }

    /// Takes a connection into the table; where there is no place it is closed and counted as refused.
    fn add(&mut self, socket: OwnedFd) {
        let set_up = || -> io::Result<libc::ucred> {
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1)?;
            if let Some(bytes) = self.receive_buffer {
                resize_buffer(socket.as_fd(), Buffer::Receive, bytes)?;
            }
            if self.acknowledge {
                resize_buffer(socket.as_fd(), Buffer::Send, ANSWERS_BYTES)?;
            }
            peer_of(socket.as_fd())
        };
        let prepared = set_up();
        let free = self.connections.iter().position(Option::is_none).or_else(|| self.make_place());
        let (Some(row), Ok(peer)) = (free, prepared) else {
            self.counters.refused.add(1);
            return;
        };
        if self.watch(socket.as_fd(), row as u64).is_err() {
            self.counters.refused.add(1);
            return;
        }
        self.numbered += 1;
        let silent_since = Some(Instant::now());
        self.connections[row] = Some(Connection { socket, peer, number: self.numbered, silent_since });
        self.open += 1;
        self.counters.connections.set(self.open as u64);
    }

    /// Closes the connection that has been silent the longest, from its start and for too long.
    fn make_place(&mut self) -> Option<usize> {
        let now = Instant::now();
        let silent = |one: &Option<Connection>| one.as_ref().and_then(|connection| connection.silent_since);
        let rows = self.connections.iter().enumerate();
        let (since, row) = rows.filter_map(|(row, one)| Some((silent(one)?, row))).min()?;
        if now.saturating_duration_since(since) < self.idle_timeout {
            return None;
        }
        self.counters.refused.add(1);
        self.end(row);
        Some(row)
    }

    /// Takes over what a predecessor packed, where its listener has that name.
    fn adopt(&mut self, name: &Name, packed: Vec<OwnedFd>) -> bool {
        let mut packed = packed.into_iter();
        let listener = packed.next().map(Socket::from);
        let Some(listener) = listener.filter(|socket| {
            is_of_type(socket, Type::SEQPACKET) && socket.local_addr().is_ok_and(|local| name.is(&local))
        }) else {
            return false;
        };
        self.listener = Some(listener);
        self.place = Place::adopt(name, Type::SEQPACKET);
        packed.for_each(|connection| self.add(connection));
        true
    }

    fn watch(&self, socket: BorrowedFd<'_>, row: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: row };
        let (poller, socket) = (self.poller.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: the event is live for the call.
        let done = unsafe { libc::epoll_ctl(poller, libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Tells the sender of its frames; `false` where it does not take it: it does not read at all. One that has gone
/// is seen when it is read.
fn tell(socket: &OwnedFd, verdicts: &[u8]) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are live for the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), verdicts.as_ptr().cast(), verdicts.len(), flags) };
    sent >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

/// Who connected (unix(7), SO_PEERCRED).
fn peer_of(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: the value is live and of the length given.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    if done == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}
