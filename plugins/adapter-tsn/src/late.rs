//! The error queue of a socket: frames whose launch time was missed or could not be used (MSG_ERRQUEUE, recv(2);
//! linux/errqueue.h).

use std::os::fd::{AsRawFd, BorrowedFd};

/// SO_EE_ORIGIN_TXTIME.
const ORIGIN_TXTIME: u8 = 6;
const CODE_INVALID: u8 = 1;
const CODE_MISSED: u8 = 2;
/// Entries that one look takes: the next look goes on.
const ENTRIES_MAX: usize = 16;
const CONTROL_WORDS: usize = 32;

/// What one look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Frames that came after their launch time.
    pub missed: u64,
    /// Frames whose launch time the kernel could not use.
    pub invalid: u64,
    /// Answers of the network: no such port, no such host.
    pub network: u64,
}

/// Takes what is in the error queue. Allocates nothing, waits for nothing.
pub fn read(socket: BorrowedFd<'_>) -> Late {
    let mut late = Late::default();
    for _ in 0..ENTRIES_MAX {
        let mut control = [0u64; CONTROL_WORDS];
        // SAFETY: all zeroes is a value of the struct.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points at live memory of the lengths that it gives.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } < 0 {
            break;
        }
        // SAFETY: the kernel wrote the control block; CMSG_FIRSTHDR checks that a header fits.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: as above, and CMSG_NXTHDR does so for each that follows.
        while let Some(message) = unsafe { next.as_ref() } {
            let reports = matches!(
                (message.cmsg_level, message.cmsg_type),
                (libc::SOL_IP, libc::IP_RECVERR)
                    | (libc::SOL_IPV6, libc::IPV6_RECVERR)
                    | (libc::SOL_PACKET, _)
            );
            // SAFETY: CMSG_LEN only computes.
            let needed = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) } as usize;
            if reports && message.cmsg_len >= needed {
                // SAFETY: the message is long enough for the struct that these types hold.
                let error: libc::sock_extended_err =
                    unsafe { libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned() };
                match (error.ee_origin, error.ee_code) {
                    (ORIGIN_TXTIME, CODE_MISSED) => late.missed += 1,
                    (ORIGIN_TXTIME, CODE_INVALID) => late.invalid += 1,
                    (ORIGIN_TXTIME, _) => late.invalid += 1,
                    _ => late.network += 1,
                }
            }
            // SAFETY: as above.
            next = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
        }
    }
    late
}
