//! The end that listens: who connects gets memory of his own.
//!
//! All memory is made, faulted in and locked when the channel is opened. What a connection leaves is kept for
//! the next one of the same user alone: whoever had it mapped may have it mapped still. Only where another
//! user comes than the memory has seen is new memory made on the lane.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use socket2::{Domain, Socket, Type};
use tempos_abi::PluginError;
use tempos_abi::adapter::ChannelSpec;
use tempos_shm::memory::Memory;
use tempos_shm::wire::{Greeting, Role, greet};
use tempos_sockets::{Name, Place, carrier};

use crate::config::Config;

/// What is handed to a successor.
const MAGIC: &[u8] = b"tempos-shm-1";
const BACKLOG: i32 = 64;

/// Memory that waits for a connection.
struct Spare {
    memory: Memory,
    /// Whose it was; none: nobody has seen it.
    user: Option<u32>,
}

/// Somebody who came and was greeted.
pub struct Arrival {
    pub socket: OwnedFd,
    pub peer: libc::ucred,
    pub memory: Memory,
}

/// What listening came to.
pub enum Accepted {
    /// Nobody is there.
    Nobody,
    /// Somebody was sent away.
    Refused,
    /// Somebody is in.
    Arrived(Arrival),
}

/// A socket that listens, and the memory for who comes.
pub struct Listener {
    socket: Socket,
    /// After the socket: see [`Place`].
    _place: Option<Place>,
    spares: Vec<Spare>,
    greeting: Greeting,
    /// Given up for a moment where descriptors run out, to take a connection in and refuse it.
    spare: Option<File>,
    locked: bool,
}

impl Listener {
    /// Adopts the predecessor's listener where it has that name, with its connections, or listens anew.
    ///
    /// # Errors
    /// One sentence: what stands in the way.
    pub fn open(
        spec: &ChannelSpec,
        config: &Config,
        name: &Name,
        role: Role,
        inherited: Option<Socket>,
    ) -> Result<(Self, Vec<Arrival>), PluginError> {
        let system = |what: &str, error: &io::Error| {
            PluginError::system(format!("shm channel \"{}\": {what}", spec.name), error)
        };
        let (socket, place, arrivals) = match adopt(name, config, inherited) {
            Some(adopted) => adopted,
            None => {
                let kind = Type::STREAM.nonblocking().cloexec();
                let socket = Socket::new_raw(Domain::UNIX, kind, None)
                    .map_err(|error| system("cannot make a socket", &error))?;
                let place = Place::bind(
                    &format!("shm channel \"{}\"", spec.name),
                    &socket,
                    name,
                    Type::STREAM,
                    config.access,
                )?;
                socket.listen(BACKLOG).map_err(|error| system("cannot listen", &error))?;
                (socket, place, Vec::new())
            }
        };
        let mut spares = Vec::with_capacity(config.connections);
        let mut locked = true;
        for _ in arrivals.len().min(config.connections)..config.connections {
            let memory = Memory::new(config.capacity)
                .map_err(|error| system("the memory of its rings cannot be made", &error))?;
            locked &= memory.lock();
            spares.push(Spare { memory, user: None });
        }
        let frame_bytes_max = u64::from(spec.event_bytes_max);
        Ok((
            Listener {
                socket,
                _place: place,
                spares,
                greeting: Greeting { role, capacity: config.capacity, frame_bytes_max },
                spare: File::open("/dev/null").ok(),
                locked,
            },
            arrivals,
        ))
    }

    /// The largest frame in bytes.
    pub fn frame_bytes_max(&self) -> usize {
        self.greeting.frame_bytes_max as usize
    }

