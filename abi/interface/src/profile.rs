//! What each profile wants of each thing. Pure.

use crate::ethtool::{ADAPTIVE_RX, ADAPTIVE_TX, RX_FRAMES, RX_USECS};
use crate::thing::Thing;

/// What an interface is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A frame is taken at once, in the interrupt that tells of it: the least time, and the most interrupts.
    Latency,
    /// A frame is taken at once by a thread with a priority of its own: a little later, but whatever else interrupts.
    Jitter,
    /// Frames are taken many at a time: the least CPU time.
    Cpu,
}

/// Polls without a frame after which the card may interrupt again, and how long that may take in nanoseconds.
const DEFERRALS: u64 = 2;
const FLUSH_TIMEOUT_NS: u64 = 20_000;
/// Coalescing of a card that does not adapt itself, in microseconds.
const RX_USECS_OF_MANY: u64 = 50;

impl Profile {
    /// The profile of that word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Latency, Self::Jitter, Self::Cpu].into_iter().find(|profile| profile.word() == word)
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Jitter => "jitter",
            Self::Cpu => "cpu",
        }
    }

    /// What a thing is to be, given what it is; none where the profile does not care.
    pub(crate) fn wants(self, thing: Thing, now: &[u64]) -> Option<Vec<u64>> {
        let at_once = self != Self::Cpu;
        Some(match thing {
            Thing::Coalescing => {
                let mut words = now.to_vec();
                words[ADAPTIVE_RX] = u64::from(!at_once);
                words[ADAPTIVE_TX] = words[ADAPTIVE_TX].min(u64::from(!at_once));
                if at_once {
                    words[RX_USECS] = 0;
                    // Some cards refuse both to be 0.
                    words[RX_FRAMES] = words[RX_FRAMES].min(1);
                }
                words
            }
            Thing::Threaded => vec![u64::from(self == Self::Jitter)],
            Thing::Deferrals => vec![if at_once { 0 } else { DEFERRALS }],
            Thing::FlushTimeout => vec![if at_once { 0 } else { FLUSH_TIMEOUT_NS }],
            Thing::Gro => match self {
                Self::Latency => vec![0],
                // What is held is flushed at the end of each poll.
                Self::Jitter => return None,
                Self::Cpu => vec![1],
            },
        })
    }

    /// What will do where the first is refused.
    pub(crate) fn instead(self, thing: Thing, now: &[u64]) -> Option<Vec<u64>> {
        (self == Self::Cpu && thing == Thing::Coalescing).then(|| {
            let mut words = now.to_vec();
            words[RX_USECS] = words[RX_USECS].max(RX_USECS_OF_MANY);
            words
        })
    }
}
