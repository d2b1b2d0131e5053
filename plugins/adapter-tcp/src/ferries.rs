//! The thread of a channel that speaks TLS: it makes connections, greets, and carries bytes, at ordinary priority,
//! so that the lane never allocates or computes for it. The lane gets sockets of this machine, by a bounded
//! ring, and uses them as it would use those of a network; what floods one fills that one's buffers only.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use socket2::Socket;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::std_types::RArc;

use crate::ferry::{Ferry, State};

/// Connections in their handshake at once.
const YOUNG_MAX: usize = 64;
/// Connections accepted in one round.
const NEW_PER_ROUND: usize = 16;
/// The kernel's buffer for frames of the lane, and for its answers, each of which may take a piece of its own.
const FRAMES_BYTES: usize = 64 << 10;
const ANSWERS_BYTES: usize = 1 << 20;
/// How long the thread rests where descriptors have run out.
const REST: Duration = Duration::from_millis(50);
/// How long the thread sleeps at most.
const ROUND_MS: i32 = 200;

/// A connection for the lane: its end, and who is at the other; none where an attempt failed.
pub type Arrival = Option<(OwnedFd, SocketAddr)>;

/// Whether connections are taken in or made.
pub enum Side {
    /// Taken in at a listener, up to so many.
    Server(Socket, Arc<ServerConfig>, usize),
    /// Made, one at a time, whenever the lane asks: how a socket is set up, and where it leads.
    Client(Arc<ClientConfig>, ServerName<'static>, SocketAddr, Box<dyn FnMut() -> io::Result<Socket> + Send>),
}

impl Side {
    /// The most connections, greeted or not. A listener's lane says which of those that were greeted stay.
    fn most(&self) -> usize {
        match self {
            Side::Server(_, _, connections) => connections + YOUNG_MAX,
            Side::Client(..) => 2,
        }
    }
}

/// The lane's side of the thread.
pub struct Ferries {
    arrivals: Consumer<Arrival>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Wakes the thread.
    bell: OwnedFd,
    /// Readable for the lane while arrivals are in the ring.
    news: OwnedFd,
    /// Writable when there is an answer to what the lane asked for.
    gate: OwnedFd,
    asked: AtomicBool,
    stop: AtomicBool,
}

impl Ferries {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says (EMFILE, EAGAIN).
    pub fn start(side: Side, patience: Duration, counters: RArc<ChannelCounters>) -> io::Result<Self> {
        let capacity = side.most();
        let (producer, arrivals) = RingBuffer::new(capacity);
        let shared = Arc::new(Shared {
            bell: event()?,
            news: event()?,
            gate: event()?,
            asked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut crew = Crew {
            side,
            patience,
            ferries: Vec::new(),
            arrivals: producer,
            shared: shared.clone(),
            counters,
            asked: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("tempos-tls".into()).spawn(move || crew.run())?;
        Ok(Ferries { arrivals, shared, thread: Some(thread) })
    }

    /// Readable while [`Ferries::next`] has something.
    pub fn news(&self) -> BorrowedFd<'_> {
        self.shared.news.as_fd()
    }

    /// Not writable from [`Ferries::ask`] on until there is an answer.
    pub fn gate(&self) -> BorrowedFd<'_> {
        self.shared.gate.as_fd()
    }

    /// Asks for a connection; what came of earlier questions is dropped. Never blocks or allocates.
    pub fn ask(&mut self) {
        while self.next().is_some() {}
        quiet(&self.shared.gate);
        ring_by(&self.shared.gate, u64::MAX - 1);
        self.shared.asked.store(true, Ordering::Release);
        ring_by(&self.shared.bell, 1);
    }

    /// What has arrived. Never blocks or allocates.
    pub fn next(&mut self) -> Option<Arrival> {
        let next = self.arrivals.pop().ok();
        if self.arrivals.is_empty() {
            quiet(&self.shared.news);
            // What arrived in between is not missed.
            if !self.arrivals.is_empty() {
                ring_by(&self.shared.news, 1);
            }
        }
        next
    }
}

impl Drop for Ferries {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        ring_by(&self.shared.bell, 1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Crew {
    side: Side,
    /// How long a handshake may take.
    patience: Duration,
    ferries: Vec<Ferry>,
    arrivals: Producer<Arrival>,
    shared: Arc<Shared>,
    counters: RArc<ChannelCounters>,
    asked: Vec<libc::pollfd>,
}

impl Crew {
    fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.wait();
            quiet(&self.shared.bell);
            self.begin();
            let mut row = 0;
            while row < self.ferries.len() {
                if self.carry(row) {
                    row += 1;
                } else {
                    self.ferries.swap_remove(row);
                }
            }
        }
        // What the lane has left in the pairs still leaves, as far as the peers take it.
        for ferry in &mut self.ferries {
            ferry.carry();
        }
    }

