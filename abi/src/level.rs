//! QoS levels as plugins see them, and what they can give.

use abi_stable::StableAbi;
use abi_stable::std_types::RString;

/// A QoS level: an index into the node's levels. The set is open; two always exist.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QosLevel(pub u8);

impl QosLevel {
    /// The level `strict`.
    pub const STRICT: QosLevel = QosLevel(0);
    /// The level `best-effort`.
    pub const BEST_EFFORT: QosLevel = QosLevel(1);
}

/// What a lane asks of a channel: the network's side of the level. A negative number means unset.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneQos {
    /// The level.
    pub level: QosLevel,
    /// Its rank, 0 to 255: a higher rank is served before a lower one.
    pub rank: u8,
    /// VLAN priority code point, 0 to 7 (IEEE 802.1Q).
    pub pcp: i8,
    /// Differentiated services code point, 0 to 63 (RFC 2474).
    pub dscp: i8,
    /// SO_PRIORITY (socket(7)).
    pub socket_priority: i32,
    /// For later minor versions; zero.
    pub reserved: [u64; 4],
}

impl LaneQos {
    /// A lane that asks nothing of the network.
    pub fn unmarked(level: QosLevel) -> Self {
        LaneQos { level, rank: 0, pcp: -1, dscp: -1, socket_priority: -1, reserved: [0; 4] }
    }
}

/// What a channel obtained for its lane.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct QosGrant {
    /// One of the grades below.
    pub grade: u8,
    /// One sentence: what was set, or what stood in the way.
    pub reason: RString,
}

impl QosGrant {
    /// Other traffic is not told apart from this.
    pub const SHARED: u8 = 0;
    /// This is served before other traffic where they meet.
    pub const PRIORITISED: u8 = 1;
    /// This meets its bound whatever other traffic does: nothing of others is before an event in the channel, and no
    /// thread or interrupt of the system between its two ends but the wake-up of who receives.
    pub const GUARANTEED: u8 = 2;

    /// A grant with its sentence.
    pub fn new(grade: u8, reason: impl Into<String>) -> Self {
        QosGrant { grade, reason: RString::from(reason.into()) }
    }
}
