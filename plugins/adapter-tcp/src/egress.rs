//! Frames out by one connection, to a receiver that may not be there yet, may go, and may come back.
//!
//! Frames are written together, as many as the kernel takes. Of a frame that it takes in part, a copy is kept
//! until the rest is gone, so that the stream stays whole even where the host gives the frame up meanwhile;
//! the host hears that it is done when its last byte is. While there is no receiver, frames are given up and
//! counted; the next attempt comes after 100 ms, then after twice as long, up to 5 s.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::TxFrame;
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_sockets::{Buffer, resize_buffer, set_option};

use crate::config;
use crate::frames::{FRAME_BYTES_MAX, HEAD_BYTES};
use crate::sockets::{keep_alive, mark, mark_again, new_socket};

/// Frames of one system call.
const ROWS_MAX: usize = 64;
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// How long opening waits for a receiver that is there.
const OPENING_WAIT_MS: i32 = 200;
/// Requests for a connection that are repeated before it counts as refused: 15 s (tcp(7), TCP_SYNCNT).
const SYN_RETRIES: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Up,
    /// Asked for; the socket can be written to when there is an answer.
    Coming,
    /// There is none before that instant.
    Down(Instant),
}

/// A connection that frames leave by.
pub struct Egress {
    socket: Socket,
    /// Whether the socket was ever connected, or failed to be: it cannot be used again.
    used: bool,
    line: Line,
    delay: Duration,
    config: config::Egress,
    qos: LaneQos,
    frame_bytes_max: usize,
    /// A copy of the frame that was written in part.
    partial: Box<[u8]>,
    /// Of that copy: how much is written, and how long it is.
    written: usize,
    length: usize,
    counters: RArc<ChannelCounters>,
}

