//! Frames out, to one receiver that may not be there yet, may go, and may come back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket, Type};
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::TxFrame;
use tempos_abi::std_types::RArc;
use tempos_sockets::{Buffer, Name, Sender, duplicate, resize_buffer};

use crate::channel::{is_of_type, new_socket, size};
use crate::config::Config;

const RECONNECT_EVERY: Duration = Duration::from_millis(100);
/// What the kernel's own bookkeeping may take of a buffer beside a frame.
const BUFFER_MARGIN_BYTES: usize = 16 << 10;

/// A socket that frames leave by.
pub struct Egress {
    socket: Socket,
    kind: Type,
    /// Where to connect to; none for a descriptor that was handed over without a path.
    target: Option<SockAddr>,
    address: String,
    connected: bool,
    /// Whether it ever was: a connection that has ended cannot be used again, a datagram socket can.
    used: bool,
    tried_at: Option<Instant>,
    send_buffer: Option<usize>,
    sender: Sender,
    counters: RArc<ChannelCounters>,
}

impl Egress {
    /// Adopts the predecessor's connection where it leads to the name asked for, or connects. A receiver
    /// that is not there yet is no error: it is looked for again when there is something to send.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: Config, inherited: Option<Socket>) -> Result<Self, PluginError> {
        let adopted = inherited.filter(|socket| match (&config.name, socket.peer_addr()) {
            (_, Err(_)) => false,
            (None, Ok(_)) => is_of_type(socket, Type::DGRAM) || is_of_type(socket, Type::SEQPACKET),
            (Some(name), Ok(peer)) => is_of_type(socket, config.kind) && name.is(&peer),
        });
        let connected = adopted.is_some();
        if !connected && config.name.is_none() {
            return Err(PluginError::bad_option(format!(
                "unix channel \"{}\": the descriptor handed over is not a connected unix socket, and there is no path",
                spec.name
            )));
        }
        let socket = match adopted {
            Some(socket) => socket,
            None => new_socket(&spec.name, config.kind)?,
        };
        let target =
            config.name.as_ref().map(Name::address).transpose().map_err(|error| {
                PluginError::system(format!("unix channel \"{}\": path", spec.name), &error)
            })?;
        let address = config.name.map_or_else(|| String::from("inherited"), |name| name.to_string());
        let mut egress = Egress {
            kind: socket.r#type().unwrap_or(config.kind),
            socket,
            target,
            address: format!("unix://{address}"),
            connected,
            used: connected,
            tried_at: None,
            send_buffer: config.send_buffer,
            sender: Sender::new(spec.batch_max as usize),
            counters: spec.counters.clone(),
        };
        size(&spec.name, &egress.socket, Buffer::Send, config.send_buffer)?;
        egress.make_room_for(spec.event_bytes_max as usize);
        if !connected {
            egress.reconnect();
        }
        egress.count();
        Ok(egress)
    }

    pub fn readiness(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Ends the connection, so that the receiver sees it.
    pub fn disconnect(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        (self.connected, self.tried_at) = (false, None);
        self.count();
    }

    /// Sends frames from the first on with one system call; how many.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn send_once(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        self.sender.send(self.socket.as_fd(), frames)
    }

    pub fn take_over(&mut self) -> RawFd {
        duplicate(self.socket.as_fd())
    }

    pub fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let mut done = 0;
        while done < frames.len() {
            if !self.connected && !self.reconnect() {
                // The host may have another receiver for them.
                return if done > 0 { Ok(done) } else { Err(io::Error::from_raw_os_error(libc::ENOTCONN)) };
            }
            match self.sender.send(self.socket.as_fd(), &frames[done..]) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                // The receiver went: the next round looks for its successor, for the same frame.
                Err(error) if is_gone(&error) => {
                    self.connected = false;
                    self.count();
                }
                // The host counts the first frame, and keeps the reason.
                Err(error) if done == 0 => return Err(error),
                Err(_) => {
                    self.counters.send_errors.add(1);
                    done += 1;
                }
            }
        }
        Ok(done)
    }

    /// Connects, at most every [`RECONNECT_EVERY`].
    pub fn reconnect(&mut self) -> bool {
        if self.target.is_none() || self.tried_at.is_some_and(|at| at.elapsed() < RECONNECT_EVERY) {
            return false;
        }
        self.tried_at = Some(Instant::now());
        if self.used && self.kind == Type::SEQPACKET && !self.renew() {
            return false;
        }
        self.connected = self.target.as_ref().is_some_and(|target| self.socket.connect(target).is_ok());
        self.used |= self.connected;
        self.count();
        self.connected
    }

    fn count(&self) {
        let connection = self.connected && self.kind == Type::SEQPACKET;
        self.counters.connections.set(u64::from(connection));
    }

    /// Puts a new socket in the place of the old one, under the same number: that is the channel's
    /// readiness for life.
    fn renew(&mut self) -> bool {
        let kind = self.kind.nonblocking().cloexec();
        let Ok(new) = Socket::new_raw(socket2::Domain::UNIX, kind, None) else { return false };
        if let Some(bytes) = self.send_buffer {
            let _ = resize_buffer(new.as_fd(), Buffer::Send, bytes);
        }
        // SAFETY: both descriptors are ours; the old socket is closed by the call (dup2(2)).
        unsafe { libc::dup3(new.as_raw_fd(), self.socket.as_raw_fd(), libc::O_CLOEXEC) >= 0 }
    }

    /// Without an option of the user's, the buffer holds at least the largest event.
    fn make_room_for(&mut self, event_bytes: usize) {
        let needed = event_bytes + BUFFER_MARGIN_BYTES;
        let given = self.socket.send_buffer_size().unwrap_or(0) / 2;
        if self.send_buffer.is_none() && given < needed {
            self.send_buffer = Some(needed);
            let _ = resize_buffer(self.socket.as_fd(), Buffer::Send, needed);
        }
    }
}

/// Whether the error says that there is no receiver.
pub fn is_gone(error: &io::Error) -> bool {
    const GONE: [i32; 5] = [libc::ECONNREFUSED, libc::ENOTCONN, libc::EPIPE, libc::ECONNRESET, libc::ENOENT];
    error.raw_os_error().is_some_and(|code| GONE.contains(&code))
}
