//! Whether an interface can keep a schedule, and if not, why and how that is mended.
//!
//! The schedule is looked at here and set by nobody yet: the mode obtained is `none` where something stands in the
//! way, and `unset` where nothing does but the gates are not this adapter's.

use std::fs;
use std::path::Path;

use tempos_tsn::Schedule;

/// CAP_NET_ADMIN (linux/capability.h).
const NET_ADMIN: u32 = 12;

/// What stands in the way of a schedule on an interface; `None`: nothing that can be seen.
pub fn obstacle(interface: &str, schedule: &Schedule) -> Option<String> {
    if !has_net_admin() {
        return Some(String::from(
            "without CAP_NET_ADMIN no gates can be set: run the node as root, or give it \
             AmbientCapabilities=CAP_NET_ADMIN",
        ));
    }
    let (queues, classes) = (transmit_queues(interface), schedule.class_count());
    if queues < 2 || queues < classes {
        let word = if queues == 1 { "queue" } else { "queues" };
        return Some(format!(
            "{interface} has {queues} transmit {word} and the schedule {classes} classes, each of which needs one, \
             and taprio two at least: take a multi-queue card, or `ethtool -L`; a veth is made with numtxqueues"
        ));
    }
    if !kernel_has_taprio() {
        return Some(String::from(
            "this kernel has no taprio (CONFIG_NET_SCH_TAPRIO): boot one that has, such as Debian's",
        ));
    }
    None
}

fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << NET_ADMIN) != 0)
}

/// Transmit queues of an interface (sysfs-class-net-queues).
fn transmit_queues(interface: &str) -> usize {
    let Ok(entries) = fs::read_dir(format!("/sys/class/net/{interface}/queues")) else { return 1 };
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("tx-")).count().max(1)
}

/// Loaded, built in, or a module that the kernel loads when it is asked for (modprobe(8)).
fn kernel_has_taprio() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim());
    Path::new("/sys/module/sch_taprio").exists()
        || ["modules.builtin", "modules.dep"]
            .iter()
            .any(|file| fs::read_to_string(folder.join(file)).is_ok_and(|text| text.contains("sch_taprio")))
}
