//! What the kernel adds to CLOCK_REALTIME for CLOCK_TAI.

use std::io;

/// Seconds that CLOCK_TAI is ahead of CLOCK_REALTIME (adjtimex(2)); 0 until somebody has set it.
///
/// # Errors
/// The error of the system call.
pub fn tai_offset_s() -> io::Result<i32> {
    // SAFETY: all zeroes is a value of the struct; with no mode set it is only filled in.
    let mut answer: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is live for the call.
    match unsafe { libc::adjtimex(&raw mut answer) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(answer.tai),
    }
}
