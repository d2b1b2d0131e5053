//! The connection of an egress channel: made, lost, and made again with patience.
//!
//! The next attempt after one that failed comes after 100 ms, then after twice as long, up to 5 s. Where the
//! channel is one that the host calls back (it waits for acknowledgements, or holds frames itself), its
//! readiness is an epoll(7) set that is readable whenever anything is to be done; else it is the socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_sockets::{Buffer, Poller, resize_buffer, set_option};

use crate::config;
use crate::ferries::{Ferries, Side};
use crate::sockets::{keep_alive, new_socket};

const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// How long opening waits for a receiver that is there.
const OPENING_WAIT_MS: i32 = 200;
/// Requests for a connection that are repeated before it counts as refused: 15 s (tcp(7), TCP_SYNCNT).
const SYN_RETRIES: i32 = 3;
const SOCKET: u64 = 0;
const NEWS: u64 = 1;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// There is one.
    Up,
    /// Asked for; the socket can be written to when there is an answer.
    Coming,
    /// There is none before that instant.
    Down(Instant),
}

/// What a channel is that the host calls back.
struct Called {
    poller: Poller,
    /// The socket is in the set.
    watched: bool,
    /// It is watched for room too.
    room: bool,
}

/// A connection.
pub struct Link {
    socket: Socket,
    /// Whether the socket was ever connected, or failed to be: it cannot be used again.
    used: bool,
    line: Line,
    /// A connection has ended, and its frames are not yet seen to.
    ended: bool,
    delay: Duration,
    /// When an attempt counts as failed, where it does not only when the system says so.
    patience: Option<Duration>,
    coming_since: Instant,
    config: config::Egress,
    /// The channel's, for sentences.
    name: String,
    qos: LaneQos,
    called: Option<Called>,
    /// Makes the connections, where TLS is spoken.
    ferries: Option<Ferries>,
    counters: RArc<ChannelCounters>,
}