    /// Whether the system keeps all rings in memory.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Its socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes somebody in, where there is memory for him.
    pub fn accept(&mut self) -> Accepted {
        let socket = match accept(&self.socket) {
            Ok(socket) => socket,
            Err(libc::EMFILE | libc::ENFILE) => {
                self.spare = None;
                drop(accept(&self.socket));
                self.spare = File::open("/dev/null").ok();
                return Accepted::Refused;
            }
            Err(_) => return Accepted::Nobody,
        };
        let peer = peer_of(socket.as_fd());
        let memory = peer.as_ref().ok().and_then(|peer| self.memory_for(peer.uid));
        let (Ok(peer), Some(memory)) = (peer, memory) else {
            let _ = greet(socket.as_fd(), &Greeting { capacity: 0, ..self.greeting }, None);
            return Accepted::Refused;
        };
        memory.reset();
        if greet(socket.as_fd(), &self.greeting, Some(memory.descriptor())).is_err() {
            // He may have it mapped all the same.
            self.give_back(memory, peer.uid);
            return Accepted::Refused;
        }
        Accepted::Arrived(Arrival { socket, peer, memory })
    }

    /// Keeps the memory of a connection that ended.
    pub fn give_back(&mut self, memory: Memory, user: u32) {
        if self.spares.len() < self.spares.capacity() {
            self.spares.push(Spare { memory, user: Some(user) });
        }
    }

    fn memory_for(&mut self, user: u32) -> Option<Memory> {
        let of = |wanted: Option<u32>| self.spares.iter().position(|spare| spare.user == wanted);
        if let Some(at) = of(Some(user)).or_else(|| of(None)) {
            return Some(self.spares.swap_remove(at).memory);
        }
        // All of it belonged to others.
        self.spares.pop()?;
        let memory = Memory::new(self.greeting.capacity).ok()?;
        memory.lock();
        Some(memory)
    }
}

/// Who connected (unix(7), SO_PEERCRED).
pub fn peer_of(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: the value is live and of the length given.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    if done == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

fn accept(listener: &Socket) -> Result<OwnedFd, i32> {
    let null = std::ptr::null_mut();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no address is asked for; the answer is a new descriptor or an error.
    let socket = unsafe { libc::accept4(listener.as_raw_fd(), null, null.cast(), flags) };
    if socket < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

type Adopted = (Socket, Option<Place>, Vec<Arrival>);

/// What a predecessor packed: its listener, then socket and memory of each connection. A connection whose ring
/// has another size is closed; who is at its other end connects again.
fn adopt(name: &Name, config: &Config, inherited: Option<Socket>) -> Option<Adopted> {
    let carrier = inherited?;
    let is_ours = |socket: &Socket, kind| {
        socket.domain().is_ok_and(|domain| domain == Domain::UNIX) && socket.r#type().is_ok_and(|t| t == kind)
    };
    if !is_ours(&carrier, Type::SEQPACKET) {
        return None;
    }
    let mut packed = carrier::unpack(MAGIC, &carrier).into_iter();
    let listener = Socket::from(packed.next()?);
    if !is_ours(&listener, Type::STREAM) || !listener.local_addr().is_ok_and(|local| name.is(&local)) {
        return None;
    }
    let mut arrivals = Vec::new();
    while let (Some(socket), Some(memory)) = (packed.next(), packed.next()) {
        let (peer, memory) = (peer_of(socket.as_fd()), Memory::adopt(memory, config.capacity));
        if let (Ok(peer), Ok(memory)) = (peer, memory)
            && arrivals.len() < config.connections
        {
            memory.lock();
            arrivals.push(Arrival { socket, peer, memory });
        }
    }
    Some((listener, Place::adopt(name, Type::STREAM), arrivals))
}

/// Packs a listener and its connections for a successor; -1 where that fails.
pub fn pack<'a>(
    listener: &'a Listener,
    connections: impl Iterator<Item = [BorrowedFd<'a>; 2]>,
) -> std::os::fd::RawFd {
    carrier::pack(MAGIC, std::iter::once(listener.socket()).chain(connections.flatten())).unwrap_or(-1)
}
