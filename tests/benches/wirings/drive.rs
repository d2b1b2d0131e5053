//! Senders that keep to their rates, receivers with the kernel's stamps, and ordinary load.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::cases::{Addresses, Case, burst, entrance};

const EVENT_BYTES: usize = 256;
/// How long receivers wait for stragglers.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// How long the node may take to connect.
const JOINED: Duration = Duration::from_secs(10);
/// Senders run above all lanes, so that they keep to their rates.
const SENDER_PRIORITY: i32 = 60;

/// What one run brought.
pub struct Measured {
    /// Sorted.
    pub latencies_ns: Vec<u64>,
    /// Events of which a copy did not come.
    pub lost: usize,
}

/// The sockets of a case.
pub struct Scene {
    folder: PathBuf,
    entrance: SocketAddr,
    groups: Vec<Exit>,
    others: Vec<Exit>,
}

/// Tells runs apart.
static RUN: AtomicU32 = AtomicU32::new(1);

impl Scene {
    pub fn open(folder: &Path, case: &Case) -> Scene {
        let case_number = RUN.fetch_add(1, Ordering::Relaxed);
        let exits = |what: &str, count: usize| {
            let path = |at: usize| folder.join(format!("{what}{case_number}-{at}.out"));
            (0..count).map(|at| Exit::open(case.way, &path(at))).collect::<Vec<_>>()
        };
        // Free at this moment; the node takes it next.
        let entrance = local(&UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let (groups, others) = (exits("g", case.groups), exits("o", case.others.len()));
        Scene { folder: folder.into(), entrance, groups, others }
    }

    pub fn addresses(&self) -> Addresses {
        Addresses {
            entrance: self.entrance,
            groups: self.groups.iter().map(|exit| exit.lua.clone()).collect(),
            others: self.others.iter().map(|exit| exit.lua.clone()).collect(),
        }
    }

    /// Waits until the node is at every way out.
    pub fn join(&mut self) {
        self.groups.iter_mut().chain(&mut self.others).for_each(Exit::join);
    }

    /// Drives the case for so long.
    pub fn drive(&self, case: &Case, time: Duration, loaded: bool) -> Measured {
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let (sent_all, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let receivers: Vec<_> = self
                .groups
                .iter()
                .map(|exit| {
                    let sent_all = &sent_all;
                    scope.spawn(move || receive(exit.descriptor(), run, sent_all))
                })
                .collect();
            for exit in &self.others {
                scope.spawn(|| receive(exit.descriptor(), run, &sent_all));
            }
            if loaded {
                for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| compute(&enough));
                }
            }
            for (at, (_, rate)) in case.others.iter().enumerate() {
                let path = entrance(&self.folder, &format!("o{at}"));
                scope.spawn(move || send(&Way::unix(&path), run, *rate, burst(*rate, false), time));
            }
            let way = match case.way {
                "udp" => Way::udp(self.entrance),
                _ => Way::unix(&entrance(&self.folder, "t0")),
            };
            let sent = scope
                .spawn(move || send(&way, run, case.rate, case.burst(), time))
                .join()
                .expect("the sender ends");
            sent_all.store(true, Ordering::Release);
            let mut worst: BTreeMap<u32, (u64, usize)> = BTreeMap::new();
            for receiver in receivers {
                for (sequence, ns) in receiver.join().expect("the receiver ends") {
                    let entry = worst.entry(sequence).or_default();
                    *entry = (entry.0.max(ns), entry.1 + 1);
                }
            }
            enough.store(true, Ordering::Release);
            let mut latencies_ns: Vec<u64> =
                worst.values().filter(|(_, copies)| *copies == case.groups).map(|(ns, _)| *ns).collect();
            latencies_ns.sort_unstable();
            let lost = (sent as usize).saturating_sub(latencies_ns.len());
            Measured { latencies_ns, lost }
        })
    }
}

enum Way {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Way {
    fn udp(to: SocketAddr) -> Way {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(to).expect("an address");
        Way::Udp(socket)
    }

    fn unix(path: &Path) -> Way {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.connect(path).expect("the node listens");
        Way::Unix(socket)
    }

