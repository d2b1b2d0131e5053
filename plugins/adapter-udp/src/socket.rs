//! Makes the socket of a channel, or adopts the predecessor's where it is the same in all that matters.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tempos_abi::PluginError;
use tempos_abi::export::log;
use tempos_abi::host::LogLevel;
use tempos_sockets::marking::Marking;
use tempos_sockets::{Buffer, resize_buffer, set_option};

use crate::config::{Egress, Ingress};

/// Makes sentences that name the channel.
pub struct Opener<'a> {
    /// The channel's name.
    pub channel: &'a str,
}

impl Opener<'_> {
    /// A socket that listens.
    ///
    /// # Errors
    /// One sentence: what the system refused.
    pub fn ingress(&self, config: &Ingress, inherited: i32) -> Result<Socket, PluginError> {
        let adopted = take(inherited).filter(|socket| listens_at(socket, config.bind));
        let adopted = adopted.filter(|socket| config.marking.suits(socket.as_fd()));
        // The groups of a socket cannot be read back; but one that was joined before is refused.
        let adopted = adopted.filter(|socket| match self.join(socket, config) {
            Ok(newly_joined) => !newly_joined,
            Err(_) => false,
        });
        let socket = match adopted {
            Some(socket) => socket,
            None => self.listen(config)?,
        };
        self.prepare(&socket, &config.marking)?;
        self.buffer(&socket, Buffer::Receive, config.receive_buffer)?;
        let timestamps = i32::from(config.timestamps);
        self.done(
            "SO_TIMESTAMPNS",
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, timestamps),
        )?;
        Ok(socket)
    }

    /// A socket that is connected to where it sends.
    ///
    /// # Errors
    /// One sentence: what the system refused.
    pub fn egress(&self, config: &Egress, inherited: i32) -> Result<Socket, PluginError> {
        let adopted = take(inherited).filter(|socket| sends_to(socket, config));
        let adopted = adopted.filter(|socket| config.marking.suits(socket.as_fd()));
        let socket = match adopted {
            Some(socket) => socket,
            None => self.connect(config)?,
        };
        self.prepare(&socket, &config.marking)?;
        if let Some(bytes) = config.send_buffer {
            self.buffer(&socket, Buffer::Send, bytes)?;
        }
        if config.to.ip().is_multicast() {
            self.done("the multicast interface", aim_multicast(&socket, config))?;
        }
        Ok(socket)
    }

    fn listen(&self, config: &Ingress) -> Result<Socket, PluginError> {
        let bind = config.bind;
        let socket = self.new_socket(bind, &config.marking)?;
        if config.multicast.is_some() {
            // Several nodes of one machine may listen to one group.
            self.done("SO_REUSEADDR", socket.set_reuse_address(true))?;
        }
        if config.reuse_port {
            self.done("SO_REUSEPORT", socket.set_reuse_port(true))?;
        }
        self.done(&format!("cannot listen on {bind}"), socket.bind(&bind.into()))?;
        if let Some(group) = config.multicast {
            let joined = self.join(&socket, config).map(|_| ());
            self.done(&format!("cannot join the multicast group {group}"), joined)?;
        }
        Ok(socket)
    }

    fn connect(&self, config: &Egress) -> Result<Socket, PluginError> {
        let socket = self.new_socket(config.to, &config.marking)?;
        if let Some(from) = config.from {
            self.done(&format!("cannot send from {from}"), socket.bind(&from.into()))?;
        }
        self.done(&format!("cannot send to {}", config.to), socket.connect(&config.to.into()))?;
        Ok(socket)
    }

    fn new_socket(&self, address: SocketAddr, marking: &Marking) -> Result<Socket, PluginError> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let made = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP));
        let socket = self.done("cannot make a UDP socket", made)?;
        // The way is chosen when the socket is bound or connected.
        self.prepare(&socket, marking)?;
        Ok(socket)
    }

    fn prepare(&self, socket: &Socket, marking: &Marking) -> Result<(), PluginError> {
        marking.prepare(socket.as_fd()).map_err(|error| {
            PluginError::new(PluginError::SYSTEM, format!("udp channel \"{}\": {error}", self.channel))
        })
    }

    /// Joins the group of the configuration; `false` where the socket was in it, or there is none.
    fn join(&self, socket: &Socket, config: &Ingress) -> io::Result<bool> {
        let joined = match config.multicast {
            None => return Ok(false),
            Some(IpAddr::V4(group)) => {
                // Only what this socket joined, not what any process of the machine did (ip(7)).
                socket.set_multicast_all_v4(false)?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(config.interface))
            }
            Some(IpAddr::V6(group)) => {
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&group, config.interface)
            }
        };
        match joined {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Sizes a kernel buffer; where the kernel gives less, that is worth a line in the log.
    fn buffer(&self, socket: &Socket, buffer: Buffer, bytes: usize) -> Result<(), PluginError> {
        let given =
            self.done("the kernel's buffer cannot be sized", resize_buffer(socket.as_fd(), buffer, bytes))?;
        if given < bytes {
            let limit = if buffer == Buffer::Receive { "net.core.rmem_max" } else { "net.core.wmem_max" };
            let sentence = format!(
                "udp channel \"{}\": the kernel gave a buffer of {given} bytes where {bytes} were asked for; \
                 raise {limit} or grant CAP_NET_ADMIN",
                self.channel
            );
            log(LogLevel::WARNING, "udp", &sentence);
        }
        Ok(())
    }

    fn done<T>(&self, what: &str, result: io::Result<T>) -> Result<T, PluginError> {
        result
            .map_err(|error| PluginError::system(format!("udp channel \"{}\": {what}", self.channel), &error))
    }
}

