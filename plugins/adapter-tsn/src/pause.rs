//! What a gated channel waits for: that the gates have been changed, or that its socket has room.
//!
//! While the kernel takes a schedule it opens all gates, and where they were deleted there are none. Frames of this node
//! are held back meanwhile: the lane keeps them, by its own bounds.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempos_sockets::Poller;

/// How long after it was asked a channel asks again whether the gates have been changed.
const AGAIN: Duration = Duration::from_micros(200);
/// The socket in the set.
const SOCKET: u64 = 0;

/// The descriptor of a gated channel (`ChannelTraits::FLUSHES`), and what it waits for.
pub struct Pause {
    poller: Poller,
    changing: Arc<AtomicU32>,
    waits_for_gates: bool,
    waits_for_room: bool,
    /// Frames were sent or refused since the last look: that one is the host's habit, not an answer to the descriptor.
    fresh: bool,
}

impl Pause {
    /// Waits for nothing.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new(changing: Arc<AtomicU32>) -> io::Result<Self> {
        let poller = Poller::new()?;
        Ok(Pause { poller, changing, waits_for_gates: false, waits_for_room: false, fresh: false })
    }

    /// Readable when the host is to call.
    pub fn readiness(&self) -> RawFd {
        self.poller.readiness()
    }

    /// Whether frames are to be held back; the descriptor becomes readable after a while.
    pub fn holds(&mut self) -> bool {
        self.fresh = true;
        let holds = self.changing.load(Ordering::SeqCst) > 0;
        if holds {
            self.poller.ring_in(AGAIN);
            self.waits_for_gates = true;
        }
        holds
    }

    /// The socket took no more: the descriptor becomes readable when it does.
    pub fn wait_for_room(&mut self, socket: BorrowedFd<'_>) {
        if !self.waits_for_room {
            let watched = self.poller.watch(socket, SOCKET);
            self.waits_for_room = watched.and_then(|()| self.poller.watch_room(socket, SOCKET, true)).is_ok();
            if !self.waits_for_room {
                // Asked again after a while instead.
                self.poller.ring_in(AGAIN);
                self.waits_for_gates = true;
            }
        }
    }

    /// Takes note of what has come; `true`: the socket is to be asked for its errors.
    pub fn look(&mut self, socket: BorrowedFd<'_>) -> bool {
        // What is taken note of now would call nobody: the host has yet to wait.
        if std::mem::take(&mut self.fresh) || !(self.waits_for_gates || self.waits_for_room) {
            return false;
        }
        let count = self.poller.look().unwrap_or(0);
        let mut told = false;
        for at in 0..count {
            match self.poller.token(at) {
                Some(token) if Poller::is_timer(token) => {
                    self.poller.rang();
                    self.waits_for_gates = false;
                }
                Some(SOCKET) => {
                    self.poller.forget(socket);
                    self.waits_for_room = false;
                    told = true;
                }
                _ => {}
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn readable(pause: &Pause, wait_ms: libc::c_int) -> bool {
        let mut polled = libc::pollfd { fd: pause.readiness(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the array of one is live for the call.
        unsafe { libc::poll(&raw mut polled, 1, wait_ms) == 1 }
    }

    #[test]
    fn a_channel_is_called_again_while_gates_are_changed_and_not_after() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        let changing = Arc::new(AtomicU32::new(1));
        let mut pause = Pause::new(Arc::clone(&changing)).expect("descriptors");
        for _ in 0..3 {
            assert!(pause.holds());
            assert!(readable(&pause, 10_000), "it rings");
            assert!(!pause.look(socket.as_fd()) && readable(&pause, 0), "the host looks after each call");
            assert!(!pause.look(socket.as_fd()));
            assert!(!readable(&pause, 0), "it has been heard");
        }
        changing.store(0, Ordering::SeqCst);
        assert!(!pause.holds() && !readable(&pause, 5));
    }

    #[test]
    fn a_socket_with_room_is_told_once() {
        let (socket, other) = Socket::pair(Domain::UNIX, Type::DGRAM, None).expect("a pair");
        socket.set_nonblocking(true).expect("set");
        let mut pause = Pause::new(Arc::default()).expect("descriptors");
        while socket.send(&[0; 1024]).is_ok() {}
        pause.wait_for_room(socket.as_fd());
        pause.wait_for_room(socket.as_fd());
        assert!(!pause.look(socket.as_fd()) && !readable(&pause, 0), "it is full");
        let until = Instant::now() + Duration::from_secs(10);
        while !readable(&pause, 0) && Instant::now() < until {
            other.recv(&mut [std::mem::MaybeUninit::uninit(); 1024]).expect("one waits");
        }
        assert!(pause.look(socket.as_fd()), "it has room");
        assert!(!readable(&pause, 0));
    }
}
