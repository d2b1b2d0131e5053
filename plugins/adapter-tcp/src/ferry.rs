//! One TLS connection: bytes carried between a TCP socket and a socket of this machine that the lane holds the
//! other end of. What is held here is bounded: nothing is read that could not be passed on.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use rustls::Connection as Session;
use socket2::{Domain, Socket, Type};
use tempos_sockets::{Buffer, resize_buffer};

/// Bytes that are held on the way to the lane, and on the way from it.
const HELD_BYTES: usize = 16 << 10;

/// The kernel's buffer on the way to the lane.
const TO_LANE_BYTES: usize = 64 << 10;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Open,
    /// It has ended as it should.
    Ended,
    /// The peer speaks no TLS.
    Malformed,
    /// The peer's certificate, or ours, was not taken.
    Untrusted,
}

/// A connection.
pub struct Ferry {
    tcp: Socket,
    session: Session,
    /// This side's end of the pair; none during the handshake.
    near: Option<Socket>,
    pub peer: SocketAddr,
    pub since: Instant,
    inward: Box<[u8]>,
    at: usize,
    end: usize,
    peer_ended: bool,
    lane_ended: bool,
}

impl Ferry {
    /// On a socket that is connected, or about to be.
    pub fn new(tcp: Socket, session: Session, peer: SocketAddr) -> Self {
        Ferry {
            tcp,
            session,
            near: None,
            peer,
            since: Instant::now(),
            inward: vec![0; HELD_BYTES].into_boxed_slice(),
            at: 0,
            end: 0,
            peer_ended: false,
            lane_ended: false,
        }
    }

    /// Whether the handshake is not over.
    pub fn is_young(&self) -> bool {
        self.near.is_none()
    }

    /// Makes the pair, once the handshake is over, with so large a kernel's buffer for what the lane sends; the
    /// answer is the lane's end.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn pair(&mut self, from_lane_bytes: usize) -> io::Result<OwnedFd> {
        let (near, far) = Socket::pair_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        near.set_send_buffer_size(TO_LANE_BYTES)?;
        resize_buffer(far.as_fd(), Buffer::Send, from_lane_bytes)?;
        self.near = Some(near);
        Ok(far.into())
    }

    /// Whether the handshake is over.
    pub fn is_greeted(&self) -> bool {
        !self.session.is_handshaking()
    }

    /// What it waits for, on the TCP socket and on the pair.
    pub fn interests(&self) -> [libc::pollfd; 2] {
        let held = self.at < self.end;
        let mut tcp = 0;
        if !held && !self.peer_ended {
            tcp |= libc::POLLIN;
        }
        if self.session.wants_write() {
            tcp |= libc::POLLOUT;
        }
        let mut near = 0;
        if held {
            near |= libc::POLLOUT;
        }
        if !self.session.wants_write() && !self.lane_ended {
            near |= libc::POLLIN;
        }
        let near_fd = self.near.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        [
            libc::pollfd { fd: self.tcp.as_raw_fd(), events: tcp, revents: 0 },
            libc::pollfd { fd: near_fd, events: near, revents: 0 },
        ]
    }

    /// Carries what can be carried now.
    pub fn carry(&mut self) -> State {
        match self.inwards() {
            Ok(State::Open) => {}
            Ok(other) => {
                // The peer is told why, where it listens.
                let _ = self.session.write_tls(&mut &self.tcp);
                return other;
            }
            Err(_) => return State::Ended,
        }
        if self.outwards().is_err() {
            return State::Ended;
        }
        let delivered = self.peer_ended && self.at == self.end;
        let said = self.lane_ended && !self.session.wants_write();
        if delivered || said { State::Ended } else { State::Open }
    }

    /// From the peer to the lane.
    fn inwards(&mut self) -> io::Result<State> {
        loop {
            while self.at < self.end {
                let Some(near) = &self.near else { return Ok(State::Open) };
                match (&mut &*near).write(&self.inward[self.at..self.end]) {
                    Ok(bytes) => self.at += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(State::Open),
                    Err(error) => return Err(error),
                }
            }
            if self.near.is_some() {
                match self.session.reader().read(&mut self.inward) {
                    Ok(0) => self.peer_ended = true,
                    Ok(bytes) => {
                        (self.at, self.end) = (0, bytes);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => self.peer_ended = true,
                }
            } else if self.is_greeted() {
                return Ok(State::Open);
            }
            if self.peer_ended || !self.session.wants_read() {
                return Ok(State::Open);
            }
            match self.session.read_tls(&mut &self.tcp) {
                Ok(0) if self.near.is_none() => return Ok(State::Ended),
                Ok(0) => {
                    self.peer_ended = true;
                    return Ok(State::Open);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(State::Open),
                Err(error) => return Err(error),
            }
            match self.session.process_new_packets() {
                Ok(_) => {}
                Err(
                    rustls::Error::InvalidCertificate(_)
                    | rustls::Error::NoCertificatesPresented
                    | rustls::Error::AlertReceived(_),
                ) => return Ok(State::Untrusted),
                Err(_) => return Ok(State::Malformed),
            }
        }
    }

    /// From the lane to the peer.
    fn outwards(&mut self) -> io::Result<()> {
        let mut outward = [0; HELD_BYTES];
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(&mut &self.tcp) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(near) = &self.near else { return Ok(()) };
            if self.lane_ended {
                return Ok(());
            }
            match (&mut &*near).read(&mut outward) {
                Ok(0) => {
                    self.lane_ended = true;
                    self.session.send_close_notify();
                }
                Ok(bytes) => self.session.writer().write_all(&outward[..bytes])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