    fn send(&self, event: &[u8]) -> io::Result<usize> {
        match self {
            Way::Udp(socket) => socket.send(event),
            Way::Unix(socket) => socket.send(event),
        }
    }
}

/// Sends at a rate, so many at once each time; how many in all.
fn send(way: &Way, run: u32, rate: u32, burst: u32, time: Duration) -> u32 {
    fifo(SENDER_PRIORITY);
    let mut event = [0x5a; EVENT_BYTES];
    event[..4].copy_from_slice(&run.to_le_bytes());
    let begun = Instant::now() + Duration::from_millis(50);
    let count = (f64::from(rate) * time.as_secs_f64()) as u32;
    let mut sent = 0;
    for sequence in 0..count {
        let due = begun
            + Duration::from_nanos(u64::from(sequence - sequence % burst) * 1_000_000_000 / u64::from(rate));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        event[4..8].copy_from_slice(&sequence.to_le_bytes());
        event[8..16].copy_from_slice(&realtime_ns().to_le_bytes());
        sent += u32::from(way.send(&event).is_ok());
    }
    sent
}

fn receive(socket: RawFd, run: u32, sent_all: &AtomicBool) -> Vec<(u32, u64)> {
    let mut got = Vec::new();
    let mut last = Instant::now();
    loop {
        match stamped(socket) {
            Some((event, stamp_ns)) => {
                last = Instant::now();
                let word =
                    |at: usize| u32::from_le_bytes([event[at], event[at + 1], event[at + 2], event[at + 3]]);
                let sent_ns = u64::from(word(8)) | u64::from(word(12)) << 32;
                if word(0) == run {
                    got.push((word(4), stamp_ns.saturating_sub(sent_ns)));
                }
            }
            None if sent_all.load(Ordering::Acquire) && last.elapsed() > STRAGGLERS => return got,
            None => {}
        }
    }
}

/// Where events come out: a UDP socket, or a unix one that keeps frames apart.
struct Exit {
    /// As the script says it.
    lua: String,
    /// The one that listens, until the node is there; then the one that receives.
    socket: OwnedFd,
    listens: bool,
}

impl Exit {
    fn open(way: &str, path: &Path) -> Exit {
        if way == "udp" {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let lua = format!("tempos.udp {{ to = \"{}\" }}", local(&socket));
            stamps(socket.as_raw_fd());
            return Exit { lua, socket: socket.into(), listens: false };
        }
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
        socket.bind(&SockAddr::unix(path).expect("a path")).expect("it is free");
        socket.listen(1).expect("it listens");
        let lua = format!("tempos.unix {{ path = {path:?}, type = \"seqpacket\", send_buffer = \"4MiB\" }}");
        Exit { lua, socket: socket.into(), listens: true }
    }

    fn join(&mut self) {
        if std::mem::take(&mut self.listens) {
            let listening = Socket::from(self.socket.try_clone().expect("a descriptor"));
            listening.set_read_timeout(Some(JOINED)).expect("a limit");
            let (socket, _) = listening.accept().expect("the node connects");
            stamps(socket.as_raw_fd());
            self.socket = socket.into();
        }
    }

    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Has the kernel stamp what comes, and lets nobody wait for ever.
fn stamps(socket: RawFd) {
    let on: libc::c_int = 1;
    let bytes: libc::c_int = 4 << 20;
    let limit = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    let set = |option: libc::c_int, value: *const libc::c_void, size: usize| {
        // SAFETY: reads a value of that size, which outlives the call.
        let answer =
            unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, value, size as libc::socklen_t) };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    };
    set(libc::SO_TIMESTAMPNS, (&raw const on).cast(), size_of_val(&on));
    set(libc::SO_RCVBUF, (&raw const bytes).cast(), size_of_val(&bytes));
    set(libc::SO_RCVTIMEO, (&raw const limit).cast(), size_of_val(&limit));
}

/// The next event and when the kernel put it into the socket; none within the limit.
fn stamped(socket: RawFd) -> Option<([u8; EVENT_BYTES], u64)> {
    let mut event = [0; EVENT_BYTES];
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: event.as_mut_ptr().cast(), iov_len: EVENT_BYTES };
    // SAFETY: all zeroes are a valid msghdr; every pointer in it is to a live buffer of the length beside it, and
    // the control messages are read by the kernel's own macros within what it wrote.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        if libc::recvmsg(socket, &raw mut message, 0) < 16 {
            return None;
        }
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                return Some((event, time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    None
}

fn compute(enough: &AtomicBool) {
    let mut memory = vec![1_u8; 4 << 20];
    while !enough.load(Ordering::Relaxed) {
        for at in (0..memory.len()).step_by(64) {
            memory[at] = memory[at].wrapping_mul(31);
        }
        std::hint::black_box(&memory);
    }
}

fn fifo(priority: i32) {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: reads the structure. Where it is refused the sender is an ordinary thread.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter)
    };
}

fn realtime_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}

fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("it is bound")
}