    fn wait(&mut self) {
        let readable = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.asked.clear();
        self.asked.push(readable(self.shared.bell.as_raw_fd()));
        if let Side::Server(listener, ..) = &self.side {
            let room = self.ferries.len() < self.side.most() && self.young() < YOUNG_MAX;
            self.asked.push(readable(if room { listener.as_raw_fd() } else { -1 }));
        }
        self.asked.extend(self.ferries.iter().flat_map(Ferry::interests));
        // SAFETY: the array is live and of the length given.
        unsafe { libc::poll(self.asked.as_mut_ptr(), self.asked.len() as _, ROUND_MS) };
    }

    fn young(&self) -> usize {
        self.ferries.iter().filter(|ferry| ferry.is_young()).count()
    }

    /// Takes in, or makes, what is to be.
    fn begin(&mut self) {
        let (young, most) = (self.young(), self.side.most());
        match &mut self.side {
            Side::Server(listener, config, _) => {
                for _ in young..YOUNG_MAX.min(young + NEW_PER_ROUND) {
                    if self.ferries.len() >= most {
                        break;
                    }
                    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                    let (socket, peer) = match listener.accept4(flags) {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                                std::thread::sleep(REST);
                            }
                            break;
                        }
                    };
                    let session = ServerConnection::new(config.clone());
                    let (Some(peer), Ok(session)) = (peer.as_socket(), session) else { continue };
                    let _ = socket.set_tcp_nodelay(true);
                    self.ferries.push(Ferry::new(socket, session.into(), peer));
                }
            }
            Side::Client(config, name, to, make) => {
                if !self.shared.asked.swap(false, Ordering::AcqRel) {
                    return;
                }
                // The one before has gone, or the lane would not ask.
                self.ferries.retain(|ferry| !ferry.is_young());
                let made = make().and_then(|socket| match socket.connect(&(*to).into()) {
                    Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                    _ => Ok(socket),
                });
                match (made, ClientConnection::new(config.clone(), name.clone())) {
                    (Ok(socket), Ok(session)) => self.ferries.push(Ferry::new(socket, session.into(), *to)),
                    _ => {
                        self.arrive(None);
                    }
                }
            }
        }
    }

    /// Carries for one connection; whether it goes on.
    fn carry(&mut self, row: usize) -> bool {
        let from_lane_bytes =
            if matches!(self.side, Side::Server(..)) { ANSWERS_BYTES } else { FRAMES_BYTES };
        let ferry = &mut self.ferries[row];
        let was_young = ferry.is_young();
        let mut state = ferry.carry();
        if state == State::Open && was_young {
            if ferry.is_greeted() {
                match ferry.pair(from_lane_bytes) {
                    Ok(far) => {
                        let peer = ferry.peer;
                        if !self.arrive(Some((far, peer))) {
                            self.counters.refused.add(1);
                            return false;
                        }
                        state = self.ferries[row].carry();
                    }
                    Err(_) => state = State::Ended,
                }
            } else if ferry.since.elapsed() >= self.patience {
                state = State::Untrusted;
            }
        }
        match state {
            State::Open => return true,
            State::Ended => {}
            State::Malformed => self.counters.malformed.add(1),
            State::Untrusted => self.counters.refused.add(1),
        }
        if was_young && matches!(self.side, Side::Client(..)) && self.ferries[row].is_young() {
            self.arrive(None);
        }
        false
    }

    fn arrive(&mut self, arrival: Arrival) -> bool {
        let fits = self.arrivals.push(arrival).is_ok();
        ring_by(&self.shared.news, 1);
        quiet(&self.shared.gate);
        fits
    }
}

fn event() -> io::Result<OwnedFd> {
    // SAFETY: the call makes a new descriptor and touches nothing else.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // SAFETY: the descriptor was just made and belongs to nobody else.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

fn ring_by(bell: &OwnedFd, word: u64) {
    // SAFETY: eight live bytes, as eventfd(2) asks for.
    unsafe { libc::write(bell.as_raw_fd(), (&raw const word).cast(), 8) };
}

fn quiet(bell: &OwnedFd) {
    let mut word = 0u64;
    // SAFETY: as above.
    unsafe { libc::read(bell.as_raw_fd(), (&raw mut word).cast(), 8) };
}
