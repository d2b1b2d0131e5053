//! etf: frames leave at their launch times (tc-etf(8)).

use crate::wire::{Request, find, u32_at};

const PARAMETERS: u16 = 1;
const DEADLINE_MODE: u32 = 1;
const OFFLOAD: u32 = 2;
const SKIP_SOCK_CHECK: u32 = 4;

/// The settings; the clock is CLOCK_TAI, the kernel takes no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Etf {
    /// How long before its launch time a frame is handed on. Without offload it leaves that much early, and must
    /// be longer than the worst wake-up of the kernel: with 0 nearly every frame is dropped.
    pub delta_ns: u32,
    /// The card holds each frame to its launch time.
    pub offload: bool,
    /// The launch time is the latest instant, not the exact one.
    pub deadline_mode: bool,
    /// Frames of sockets without SO_TXTIME are taken too (taprio's launch-time assist needs that).
    pub skip_sock_check: bool,
}

impl Etf {
    pub(crate) fn put(&self, request: &mut Request, options: u16) {
        let delta = i32::try_from(self.delta_ns).unwrap_or(i32::MAX);
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let flags = flag(self.deadline_mode, DEADLINE_MODE)
            | flag(self.offload, OFFLOAD)
            | flag(self.skip_sock_check, SKIP_SOCK_CHECK);
        // struct tc_etf_qopt
        let bytes = [delta.to_ne_bytes(), libc::CLOCK_TAI.to_ne_bytes(), flags.to_ne_bytes()].concat();
        request.nest(options, |request| request.put(PARAMETERS, &bytes));
    }

    pub(crate) fn decode(options: &[u8]) -> Option<Self> {
        let bytes = find(options, PARAMETERS)?;
        let flags = u32_at(bytes, 8)?;
        Some(Etf {
            delta_ns: u32::try_from(u32_at(bytes, 0)?.cast_signed()).unwrap_or(0),
            offload: flags & OFFLOAD != 0,
            deadline_mode: flags & DEADLINE_MODE != 0,
            skip_sock_check: flags & SKIP_SOCK_CHECK != 0,
        })
    }
}
