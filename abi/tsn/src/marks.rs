//! What a mark on one kind of link becomes on another: DSCP on Wi-Fi (RFC 8325), priorities on a VLAN (802.1Q).

/// A Wi-Fi access category (IEEE 802.11, EDCA), lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessCategory {
    /// AC_BK.
    Background,
    /// AC_BE.
    BestEffort,
    /// AC_VI.
    Video,
    /// AC_VO.
    Voice,
}

/// The access category of an 802.11 user priority, 0 to 7 (IEEE 802.11, table 10-1).
pub const fn access_category(user_priority: u8) -> AccessCategory {
    match user_priority {
        1 | 2 => AccessCategory::Background,
        4 | 5 => AccessCategory::Video,
        6 | 7 => AccessCategory::Voice,
        _ => AccessCategory::BestEffort,
    }
}

/// The 802.11 user priority of a DSCP, as RFC 8325, section 4, recommends; what it does not name is best effort.
/// Network control (CS6, CS7) is taken as 7, which the RFC allows where the marks are one's own.
pub const fn user_priority(dscp: u8) -> u8 {
    match dscp {
        48 | 56 => 7,
        44 | 46 => 6,
        40 => 5,
        24 | 26 | 28 | 30 | 32 | 34 | 36 | 38 => 4,
        18 | 20 | 22 => 3,
        // CS1, and LE of RFC 8622, which took its place.
        1 | 8 => 1,
        _ => 0,
    }
}

/// What IEEE 802.1Q means each VLAN priority (PCP) for, by number.
pub const VLAN_PRIORITIES: [&str; 8] = [
    "best effort",
    "background",
    "excellent effort",
    "critical applications",
    "video",
    "voice",
    "internetwork control",
    "network control",
];

/// The VLAN priorities from the least urgent to the most: 1 stands below 0 (IEEE 802.1Q).
pub const VLAN_ORDER: [u8; 8] = [1, 0, 2, 3, 4, 5, 6, 7];

/// The map to give to a VLAN interface so that SO_PRIORITY becomes the same PCP: `ip link set NAME type vlan
/// egress-qos-map` with this behind it. Without it every frame leaves with PCP 0.
pub fn egress_qos_map() -> String {
    (0..8).map(|priority| format!("{priority}:{priority}")).collect::<Vec<_>>().join(" ")
}
