//! The adapter and its channels, which differ by direction.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::Socket;
use tempos_abi::adapter::{
    Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec, ChannelTraits, Direction,
};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::{LaneQos, PluginError, QosGrant};

use crate::config::Config;
use crate::egress::Egress;
use crate::ingress::Ingress;

/// The largest frame: half of the largest ring is more than anybody wants to lock.
const FRAME_BYTES_MAX: u32 = 64 << 20;

/// The technology.
pub struct Shm;

impl Shm {
    /// The adapter; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Shm)
    }
}

impl Adapter for Shm {
    type Channel = ShmChannel;

    fn ability(&self) -> AdapterAbility {
        AdapterAbility {
            capabilities: Capabilities(
                Capabilities::PRIORITY
                    | Capabilities::BATCH
                    | Capabilities::TAKE_OVER
                    | Capabilities::ORDERED
                    | Capabilities::CREDENTIALS,
            ),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::GUARANTEED,
            reserved: [0; 4],
        }
    }

    fn open(&self, spec: &ChannelSpec) -> Result<ShmChannel, PluginError> {
        // SAFETY: the host hands the descriptor over to this channel (`ChannelSpec::inherited_descriptor`).
        let inherited = (spec.inherited_descriptor >= 0)
            .then(|| Socket::from(unsafe { OwnedFd::from_raw_fd(spec.inherited_descriptor) }));
        let config = Config::read(spec)?;
        match spec.direction {
            Direction::EGRESS => Egress::open(spec, &config, inherited).map(ShmChannel::Egress),
            _ => Ingress::open(spec, &config, inherited).map(ShmChannel::Ingress),
        }
    }
}

/// An open channel.
// One for each channel of a node, and never moved while events flow.
#[allow(clippy::large_enum_variant)]
pub enum ShmChannel {
    /// Frames of several producers in.
    Ingress(Ingress),
    /// Frames out to one consumer.
    Egress(Egress),
}

impl Channel for ShmChannel {
    fn readiness(&self) -> RawFd {
        match self {
            ShmChannel::Ingress(channel) => channel.readiness(),
            ShmChannel::Egress(channel) => channel.readiness(),
        }
    }

    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        match self {
            ShmChannel::Ingress(channel) => channel.recv_batch(slots),
            ShmChannel::Egress(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        match self {
            ShmChannel::Egress(channel) => channel.send_batch(frames),
            ShmChannel::Ingress(_) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    fn set_qos(&mut self, _qos: &LaneQos) -> Result<QosGrant, PluginError> {
        let locked = match self {
            ShmChannel::Ingress(channel) => channel.is_locked(),
            ShmChannel::Egress(channel) => channel.is_locked(),
        };
        // Nobody else's event is in its rings, and nothing of the kernel is between but the wake-up. A page that may
        // have to be fetched is no such thing.
        Ok(match locked {
            true => {
                QosGrant::new(QosGrant::GUARANTEED, "its own rings in locked memory; no network is crossed")
            }
            false => QosGrant::new(
                QosGrant::PRIORITISED,
                "its own rings, not locked in memory by this channel (RLIMIT_MEMLOCK); no network is crossed",
            ),
        })
    }

    fn address(&self) -> String {
        match self {
            ShmChannel::Ingress(channel) => channel.address(),
            ShmChannel::Egress(channel) => channel.address(),
        }
    }

    fn take_over(&mut self) -> RawFd {
        match self {
            ShmChannel::Ingress(channel) => channel.take_over(),
            ShmChannel::Egress(channel) => channel.take_over(),
        }
    }

    fn traits(&self) -> ChannelTraits {
        match self {
            ShmChannel::Ingress(_) => ChannelTraits::default(),
            ShmChannel::Egress(_) => ChannelTraits(ChannelTraits::FLUSHES),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            ShmChannel::Ingress(_) => Ok(()),
            ShmChannel::Egress(channel) => channel.flush(),
        }
    }
}
