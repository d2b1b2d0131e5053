//! A discipline as the kernel tells it: where it stands, what it is, what it counted.

use crate::etf::Etf;
use crate::mqprio::Mqprio;
use crate::taprio::Taprio;
use crate::wire::{find, text, u32_at, u64_at};

/// The parent of a link's root (TC_H_ROOT).
pub const ROOT: u32 = 0xffff_ffff;

// linux/rtnetlink.h: TCA_*; linux/gen_stats.h: TCA_STATS_*
pub const KIND: u16 = 1;
pub const OPTIONS: u16 = 2;
const STATS2: u16 = 7;
const STATS_BASIC: u16 = 1;
const STATS_QUEUE: u16 = 3;
/// Bytes of struct tcmsg.
pub const FIXED_BYTES: usize = 20;

/// `major:minor` in one number, as in `100:1` (both are hexadecimal there).
pub const fn handle(major: u16, minor: u16) -> u32 {
    (major as u32) << 16 | minor as u32
}

/// As `tc` writes it.
pub fn show_handle(number: u32) -> String {
    match (number, number & 0xffff) {
        (ROOT, _) => String::from("root"),
        (_, 0) => format!("{:x}:", number >> 16),
        (_, minor) => format!("{:x}:{minor:x}", number >> 16),
    }
}

/// What a discipline is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// Gates.
    Taprio(Taprio),
    /// Classes on queues.
    Mqprio(Mqprio),
    /// Launch times.
    Etf(Etf),
    /// Any other, as the kernel's bytes.
    Other(Vec<u8>),
}

/// What a discipline counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that left.
    pub sent_frames: u32,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that wait.
    pub queued_frames: u32,
    /// Their bytes.
    pub queued_bytes: u32,
    /// Frames that were dropped.
    pub dropped_frames: u32,
}

/// A discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its name, such as `taprio` or `noqueue`.
    pub kind: String,
    /// Its number; the kernel's own defaults have 0.
    pub handle: u32,
    /// Where it hangs; [`ROOT`] is the link itself.
    pub parent: u32,
    /// What it is set to.
    pub options: Options,
    /// What it counted.
    pub counters: Counters,
}

/// What stood on a link: the root first, then what was grafted beneath it. Empty: the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The disciplines that somebody has set.
    pub disciplines: Vec<Qdisc>,
}

impl Qdisc {
    /// Reads the body of RTM_NEWQDISC: the link's index and the discipline; `None` where it is something else.
    pub(crate) fn decode(body: &[u8]) -> Option<(i32, Qdisc)> {
        let index = u32_at(body, 4)?.cast_signed();
        let (handle, parent) = (u32_at(body, 8)?, u32_at(body, 12)?);
        let attributes = body.get(FIXED_BYTES..)?;
        let kind = text(find(attributes, KIND)?);
        let bytes = find(attributes, OPTIONS).unwrap_or_default();
        let known = match kind.as_str() {
            "taprio" => Taprio::decode(bytes).map(Options::Taprio),
            "mqprio" => Mqprio::decode(bytes).map(Options::Mqprio),
            "etf" => Etf::decode(bytes).map(Options::Etf),
            _ => None,
        };
        let options = known.unwrap_or_else(|| Options::Other(bytes.to_vec()));
        let counters = find(attributes, STATS2).map(Counters::decode).unwrap_or_default();
        Some((index, Qdisc { kind, handle, parent, options, counters }))
    }
}

impl Counters {
    fn decode(stats: &[u8]) -> Self {
        let (basic, queue) =
            (find(stats, STATS_BASIC).unwrap_or_default(), find(stats, STATS_QUEUE).unwrap_or_default());
        Counters {
            sent_bytes: u64_at(basic, 0).unwrap_or(0),
            sent_frames: u32_at(basic, 8).unwrap_or(0),
            queued_frames: u32_at(queue, 0).unwrap_or(0),
            queued_bytes: u32_at(queue, 4).unwrap_or(0),
            dropped_frames: u32_at(queue, 8).unwrap_or(0),
        }
    }
}
