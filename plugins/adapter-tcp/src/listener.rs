//! The socket that connections come in by: made anew, or a predecessor's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::Socket;
use tempos_sockets::marking::Marking;

use crate::handover;
use crate::sockets::{is_tcp, new_socket};

const BACKLOG: i32 = 256;

/// A socket that listens there.
///
/// # Errors
/// What the system says (EADDRINUSE).
pub fn listen(bind: SocketAddr, marking: &Marking) -> io::Result<Socket> {
    let socket = new_socket(bind)?;
    // Connections inherit the way.
    marking.prepare(socket.as_fd())?;
    // What a former node left in TIME_WAIT does not keep this one from listening.
    socket.set_reuse_address(true)?;
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The listener of a predecessor, where it listens at that address, and the socket that the rest comes by.
pub fn adopt(carrier: Socket, bind: SocketAddr, marking: &Marking) -> Option<(Socket, Socket)> {
    if !handover::is_carrier(&carrier) {
        return None;
    }
    let listener = Socket::from(handover::receive(&carrier).ok()?.descriptor);
    let local = listener.local_addr().ok()?.as_socket()?;
    let same = local.ip() == bind.ip() && (bind.port() == 0 || local.port() == bind.port());
    let listens = is_tcp(&listener) && listener.is_listener().ok()?;
    let fits = same && listens && marking.prepare(listener.as_fd()).is_ok();
    (fits && listener.set_nonblocking(true).is_ok()).then_some((listener, carrier))
}
