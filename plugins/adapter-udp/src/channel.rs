//! The adapter and its channels: datagrams in, datagrams out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use socket2::Socket;
use tempos_abi::adapter::{Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec};
use tempos_abi::attributes::AttributeValue;
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_sockets::marking::Marking;
use tempos_sockets::{BundleReceiver, Receiver, Sender, Want, duplicate, kernel_drops, set_option};

use crate::config::{Config, Egress, Ingress};
use crate::socket::Opener;

/// The largest payload of a UDP datagram over IPv4; over IPv6 it is 20 bytes more.
const FRAME_BYTES_MAX: u32 = 65_507;

/// What a datagram takes of the kernel's buffer beside its bytes, at least.
const KERNEL_OVERHEAD_BYTES: usize = 512;
/// The drop counter is read once for each such part of the kernel's buffer.
const DROPS_READ_PART: usize = 4;

/// The technology.
pub struct Udp;

impl Udp {
    /// The adapter; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Udp)
    }
}

impl Adapter for Udp {
    type Channel = UdpChannel;

    fn ability(&self) -> AdapterAbility {
        AdapterAbility {
            capabilities: Capabilities(
                Capabilities::PRIORITY | Capabilities::BATCH | Capabilities::TAKE_OVER,
            ),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::PRIORITISED,
            reserved: [0; 4],
        }
    }

    fn open(&self, spec: &ChannelSpec) -> Result<UdpChannel, PluginError> {
        let opener = Opener { channel: &spec.name };
        let config = match Config::read(spec) {
            Ok(config) => config,
            Err(error) => {
                crate::socket::discard(spec.inherited_descriptor);
                return Err(error);
            }
        };
        let batch = spec.batch_max as usize;
        let (socket, want, ingress) = match &config {
            Config::Ingress(config) => {
                let want = Want { source: true, control: config.timestamps };
                (opener.ingress(config, spec.inherited_descriptor)?, want, true)
            }
            Config::Egress(config) => {
                (opener.egress(config, spec.inherited_descriptor)?, Want::default(), false)
            }
        };
        let bundles = match &config {
            Config::Ingress(config) if config.bundles => {
                let bundles = BundleReceiver::new(socket.as_fd()).map_err(|error| {
                    PluginError::system(
                        format!("udp channel \"{}\": bundles cannot be taken", spec.name),
                        &error,
                    )
                })?;
                Some(bundles)
            }
            Config::Ingress(_) => {
                // A predecessor may have asked for bundles; a kernel that knows of none gives none.
                let _ = set_option(socket.as_fd(), libc::IPPROTO_UDP, libc::UDP_GRO, 0);
                None
            }
            Config::Egress(_) => None,
        };
        let (Config::Ingress(Ingress { marking, .. }) | Config::Egress(Egress { marking, .. })) = config;
        Ok(UdpChannel {
            name: spec.name.to_string(),
            marking,
            bundles,
            drops: DropCounter::starting_now(&socket),
            socket,
            ingress,
            receiver: Receiver::new(if ingress { batch } else { 1 }, want),
            sender: Sender::bundling(if ingress { 1 } else { batch }),
            counters: spec.counters.clone(),
        })
    }
}

/// One socket, in one direction.
pub struct UdpChannel {
    name: String,
    marking: Marking,
    socket: Socket,
    ingress: bool,
    receiver: Receiver,
    bundles: Option<BundleReceiver>,
    sender: Sender,
    drops: DropCounter,
    counters: RArc<ChannelCounters>,
}

