//! The adapter and its channels, which differ by direction.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use socket2::Socket;
use tempos_abi::adapter::{
    Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec, ChannelTraits, Receipt,
};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::{LaneQos, PluginError, QosGrant};

use crate::config::Config;
use crate::egress::Egress;
use crate::frames::FRAME_BYTES_MAX;
use crate::ingress::Ingress;

/// The technology.
pub struct Tcp;

impl Tcp {
    /// The adapter; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Tcp)
    }
}

impl Adapter for Tcp {
    type Channel = TcpChannel;

    fn ability(&self) -> AdapterAbility {
        AdapterAbility {
            capabilities: Capabilities(
                Capabilities::PRIORITY
                    | Capabilities::BATCH
                    | Capabilities::TAKE_OVER
                    | Capabilities::ORDERED
                    | Capabilities::RECEIPTS
                    | Capabilities::SEGMENTS,
            ),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::PRIORITISED,
            reserved: [0; 4],
        }
    }

    fn open(&self, spec: &ChannelSpec) -> Result<TcpChannel, PluginError> {
        // SAFETY: the host hands the descriptor over to this channel (`ChannelSpec::inherited_descriptor`).
        let inherited = (spec.inherited_descriptor >= 0)
            .then(|| Socket::from(unsafe { OwnedFd::from_raw_fd(spec.inherited_descriptor) }));
        match Config::read(spec)? {
            Config::Ingress(config) => Ingress::open(spec, &config, inherited).map(TcpChannel::Ingress),
            Config::Egress(config) => Egress::open(spec, config).map(TcpChannel::Egress),
        }
    }
}

/// An open channel.
// One for each channel of a node, and never moved while events flow.
#[allow(clippy::large_enum_variant)]
pub enum TcpChannel {
    /// Frames of several connections in.
    Ingress(Ingress),
    /// Frames out by one connection.
    Egress(Egress),
}

impl Channel for TcpChannel {
    fn readiness(&self) -> RawFd {
        match self {
            TcpChannel::Ingress(channel) => channel.readiness(),
            TcpChannel::Egress(channel) => channel.readiness(),
        }
    }

    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        match self {
            TcpChannel::Ingress(channel) => channel.recv_batch(slots),
            TcpChannel::Egress(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        match self {
            TcpChannel::Egress(channel) => channel.send_batch(frames),
            TcpChannel::Ingress(_) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        match self {
            TcpChannel::Egress(channel) => channel.set_qos(qos),
            TcpChannel::Ingress(channel) => {
                let reason = "its own sockets and kernel buffers, read by its own lane";
                Ok(channel.config.marking.admit(channel.listener.as_fd(), reason))
            }
        }
    }

    fn address(&self) -> String {
        match self {
            TcpChannel::Ingress(channel) => channel.address(),
            TcpChannel::Egress(channel) => channel.address(),
        }
    }

    fn take_over(&mut self) -> RawFd {
        match self {
            TcpChannel::Ingress(channel) => channel.take_over(),
            // A frame may be half written when the successor begins: it makes a connection of its own, and
            // sends that frame again as a whole, while the receiver of the half sees the end and drops it.
            TcpChannel::Egress(_) => -1,
        }
    }

    fn close(&mut self, deadline_ns: u64) {
        if let TcpChannel::Ingress(channel) = self {
            channel.close(deadline_ns);
        }
    }

    fn traits(&self) -> ChannelTraits {
        match self {
            TcpChannel::Egress(channel) => channel.traits(),
            TcpChannel::Ingress(_) => ChannelTraits::default(),
        }
    }

    fn receipts(&mut self, receipts: &mut [Receipt]) -> usize {
        match self {
            TcpChannel::Egress(channel) => channel.receipts(receipts),
            TcpChannel::Ingress(_) => 0,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            TcpChannel::Egress(channel) => channel.flush(),
            TcpChannel::Ingress(_) => Ok(()),
        }
    }
}
