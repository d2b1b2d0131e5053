//! The limit: the bare system calls, without anybody between, and with a process that only forwards.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};

use super::sockets::{Datagrams, Messages, bound};
use super::{System, granted};
use crate::client::{Consumer, Flow, Producer};
use crate::machine::Layout;
use crate::process::{Process, free_port};

/// Names in the tables.
pub const DIRECT: &str = "bare-udp";
/// One recvfrom(2) and one sendto(2) for each event.
pub const FORWARDER: &str = "bare-forwarder";
/// recvmmsg(2) and sendmmsg(2) with the batches that TEMPOS has.
pub const BATCHES: &str = "bare-batches";

const BATCH: usize = 64;

struct Bare {
    name: &'static str,
    runs_as: String,
    /// For each flow: where the producer sends to, where the consumer receives.
    ports: [(u16, u16); 3],
    processes: Vec<Process>,
}

fn index(flow: Flow) -> usize {
    match flow {
        Flow::Strict => 0,
        Flow::Bulk => 1,
        Flow::Rate => 2,
    }
}

/// Nobody between.
pub fn direct(_layout: &Layout) -> io::Result<Box<dyn System>> {
    let mut ports = [(0, 0); 3];
    for pair in &mut ports {
        let port = free_port()?;
        *pair = (port, port);
    }
    Ok(Box::new(Bare { name: DIRECT, runs_as: String::from("nobody between"), ports, processes: Vec::new() }))
}

/// A process for each flow that forwards one event at a time: the strict one as a strict lane runs, the other as
/// a best-effort one, on the same CPU.
pub fn forwarder(layout: &Layout) -> io::Result<Box<dyn System>> {
    forwarders(FORWARDER, "plain", layout)
}

/// The same in batches.
pub fn batches(layout: &Layout) -> io::Result<Box<dyn System>> {
    forwarders(BATCHES, "batches", layout)
}

fn forwarders(name: &'static str, manner: &str, layout: &Layout) -> io::Result<Box<dyn System>> {
    let mut ports = [(0, 0); 3];
    let mut processes = Vec::new();
    for (at, pair) in ports.iter_mut().enumerate() {
        *pair = (free_port()?, free_port()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role:forwarder", manner, &pair.0.to_string(), &pair.1.to_string()]);
        let log = crate::node::folder("bare")?.join(format!("{manner}{at}.log"));
        let pinned = match at {
            0 => Some(layout.clone()),
            1 => Some(Layout { real_time: false, ..layout.clone() }),
            _ => None,
        };
        processes.push(Process::start(&mut command, &log, pinned.as_ref())?);
    }
    Ok(Box::new(Bare {
        name,
        runs_as: granted(layout).replace("the whole process", "the strict one"),
        ports,
        processes,
    }))
}

impl System for Bare {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runs_as(&self) -> String {
        self.runs_as.clone()
    }

    fn pid(&self) -> Option<u32> {
        // The one of the flow that is measured last: the scene `rate`; the strict one otherwise.
        self.processes.last().map(Process::pid)
    }

    fn has(&self, flow: Flow) -> bool {
        flow != Flow::Rate || self.name == BATCHES
    }

    fn producer(&self, flow: Flow) -> io::Result<Box<dyn Producer>> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", self.ports[index(flow)].0))?;
        Ok(Box::new(Datagrams::new(socket, false)))
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        let sockets: Result<Vec<_>, io::Error> =
            flows.iter().map(|flow| bound(self.ports[index(*flow)].1).map(Into::into)).collect();
        Ok(Box::new(Messages::new(sockets?)))
    }

    fn window(&self) -> Option<u64> {
        Some(1024)
    }
}

/// The forwarding process.
pub fn play(rest: &[String]) -> ExitCode {
    let [manner, from, to] = rest else { return ExitCode::from(64) };
    let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else { return ExitCode::from(64) };
    let _ = match manner.as_str() {
        "plain" => one_by_one(from, to),
        _ => in_batches(from, to),
    };
    ExitCode::FAILURE
}

fn one_by_one(from: u16, to: u16) -> io::Result<()> {
    let (input, output) = (bound(from)?, UdpSocket::bind("127.0.0.1:0")?);
    let mut buffer = [0; 2048];
    loop {
        let length = input.recv(&mut buffer)?;
        // Nobody there is no reason to end.
        let _ = output.send_to(&buffer[..length], ("127.0.0.1", to));
    }
}

fn in_batches(from: u16, to: u16) -> io::Result<()> {
    let (input, output) = (bound(from)?, UdpSocket::bind("127.0.0.1:0")?);
    output.connect(("127.0.0.1", to))?;
    let mut buffers = vec![[0u8; 2048]; BATCH];
    loop {
        let mut pieces: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
            iov_base: buffers[at].as_mut_ptr().cast(),
            iov_len: 2048,
        });
        // SAFETY: all zeroes are values of the struct.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (header, piece) in headers.iter_mut().zip(&mut pieces) {
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (rows, flags) = (headers.as_mut_ptr(), libc::MSG_WAITFORONE);
        // SAFETY: the headers point at live buffers of the lengths that they give.
        let got = unsafe {
            libc::recvmmsg(input.as_raw_fd(), rows, BATCH as u32, flags as _, std::ptr::null_mut())
        };
        let Ok(got) = usize::try_from(got) else { continue };
        for at in 0..got {
            pieces[at].iov_len = headers[at].msg_len as usize;
        }
        let mut sent = 0;
        while sent < got {
            let rest = headers[sent..].as_mut_ptr();
            // SAFETY: as above.
            match unsafe { libc::sendmmsg(output.as_raw_fd(), rest, (got - sent) as u32, 0) } {
                more @ 1.. => sent += more as usize,
                _ => sent += 1,
            }
        }
    }
}
