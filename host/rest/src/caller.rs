//! Finding out who calls over the Unix socket.

use std::io;

use tempos_socket::Peer;

use crate::access::Caller;

/// The process at the other end of a connected Unix socket.
///
/// # Errors
/// The kernel's.
pub fn of_socket(socket: &tokio::net::UnixStream) -> io::Result<Caller> {
    let Peer { uid, process, gids } = Peer::of(socket)?;
    Ok(Caller::Local { uid, process, gids })
}
