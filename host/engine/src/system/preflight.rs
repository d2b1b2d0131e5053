//! What the system grants to real-time threads, and what it costs where it does not.

use std::fs;

use tempos_control::{Finding, Verdict};

use super::scheduling;

/// Looks at everything that the lanes depend on. `rt_priority` is the highest that any lane asks for, 0
/// where none does; `lock_memory` whether the node locks memory.
pub fn findings(rt_priority: u8, lock_memory: bool) -> Vec<Finding> {
    vec![
        real_time(rt_priority),
        throttling(),
        locked_memory(lock_memory),
        preemption(),
        governor(),
        clock(),
        socket_buffers(),
        descriptors(),
        cpus(),
    ]
}

fn finding(check: &str, verdict: Verdict, finding: impl Into<String>, mend: &str) -> Finding {
    Finding { check: check.into(), verdict, finding: finding.into(), mend: mend.into() }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn real_time(priority: u8) -> Finding {
    const CHECK: &str = "real-time scheduling";
    if priority == 0 {
        return finding(CHECK, Verdict::Good, "no level asks for it", "");
    }
    match scheduling::probe_real_time(priority) {
        Ok(()) => finding(CHECK, Verdict::Good, format!("SCHED_FIFO {priority} is granted"), ""),
        Err(error) => {
            let (cause, mend) = real_time_cause(priority);
            let sentence = format!(
                "SCHED_FIFO {priority} is refused ({error}): {cause}; a strict level then waits behind best-effort work"
            );
            finding(CHECK, Verdict::Bad, sentence, mend)
        }
    }
}

/// Why real-time scheduling is refused: capability, rlimit or cgroup, in the order in which the kernel
/// asks (sched(7)).
pub fn real_time_cause(priority: u8) -> (String, &'static str) {
    let capable = has_capability(CAP_SYS_NICE);
    let limit = soft_limit(libc::RLIMIT_RTPRIO);
    if !capable && limit < u64::from(priority) {
        return (
            format!("the process lacks CAP_SYS_NICE and its RLIMIT_RTPRIO is {limit}, below {priority}"),
            "give the service AmbientCapabilities=CAP_SYS_NICE, or LimitRTPRIO=98",
        );
    }
    if let Some(group) = cgroup_without_budget() {
        return (
            format!("the cgroup {group} has no real-time budget (cpu.rt_runtime_us = 0)"),
            "write a budget to cpu.rt_runtime_us of that group and its parents, or boot with rt_group_sched=0",
        );
    }
    (
        String::from("the system gives no further reason (a seccomp filter or an LSM may refuse it)"),
        "look at the container's or the service's security settings",
    )
}

const CAP_SYS_NICE: u32 = 23;
const CAP_IPC_LOCK: u32 = 14;

fn has_capability(number: u32) -> bool {
    read("/proc/self/status")
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("CapEff:"))?.to_owned();
            u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok()
        })
        .is_some_and(|set| set & (1 << number) != 0)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the structure that is passed.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } == 0 { limit.rlim_cur } else { 0 }
}

/// The cpu cgroup (version 1) of this process where it has a real-time budget of zero.
fn cgroup_without_budget() -> Option<String> {
    let groups = read("/proc/self/cgroup")?;
    let line = groups.lines().find(|line| {
        line.split(':').nth(1).is_some_and(|controllers| controllers.split(',').any(|c| c == "cpu"))
    })?;
    let path = line.splitn(3, ':').nth(2)?;
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].iter().find_map(|mount| {
        let budget = read(&format!("{mount}{path}/cpu.rt_runtime_us"))?;
        (budget == "0").then(|| path.to_owned())
    })
}

fn throttling() -> Finding {
    const CHECK: &str = "real-time throttling";
    let runtime = read("/proc/sys/kernel/sched_rt_runtime_us").and_then(|t| t.parse::<i64>().ok());
    let period = read("/proc/sys/kernel/sched_rt_period_us").and_then(|t| t.parse::<i64>().ok());
    match (runtime, period) {
        (Some(-1), _) => finding(
            CHECK,
            Verdict::Poor,
            "throttling is off: one real-time thread that spins takes its CPU for good",
            "sysctl kernel.sched_rt_runtime_us=950000",
        ),
        (Some(runtime), Some(period)) => finding(
            CHECK,
            Verdict::Good,
            format!(
                "real-time threads may use {} ms of each {} ms; one that spins below a lane still costs it the rest",
                runtime / 1000,
                period / 1000
            ),
            "",
        ),
        _ => finding(CHECK, Verdict::Poor, "the kernel does not say how it throttles real-time threads", ""),
    }
}

