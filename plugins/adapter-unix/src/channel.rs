//! The adapter and its channels, which differ by direction and type.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Socket, Type};
use tempos_abi::adapter::{
    Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec, ChannelTraits, Direction, Receipt,
};
use tempos_abi::attributes::AttributeValue;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::{LaneQos, PluginError, QosGrant};
use tempos_sockets::{Buffer, resize_buffer};

use crate::acknowledged::Acknowledged;
use crate::config::Config;
use crate::datagram::DatagramIngress;
use crate::egress::Egress;
use crate::seqpacket::SeqpacketIngress;

/// What the system's default buffers take without any option.
const FRAME_BYTES_MAX: u32 = 128 << 10;

/// The technology.
pub struct Unix;

impl Unix {
    /// The adapter; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Unix)
    }
}

impl Adapter for Unix {
    type Channel = UnixChannel;

    fn ability(&self) -> AdapterAbility {
        AdapterAbility {
            capabilities: Capabilities(
                Capabilities::PRIORITY
                    | Capabilities::BATCH
                    | Capabilities::TAKE_OVER
                    | Capabilities::ORDERED
                    | Capabilities::CREDENTIALS
                    | Capabilities::RECEIPTS,
            ),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::GUARANTEED,
            reserved: [0; 4],
        }
    }

    fn open(&self, spec: &ChannelSpec) -> Result<UnixChannel, PluginError> {
        // SAFETY: the host hands the descriptor over to this channel (`ChannelSpec::inherited_descriptor`).
        let inherited = (spec.inherited_descriptor >= 0)
            .then(|| Socket::from(unsafe { OwnedFd::from_raw_fd(spec.inherited_descriptor) }));
        let config = Config::read(spec)?;
        match (spec.direction, config.kind) {
            (Direction::EGRESS, _) if config.acknowledge.is_some() => {
                let how = config.acknowledge.clone().unwrap_or_default();
                Acknowledged::open(spec, config, &how, inherited).map(UnixChannel::Acknowledged)
            }
            (Direction::EGRESS, _) => Egress::open(spec, config, inherited).map(UnixChannel::Egress),
            (_, Type::SEQPACKET) => {
                SeqpacketIngress::open(spec, &config, inherited).map(UnixChannel::Seqpacket)
            }
            _ => DatagramIngress::open(spec, &config, inherited).map(UnixChannel::Datagram),
        }
    }
}

/// An open channel.
// One for each channel of a node, and never moved while events flow.
#[allow(clippy::large_enum_variant)]
pub enum UnixChannel {
    /// Single datagrams in.
    Datagram(DatagramIngress),
    /// Frames of several connections in.
    Seqpacket(SeqpacketIngress),
    /// Frames out.
    Egress(Egress),
    /// Frames out, each of them acknowledged.
    Acknowledged(Acknowledged),
}

impl Channel for UnixChannel {
    fn readiness(&self) -> RawFd {
        match self {
            UnixChannel::Datagram(channel) => channel.readiness(),
            UnixChannel::Seqpacket(channel) => channel.readiness(),
            UnixChannel::Egress(channel) => channel.readiness(),
            UnixChannel::Acknowledged(channel) => channel.readiness(),
        }
    }

    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        match self {
            UnixChannel::Datagram(channel) => channel.recv_batch(slots),
            UnixChannel::Seqpacket(channel) => channel.recv_batch(slots),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        match self {
            UnixChannel::Egress(channel) => channel.send_batch(frames),
            UnixChannel::Acknowledged(channel) => channel.send_batch(frames),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    fn set_qos(&mut self, _qos: &LaneQos) -> Result<QosGrant, PluginError> {
        // A sender puts its event into the receiver's buffer by itself: nobody else's is before it, and no thread or
        // interrupt of the kernel between.
        Ok(QosGrant::new(QosGrant::GUARANTEED, "its own socket and kernel buffer; no network is crossed"))
    }

    fn address(&self) -> String {
        match self {
            UnixChannel::Datagram(channel) => channel.address(),
            UnixChannel::Seqpacket(channel) => channel.address(),
            UnixChannel::Egress(channel) => channel.address(),
            UnixChannel::Acknowledged(channel) => channel.address(),
        }
    }

    fn take_over(&mut self) -> RawFd {
        match self {
            UnixChannel::Datagram(channel) => channel.take_over(),
            UnixChannel::Seqpacket(channel) => channel.take_over(),
            UnixChannel::Egress(channel) => channel.take_over(),
            // What comes back belongs to whom it was sent by: the successor makes a connection of its own.
            UnixChannel::Acknowledged(_) => -1,
        }
    }

    fn traits(&self) -> ChannelTraits {
        match self {
            UnixChannel::Acknowledged(_) => ChannelTraits(ChannelTraits::RECEIPTS),
            _ => ChannelTraits::default(),
        }
    }

    fn receipts(&mut self, receipts: &mut [Receipt]) -> usize {
        match self {
            UnixChannel::Acknowledged(channel) => channel.receipts(receipts),
            _ => 0,
        }
    }
}

/// A socket that never blocks and is closed on exec.
pub fn new_socket(channel: &str, kind: Type) -> Result<Socket, PluginError> {
    Socket::new_raw(Domain::UNIX, kind.nonblocking().cloexec(), None).map_err(|error| {
        PluginError::system(format!("unix channel \"{channel}\": cannot make a socket"), &error)
    })
}

/// Whether a descriptor that was handed over is a unix socket of that type; it never blocks from then on.
pub fn is_of_type(socket: &Socket, kind: Type) -> bool {
    socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
        && socket.r#type().is_ok_and(|found| found == kind)
        && socket.set_nonblocking(true).is_ok()
}

/// Sizes a kernel buffer, where the user asked for it.
pub fn size(channel: &str, socket: &Socket, buffer: Buffer, bytes: Option<usize>) -> Result<(), PluginError> {
    match bytes.map(|bytes| resize_buffer(socket.as_fd(), buffer, bytes)) {
        Some(Err(error)) => {
            let what = format!("unix channel \"{channel}\": the kernel's buffer cannot be sized");
            Err(PluginError::system(what, &error))
        }
        _ => Ok(()),
    }
}

/// Writes who sent a frame. A sender that the kernel does not know has the process id 0.
pub fn write_credentials(slot: &mut RxSlot<'_>, sender: &libc::ucred) {
    slot.write_attributes(|writer| {
        writer.put("peer.pid", AttributeValue::Unsigned(sender.pid.max(0) as u64));
        writer.put("peer.uid", AttributeValue::Unsigned(u64::from(sender.uid)));
        writer.put("peer.gid", AttributeValue::Unsigned(u64::from(sender.gid)));
    });
}
