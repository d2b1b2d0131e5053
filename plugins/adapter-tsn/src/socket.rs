//! Makes the socket of a channel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};
use tempos_sockets::set_option;

/// struct sock_txtime (linux/net_tstamp.h).
#[repr(C)]
struct TxTime {
    clock: libc::clockid_t,
    flags: u32,
}

/// SOF_TXTIME_REPORT_ERRORS.
const REPORT_ERRORS: u32 = 2;

/// An address of a packet socket (packet(7)).
pub fn link_address(interface: i32, ethertype: u16, mac: Option<[u8; 6]>) -> libc::sockaddr_ll {
    // SAFETY: all zeroes is a value of the struct.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = interface;
    if let Some(mac) = mac {
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac);
    }
    address
}

/// A packet socket; only one that listens is bound, and it receives nothing before that.
pub fn ethernet(listen: Option<(i32, u16, Option<[u8; 6]>)>) -> io::Result<Socket> {
    let socket =
        Socket::new_raw(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::from(0)))?;
    let Some((interface, ethertype, group)) = listen else { return Ok(socket) };
    let address = link_address(interface, ethertype, None);
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is live and of the length given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // A group has the lowest bit of its first byte set (IEEE 802.3).
    if let Some(group) = group.filter(|mac| mac[0] & 1 != 0) {
        // SAFETY: all zeroes is a value of the struct.
        let mut request: libc::packet_mreq = unsafe { std::mem::zeroed() };
        request.mr_ifindex = interface;
        request.mr_type = libc::PACKET_MR_MULTICAST as u16;
        request.mr_alen = 6;
        request.mr_address[..6].copy_from_slice(&group);
        set_struct(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)?;
    }
    Ok(socket)
}

/// A UDP socket that listens or is connected, on one interface where one is named.
pub fn udp(address: SocketAddr, listens: bool, interface: Option<&str>) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    if listens {
        socket.bind(&address.into())?;
    } else {
        // Without it a full or closed gate drops frames and nobody is told (ip(7)).
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
        };
        set_option(socket.as_fd(), level, option, 1)?;
        socket.connect(&address.into())?;
    }
    Ok(socket)
}

/// Launch times on CLOCK_TAI, the one clock that etf takes; late frames are reported (SO_TXTIME).
pub fn take_launch_times(socket: &Socket) -> io::Result<()> {
    let setting = TxTime { clock: libc::CLOCK_TAI, flags: REPORT_ERRORS };
    set_struct(socket, libc::SOL_SOCKET, libc::SO_TXTIME, &setting)
}

/// Closes a descriptor that is of no use to this channel.
pub fn discard(descriptor: i32) {
    if descriptor >= 0 {
        // SAFETY: the host handed it over; it belongs to nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

fn set_struct<T>(socket: &Socket, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and of the length given.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    })
}

fn check(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
