//! Who rules the gates of an interface: an abstract unix(7) name, which is the network namespace's own and goes with
//! the process that holds it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The right to set the gates of an interface, for as long as it is kept.
#[derive(Debug)]
pub struct Owner {
    _name: UnixDatagram,
}

impl Owner {
    /// Takes it; nothing where somebody else has it.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn take(interface: i32) -> io::Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(format!("tempos-gates/{interface}"))?;
        match UnixDatagram::bind_addr(&address) {
            Ok(name) => Ok(Some(Owner { _name: name })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}
