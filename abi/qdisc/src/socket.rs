//! A socket of rtnetlink(7): one request, and its answer within a bound.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::wire::{HEADER_BYTES, Request, find, messages, text, u32_at};

/// What one recv(2) may bring; the kernel sends dumps in pieces of up to 32 KiB.
pub const BUFFER_BYTES: usize = 65_536;
/// How long the kernel may take for an answer; offload waits for a card's firmware.
const PATIENCE: Duration = Duration::from_secs(5);
/// Dumps that were disturbed by a change in between are read again, so many times.
const DUMPS_MAX: usize = 8;

const NETLINK_EXT_ACK: libc::c_int = 11;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// In an answer: the request is not repeated in it.
const NLM_F_CAPPED: u16 = 0x100;
/// In an answer: attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The errno (0: done) and the kernel's words in the body of an answer (struct nlmsgerr).
pub fn verdict(flags: u16, body: &[u8]) -> Option<(i32, Option<String>)> {
    let errno = u32_at(body, 0)?.cast_signed().checked_neg()?;
    if flags & NLM_F_ACK_TLVS == 0 {
        return Some((errno, None));
    }
    let request = u32_at(body, 4)? as usize;
    let skip = if flags & NLM_F_CAPPED != 0 { 4 + HEADER_BYTES } else { 4usize.checked_add(request)? };
    let rest = body.get(skip.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((errno, find(rest, NLMSGERR_ATTR_MSG).map(text).filter(|words| !words.is_empty())))
}

/// Opens one that hears the groups (a bit each); without groups it asks.
pub fn open(groups: u32, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) makes a new descriptor and touches nothing else.
    let fd = unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, libc::NETLINK_ROUTE)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    for option in [NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK] {
        // Kernels before 4.12 and 4.20 do not know them, and answer all the same.
        // SAFETY: the option's value is a live integer of the length given.
        unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, option, (&raw const on).cast(), 4) };
    }
    // SAFETY: all zeroes is a value of the struct.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is live and of the length given.
    if unsafe { libc::bind(fd, (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// One recvfrom(2) of what the kernel sent; what another process sent is passed over (an empty slice).
pub fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    // SAFETY: all zeroes is a value of the struct.
    let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&from) as libc::socklen_t;
    // SAFETY: buffer and address are live and of the lengths given.
    let read = unsafe {
        let (bytes, room) = (buffer.as_mut_ptr().cast(), buffer.len());
        libc::recvfrom(socket.as_raw_fd(), bytes, room, 0, (&raw mut from).cast(), &raw mut length)
    };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    Ok(if from.nl_pid == 0 { &buffer[..read] } else { &[] })
}

/// Asks, and waits until the kernel has done it.
pub fn order(
    what: &str,
    kind: u16,
    flags: u16,
    fixed: &[u8],
    fill: impl FnOnce(&mut Request),
) -> Result<(), Refusal> {
    let mut request = Request::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK, fixed);
    fill(&mut request);
    talk(what, request, |_| ()).map(drop)
}

/// Asks for one thing: the body of the answer.
pub fn ask(what: &str, kind: u16, fixed: &[u8], fill: impl FnOnce(&mut Request)) -> Result<Vec<u8>, Refusal> {
    let mut request = Request::new(kind, NLM_F_REQUEST | NLM_F_ACK, fixed);
    fill(&mut request);
    let mut answer = None;
    talk(what, request, |body| answer = Some(body.to_vec()))?;
    answer.ok_or_else(|| Refusal::new(what, "the kernel acknowledged it without an answer"))
}

/// Asks for all there are: the bodies, as they are at one instant.
pub fn dump(what: &str, kind: u16, fixed: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    for _ in 0..DUMPS_MAX {
        let mut all = Vec::new();
        let request = Request::new(kind, NLM_F_REQUEST | NLM_F_DUMP, fixed);
        if talk(what, request, |body| all.push(body.to_vec()))? {
            return Ok(all);
        }
    }
    Err(Refusal::new(what, format!("it changed while it was read, {DUMPS_MAX} times; try again")))
}

/// `false`: something changed during a dump.
fn talk(what: &str, request: Request, mut each: impl FnMut(&[u8])) -> Result<bool, Refusal> {
    const SEQUENCE: u32 = 1;
    let system = |error: io::Error| Refusal::system(what, &error);
    let socket = open(0, 0).map_err(system)?;
    let bytes = request.finish(SEQUENCE);
    // SAFETY: the bytes are live for the call.
    if unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) } < 0 {
        return Err(system(io::Error::last_os_error()));
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut whole = true;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if !readable(&socket, deadline) {
            return Err(Refusal { what: what.into(), errno: libc::ETIMEDOUT, words: None });
        }
        let read = match receive(&socket, &mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(system(error)),
        };
        for message in messages(read).filter(|message| message.sequence == SEQUENCE) {
            whole &= message.flags & NLM_F_DUMP_INTR == 0;
            match message.kind {
                NLMSG_DONE => {
                    // A dump that fails ends with its errno.
                    let errno =
                        u32_at(message.body, 0).map_or(0, |number| number.cast_signed().saturating_neg());
                    return match errno {
                        errno if errno > 0 => Err(Refusal { what: what.into(), errno, words: None }),
                        _ => Ok(whole),
                    };
                }
                NLMSG_ERROR => {
                    return match verdict(message.flags, message.body) {
                        Some((0, _)) => Ok(whole),
                        Some((errno, words)) => Err(Refusal { what: what.into(), errno, words }),
                        None => Err(Refusal::new(what, "the kernel's answer is cut short")),
                    };
                }
                _ => each(message.body),
            }
        }
    }
}

fn readable(socket: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the array of one is live for the call.
        match unsafe { libc::poll(&raw mut polled, 1, left.as_millis() as libc::c_int) } {
            0 => return false,
            1.. => return true,
            _ if left.is_zero() => return false,
            // EINTR: the rest of the time.
            _ => {}
        }
    }
}
