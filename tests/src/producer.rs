//! A producer: sends numbered frames into a node, as fast as it can, paced by what arrives, or at a rate.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::sequence::frame;
use crate::wait::LIVENESS;

/// A sender of numbered frames.
#[derive(Debug)]
pub struct Producer {
    id: u32,
    sent: u64,
    socket: Socket,
}

impl Producer {
    /// Sends datagrams to an address of this machine.
    ///
    /// # Panics
    /// When there is no socket for it.
    pub fn udp(id: u32, to: SocketAddr) -> Producer {
        Producer::connected(id, Domain::for_address(to), Type::DGRAM, &to.into())
    }

    /// Sends datagrams to a unix socket; waits where the node does not take them.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn datagram(id: u32, to: &Path) -> Producer {
        Producer::connected(id, Domain::UNIX, Type::DGRAM, &SockAddr::unix(to).expect("a short path"))
    }

    /// Sends over a seqpacket connection; waits where the node does not take the frames.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn seqpacket(id: u32, to: &Path) -> Producer {
        Producer::connected(id, Domain::UNIX, Type::SEQPACKET, &SockAddr::unix(to).expect("a short path"))
    }

    fn connected(id: u32, domain: Domain, kind: Type, to: &SockAddr) -> Producer {
        let socket = Socket::new(domain, kind, None).expect("a socket");
        socket.connect(to).expect("the node listens");
        Producer { id, sent: 0, socket }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The socket, for frames that have no number.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends the next frame.
    ///
    /// # Panics
    /// When the node does not listen any more.
    pub fn send(&mut self) {
        self.socket.send(&frame(self.id, self.sent)).expect("the node listens");
        self.sent += 1;
    }

    /// Sends that many frames as fast as it can.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn flood(&mut self, count: u64) {
        for _ in 0..count {
            self.send();
        }
    }

    /// Sends that many frames and never has more than `window` of all that it ever sent under way;
    /// `arrived` says how many of them have come out.
    ///
    /// # Panics
    /// When nothing comes out for [`LIVENESS`].
    pub fn send_windowed(&mut self, count: u64, window: u64, arrived: impl Fn() -> u64) {
        let end = self.sent + count;
        while self.sent < end {
            let until = end.min(arrived() + window);
            while self.sent < until {
                self.send();
            }
            if self.sent == end {
                return;
            }
            // Half a window of air, so that the threads do not change places for every frame.
            let (start, before) = (Instant::now(), arrived());
            while self.sent + window / 2 > arrived() + window {
                if arrived() == before {
                    assert!(
                        start.elapsed() < LIVENESS,
                        "{before} of {} frames came out, then none",
                        self.sent
                    );
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    /// Sends frames at a rate until `stop` says so. A pause of the machine is not made up for by a burst of
    /// more than a hundredth of a second.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_at_rate(&mut self, per_second: u32, mut stop: impl FnMut() -> bool) {
        let tick = Duration::from_millis(2);
        let (mut due, mut last) = (0.0, Instant::now());
        while !stop() {
            let now = Instant::now();
            let most = f64::from(per_second) / 100.0;
            due = (due + now.duration_since(last).as_secs_f64() * f64::from(per_second)).min(most);
            last = now;
            while due >= 1.0 {
                self.send();
                due -= 1.0;
            }
            std::thread::sleep(tick);
        }
    }
}
