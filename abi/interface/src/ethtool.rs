//! The ethtool ioctl (linux/ethtool.h): interrupt coalescing and GRO.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const GET_COALESCE: u32 = 0x0e;
const SET_COALESCE: u32 = 0x0f;
const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Words of struct ethtool_coalesce behind its command.
pub const COALESCE_WORDS: usize = 22;
/// Places among them.
pub const RX_USECS: usize = 0;
pub const RX_FRAMES: usize = 1;
pub const ADAPTIVE_RX: usize = 9;
pub const ADAPTIVE_TX: usize = 10;

pub fn coalescing(name: &str) -> io::Result<Vec<u64>> {
    let mut words = [0u32; 1 + COALESCE_WORDS];
    words[0] = GET_COALESCE;
    call(name, &mut words)?;
    Ok(words[1..].iter().map(|word| u64::from(*word)).collect())
}

pub fn set_coalescing(name: &str, values: &[u64]) -> io::Result<()> {
    let mut words = [0u32; 1 + COALESCE_WORDS];
    words[0] = SET_COALESCE;
    for (word, value) in words[1..].iter_mut().zip(values) {
        *word = u32::try_from(*value).unwrap_or(u32::MAX);
    }
    call(name, &mut words)
}

pub fn gro(name: &str) -> io::Result<u64> {
    let mut words = [GET_GRO, 0];
    call(name, &mut words)?;
    Ok(u64::from(words[1] != 0))
}

pub fn set_gro(name: &str, on: u64) -> io::Result<()> {
    call(name, &mut [SET_GRO, u32::from(on != 0)])
}

fn call(name: &str, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: socket(2) makes a new descriptor and touches nothing else.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a value of the struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the words are live, and as long as the command's structure is.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
