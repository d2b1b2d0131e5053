//! What stands in the way of a schedule on an interface before the kernel is even asked, and how that is mended.

use std::fs;

use tempos_qdisc::Link;
use tempos_tsn::Schedule;

/// CAP_NET_ADMIN (linux/capability.h).
const NET_ADMIN: u32 = 12;

/// What stands in the way; `None`: nothing that can be seen without trying.
pub fn obstacle(link: &Link, schedule: &Schedule) -> Option<String> {
    if !has_net_admin() {
        return Some(String::from(
            "without CAP_NET_ADMIN no gates can be set: run the node as root, or give it \
             AmbientCapabilities=CAP_NET_ADMIN",
        ));
    }
    let (queues, classes) = (link.tx_queues as usize, schedule.class_count());
    if queues < 2 || queues < classes {
        let word = if queues == 1 { "queue" } else { "queues" };
        return Some(format!(
            "{} has {queues} transmit {word} and the schedule {classes} classes, each of which needs one, and taprio \
             two at least: take a multi-queue card, or `ethtool -L`; a veth is made with numtxqueues",
            link.name
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

#[cfg(test)]
mod tests {
    use super::*;

    /// struct __user_cap_header_struct of version 3, and of the two halves of each set nothing.
    fn give_up_capabilities() {
        let header = [0x2008_0522u32, 0];
        let none = [0u32; 6];
        // SAFETY: both are live and of the sizes of that version; only this thread is changed.
        let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
        assert_eq!(done, 0, "a thread may always give up capabilities");
    }

    #[test]
    fn without_the_right_the_right_is_named_and_with_one_queue_the_queue() {
        let schedule = Schedule {
            cycle_ns: 1,
            base_ns: 0,
            guard_ns: 0,
            link_mbit: 1,
            windows: Vec::new(),
            classes: [0; 16],
            used: 1,
            ptp_priority: None,
        };
        let lo = Link::find("lo").expect("it is everywhere");
        if has_net_admin() {
            let said = obstacle(&lo, &schedule).unwrap_or_default();
            assert!(said.starts_with("lo has 1 transmit queue and the schedule 1 classes"), "{said}");
            let two = Link { tx_queues: 2, ..lo.clone() };
            assert_eq!(obstacle(&two, &schedule), None);
        }
        let without = std::thread::spawn(move || {
            give_up_capabilities();
            obstacle(&lo, &schedule).unwrap_or_default()
        });
        let said = without.join().expect("it does not panic");
        assert!(
            said.starts_with("without CAP_NET_ADMIN no gates can be set: run the node as root"),
            "{said}"
        );
    }
}
