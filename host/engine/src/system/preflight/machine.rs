//! Whether the machine is a virtual one, and what its host takes from it.

use std::path::Path;

use tempos_control::Finding;

use super::{good, poor, read};

/// Looks at the machine.
pub fn look() -> Finding {
    let flags = read("/proc/cpuinfo").unwrap_or_default();
    let is_virtual = flags.lines().any(has_hypervisor)
        || Path::new("/sys/hypervisor/type").exists()
        || Path::new("/proc/device-tree/hypervisor").exists();
    judge(is_virtual, &read("/proc/stat").unwrap_or_default())
}

fn has_hypervisor(line: &str) -> bool {
    line.starts_with("flags") && line.split_ascii_whitespace().any(|flag| flag == "hypervisor")
}

/// Judges; `stat` is the text of /proc/stat (proc_stat(5)).
fn judge(is_virtual: bool, stat: &str) -> Finding {
    const CHECK: &str = "virtual machine";
    if !is_virtual {
        return good(CHECK, "none: no host takes time from the lanes");
    }
    let first = stat.lines().next().unwrap_or_default();
    let times: Vec<u64> =
        first.split_ascii_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests had is in user already.
    let whole: u64 = times.iter().take(8).sum();
    let stolen = times.get(7).copied().unwrap_or(0);
    // Of the time in which something wanted to run: while a CPU idles nothing can be taken.
    let idle: u64 = times.iter().skip(3).take(2).sum();
    let tenths = stolen.saturating_mul(1000) / whole.saturating_sub(idle).max(1);
    poor(
        CHECK,
        format!(
            "its host took {}.{} % of the working time of its CPUs since it started, and may stop a lane at any moment for as long as it likes",
            tenths / 10,
            tenths % 10
        ),
        "a machine of its own, or CPUs that the host pins and gives to nobody else",
    )
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    #[test]
    fn a_host_that_takes_time_is_named_with_how_much() {
        for (is_virtual, stat, verdict, words) in [
            (false, "cpu  1 1 1 1 1 1 1 500 0 0\n", Verdict::Good, "none"),
            (true, "cpu  800 0 100 9000 900 0 0 100 50 0\ncpu0 1 2 3\n", Verdict::Poor, "took 10.0 %"),
            (true, "cpu  53238 5309 15199 304566 1311 0 81 85 0 0\n", Verdict::Poor, "took 0.1 %"),
            (true, "", Verdict::Poor, "took 0.0 %"),
        ] {
            let found = judge(is_virtual, stat);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
        assert!(has_hypervisor("flags\t\t: fpu vme hypervisor lahf_lm"));
        assert!(!has_hypervisor("bugs\t\t: hypervisor"));
    }
}