impl Link {
    /// Connects. A receiver that is not there yet is no error.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: config::Egress, called: bool) -> Result<Self, PluginError> {
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("tcp channel \"{}\": {what}", spec.name), error)
        };
        let socket = new_socket(config.to).map_err(|error| system("cannot make a TCP socket", &error))?;
        config.marking.prepare(socket.as_fd()).map_err(|error| refused(&spec.name, &error))?;
        set_up(&socket, &config).map_err(|error| system("the socket cannot be set up", &error))?;
        let ferries = match &config.tls {
            None => None,
            Some(tls) => {
                let (session, name) = tls.client(&spec.name, config.to.ip())?;
                let (own, qos) = (config.clone(), spec.qos);
                let make = move || {
                    let socket = new_socket(own.to)?;
                    own.marking.prepare(socket.as_fd())?;
                    set_up(&socket, &own)?;
                    own.marking.mark_again(socket.as_fd(), &qos);
                    Ok(socket)
                };
                let side = Side::Client(session, name, config.to, Box::new(make));
                let started = Ferries::start(side, config.peer_timeout, spec.counters.clone());
                Some(started.map_err(|error| system("the thread for TLS cannot be started", &error))?)
            }
        };
        let called = match called {
            false => None,
            true => {
                let poller =
                    Poller::new().map_err(|error| system("cannot make an epoll descriptor", &error))?;
                if let Some(ferries) = &ferries {
                    let watched = poller.watch(ferries.news(), NEWS);
                    watched.map_err(|error| system("cannot watch the thread for TLS", &error))?;
                }
                Some(Called { poller, watched: false, room: false })
            }
        };
        let mut link = Link {
            socket,
            used: false,
            line: Line::Down(Instant::now()),
            ended: false,
            delay: DELAY_MIN,
            patience: config.acknowledge.as_ref().map(|acknowledge| acknowledge.timeout),
            coming_since: Instant::now(),
            config,
            name: spec.name.to_string(),
            qos: LaneQos::unmarked(spec.qos.level),
            called,
            ferries,
            counters: spec.counters.clone(),
        };
        link.line();
        if link.line == Line::Coming {
            link.is_writable(OPENING_WAIT_MS);
            link.line();
        }
        Ok(link)
    }

    pub fn readiness(&self) -> RawFd {
        match &self.called {
            Some(called) => called.poller.readiness(),
            None => self.socket.as_raw_fd(),
        }
    }

    pub fn address(&self) -> String {
        format!("tcp://{}", self.config.to)
    }

    /// # Errors
    /// The sentence where an option of the endpoint was refused.
    pub fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        self.qos = *qos;
        let marking = &self.config.marking;
        let refused = |sentence: String| refused(&self.name, &sentence);
        if self.ferries.is_none() {
            return marking.mark(self.socket.as_fd(), qos).map_err(refused);
        }
        // The thread marks its sockets alike; what is granted another one of that kind says.
        let socket = new_socket(self.config.to).and_then(|socket| {
            marking.prepare(socket.as_fd())?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| refused(error.to_string()))?;
        let grant = marking.mark(socket.as_fd(), qos).map_err(refused)?;
        let reason = format!("TLS is spoken by an ordinary thread; {}", grant.reason);
        Ok(QosGrant::new(QosGrant::SHARED, reason))
    }

    /// The socket of the moment.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where the connection stands, after what can be done for it now.
    pub fn line(&mut self) -> Line {
        // Where answers are expected, whoever reads them sees the end too.
        if self.line == Line::Up && self.patience.is_none() && self.has_ended() {
            self.lose();
        }
        if let Line::Down(until) = self.line
            && until <= Instant::now()
        {
            self.connect();
        }
        if self.line == Line::Coming {
            if let Some(ferries) = &mut self.ferries {
                match ferries.next() {
                    Some(Some((socket, _))) if self.replace_by(&socket) && self.watch() => self.is_up(),
                    Some(_) => self.fail(),
                    None if self.is_late() => self.fail(),
                    None => {}
                }
            } else if self.is_writable(0) {
                if self.is_connected() {
                    self.is_up();
                } else {
                    self.fail();
                }
            } else if self.is_late() {
                self.fail();
            }
        }
        self.line
    }

    /// The connection has ended: the next attempt may come at once.
    pub fn lose(&mut self) {
        self.end(Instant::now());
    }

    /// An attempt has failed, or a receiver does not answer: the next attempt has to wait.
    pub fn fail(&mut self) {
        self.end(Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }

    /// Whether a connection has ended since this was last asked.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// The receiver has answered: it is one.
    pub fn is_good(&mut self) {
        self.delay = DELAY_MIN;
    }

    /// Looks what the host was called back for, without waiting; whether the socket has room that was waited
    /// for. Only for a channel that is called back.
    pub fn look(&mut self) -> bool {
        let Some(called) = &mut self.called else { return false };
        let mut room = false;
        for at in 0..called.poller.look().unwrap_or(0) {
            match called.poller.token(at) {
                None => {}
                Some(token) if Poller::is_timer(token) => called.poller.rang(),
                Some(_) => room |= called.poller.has_room(at),
            }
        }
        room
    }

    /// Has the host called back when the socket can be written to, or no longer.
    pub fn watch_room(&mut self, room: bool) {
        let room = room || self.line == Line::Coming;
        let Some(called) = &mut self.called else { return };
        if called.watched
            && called.room != room
            && called.poller.watch_room(self.socket.as_fd(), SOCKET, room).is_ok()
        {
            called.room = room;
        }
    }

    /// Has the host called back at once, or no longer.
    pub fn flag(&mut self, up: bool) {
        if let Some(called) = &mut self.called {
            called.poller.flag(up);
        }
    }

    /// Has the host called back at `when`, or when the connection is to be looked after, whatever is earlier.
    pub fn ring_by(&mut self, when: Option<Instant>) {
        let own = match self.line {
            Line::Up => None,
            Line::Coming => self.patience.map(|patience| self.coming_since + patience),
            Line::Down(until) => Some(until),
        };
        let Some(called) = &mut self.called else { return };
        if let Some(when) = [when, own].into_iter().flatten().min() {
            called.poller.ring_by(when);
        }
    }

    fn is_late(&self) -> bool {
        self.patience.is_some_and(|patience| self.coming_since.elapsed() >= patience)
    }

    fn is_up(&mut self) {
        self.line = Line::Up;
        if self.patience.is_none() {
            self.is_good();
        }
        self.counters.connections.set(1);
        self.watch_room(false);
    }

    fn end(&mut self, until: Instant) {
        if let Some(called) = &mut self.called
            && called.watched
        {
            called.poller.forget(self.socket.as_fd());
            (called.watched, called.room) = (false, false);
        }
        // The receiver sees the end at once, whatever becomes of the socket.
        if self.line == Line::Up {
            self.ended = true;
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
        self.counters.connections.set(0);
        self.line = Line::Down(until);
    }

    fn connect(&mut self) {
        if let Some(ferries) = &mut self.ferries {
            ferries.ask();
            let gate = ferries.gate().as_raw_fd();
            if !replace(gate, &self.socket) {
                return self.fail();
            }
            (self.line, self.coming_since) = (Line::Coming, Instant::now());
            return;
        }
        if self.used && self.renew().is_err() {
            return self.fail();
        }
        self.used = true;
        match self.socket.connect(&self.config.to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(_) => return self.fail(),
        }
        if !self.watch() {
            return self.fail();
        }
        (self.line, self.coming_since) = (Line::Coming, Instant::now());
        self.watch_room(true);
    }

    /// Puts the socket into the set, where there is one.
    fn watch(&mut self) -> bool {
        let Some(called) = &mut self.called else { return true };
        (called.watched, called.room) = (called.poller.watch(self.socket.as_fd(), SOCKET).is_ok(), false);
        called.watched
    }

    fn replace_by(&self, new: &impl AsRawFd) -> bool {
        replace(new.as_raw_fd(), &self.socket)
    }

    /// Puts a new socket in the place of the old one, under the same number: that is the channel's
    /// readiness for life, where it is not a set.
    fn renew(&mut self) -> io::Result<()> {
        let new = new_socket(self.config.to)?;
        self.config.marking.prepare(new.as_fd())?;
        set_up(&new, &self.config)?;
        self.config.marking.mark_again(new.as_fd(), &self.qos);
        if self.replace_by(&new) { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether the attempt led to a receiver. Without one at a port of this machine, a socket may come to be
    /// connected with itself (RFC 9293, section 3.5: simultaneous open); that counts as nobody there.
    fn is_connected(&self) -> bool {
        let no_error = self.socket.take_error().is_ok_and(|error| error.is_none());
        let ends = [self.socket.local_addr(), self.socket.peer_addr()].map(|end| end.ok()?.as_socket());
        no_error && ends[1].is_some() && ends[0] != ends[1]
    }

    /// Whether the receiver has closed. It has nothing to say: what it says is read and dropped.
    fn has_ended(&self) -> bool {
        let mut bytes = [0u8; 512];
        // SAFETY: the bytes are live and of the length given.
        let read = unsafe {
            libc::recv(self.socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT)
        };
        match read {
            0 => true,
            1.. => false,
            _ => {
                let error = io::Error::last_os_error();
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    fn is_writable(&self, wait_ms: i32) -> bool {
        let mut asked = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one live entry.
        unsafe { libc::poll(&raw mut asked, 1, wait_ms) > 0 }
    }
}

fn refused(channel: &str, sentence: &dyn std::fmt::Display) -> PluginError {
    PluginError::new(PluginError::SYSTEM, format!("tcp channel \"{channel}\": {sentence}"))
}

/// Has the number of `old` mean what `new` means.
fn replace(new: RawFd, old: &Socket) -> bool {
    // SAFETY: both descriptors are open; the old one is ours, and closed by the call (dup2(2)).
    unsafe { libc::dup3(new, old.as_raw_fd(), libc::O_CLOEXEC) >= 0 }
}

fn set_up(socket: &Socket, config: &config::Egress) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(config.peer_timeout))?;
    keep_alive(socket, config.keepalive)?;
    set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, config.unsent)?;
    set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_SYNCNT, SYN_RETRIES)?;
    if let Some(bytes) = config.send_buffer {
        resize_buffer(socket.as_fd(), Buffer::Send, bytes)?;
    }
    Ok(())
}
