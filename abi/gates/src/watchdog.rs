//! Sends a small frame through each gate and sees whether it leaves. One that waits may stand behind others: only
//! where nothing at all has left the class's queue meanwhile is the gate silent.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use tempos_qdisc::{Link, read_all};
use tempos_tsn::Schedule;

use crate::clock::tai_ns;
use crate::ladder::queue_of;

/// OUI Extended EtherType (IEEE 802): who is no part of this passes over it.
const ETHERTYPE: u16 = 0x88B7;
/// A locally administered identifier and a protocol of it.
const PAYLOAD: [u8; 46] = {
    let mut bytes = [0; 46];
    (bytes[0], bytes[1], bytes[2], bytes[4]) = (0x02, 0x54, 0x53, 1);
    bytes
};
const FRAME_BYTES: u32 = 14 + PAYLOAD.len() as u32;
/// How long a frame may wait at least, and in cycles.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_CYCLES: u64 = 3;
/// SOF_TXTIME_REPORT_ERRORS is not set: nobody reads these errors.
const TXTIME_FLAGS: u32 = 0;
/// How long before its launch a frame is sent.
const LEAD_NS: u64 = 1_000_000;

/// One gate's probe.
#[derive(Debug)]
struct Probe {
    class: u8,
    socket: OwnedFd,
    /// What a launch time must say beyond the instant meant; none: the class takes no launch times.
    launch: Option<u32>,
    waits_since: Option<Instant>,
    /// Its class's queue took no frame.
    full: bool,
    /// What had left when it was seen to wait, and when.
    seen: Option<(u32, Instant)>,
}

/// The probes of one interface.
#[derive(Debug)]
pub struct Watchdog {
    probes: Vec<Probe>,
    to: libc::sockaddr_ll,
    schedule: Schedule,
    root: u32,
    patience: Duration,
}

impl Watchdog {
    /// A probe for each class that has a gate and a priority, beneath a root of that number; some classes take launch
    /// times, and what these must say beyond the instant meant.
    ///
    /// # Errors
    /// What the system says (EPERM without CAP_NET_RAW).
    pub fn new(link: &Link, schedule: &Schedule, root: u32, launch: &[(u8, u32)]) -> io::Result<Self> {
        let mut probes = Vec::new();
        for class in 0..schedule.class_count() as u8 {
            let priority = schedule.classes.iter().position(|mapped| *mapped == class);
            let gated = schedule.frame_bytes_max(class).is_some();
            let Some(priority) = priority.filter(|_| gated) else { continue };
            let launch = launch.iter().find(|(launching, _)| *launching == class);
            let launch = launch.map(|(_, beyond)| *beyond);
            let socket = open(priority as libc::c_int, launch.is_some())?;
            probes.push(Probe { class, socket, launch, waits_since: None, full: false, seen: None });
        }
        let cycles = Duration::from_nanos(schedule.cycle_ns.saturating_mul(PATIENCE_CYCLES));
        Ok(Watchdog {
            probes,
            to: to_itself(link),
            schedule: schedule.clone(),
            root,
            patience: PATIENCE.max(cycles),
        })
    }

    /// Classes through whose gate nothing leaves. Look ten times a second.
    pub fn silent(&mut self, link: &Link, now: Instant) -> Vec<u8> {
        let mut silent = Vec::new();
        let mut counted = None;
        for probe in &mut self.probes {
            match probe.waits_since {
                Some(since) if probe.full || waits(&probe.socket) => {
                    if now.saturating_duration_since(since) < self.patience {
                        continue;
                    }
                    let all = counted.get_or_insert_with(|| read_all(link).unwrap_or_default());
                    let parent = queue_of(self.root, probe.class);
                    let own = all.iter().find(|qdisc| qdisc.parent == parent);
                    // Where no queue of its own is shown, the root's counter stands for all of them.
                    let Some(left) = own.or(all.first()).map(|qdisc| qdisc.counters.sent_frames) else {
                        continue;
                    };
                    match probe.seen {
                        Some((before, at)) if before == left => {
                            if now.saturating_duration_since(at) >= self.patience {
                                silent.push(probe.class);
                            }
                        }
                        // It moves: a queue that was full is tried again.
                        Some(_) if probe.full => (probe.waits_since, probe.seen) = (None, None),
                        _ => probe.seen = Some((left, now)),
                    }
                }
                _ => {
                    probe.seen = None;
                    probe.full = !send(probe, &self.to, &self.schedule);
                    probe.waits_since = Some(now);
                }
            }
        }
        silent
    }

    /// Whatever waited has had its chance.
    pub fn forgive(&mut self, now: Instant) {
        for probe in &mut self.probes {
            probe.seen = None;
            probe.waits_since = probe.waits_since.map(|_| now);
        }
    }
}

fn to_itself(link: &Link) -> libc::sockaddr_ll {
    // SAFETY: all zeroes is a value of the struct.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETHERTYPE.to_be();
    address.sll_ifindex = link.index;
    address.sll_halen = 6;
    // A switch keeps a frame whose receiver is where it came from.
    for (to, from) in address.sll_addr.iter_mut().zip(link.address.iter().take(6)) {
        *to = *from;
    }
    address
}

fn open(priority: libc::c_int, launches: bool) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) makes a new descriptor; with protocol 0 it receives nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SO_PRIORITY, &priority)?;
    if launches {
        // struct sock_txtime (linux/net_tstamp.h)
        set(&socket, libc::SO_TXTIME, &[libc::CLOCK_TAI.cast_unsigned(), TXTIME_FLAGS])?;
    }
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and of the length given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether what was sent has not left: the kernel still counts its bytes (SIOCOUTQ, packet(7)).
fn waits(socket: &OwnedFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the number is live for the call.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// Sends one; a queue that is full takes none.
fn send(probe: &Probe, to: &libc::sockaddr_ll, schedule: &Schedule) -> bool {
    let mut control = [0u64; 4];
    let piece = libc::iovec { iov_base: PAYLOAD.as_ptr().cast_mut().cast(), iov_len: PAYLOAD.len() };
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw const piece).cast_mut();
    header.msg_iovlen = 1;
    header.msg_name = std::ptr::from_ref(to).cast_mut().cast();
    header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    if let Some(beyond) = probe.launch {
        let room = Schedule { guard_ns: schedule.guard_ns + u64::from(beyond), ..schedule.clone() };
        let Some(at) = room.next_opening(probe.class, tai_ns() + LEAD_NS, FRAME_BYTES) else { return true };
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control block has room for one message of 8 bytes and is aligned for it.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(8) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_TXTIME;
            (*message).cmsg_len = libc::CMSG_LEN(8) as _;
            libc::CMSG_DATA(message).cast::<u64>().write_unaligned(at + u64::from(beyond));
        }
    }
    // SAFETY: the header points at live memory of the lengths that it gives; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(probe.socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    sent >= 0
}
