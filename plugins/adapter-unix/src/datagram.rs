//! Datagrams in: one socket, many senders, the kernel vouches for each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use socket2::{Socket, Type};
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_abi::event::RxSlot;
use tempos_sockets::{Buffer, Place, Receiver, Want, duplicate, set_option};

use crate::channel::{is_of_type, new_socket, size, write_credentials};
use crate::config::Config;

/// A socket that datagrams arrive at.
pub struct DatagramIngress {
    socket: Socket,
    receiver: Receiver,
    /// After the socket: see [`Place`].
    _place: Option<Place>,
    address: String,
}

impl DatagramIngress {
    /// Adopts the predecessor's socket where it has the name asked for, or listens anew.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(spec: &ChannelSpec, config: &Config, inherited: Option<Socket>) -> Result<Self, PluginError> {
        let adopted = inherited.filter(|socket| is_of_type(socket, Type::DGRAM));
        let (socket, place, address) = match (&config.name, adopted) {
            (None, Some(socket)) => (socket, None, String::from("unix://inherited")),
            (None, None) => {
                return Err(PluginError::bad_option(format!(
                    "unix channel \"{}\": the descriptor handed over is not a datagram socket, and there is no path",
                    spec.name
                )));
            }
            (Some(name), adopted) => {
                match adopted.filter(|socket| socket.local_addr().is_ok_and(|local| name.is(&local))) {
                    Some(socket) => (socket, Place::adopt(name, Type::DGRAM), format!("unix://{name}")),
                    None => {
                        let socket = new_socket(&spec.name, Type::DGRAM)?;
                        let place = Place::bind(
                            &format!("unix channel \"{}\"", spec.name),
                            &socket,
                            name,
                            Type::DGRAM,
                            config.access,
                        )?;
                        (socket, place, format!("unix://{name}"))
                    }
                }
            }
        };
        size(&spec.name, &socket, Buffer::Receive, config.receive_buffer)?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1).map_err(|error| {
            PluginError::system(format!("unix channel \"{}\": SO_PASSCRED", spec.name), &error)
        })?;
        let want = Want { source: false, control: true };
        Ok(DatagramIngress {
            socket,
            receiver: Receiver::new(spec.batch_max as usize, want),
            _place: place,
            address,
        })
    }

    pub fn readiness(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        self.receiver.receive(self.socket.as_fd(), slots, |slot, arrival| {
            if let Some(sender) = arrival.credentials() {
                write_credentials(slot, &sender);
                slot.set_producer(producer(&sender));
            }
        })
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn take_over(&mut self) -> RawFd {
        duplicate(self.socket.as_fd())
    }
}

/// A process of a user is one sender; never 0.
fn producer(sender: &libc::ucred) -> u64 {
    (u64::from(sender.uid) << 32 | u64::from(sender.pid.unsigned_abs())) + 1
}
