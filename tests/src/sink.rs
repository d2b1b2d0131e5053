//! A consumer: takes what a node sends to a socket and keeps account of it. It can be told to hold, as a
//! consumer that is slow or stuck.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::sequence::Ledger;
use crate::wait::eventually;

const POLL_MS: i32 = 20;

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    held: AtomicBool,
    stop: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// A consumer on a thread of its own, ended when dropped.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Receives datagrams at a path.
    ///
    /// # Panics
    /// When the socket cannot be bound.
    pub fn datagram(path: &Path) -> Sink {
        Sink::start(bound(path, Type::DGRAM), false)
    }

    /// Accepts seqpacket connections at a path.
    ///
    /// # Panics
    /// When the socket cannot be bound.
    pub fn seqpacket(path: &Path) -> Sink {
        let socket = bound(path, Type::SEQPACKET);
        socket.listen(16).expect("a bound socket can listen");
        Sink::start(socket, true)
    }

    fn start(socket: Socket, listens: bool) -> Sink {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(String::from("sink"))
            .spawn(move || run(&of_thread, &socket, listens))
            .expect("a thread can be started");
        Sink { shared, thread: Some(thread) }
    }

    /// Frames received so far, whatever they were.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Acquire)
    }

    /// Takes nothing any more; what comes waits in the socket, then in the node.
    pub fn hold(&self) {
        self.shared.held.store(true, Ordering::Release);
        // The thread may be in a call that takes one more frame: its next look is after this pause.
        std::thread::sleep(std::time::Duration::from_millis(3 * POLL_MS as u64));
    }

    /// Goes on.
    pub fn release(&self) {
        self.shared.held.store(false, Ordering::Release);
    }

    /// The account so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many frames have come, and gives back the account.
    ///
    /// # Panics
    /// When nothing more comes for [`LIVENESS`](crate::LIVENESS).
    pub fn wait_for(&self, count: u64) -> Ledger {
        while self.received() < count {
            let before = self.received();
            eventually(&format!("more than {before} of {count} frames at the sink"), || {
                (self.received() > before).then_some(())
            });
        }
        self.ledger()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bound(path: &Path, kind: Type) -> Socket {
    let socket = Socket::new(Domain::UNIX, kind, None).expect("a socket");
    let address = SockAddr::unix(path).expect("the path of a socket is short");
    socket.bind(&address).expect("the path is free");
    socket.set_nonblocking(true).expect("a socket's flag");
    socket
}

fn run(shared: &Shared, socket: &Socket, listens: bool) {
    // Oldest first: what an earlier connection still holds comes before what a later one brings.
    let mut connections: Vec<Socket> = Vec::new();
    let mut buffer = vec![0; 70_000];
    while !shared.stop.load(Ordering::Acquire) {
        if shared.held.load(Ordering::Acquire) {
            std::thread::sleep(std::time::Duration::from_millis(POLL_MS as u64));
            continue;
        }
        wait_for_any(std::iter::once(socket).chain(&connections));
        if listens {
            while let Ok((connection, _)) = socket.accept() {
                connection.set_nonblocking(true).expect("a socket's flag");
                connections.push(connection);
            }
            connections.retain(|connection| take(shared, connection, &mut buffer));
        } else {
            take(shared, socket, &mut buffer);
        }
    }
}

/// Takes what is there; `false` where the other end has closed.
fn take(shared: &Shared, socket: &Socket, buffer: &mut [u8]) -> bool {
    for _ in 0..256 {
        if shared.held.load(Ordering::Acquire) {
            return true;
        }
        match std::io::Read::read(&mut &*socket, buffer) {
            // The end of a connection; no test sends empty frames to a sink.
            Ok(0) => return false,
            Ok(len) => {
                shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).note(&buffer[..len]);
                shared.received.fetch_add(1, Ordering::Release);
            }
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}

fn wait_for_any<'a>(sockets: impl Iterator<Item = &'a Socket>) {
    let mut polled: Vec<libc::pollfd> = sockets
        .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: the pointer and the length are those of a live array.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, POLL_MS) };
}
