//! A network card's own clock beside the kernel's.
//!
//! Where ptp4l uses a card's stamps it is the card's clock that follows the grandmaster. Gates in software and launch
//! times run by CLOCK_TAI, which phc2sys keeps beside it: ptp4l alone cannot tell whether it does.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Looks at both clocks in turn; the narrowest counts.
const LOOKS: usize = 5;

/// A card's clock (`/dev/ptpN`).
#[derive(Debug)]
pub struct HardwareClock {
    device: File,
}

impl HardwareClock {
    /// Opens it.
    ///
    /// # Errors
    /// What the system says (ENOENT, EACCES).
    pub fn open(path: &Path) -> io::Result<HardwareClock> {
        File::open(path).map(|device| HardwareClock { device })
    }

    /// Nanoseconds that it is ahead of CLOCK_TAI.
    ///
    /// # Errors
    /// The error of the system call: EINVAL where the file is no clock.
    pub fn ahead_of_tai_ns(&self) -> io::Result<i64> {
        // FD_TO_CLOCKID (clock_getres(2), dynamic clocks).
        let card = (!self.device.as_raw_fd() << 3) | 3;
        let mut best = None;
        for _ in 0..LOOKS {
            let (before, there, after) = (now_ns(libc::CLOCK_TAI)?, now_ns(card)?, now_ns(libc::CLOCK_TAI)?);
            let width = after.wrapping_sub(before);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, there.wrapping_sub(before.wrapping_add(width / 2))));
            }
        }
        Ok(best.map_or(0, |(_, ahead)| ahead))
    }
}

fn now_ns(clock: libc::clockid_t) -> io::Result<i64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live for the call.
    match unsafe { libc::clock_gettime(clock, &raw mut now) } {
        0 => Ok(now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec)),
        _ => Err(io::Error::last_os_error()),
    }
}