fn locked_memory(wanted: bool) -> Finding {
    const CHECK: &str = "locked memory";
    let limit = soft_limit(libc::RLIMIT_MEMLOCK);
    if !wanted {
        return finding(
            CHECK,
            Verdict::Poor,
            "the node file turns locking off: a page that was swapped out or dropped makes a lane wait for the disk",
            "set lock_memory = true in [realtime]",
        );
    }
    if has_capability(CAP_IPC_LOCK) || limit == libc::RLIM_INFINITY {
        return finding(CHECK, Verdict::Good, "locking is not limited", "");
    }
    let (verdict, mend) = if limit >= 64 << 20 {
        (Verdict::Good, "")
    } else {
        (Verdict::Bad, "give the service LimitMEMLOCK=infinity, or CAP_IPC_LOCK")
    };
    finding(
        CHECK,
        verdict,
        format!("the process lacks CAP_IPC_LOCK and RLIMIT_MEMLOCK is {} KiB", limit / 1024),
        mend,
    )
}

fn preemption() -> Finding {
    const CHECK: &str = "kernel preemption";
    if read("/sys/kernel/realtime").as_deref() == Some("1") {
        return finding(CHECK, Verdict::Good, "PREEMPT_RT", "");
    }
    let dynamic = read("/sys/kernel/debug/sched/preempt");
    let model = dynamic
        .as_deref()
        .and_then(|text| text.split_ascii_whitespace().find(|word| word.starts_with('(')))
        .map(|word| word.trim_matches(['(', ')']).to_owned());
    match model.as_deref() {
        Some("full") => finding(CHECK, Verdict::Good, "preempt=full", ""),
        Some(other) => finding(
            CHECK,
            Verdict::Poor,
            format!(
                "preempt={other}: system calls of other threads delay a lane, by up to some milliseconds"
            ),
            "boot with preempt=full, or a PREEMPT_RT kernel",
        ),
        None => finding(
            CHECK,
            Verdict::Poor,
            "not a PREEMPT_RT kernel: other threads' system calls may delay a lane by up to some milliseconds",
            "a PREEMPT_RT kernel, or preempt=full where the kernel has PREEMPT_DYNAMIC",
        ),
    }
}

fn governor() -> Finding {
    const CHECK: &str = "frequency governor";
    match read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
        None => finding(CHECK, Verdict::Good, "the kernel does not scale this machine's frequency", ""),
        Some(governor) if governor == "performance" => finding(CHECK, Verdict::Good, "performance", ""),
        Some(governor) => finding(
            CHECK,
            Verdict::Poor,
            format!("{governor}: a CPU that was idle starts slowly"),
            "cpupower frequency-set -g performance",
        ),
    }
}

fn clock() -> Finding {
    const CHECK: &str = "clock source";
    match read("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        Some(source) if matches!(source.as_str(), "tsc" | "kvm-clock" | "arch_sys_counter") => {
            finding(CHECK, Verdict::Good, source, "")
        }
        Some(source) => finding(
            CHECK,
            Verdict::Poor,
            format!("{source}: each time stamp is a system call"),
            "boot with clocksource=tsc where the hardware allows it",
        ),
        None => finding(CHECK, Verdict::Poor, "the kernel does not say which clock it uses", ""),
    }
}

fn socket_buffers() -> Finding {
    const CHECK: &str = "socket buffers";
    let most = read("/proc/sys/net/core/rmem_max").and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    if most >= 4 << 20 || has_capability(12) {
        return finding(CHECK, Verdict::Good, format!("net.core.rmem_max is {} KiB", most / 1024), "");
    }
    finding(
        CHECK,
        Verdict::Poor,
        format!(
            "net.core.rmem_max is {} KiB: a burst overflows a UDP socket before the lane can read it",
            most / 1024
        ),
        "sysctl net.core.rmem_max=4194304",
    )
}

fn descriptors() -> Finding {
    let limit = soft_limit(libc::RLIMIT_NOFILE);
    if limit >= 4096 {
        return finding("descriptors", Verdict::Good, format!("{limit} may be open"), "");
    }
    finding(
        "descriptors",
        Verdict::Poor,
        format!("only {limit} descriptors may be open; each channel takes one"),
        "give the service LimitNOFILE=65536",
    )
}

fn cpus() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let isolated = read("/sys/devices/system/cpu/isolated").filter(|text| !text.is_empty());
    match (count, isolated) {
        (_, Some(list)) => finding("CPUs", Verdict::Good, format!("{count} usable, {list} isolated"), ""),
        (1, None) => {
            finding("CPUs", Verdict::Poor, "one CPU: a strict lane delays everything else while it works", "")
        }
        (count, None) => finding("CPUs", Verdict::Good, format!("{count} usable, none isolated"), ""),
    }
}
