//! TEMPOS, over each of its adapters for one machine: a node with a strict, a best-effort and a throughput lane.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sockets::{
    Datagrams, LengthPrefixed, Messages, StreamConsumer, StreamProducer, bound, connect, readable,
};
use super::{BEFORE, System};
use crate::client::{Consumer, Flow, Producer};
use crate::event::EVENT_BYTES;
use crate::machine::Layout;
use crate::node::{self, Node};
use crate::process::free_port;

const FLOWS: [Flow; 3] = [Flow::Strict, Flow::Bulk, Flow::Rate];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Unix,
    Tcp,
    Shm,
}

struct Tempos {
    name: &'static str,
    way: Way,
    ports: [(u16, u16); 3],
    node: Node,
}

/// The levels of every node of the bench. The one for throughput waits up to `linger` for a full batch: each write
/// less spares a consumer that keeps up a wake-up, the dearest part of a hop.
pub fn levels(layout: &Layout) -> String {
    let cpu = layout.forwarder_cpu;
    format!(
        "tempos.qos \"strict\" {{ cpus = {{ {cpu} }} }}\n\
         tempos.qos \"best-effort\" {{ cpus = {{ {cpu} }} }}\n\
         tempos.qos \"rate\" {{ rank = 100, batch = 128, linger = \"100us\",\n\
         queue = {{ capacity = 8192, bytes = \"8MiB\", full = \"block\" }} }}\n"
    )
}

/// Over UDP.
pub fn udp(layout: &Layout) -> io::Result<Box<dyn System>> {
    start("tempos-udp", Way::Udp, layout, node::built())
}

/// Over unix sockets: datagrams, and a seqpacket connection at the highest rate.
pub fn unix(layout: &Layout) -> io::Result<Box<dyn System>> {
    start("tempos-unix", Way::Unix, layout, node::built())
}

/// Over TCP.
pub fn tcp(layout: &Layout) -> io::Result<Box<dyn System>> {
    start("tempos-tcp", Way::Tcp, layout, node::built())
}

/// Over shared memory.
pub fn shm(layout: &Layout) -> io::Result<Box<dyn System>> {
    start("tempos-shm", Way::Shm, layout, node::built())
}

/// One of another build, by its name in [`BEFORE`]; that build's programs and plugins lie in a folder.
pub fn before(name: &'static str, programs: &Path, layout: &Layout) -> io::Result<Box<dyn System>> {
    let ways = [Way::Udp, Way::Unix, Way::Tcp, Way::Shm];
    let way = BEFORE.iter().position(|known| *known == name).map_or(Way::Udp, |at| ways[at]);
    start(name, way, layout, programs.to_owned())
}

fn start(name: &'static str, way: Way, layout: &Layout, programs: PathBuf) -> io::Result<Box<dyn System>> {
    let mut ports = [(0, 0); 3];
    for pair in &mut ports {
        *pair = (free_port()?, free_port()?);
    }
    let folder = node::folder(name)?;
    let mut wiring = levels(layout);
    for (flow, (into, out)) in FLOWS.into_iter().zip(ports) {
        let topic = flow.topic();
        let qos = if flow == Flow::Bulk { "best-effort" } else { topic };
        let path = |end: &str| path(&folder, flow, end).display().to_string();
        let (ingress, egress) = match way {
            Way::Udp => {
                let bundles = if flow == Flow::Rate { ", bundles = true" } else { "" };
                (
                    format!("tempos.udp {{ bind = \"127.0.0.1:{into}\"{bundles} }}"),
                    format!("tempos.udp {{ to = \"127.0.0.1:{out}\" }}"),
                )
            }
            Way::Unix => (
                format!("tempos.unix {{ path = \"{}\" }}", path("in")),
                format!("tempos.unix {{ path = \"{}\" }}", path("out")),
            ),
            Way::Shm => {
                // At the highest rate a ring that holds what a lane may.
                let more = if flow == Flow::Rate { ", capacity = \"2MiB\"" } else { "" };
                (
                    format!("tempos.shm {{ path = \"{}\"{more} }}", path("in")),
                    format!("tempos.shm {{ path = \"{}\"{more} }}", path("out")),
                )
            }
            Way::Tcp => {
                let more = if flow == Flow::Rate { ", unsent = \"1MiB\"" } else { "" };
                (
                    format!("tempos.tcp {{ bind = \"127.0.0.1:{into}\" }}"),
                    format!("tempos.tcp {{ to = \"127.0.0.1:{out}\"{more} }}"),
                )
            }
        };
        wiring += &format!(
            "tempos.topic \"{topic}\" {{ qos = \"{qos}\", ingress = {{ {ingress} }}, egress = {{ {egress} }} }}\n"
        );
    }
    let node = Node::of(programs, name, &wiring, |_| {})?;
    Ok(Box::new(Tempos { name, way, ports, node }))
}

