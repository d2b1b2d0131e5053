//! What a card says of itself through the ethtool ioctl (linux/ethtool.h): time stamps, speed, queues.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::Refusal;

const GET_CHANNELS: u32 = 0x3c;
const GET_TS_INFO: u32 = 0x41;
const GET_LINK_SETTINGS: u32 = 0x4c;
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// SOF_TIMESTAMPING_* (linux/net_tstamp.h)
const TX_HARDWARE: u32 = 1;
const TX_SOFTWARE: u32 = 2;
const RX_HARDWARE: u32 = 4;
/// SPEED_UNKNOWN
const UNKNOWN: u32 = u32::MAX;
/// struct ethtool_link_settings in words; three masks of the length that the kernel gives follow, 127 words each
/// at most.
const SETTINGS_WORDS: usize = 12;
const MASK_WORDS_MAX: usize = 127;

/// Time stamps and clock of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareTime {
    /// The number of its clock: `/dev/ptpN`; none where it has none.
    pub clock: Option<u32>,
    /// It stamps what it sends.
    pub stamps_sent: bool,
    /// It stamps what it receives.
    pub stamps_received: bool,
    /// The driver stamps what it hands to the card.
    pub software_stamps_sent: bool,
}

/// Transmit queues of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxQueues {
    /// In use now; `ethtool -L` changes it.
    pub in_use: u32,
    /// The most that there may be.
    pub max: u32,
}

pub fn hardware_time(name: &str) -> Result<HardwareTime, Refusal> {
    let mut words = [0u32; 11];
    call(name, "its time stamps", GET_TS_INFO, &mut words)?;
    Ok(HardwareTime {
        clock: u32::try_from(words[2].cast_signed()).ok(),
        stamps_sent: words[1] & TX_HARDWARE != 0,
        stamps_received: words[1] & RX_HARDWARE != 0,
        software_stamps_sent: words[1] & TX_SOFTWARE != 0,
    })
}

pub fn tx_queues(name: &str) -> Result<TxQueues, Refusal> {
    // cmd, max_{rx,tx,other,combined}, {rx,tx,other,combined}_count
    let mut words = [0u32; 9];
    call(name, "its queues", GET_CHANNELS, &mut words)?;
    Ok(TxQueues { in_use: words[6].saturating_add(words[8]), max: words[2].saturating_add(words[4]) })
}

pub fn speed_mbit(name: &str) -> Result<Option<u32>, Refusal> {
    let mut words = [0u32; SETTINGS_WORDS + 3 * MASK_WORDS_MAX];
    // The first answer only says, as a negative number, how long the masks are.
    call(name, "its speed", GET_LINK_SETTINGS, &mut words)?;
    let masks = words[3].to_ne_bytes()[3].cast_signed();
    if masks >= 0 {
        return Ok(None);
    }
    words.fill(0);
    words[3] = u32::from_ne_bytes([0, 0, 0, masks.saturating_neg().cast_unsigned()]);
    call(name, "its speed", GET_LINK_SETTINGS, &mut words)?;
    Ok(Some(words[1]).filter(|speed| *speed != UNKNOWN && *speed != 0))
}

fn call(name: &str, what: &str, command: u32, words: &mut [u32]) -> Result<(), Refusal> {
    let refused = |error: io::Error| Refusal::system(format!("{name}: read {what}"), &error);
    // SAFETY: socket(2) makes a new descriptor and touches nothing else.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    words[0] = command;
    // SAFETY: all zeroes is a value of the struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the words are live, and as long as the command's structure is at most.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if done < 0 { Err(refused(io::Error::last_os_error())) } else { Ok(()) }
}
