//! Frames as they arrive, with the kernel's stamp (SO_TIMESTAMPNS, socket(7)).

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tempos_tsn_rig::{Arguments, tai_offset_ns};

const BUFFER_BYTES: libc::c_int = 8 << 20;
/// Bytes of a frame that are read: the headers of IPv4 and UDP, with options.
const HEAD_BYTES: usize = 68;
/// Arrivals that are kept.
const TIMES_MAX: usize = 1 << 20;
/// A poll(2) lasts this long at most.
const POLL_MS: u64 = 100;

/// Where frames come from.
pub enum Source {
    /// A UDP port, of all addresses.
    Udp(u16),
    /// All frames of an EtherType at an interface; of IPv4 those for one port, where it is named.
    Ethernet(String, u16, Option<u16>),
}

impl Source {
    pub fn read(arguments: &mut Arguments) -> Result<Self, String> {
        match (
            arguments.maybe("udp")?,
            arguments.maybe("interface")?,
            arguments.maybe::<String>("ethertype")?,
        ) {
            (Some(port), None, None) => Ok(Source::Udp(port)),
            (None, Some(interface), Some(kind)) => {
                let kind = u16::from_str_radix(kind.trim_start_matches("0x"), 16)
                    .map_err(|_| format!("--ethertype {kind:?} is no hexadecimal number such as 0x88b5"))?;
                Ok(Source::Ethernet(interface, kind, arguments.maybe("port")?))
            }
            _ => Err("say --udp PORT, or --interface IFACE and --ethertype HEX".into()),
        }
    }

    /// Whether the first bytes of a frame are of one that counts.
    fn counts(&self, bytes: &[u8]) -> bool {
        let Source::Ethernet(_, _, Some(port)) = self else { return true };
        // The header of IPv4 says how long it is; the port of the receiver is the second number behind it.
        let at = usize::from(bytes.first().copied().unwrap_or(0) & 0x0f) * 4 + 2;
        bytes.get(at..at + 2).is_some_and(|two| two == port.to_be_bytes())
    }

    /// Records when something arrives (TAI), for some seconds.
    pub fn record(&self, seconds: f64) -> Result<Vec<u64>, String> {
        let socket = self.open().map_err(|error| format!("cannot listen: {error}"))?;
        let seconds = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        let end = Instant::now() + seconds;
        let mut times = Vec::new();
        let mut control = [0u64; 64];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let wait = left.as_millis().min(u128::from(POLL_MS)) as libc::c_int + 1;
            let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: the array of one is live for the call.
            unsafe { libc::poll(&raw mut polled, 1, wait) };
            let mut bytes = [0u8; HEAD_BYTES];
            while let Some(time) =
                arrival(&socket, &mut bytes, &mut control).map_err(|error| error.to_string())?
            {
                if times.len() < TIMES_MAX && self.counts(&bytes) {
                    times.push(time.saturating_add_signed(tai_offset_ns()));
                }
            }
        }
        Ok(times)
    }

    fn open(&self) -> io::Result<Socket> {
        let socket = match self {
            Source::Udp(port) => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
                socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port).into())?;
                socket
            }
            Source::Ethernet(interface, kind, _) => {
                let kind = kind.to_be();
                let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(kind))))?;
                bind_packet(&socket, interface, kind)?;
                socket
            }
        };
        set(&socket, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
        set(&socket, libc::SO_TIMESTAMPNS, 1)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

fn bind_packet(socket: &Socket, interface: &str, kind: u16) -> io::Result<()> {
    let name = CString::new(interface)?;
    // SAFETY: all zeroes is a value of the struct.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = kind;
    // SAFETY: the name is live and ends with a NUL.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    if address.sll_ifindex == 0 {
        return Err(io::Error::last_os_error());
    }
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is live and of the length given.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is a live integer of the length given.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), 4)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The stamp of the next frame (CLOCK_REALTIME); nothing where none waits.
fn arrival(
    socket: &Socket,
    bytes: &mut [u8; HEAD_BYTES],
    control: &mut [u64; 64],
) -> io::Result<Option<u64>> {
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: HEAD_BYTES };
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    // SAFETY: the header points at live memory of the lengths that it gives.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel has filled the control block up to its length, message after message.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SO_TIMESTAMPNS {
                let time = libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned();
                return Ok(Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64));
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Err(io::Error::other("a frame came without a stamp"))
}