fn path(folder: &Path, flow: Flow, end: &str) -> PathBuf {
    folder.join(format!("{}-{end}", flow.topic()))
}

fn at(flow: Flow) -> usize {
    FLOWS.iter().position(|known| *known == flow).unwrap_or(0)
}

impl System for Tempos {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runs_as(&self) -> String {
        let levels = self.node.ctl(&["levels"]).unwrap_or_default();
        let of = |name: &str| {
            let level = levels.as_array().and_then(|all| all.iter().find(|l| l["name"] == name).cloned());
            level.unwrap_or_default()["Granted"].as_str().unwrap_or("nothing").to_owned()
        };
        format!("strict lane {}, best-effort lane {}", of("strict"), of("best-effort"))
    }

    fn pid(&self) -> Option<u32> {
        Some(self.node.pid())
    }

    fn producer(&self, flow: Flow) -> io::Result<Box<dyn Producer>> {
        let (into, _) = self.ports[at(flow)];
        Ok(match self.way {
            Way::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(("127.0.0.1", into))?;
                Box::new(Datagrams::new(socket, flow == Flow::Rate))
            }
            Way::Unix => {
                let socket = UnixDatagram::unbound()?;
                let target = self.node.path(&format!("{}-in", flow.topic()));
                let patience = Instant::now() + Duration::from_secs(5);
                while let Err(error) = socket.connect(&target) {
                    if Instant::now() > patience {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                Box::new(Datagrams::new(socket, false))
            }
            Way::Tcp => Box::new(StreamProducer::new(connect(into)?, LengthPrefixed)?),
            Way::Shm => Box::new(Staged(
                tempos_shm::Producer::connect(self.node.path(&format!("{}-in", flow.topic())))
                    .map_err(other)?,
            )),
        })
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        if self.way == Way::Tcp {
            let listeners: Result<Vec<_>, io::Error> = flows
                .iter()
                .map(|flow| std::net::TcpListener::bind(("127.0.0.1", self.ports[at(*flow)].1)))
                .collect();
            return Ok(Box::new(StreamConsumer::new(listeners?, Vec::new(), LengthPrefixed)?));
        }
        if self.way == Way::Shm {
            let consumers = flows
                .iter()
                .map(|flow| tempos_shm::Consumer::connect(self.node.path(&format!("{}-out", flow.topic()))))
                .collect::<Result<_, _>>();
            return Ok(Box::new(Rings(consumers.map_err(other)?)));
        }
        let socket = |flow: &Flow| -> io::Result<OwnedFd> {
            if self.way == Way::Udp {
                return Ok(bound(self.ports[at(*flow)].1)?.into());
            }
            let path = self.node.path(&format!("{}-out", flow.topic()));
            let _ = std::fs::remove_file(&path);
            Ok(UnixDatagram::bind(path)?.into())
        };
        let sockets: io::Result<Vec<OwnedFd>> = flows.iter().map(socket).collect();
        Ok(Box::new(Messages::new(sockets?)))
    }

    fn window(&self) -> Option<u64> {
        (self.way == Way::Udp).then_some(1024)
    }
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Sends through a ring.
struct Staged(tempos_shm::Producer);

impl Producer for Staged {
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        self.0.send(event, Some(Duration::from_secs(1))).map_err(other)
    }

    fn send_many(&mut self, events: &[[u8; EVENT_BYTES]]) -> io::Result<usize> {
        match self.0.try_send_batch(events) {
            // A full ring: waits for room for the first of them.
            Err(tempos_shm::Error::Full) => self.send(&events[0]).map(|()| 1),
            answer => answer.map_err(other),
        }
    }
}

/// Receives from rings.
struct Rings(Vec<tempos_shm::Consumer>);

impl Consumer for Rings {
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut count = 0;
        for ring in &mut self.0 {
            count += ring.drain(256, &mut *each).map_err(other)?;
        }
        if count > 0 {
            return Ok(count);
        }
        let mut waits = true;
        for ring in &mut self.0 {
            waits &= ring.wants_frames().map_err(other)?;
        }
        if waits {
            let descriptors: Vec<RawFd> = self.0.iter().map(|ring| ring.as_fd().as_raw_fd()).collect();
            readable(&descriptors, limit_ms);
        }
        Ok(0)
    }
}
