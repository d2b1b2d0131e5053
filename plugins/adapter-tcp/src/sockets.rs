//! Sockets of this adapter: how they are made, what they are told, and what is written about their peers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tempos_abi::attributes::AttributeValue;
use tempos_abi::event::RxSlot;

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
