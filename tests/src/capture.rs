//! What leaves by an interface, as the kernel hands it to the card: packet(7), with a filter that looks at what the
//! kernel knows of a packet and the wire does not show.

use std::ffi::{CString, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::wait::LIVENESS;

/// What the kernel keeps with a packet: its place in struct __sk_buff (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// SO_MARK's mark.
    Mark = 8,
    /// SO_PRIORITY's priority.
    Priority = 32,
}

const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// The packets that leave by an interface with that value.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Listens from now on, in the network namespace of the calling thread.
    ///
    /// # Panics
    /// When the kernel does not let it: it needs root.
    pub fn start(device: &str, known: Known, value: u32) -> Capture {
        let program = load(known, value);
        // SAFETY: socket(2) makes a new descriptor, which belongs to nobody else.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "packet(7): {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let fd = program.as_raw_fd();
        // SAFETY: the option's value is a live descriptor's number.
        let done = unsafe {
            let value = (&raw const fd).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, value, 4)
        };
        assert_eq!(done, 0, "SO_ATTACH_BPF: {}", io::Error::last_os_error());
        let name = CString::new(device).expect("a name");
        // SAFETY: all zeroes is a value of the struct; the name is a live C string.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        // SAFETY: the name is a live C string.
        address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
        assert!(address.sll_ifindex > 0, "there is no interface {device}");
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is live and of the length given.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(done, 0, "bind to {device}: {}", io::Error::last_os_error());
        Capture { socket }
    }

    /// The next packet that is wanted, from its IP header on.
    ///
    /// # Panics
    /// When none comes within [`LIVENESS`].
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let end = Instant::now() + LIVENESS;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Some(packet) = self.next(left)
                && wanted(&packet)
            {
                return packet;
            }
        }
        panic!("no packet came with {what}");
    }

    /// The next packet, where one comes within that time.
    pub fn next(&self, within: Duration) -> Option<Vec<u8>> {
        let mut polled = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut bytes = vec![0; 65_536];
        // SAFETY: the array of one and the bytes are live for the calls.
        let read = unsafe {
            if libc::poll(&raw mut polled, 1, within.as_millis() as c_int) <= 0 {
                return None;
            }
            libc::recv(self.socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0)
        };
        bytes.truncate(usize::try_from(read).ok()?);
        Some(bytes)
    }
}

/// The DSCP of an IP packet.
pub fn dscp(packet: &[u8]) -> u8 {
    match packet[0] >> 4 {
        4 => packet[1] >> 2,
        _ => (packet[0] << 4 | packet[1] >> 4) >> 2,
    }
}

/// A program that lets packets through whose value is that one.
fn load(known: Known, value: u32) -> OwnedFd {
    let instruction = |code: u8, registers: u8, offset: i16, number: u32| -> [u8; 8] {
        let [a, b] = offset.to_ne_bytes();
        let [c, d, e, f] = number.to_ne_bytes();
        [code, registers, a, b, c, d, e, f]
    };
    let program: [[u8; 8]; 6] = [
        // r0 = *(u32 *)(r1 + offset)
        instruction(0x61, 0x10, known as i16, 0),
        // if r0 == value goto the last two
        instruction(0x15, 0, 2, value),
        instruction(0xb7, 0, 0, 0),
        instruction(0x95, 0, 0, 0),
        instruction(0xb7, 0, 0, 65_535),
        instruction(0x95, 0, 0, 0),
    ];
    /// The beginning of union bpf_attr.
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        program: u64,
        licence: u64,
        rest: [u64; 12],
    }
    let load = Load {
        kind: BPF_PROG_TYPE_SOCKET_FILTER,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        licence: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the program and the licence are live for the call, and of the lengths given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    assert!(fd >= 0, "bpf(2): {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd as c_int) }
}
