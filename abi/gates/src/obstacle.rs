//! What stands in the way of a schedule on an interface before the kernel is even asked, and how that is mended.

use std::fs;

use tempos_qdisc::Link;
use tempos_tsn::Schedule;

/// CAP_NET_ADMIN (linux/capability.h).
const NET_ADMIN: u32 = 12;

/// What stands in the way; `None`: nothing that can be seen without trying.
pub fn obstacle(link: &Link, schedule: &Schedule) -> Option<String> {
    let (queues, classes) = (link.tx_queues as usize, schedule.class_count());
    if queues < 2 || queues < classes {
        let word = if queues == 1 { "queue" } else { "queues" };
        return Some(format!(
            "{} has {queues} transmit {word} and the schedule {classes} classes, each of which needs one, and taprio \
             two at least: take a multi-queue card, or `ethtool -L`; a veth is made with numtxqueues",
            link.name
        ));
    }
    if !has_net_admin() {
        return Some(String::from(
            "without CAP_NET_ADMIN no gates can be set: run the node as root, or give it \
             AmbientCapabilities=CAP_NET_ADMIN",
        ));
    }
    None
}

/// Whether this thread may set disciplines.
pub fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << NET_ADMIN) != 0)
}
