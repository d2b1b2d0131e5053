//! The bare forwarders: what a node does with an event that it only passes on, and nothing else. Each is a
//! process of its own, as the node is, started from this very program.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::batch::Batch;
use crate::machine::{self, FORWARDER_PRIORITY, Layout};
use crate::ring;

/// The first argument of a program that is to be a forwarder.
const MARK: &str = "--bare-forwarder";

/// How it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// `recvfrom` waits, `sendto`.
    Plain,
    /// `epoll_wait` waits, `recvfrom`, `sendto`: what any program with more than one socket does.
    Epoll,
    /// `recvfrom` waits, `sendto` to a unix datagram socket.
    ToUnix,
    /// `recvmmsg` waits for one and takes 32, `sendmmsg`; an ordinary thread.
    Batches,
    /// `io_uring_enter` sends what came and waits for more.
    Ring,
    /// The same as an ordinary thread.
    RingOrdinary,
}

impl Manner {
    const ALL: [(Manner, &'static str); 6] = [
        (Manner::Plain, "plain"),
        (Manner::Epoll, "epoll"),
        (Manner::ToUnix, "unix"),
        (Manner::Batches, "batches"),
        (Manner::Ring, "ring"),
        (Manner::RingOrdinary, "ring-ordinary"),
    ];

    fn word(self) -> &'static str {
        Manner::ALL.iter().find(|entry| entry.0 == self).map_or("", |entry| entry.1)
    }
}

/// A running forwarder; ended when dropped.
pub struct Forwarder {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Forwarder {
    /// Starts one that sends to `to`: an address, or a path where the manner is for that.
    pub fn start(manner: Manner, to: &str, layout: &Layout) -> Forwarder {
        let mut process = Command::new(std::env::current_exe().expect("a running program has a path"))
            .args([MARK, manner.word(), to, &layout.forwarder_cpu.to_string(), &layout.real_time.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("the forwarder said {line:?}"));
        Forwarder { process, address }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this process was started to be a forwarder.
pub fn is_asked_for() -> bool {
    std::env::args().nth(1).is_some_and(|argument| argument == MARK)
}

/// The body of a forwarder's process: it forwards until it is killed, or its parent ends.
pub fn main() -> ! {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [manner, to, cpu, real_time] = &arguments[..] else { panic!("{arguments:?}") };
    let manner = Manner::ALL.iter().find(|entry| entry.1 == manner).expect("a manner").0;
    // SAFETY: takes integers. The process must not outlive a bench that was interrupted.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    // SAFETY: takes integers; a refusal leaves pages as they are, which are touched by then.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
    machine::pin(cpu.parse().expect("a CPU")).expect("the CPU is there");
    if real_time == "true" && !matches!(manner, Manner::Batches | Manner::RingOrdinary) {
        machine::fifo(FORWARDER_PRIORITY).expect("it was granted before");
    }
    let address = socket.local_addr().expect("it is bound");
    writeln!(std::io::stdout(), "{address}").expect("somebody listens");
    match manner {
        Manner::Plain => plain(&socket, to.parse().expect("an address")),
        Manner::Epoll => epoll(&socket, to.parse().expect("an address")),
        Manner::ToUnix => to_unix(&socket, &PathBuf::from(to)),
        Manner::Batches => batches(&socket, to.parse().expect("an address")),
        Manner::Ring | Manner::RingOrdinary => ring::forward(&socket, to.parse().expect("an address")),
    }
}

fn plain(socket: &UdpSocket, to: SocketAddr) -> ! {
    let mut buffer = [0; 65_536];
    loop {
        if let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], to);
        }
    }
}

fn epoll(socket: &UdpSocket, to: SocketAddr) -> ! {
    let mut buffer = [0; 65_536];
    // SAFETY: the calls read and write the structures that are passed; the descriptors are this process's.
    let set = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    // SAFETY: as above.
    unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
    loop {
        // SAFETY: as above; there is room for one event.
        if unsafe { libc::epoll_wait(set, &raw mut event, 1, -1) } == 1
            && let Ok((len, _)) = socket.recv_from(&mut buffer)
        {
            let _ = socket.send_to(&buffer[..len], to);
        }
    }
}

fn to_unix(socket: &UdpSocket, to: &std::path::Path) -> ! {
    let out = UnixDatagram::unbound().expect("a socket");
    let mut buffer = [0; 65_536];
    loop {
        if let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let _ = out.send_to(&buffer[..len], to);
        }
    }
}

fn batches(socket: &UdpSocket, to: SocketAddrV4) -> ! {
    let mut batch = Batch::new(to);
    loop {
        let count = batch.receive(socket.as_raw_fd(), libc::MSG_WAITFORONE);
        batch.pass_on(socket.as_raw_fd(), count);
    }
}
