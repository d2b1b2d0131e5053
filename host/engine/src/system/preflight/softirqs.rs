//! The kernel's threads that hand frames and timers over where there are many, and always with PREEMPT_RT: at normal
//! priority they wait behind every real-time thread and share with all others, and the frames of strict levels with them.

use tempos_control::Finding;

use super::{Needs, cpus_said, good, names, poor, read};

/// With PREEMPT_RT timers have threads of their own (kernel/softirq.c).
const THREADS: [&str; 2] = ["ksoftirqd/", "ktimers/"];
/// The kernel starts them first: more processes than these are not looked at.
const PROCESSES_MAX: usize = 4096;
/// sched(7): SCHED_OTHER.
const ORDINARY: u32 = 0;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    pid: u32,
    name: String,
    cpu: u32,
    policy: u32,
}

/// Looks at all of them.
pub fn look(needs: &Needs) -> Finding {
    let mut pids: Vec<u32> = names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids.truncate(PROCESSES_MAX);
    let texts = pids.into_iter().filter_map(|pid| read(&format!("/proc/{pid}/stat")));
    let threads: Vec<Thread> = texts.filter_map(|text| parse(&text)).collect();
    judge(&threads, needs.priority(), &needs.pinned())
}

/// A line of proc_pid_stat(5); `None` where it is another process.
fn parse(stat: &str) -> Option<Thread> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let cpu = THREADS.iter().find_map(|prefix| name.strip_prefix(prefix))?.parse().ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // A process of that name is no thread of the kernel, whose parent is kthreadd; field 4 is the parent's number, 41 the
    // policy, and the first two are gone.
    if fields.get(1) != Some(&"2") {
        return None;
    }
    let policy = fields.get(38)?.parse().ok()?;
    Some(Thread { pid: pid.parse().ok()?, name: name.to_owned(), cpu, policy })
}

/// Judges: `priority` is the highest of a lane, `pinned` the CPUs of the real-time lanes, none: they may run on any.
fn judge(threads: &[Thread], priority: u8, pinned: &[u32]) -> Finding {
    const CHECK: &str = "frame threads";
    if priority == 0 {
        return good(CHECK, "no lane is scheduled in real time");
    }
    if threads.is_empty() {
        return good(CHECK, "the kernel's threads (ksoftirqd) cannot be seen from here");
    }
    let asked = threads.iter().filter(|thread| pinned.is_empty() || pinned.contains(&thread.cpu));
    let ordinary: Vec<&Thread> = asked.filter(|thread| thread.policy == ORDINARY).collect();
    let Some(first) = ordinary.first() else {
        return good(CHECK, "ksoftirqd has a real-time priority");
    };
    let mut cpus: Vec<u32> = ordinary.iter().map(|thread| thread.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    poor(
        CHECK,
        format!(
            "{} has normal priority, on {}: in a flood of frames those of strict levels wait for it behind ordinary threads",
            first.name,
            cpus_said(&cpus)
        ),
        format!("chrt -f -p {} {}, and so for each of them", priority.saturating_add(1).min(98), first.pid),
    )
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    /// A line of /proc/PID/stat.
    fn stat(pid: u32, name: &str, parent: u32, policy: u32) -> String {
        let zeros = ["0"; 36].join(" ");
        format!("{pid} ({name}) S {parent} {zeros} {policy} 0 0")
    }

    #[test]
    fn only_the_kernels_own_threads_are_read() {
        let thread = Thread { pid: 17, name: "ksoftirqd/3".into(), cpu: 3, policy: 1 };
        assert_eq!(parse(&stat(17, "ksoftirqd/3", 2, 1)), Some(thread));
        for other in [
            stat(900, "ksoftirqd/3", 1, 0),
            stat(1, "init", 0, 0),
            stat(18, "ksoftirqd/x", 2, 0),
            "17 (ksoftirqd/3) S 2".into(),
            String::new(),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[test]
    fn ordinary_ones_on_the_lanes_cpus_are_named() {
        let thread =
            |pid: u32, name: &str, cpu: u32, policy: u32| Thread { pid, name: name.into(), cpu, policy };
        let all =
            [thread(16, "ksoftirqd/0", 0, 0), thread(22, "ksoftirqd/1", 1, 1), thread(23, "ktimers/1", 1, 0)];
        for (priority, pinned, verdict, words) in [
            (0, vec![], Verdict::Good, "no lane is scheduled in real time"),
            (45, vec![], Verdict::Poor, "ksoftirqd/0 has normal priority, on CPUs 0 and 1:"),
            (45, vec![1], Verdict::Poor, "ktimers/1 has normal priority, on CPU 1:"),
            (45, vec![2], Verdict::Good, "real-time priority"),
        ] {
            let found = judge(&all, priority, &pinned);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
        assert_eq!(judge(&all[..2], 45, &[1]).verdict, Verdict::Good);
        assert_eq!(judge(&all, 45, &[1]).mend, "chrt -f -p 46 23, and so for each of them");
        assert!(judge(&[], 45, &[]).finding.contains("cannot be seen"));
    }
}