/// The predecessor's socket, which is ours now; it is closed where it is not adopted.
fn take(inherited: i32) -> Option<Socket> {
    // SAFETY: the host hands the descriptor over to this channel (`ChannelSpec::inherited_descriptor`).
    let socket = (inherited >= 0).then(|| Socket::from(unsafe { OwnedFd::from_raw_fd(inherited) }))?;
    let udp = matches!(socket.r#type(), Ok(Type::DGRAM))
        && matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6))
        && matches!(socket.protocol(), Ok(Some(Protocol::UDP)));
    let ready = udp && SockRef::from(&socket).set_nonblocking(true).is_ok();
    ready.then_some(socket)
}

fn listens_at(socket: &Socket, bind: SocketAddr) -> bool {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    socket.peer_addr().is_err() && local.is_some_and(|local| same(local, bind))
}

fn sends_to(socket: &Socket, config: &Egress) -> bool {
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    peer == Some(config.to) && config.from.is_none_or(|from| local.is_some_and(|local| same(local, from)))
}

/// Whether an address in use is the one asked for; port 0 asks for any.
fn same(used: SocketAddr, asked: SocketAddr) -> bool {
    used.ip() == asked.ip() && (asked.port() == 0 || used.port() == asked.port())
}

fn aim_multicast(socket: &Socket, config: &Egress) -> io::Result<()> {
    if config.to.is_ipv4() {
        if config.interface != 0 {
            // An index travels in this option as an address of the network 0 (ip(7), ip_mreqn).
            let request = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: 0 },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: config.interface as i32,
            };
            let length = size_of::<libc::ip_mreqn>() as libc::socklen_t;
            let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
            // SAFETY: the option's value is a live struct of the length given.
            let done = unsafe {
                libc::setsockopt(
                    fd,
                    libc::IPPROTO_IP,
                    libc::IP_MULTICAST_IF,
                    (&raw const request).cast(),
                    length,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        socket.set_multicast_ttl_v4(config.ttl)
    } else {
        if config.interface != 0 {
            socket.set_multicast_if_v6(config.interface)?;
        }
        socket.set_multicast_hops_v6(config.ttl)
    }
}

/// Closes a descriptor that was handed over and is of no use.
pub fn discard(inherited: i32) {
    drop(take(inherited));
}
