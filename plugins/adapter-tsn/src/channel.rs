//! The adapter and its channels: frames in, frames out, each in its window.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use socket2::Socket;
use tempos_abi::adapter::{
    Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec, ChannelTraits, Direction,
};
use tempos_abi::counters::{ChannelCounters, Counter, Incident};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_gates::Gates;
use tempos_sockets::{Receiver, Want};
use tempos_tsn::Schedule;

use crate::config::{Carrier, Config};
use crate::launch::Launch;
use crate::pause::Pause;
use crate::{gates, late, launch, link, socket};

/// The largest payload of a UDP datagram over IPv4; an Ethernet frame holds what the interface's MTU says.
const FRAME_BYTES_MAX: u32 = 65_507;
/// Ethernet header, and the headers of IPv6 and UDP.
const ETHERNET_HEAD_BYTES: usize = 14;
const DATAGRAM_HEAD_BYTES: usize = 14 + 40 + 8;
/// Frames for somebody else that one call may pass over.
const STRAY_MAX: usize = 64;

/// The technology.
pub struct Tsn;

impl Tsn {
    /// The adapter; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Tsn)
    }
}

impl Adapter for Tsn {
    type Channel = TsnChannel;

    fn ability(&self) -> AdapterAbility {
        AdapterAbility {
            capabilities: Capabilities(Capabilities::PRIORITY | Capabilities::LAUNCH_TIME),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::PRIORITISED,
            reserved: [0; 4],
        }
    }

    fn open(&self, spec: &ChannelSpec) -> Result<TsnChannel, PluginError> {
        socket::discard(spec.inherited_descriptor);
        let config = Config::read(spec)?;
        let ingress = spec.direction == Direction::INGRESS;
        let name = config.interface.as_ref().map(|(name, _)| name.as_str());
        let class = config.class(&spec.qos)?;
        if let Some(schedule) = &config.schedule
            && !launch::has_slot(schedule, class, config.slot_ns)
        {
            return Err(PluginError::bad_option(format!(
                "tsn channel \"{}\": slot = {}ns leaves no frame of {} bytes the time of a window of class {class}; make \
                 it earlier",
                spec.name,
                config.slot_ns,
                schedule.frame_bytes_max(class).unwrap_or(0)
            )));
        }
        let (gates, mut obstacle) = match (&config.schedule, name) {
            (Some(schedule), Some(name)) => match gates::join(name, schedule, class, &config, spec) {
                Ok(gates) => (Some(gates), None),
                Err(cause) => (None, Some(cause)),
            },
            _ => (None, None),
        };
        let kept = gates.as_ref().and_then(|gates| gates.launch(class));
        if let (Some(gates), Some(_), None) = (&gates, config.launch_lead_ns, &kept) {
            obstacle = Some(format!("launch times cannot be kept: {}", gates.sentence(class)));
        }
        if let Some(cause) = obstacle.as_ref().filter(|_| config.refuse) {
            let sentence = format!("tsn channel \"{}\": the schedule cannot be kept: {cause}", spec.name);
            return Err(PluginError::new(PluginError::UNSUPPORTED, sentence));
        }
        let index = config.interface.as_ref().map_or(0, |(_, index)| *index);
        let (made, to) = match config.carrier {
            Carrier::Ethernet { ethertype, destination } => {
                let listen = ingress.then_some((index, ethertype, destination));
                let to = (!ingress).then(|| socket::link_address(index, ethertype, destination));
                (socket::ethernet(listen), to)
            }
            Carrier::Udp(address) => (socket::udp(address, ingress, name), None),
        };
        let socket = made.map_err(|error| refused(spec, &config.carrier, &error))?;
        let mut launching = None;
        if let (Some(lead_ns), Some(schedule), Some(kept)) = (config.launch_lead_ns, &config.schedule, kept) {
            socket::take_launch_times(&socket).map_err(|error| {
                PluginError::system(
                    format!("tsn channel \"{}\": launch times (SO_TXTIME)", spec.name),
                    &error,
                )
            })?;
            launching = Some(Launch::new(lead_ns, config.slot_ns, class, schedule, kept));
        }
        let pause =
            gates.as_ref().map(|gates| Pause::new(gates.changing())).transpose().map_err(|error| {
                PluginError::system(
                    format!("tsn channel \"{}\": descriptors to wait for gates", spec.name),
                    &error,
                )
            })?;
        Ok(TsnChannel {
            socket,
            pause,
            ingress,
            to,
            receiver: Receiver::new(spec.batch_max as usize, Want { source: true, control: false }),
            class,
            launch: launching,
            gates,
            obstacle,
            config,
            counters: spec.counters.clone(),
        })
    }
}