impl Egress {
    /// Connects. A receiver that is not there yet is no error.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: config::Egress) -> Result<Self, PluginError> {
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("tcp channel \"{}\": {what}", spec.name), error)
        };
        let socket = new_socket(config.to).map_err(|error| system("cannot make a TCP socket", &error))?;
        set_up(&socket, &config).map_err(|error| system("the socket cannot be set up", &error))?;
        let frame_bytes_max = spec.event_bytes_max.min(FRAME_BYTES_MAX) as usize;
        let mut egress = Egress {
            socket,
            used: false,
            line: Line::Down(Instant::now()),
            delay: DELAY_MIN,
            config,
            qos: LaneQos::unmarked(spec.qos.level),
            frame_bytes_max,
            partial: vec![0; HEAD_BYTES + frame_bytes_max].into_boxed_slice(),
            written: 0,
            length: 0,
            counters: spec.counters.clone(),
        };
        egress.line();
        if egress.line == Line::Coming {
            egress.is_writable(OPENING_WAIT_MS);
            egress.line();
        }
        Ok(egress)
    }

    pub fn readiness(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn address(&self) -> String {
        format!("tcp://{}", self.config.to)
    }

    pub fn set_qos(&mut self, qos: &LaneQos) -> QosGrant {
        self.qos = *qos;
        mark(&self.socket, qos)
    }

    pub fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let mut done = 0;
        // A connection that ends in this call is made anew once; what is then not sent waits or is given up.
        let mut attempts_left = 2;
        while done < frames.len() {
            let sent = match self.line() {
                Line::Up => self.send(&frames[done..]),
                Line::Coming => Err(io::ErrorKind::WouldBlock.into()),
                Line::Down(_) => {
                    self.counters.send_errors.add((frames.len() - done) as u64);
                    return Ok(frames.len());
                }
            };
            match sent {
                Ok(sent) => done += sent,
                Err(error) if is_of_the_frame(&error) || attempts_left == 0 => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(_) => {
                    attempts_left -= 1;
                    self.lose();
                }
            }
        }
        Ok(done)
    }

    /// Sends what is left of an earlier frame, then frames from the first on; how many are done.
    fn send(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        if self.length > 0 {
            while self.written < self.length {
                let rest = &self.partial[self.written..self.length];
                // SAFETY: the bytes are live for the call.
                let sent =
                    unsafe { libc::send(self.socket.as_raw_fd(), rest.as_ptr().cast(), rest.len(), FLAGS) };
                self.written += usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
            }
            let same = frames.first().is_some_and(|frame| is_frame(&self.partial[..self.length], frame));
            (self.written, self.length) = (0, 0);
            if same {
                return Ok(1);
            }
        }
        let fitting = frames.iter().take_while(|frame| frame.len() <= self.frame_bytes_max).count();
        match fitting {
            0 => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
            1 => self.write::<1>(&frames[..1]),
            _ => self.write::<ROWS_MAX>(&frames[..fitting.min(ROWS_MAX)]),
        }
    }

    /// One sendmsg(2) with up to `ROWS` frames, its tables on the stack.
    fn write<const ROWS: usize>(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let mut heads = [[0u8; HEAD_BYTES]; ROWS];
        let mut pieces = [[libc::iovec { iov_base: null_mut(), iov_len: 0 }; 3]; ROWS];
        for ((frame, head), row) in frames.iter().zip(&mut heads).zip(&mut pieces) {
            *head = (frame.len() as u32).to_be_bytes();
            *row = [&head[..], frame.head.as_slice(), frame.payload.as_slice()]
                .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        }
        // SAFETY: all zeroes is a value of the struct.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = pieces.as_mut_ptr().cast();
        header.msg_iovlen = frames.len() * 3;
        // SAFETY: the header points at the first rows, which point at frames that are live for the call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, FLAGS) };
        let mut left = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        for (done, frame) in frames.iter().enumerate() {
            let bytes = HEAD_BYTES + frame.len();
            if left < bytes {
                if left > 0 {
                    self.keep(frame, left);
                }
                // Nothing done: the kernel has no room for the rest of the first one.
                return if done > 0 { Ok(done) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            left -= bytes;
        }
        Ok(frames.len())
    }

    /// Keeps a copy of a frame of which `written` bytes are on their way.
    fn keep(&mut self, frame: &TxFrame<'_>, written: usize) {
        let (head, rest) = self.partial.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&(frame.len() as u32).to_be_bytes());
        let (first, second) = rest.split_at_mut(frame.head.len());
        first.copy_from_slice(frame.head.as_slice());
        second[..frame.payload.len()].copy_from_slice(frame.payload.as_slice());
        (self.written, self.length) = (written, HEAD_BYTES + frame.len());
    }

    /// Where the connection stands, after what can be done for it now.
    fn line(&mut self) -> Line {
        if self.line == Line::Up && self.has_ended() {
            self.lose();
        }
        if let Line::Down(until) = self.line
            && until <= Instant::now()
        {
            self.connect();
        }
        if self.line == Line::Coming && self.is_writable(0) {
            if self.is_connected() {
                (self.line, self.delay) = (Line::Up, DELAY_MIN);
                self.counters.connections.set(1);
            } else {
                self.fail();
            }
        }
        self.line
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

    /// The connection has ended: the next attempt may come at once.
    fn lose(&mut self) {
        (self.written, self.length) = (0, 0);
        self.counters.connections.set(0);
        self.line = Line::Down(Instant::now());
    }

    /// An attempt has failed: the next one has to wait.
    fn fail(&mut self) {
        self.line = Line::Down(Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }

    fn connect(&mut self) {
        if self.used && self.renew().is_err() {
            return self.fail();
        }
        self.used = true;
        match self.socket.connect(&self.config.to.into()) {
            Ok(()) => self.line = Line::Coming,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => self.line = Line::Coming,
            Err(_) => self.fail(),
        }
    }

    /// Puts a new socket in the place of the old one, under the same number: that is the channel's
    /// readiness for life.
    fn renew(&mut self) -> io::Result<()> {
        let new = new_socket(self.config.to)?;
        set_up(&new, &self.config)?;
        mark_again(&new, &self.qos);
        // SAFETY: both descriptors are ours; the old socket is closed by the call (dup2(2)).
        match unsafe { libc::dup3(new.as_raw_fd(), self.socket.as_raw_fd(), libc::O_CLOEXEC) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn is_writable(&self, wait_ms: i32) -> bool {
        let mut asked = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one live entry.
        unsafe { libc::poll(&raw mut asked, 1, wait_ms) > 0 }
    }
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

/// Whether the error says nothing against the connection.
fn is_of_the_frame(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether `bytes` are that frame, its length before it.
fn is_frame(bytes: &[u8], frame: &TxFrame<'_>) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return false };
    u32::from_be_bytes(*head) as usize == frame.len()
        && rest.len() == frame.len()
        && rest.starts_with(frame.head.as_slice())
        && rest.ends_with(frame.payload.as_slice())
}
