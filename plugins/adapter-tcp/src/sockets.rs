//! Sockets of this adapter: how they are made, what they are told, and what is written about their peers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tempos_abi::attributes::AttributeValue;
use tempos_abi::event::RxSlot;
use tempos_abi::{LaneQos, QosGrant};

/// Questions without an answer after which a quiet peer is gone.
const KEEPALIVE_PROBES: u32 = 3;

/// A TCP socket that never blocks and is closed on exec.
pub fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))
}

/// Whether a descriptor is a TCP socket.
pub fn is_tcp(socket: &Socket) -> bool {
    matches!(socket.r#type(), Ok(Type::STREAM))
        && matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6))
        && matches!(socket.protocol(), Ok(Some(Protocol::TCP)))
}

/// Has a quiet peer asked whether it is still there, from `after` on (tcp(7), SO_KEEPALIVE).
pub fn keep_alive(socket: impl AsFd, after: Duration) -> io::Result<()> {
    let interval = (after / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive =
        TcpKeepalive::new().with_time(after).with_interval(interval).with_retries(KEEPALIVE_PROBES);
    let socket = socket.as_fd();
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)
}

/// An address as attributes have it: 4 or 16 bytes, then the port.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    bytes: [u8; 18],
    length: usize,
}

impl Peer {
    /// What is written of an address.
    pub fn new(address: SocketAddr) -> Self {
        let (mut bytes, ip_bytes) = ([0; 18], if address.is_ipv4() { 4 } else { 16 });
        match address.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[..16].copy_from_slice(&ip.octets()),
        }
        bytes[ip_bytes..ip_bytes + 2].copy_from_slice(&address.port().to_be_bytes());
        Peer { bytes, length: ip_bytes + 2 }
    }

    /// Writes who sent a frame.
    pub fn write(&self, slot: &mut RxSlot<'_>) {
        slot.write_attributes(|writer| {
            writer.put("peer.address", AttributeValue::Address(&self.bytes[..self.length]));
        });
    }
}

/// Marks what leaves: SO_PRIORITY for the machine's own queues, DSCP for the network's (RFC 2474).
pub fn mark(socket: &Socket, qos: &LaneQos) -> QosGrant {
    let mut set = Vec::new();
    // DSCP first: setting IP_TOS also sets the socket's priority (ip(7)).
    if let Ok(dscp @ 0..=63) = u32::try_from(qos.dscp) {
        let ipv4 = socket.domain().is_ok_and(|domain| domain == Domain::IPV4);
        let marked = if ipv4 { socket.set_tos_v4(dscp << 2) } else { socket.set_tclass_v6(dscp << 2) };
        match marked {
            Ok(()) => set.push(format!("DSCP {dscp}")),
            Err(error) => {
                return QosGrant::new(QosGrant::SHARED, format!("DSCP {dscp} was refused: {error}"));
            }
        }
    }
    if let Ok(priority) = u32::try_from(qos.socket_priority) {
        match socket.set_priority(priority) {
            Ok(()) => set.push(format!("SO_PRIORITY {priority}")),
            Err(error) => {
                let reason = format!(
                    "SO_PRIORITY {priority} was refused: {error}; without CAP_NET_ADMIN it can be 0 to 6"
                );
                return QosGrant::new(QosGrant::SHARED, reason);
            }
        }
    }
    match set.is_empty() {
        true => QosGrant::new(QosGrant::SHARED, "the level asks for no marks (dscp, socket_priority)"),
        false => QosGrant::new(QosGrant::PRIORITISED, set.join(", ")),
    }
}

/// Sets the same marks without words, on the event's road; what is refused was told by [`mark`].
pub fn mark_again(socket: &Socket, qos: &LaneQos) {
    if let Ok(dscp @ 0..=63) = u32::try_from(qos.dscp) {
        let _ = socket.set_tos_v4(dscp << 2);
        let _ = socket.set_tclass_v6(dscp << 2);
    }
    if let Ok(priority) = u32::try_from(qos.socket_priority) {
        let _ = socket.set_priority(priority);
    }
}