impl Channel for UdpChannel {
    fn readiness(&self) -> RawFd {
        self.bundles.as_ref().map_or_else(|| self.socket.as_raw_fd(), BundleReceiver::readiness)
    }

    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        let received = if let Some(bundles) = &mut self.bundles {
            bundles.receive(self.socket.as_fd(), slots, |slot, source, time_ns| {
                if let Some(source) = source {
                    write_source(slot, source);
                    slot.set_producer(producer(source));
                }
                slot.source_time_ns = time_ns.unwrap_or(0);
            })
        } else {
            self.receiver.receive(self.socket.as_fd(), slots, |slot, arrival| {
                if let Some(source) = arrival.source() {
                    write_source(slot, source);
                    slot.set_producer(producer(source));
                }
                slot.source_time_ns = arrival.kernel_time_ns().unwrap_or(0);
            })
        };
        match &received {
            Ok(frames) => self.drops.after_frames(&slots[..*frames], &self.socket, &self.counters),
            Err(_) => self.drops.after_all(&self.socket, &self.counters),
        }
        received
    }

    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let mut done = 0;
        // ECONNREFUSED tells of an earlier datagram: it is counted, and this frame gets one more try.
        let mut refused_at = None;
        while done < frames.len() {
            match self.sender.send(self.socket.as_fd(), &frames[done..]) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(error) => {
                    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    if done == 0 && !refused {
                        // The host counts the frame, and keeps the reason.
                        return Err(error);
                    }
                    self.counters.send_errors.add(1);
                    if refused && refused_at != Some(done) {
                        refused_at = Some(done);
                        continue;
                    }
                    done += 1;
                }
            }
        }
        Ok(done)
    }

    fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        if self.ingress {
            let reason = "its own socket and kernel buffer, read by its own lane";
            return Ok(self.marking.admit(self.socket.as_fd(), reason));
        }
        self.marking.mark(self.socket.as_fd(), qos).map_err(|sentence| {
            PluginError::new(PluginError::SYSTEM, format!("udp channel \"{}\": {sentence}", self.name))
        })
    }

    fn address(&self) -> String {
        let address = if self.ingress { self.socket.local_addr() } else { self.socket.peer_addr() };
        match address.ok().and_then(|address| address.as_socket()) {
            Some(address) => format!("udp://{address}"),
            None => String::from("udp://"),
        }
    }

    fn take_over(&mut self) -> RawFd {
        self.drops.after_all(&self.socket, &self.counters);
        duplicate(self.socket.as_fd())
    }

    fn close(&mut self, _deadline_ns: u64) {
        self.drops.after_all(&self.socket, &self.counters);
    }
}

/// An address and port are one sender: their FNV-1a hash, never 0.
fn producer(source: SocketAddr) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = |state: u64, bytes: &[u8]| {
        bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(PRIME))
    };
    let address = match source.ip() {
        IpAddr::V4(ip) => hash(START, &ip.octets()),
        IpAddr::V6(ip) => hash(START, &ip.octets()),
    };
    hash(address, &source.port().to_be_bytes()).max(1)
}

/// Writes where a datagram came from: 4 or 16 bytes and the port.
fn write_source(slot: &mut RxSlot<'_>, source: SocketAddr) {
    let mut bytes = [0; 18];
    let length = match source.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    bytes[length..length + 2].copy_from_slice(&source.port().to_be_bytes());
    slot.write_attributes(|writer| {
        writer.put("peer.address", AttributeValue::Address(&bytes[..length + 2]));
    });
}

/// Follows the kernel's drop counter without a system call for each datagram. The kernel drops only where
/// its buffer is full, and what the buffer holds then is received after: with one look for each quarter of
/// it, some look comes after every drop, however soon the flood ends.
struct DropCounter {
    seen: u32,
    frames_since: usize,
    bytes_since: usize,
    read_every_bytes: usize,
}

impl DropCounter {
    /// Counts from now on: what an adopted socket dropped before was its predecessor's to count.
    fn starting_now(socket: &Socket) -> Self {
        DropCounter {
            seen: kernel_drops(socket.as_fd()).unwrap_or(0),
            frames_since: 0,
            bytes_since: 0,
            read_every_bytes: socket.recv_buffer_size().unwrap_or(0) / DROPS_READ_PART,
        }
    }

    fn after_frames(&mut self, frames: &[RxSlot<'_>], socket: &Socket, counters: &ChannelCounters) {
        self.frames_since += frames.len();
        self.bytes_since += frames.iter().map(|f| f.frame().len() + KERNEL_OVERHEAD_BYTES).sum::<usize>();
        if self.bytes_since >= self.read_every_bytes {
            self.read(socket, counters);
        }
    }

    /// A lone datagram needs no look: none is dropped unless others were waiting.
    fn after_all(&mut self, socket: &Socket, counters: &ChannelCounters) {
        if self.frames_since > 1 {
            self.read(socket, counters);
        }
        (self.frames_since, self.bytes_since) = (0, 0);
    }

    fn read(&mut self, socket: &Socket, counters: &ChannelCounters) {
        (self.frames_since, self.bytes_since) = (0, 0);
        if let Ok(drops) = kernel_drops(socket.as_fd()) {
            counters.kernel_dropped.add(u64::from(drops.wrapping_sub(self.seen)));
            self.seen = drops;
        }
    }
}
