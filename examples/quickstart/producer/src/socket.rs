//! Where events go to and come from: a UDP address or the path of a Unix socket, datagrams both.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::str::FromStr;

/// What the socket of a sink asks the kernel to hold for it, in bytes.
const RECEIVE_BYTES: libc::c_int = 8 << 20;

/// A place that datagrams can be sent to.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A UDP address.
    Udp(SocketAddr),
    /// The path of a Unix datagram socket.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a place: write udp:ADDRESS:PORT or unix:PATH");
        match text.split_once(':').ok_or_else(wrong)? {
            ("udp", address) => address.parse().map(Place::Udp).map_err(|_| wrong()),
            ("unix", path) if !path.is_empty() => Ok(Place::Unix(path.into())),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Udp(address) => write!(f, "udp:{address}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A datagram socket, connected to a place or listening on it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket that sends to `place`.
    pub fn to(place: &Place) -> Result<Socket, String> {
        let connected = || -> io::Result<OwnedFd> {
            match place {
                Place::Udp(address) => {
                    let any: SocketAddr =
                        if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
                    let socket = UdpSocket::bind(any)?;
                    socket.connect(address)?;
                    Ok(socket.into())
                }
                Place::Unix(path) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    Ok(socket.into())
                }
            }
        };
        connected().map(Socket).map_err(|error| format!("nothing can be sent to {place}: {error}"))
    }

    /// A socket that listens on `place`. What a former sink left at a path is put aside.
    pub fn on(place: &Place) -> Result<Socket, String> {
        let bound = || -> io::Result<OwnedFd> {
            match place {
                Place::Udp(address) => Ok(UdpSocket::bind(address)?.into()),
                Place::Unix(path) => {
                    // Nobody answers at the path of a sink that has ended; another's is left alone.
                    if UnixDatagram::unbound()?.connect(path).is_err_and(|e| refused(&e)) {
                        std::fs::remove_file(path)?;
                    }
                    Ok(UnixDatagram::bind(path)?.into())
                }
            }
        };
        let socket =
            bound().map(Socket).map_err(|error| format!("{place} cannot be listened on: {error}"))?;
        socket.widen();
        Ok(socket)
    }

    /// Asks for a deep receive buffer: beyond the system's bound with CAP_NET_ADMIN, up to it without.
    fn widen(&self) {
        let bytes = RECEIVE_BYTES;
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            // SAFETY: the pointer and length are those of an int that lives across the call.
            unsafe {
                libc::setsockopt(
                    self.0.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const bytes).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                );
            }
        }
    }

    /// Sends one datagram, waiting where the socket is full.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length are those of a slice that lives across the call.
        let sent =
            unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes one datagram that is there already; `WouldBlock` where none is.
    pub fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of a slice that lives across the call.
        let len = unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Its descriptor, for poll(2).
    pub fn descriptor(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

fn refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
