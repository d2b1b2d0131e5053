//! TCP ports for daemons that the tests start.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// An address of this machine for a daemon to listen at, kept for this test program until it ends.
///
/// A socket is bound to it but never listens: the kernel then gives the port to nobody who asks for any, while
/// who asks for this one with `SO_REUSEADDR`, as daemons do, gets it (socket(7)). A socket that had listened and
/// was closed would not do: a program that another test starts meanwhile holds it until it is executed.
///
/// # Panics
/// When there is no port.
pub fn reserved() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("the option is known");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    std::mem::forget(socket);
    address
}