fn refused(spec: &ChannelSpec, carrier: &Carrier, error: &io::Error) -> PluginError {
    let what = match carrier {
        Carrier::Ethernet { .. } if error.raw_os_error() == Some(libc::EPERM) => {
            "Ethernet frames need CAP_NET_RAW; give it to the node, or use over = \"udp\""
        }
        Carrier::Ethernet { .. } => "the packet socket cannot be opened",
        Carrier::Udp(_) => "the UDP socket cannot be opened",
    };
    PluginError::system(format!("tsn channel \"{}\": {what}", spec.name), error)
}

/// One socket, in one direction.
pub struct TsnChannel {
    pub(crate) socket: Socket,
    ingress: bool,
    to: Option<libc::sockaddr_ll>,
    receiver: Receiver,
    class: u8,
    launch: Option<Launch>,
    /// What a channel with gates waits for.
    pause: Option<Pause>,
    gates: Option<Gates>,
    obstacle: Option<String>,
    config: Config,
    counters: RArc<ChannelCounters>,
}

impl TsnChannel {
    fn frame_bytes(&self, frame: &TxFrame<'_>) -> usize {
        match self.to {
            Some(_) => frame.len() + link::LENGTH_BYTES + ETHERNET_HEAD_BYTES,
            None => frame.len() + DATAGRAM_HEAD_BYTES,
        }
    }

    /// Sends one frame in the class's next window.
    fn send_one(&mut self, frame: &TxFrame<'_>) -> io::Result<()> {
        let bytes = u32::try_from(self.frame_bytes(frame)).unwrap_or(u32::MAX);
        let too_large = || io::Error::from_raw_os_error(libc::EMSGSIZE);
        let mut at = None;
        if let Some(schedule) = &self.config.schedule {
            // A frame longer than its gate blocks the class for ever on some kernels.
            if bytes > schedule.frame_bytes_max(self.class).unwrap_or(0) {
                return Err(too_large());
            }
            if let Some(launch) = &mut self.launch {
                let time = launch.next(frame.launch_ns, link::tai_ns(), bytes);
                at = Some(time.ok_or_else(too_large)?);
            }
        }
        let said = at.zip(self.launch.as_ref()).map(|(at, launch)| launch.said(at));
        link::send(self.socket.as_fd(), frame, self.to.as_ref(), said)?;
        if let (Some(at), Some(launch)) = (at, &mut self.launch) {
            launch.sent(at, bytes);
        }
        Ok(())
    }

    /// Counts what the error queue holds: each is a frame that did not leave.
    fn count_late(&self) {
        let late = late::read(self.socket.as_fd());
        count(self.counters.incident(Incident::LAUNCH_MISSED), late.missed);
        count(self.counters.incident(Incident::LAUNCH_INVALID), late.invalid);
        count(&self.counters.send_errors, late.missed + late.invalid + late.network);
    }

    fn receive_frames(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        let (mut filled, mut strays) = (0, 0);
        while filled < slots.len() && strays < STRAY_MAX {
            match link::receive(self.socket.as_fd(), &mut slots[filled]) {
                Ok(true) => filled += 1,
                Ok(false) => {
                    strays += 1;
                    self.counters.malformed.add(1);
                }
                Err(error) if filled == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if filled == 0 && !slots.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }

    /// How the schedule is kept, for the grant.
    fn mode(&self, schedule: Option<&Schedule>) -> String {
        match (schedule, &self.obstacle, &self.gates) {
            (None, ..) => String::from("no schedule was asked for"),
            (Some(_), Some(cause), None) => format!("mode none, degraded to SO_PRIORITY: {cause}"),
            (Some(_), Some(cause), Some(_)) => cause.clone(),
            (Some(_), None, gates) => {
                gates.as_ref().map(|gates| gates.sentence(self.class)).unwrap_or_default()
            }
        }
    }
}

fn count(counter: &Counter, n: u64) {
    if n > 0 {
        counter.add(n);
    }
}

impl Channel for TsnChannel {
    fn readiness(&self) -> RawFd {
        self.pause.as_ref().map_or_else(|| self.socket.as_raw_fd(), Pause::readiness)
    }

    fn traits(&self) -> ChannelTraits {
        ChannelTraits(if self.pause.is_some() { ChannelTraits::FLUSHES } else { 0 })
    }

    /// The host calls where there is room again, or the gates may have been changed.
    fn flush(&mut self) -> io::Result<()> {
        let told = self.pause.as_mut().is_some_and(|pause| pause.look(self.socket.as_fd()));
        if told {
            self.count_late();
        }
        Ok(())
    }

    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        match self.config.carrier {
            Carrier::Ethernet { .. } => self.receive_frames(slots),
            Carrier::Udp(_) => self.receiver.receive(self.socket.as_fd(), slots, |slot, arrival| {
                if let Some(source) = arrival.source() {
                    slot.set_producer(producer(source));
                }
            }),
        }
    }

    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        if self.launch.is_some() {
            self.count_late();
        }
        for (done, frame) in frames.iter().enumerate() {
            if self.pause.as_mut().is_some_and(Pause::holds) {
                return if done > 0 { Ok(done) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            let mut sent = self.send_one(frame);
            if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                // It tells of an earlier datagram, which the error queue names; this frame gets one more try.
                self.count_late();
                sent = self.send_one(frame);
            }
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(pause) = &mut self.pause {
                        pause.wait_for_room(self.socket.as_fd());
                    }
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(error) => {
                    if error.raw_os_error() == Some(libc::ENOBUFS) {
                        // The gate was closed for longer than the queue holds frames, or is too short for this one.
                        self.counters.incident(Incident::GATE_CLOSED).add(1);
                    }
                    if done == 0 {
                        // The host counts the frame, and keeps the reason.
                        return Err(error);
                    }
                    self.counters.send_errors.add(1);
                }
            }
        }
        Ok(frames.len())
    }

    fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        if self.ingress {
            return Ok(QosGrant::new(QosGrant::PRIORITISED, "its own socket, read by its own lane"));
        }
        if let (Carrier::Udp(address), Ok(dscp @ 0..=63)) = (&self.config.carrier, u32::try_from(qos.dscp)) {
            // DSCP first: setting IP_TOS also sets the socket's priority (ip(7)).
            let marked = match address {
                SocketAddr::V4(_) => self.socket.set_tos_v4(dscp << 2),
                SocketAddr::V6(_) => self.socket.set_tclass_v6(dscp << 2),
            };
            if let Err(error) = marked {
                return Ok(QosGrant::new(QosGrant::SHARED, format!("DSCP {dscp} was refused: {error}")));
            }
        }
        let priority = self.config.priority(qos);
        let schedule = self.config.schedule.as_ref();
        let mode = self.mode(schedule);
        let Some(priority) = priority else {
            let reason = format!("the level asks for no priority (socket_priority, pcp); {mode}");
            return Ok(QosGrant::new(QosGrant::SHARED, reason));
        };
        match self.socket.set_priority(priority) {
            Ok(()) => Ok(QosGrant::new(QosGrant::PRIORITISED, format!("SO_PRIORITY {priority}; {mode}"))),
            Err(error) => Ok(QosGrant::new(
                QosGrant::SHARED,
                format!(
                    "SO_PRIORITY {priority} was refused: {error}; without CAP_NET_ADMIN it can be 0 to 6; {mode}"
                ),
            )),
        }
    }

    fn address(&self) -> String {
        match &self.config.carrier {
            Carrier::Ethernet { ethertype, destination } => {
                let interface = self.config.interface.as_ref().map_or("", |(name, _)| name.as_str());
                let mac = destination.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
                let slash = if mac.is_some() { "/" } else { "" };
                format!("tsn://{interface}{slash}{}?ethertype={ethertype:#06x}", mac.unwrap_or_default())
            }
            Carrier::Udp(address) => {
                let own = if self.ingress { self.socket.local_addr().ok() } else { None };
                format!("tsn://{}", own.and_then(|own| own.as_socket()).unwrap_or(*address))
            }
        }
    }

    fn close(&mut self, _deadline_ns: u64) {
        if self.launch.is_some() {
            self.count_late();
        }
        // With the last of an interface's channels what stood there before comes back.
        self.gates = None;
    }
}

/// An address and port are one sender: their FNV-1a hash, never 0.
fn producer(source: SocketAddr) -> u64 {
    let hash = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let start = match source.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().iter().fold(0xcbf2_9ce4_8422_2325, hash),
        std::net::IpAddr::V6(ip) => ip.octets().iter().fold(0xcbf2_9ce4_8422_2325, hash),
    };
    source.port().to_be_bytes().iter().fold(start, hash).max(1)
}
