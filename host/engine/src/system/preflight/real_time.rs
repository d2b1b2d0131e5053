//! Whether the lanes get the scheduling that they ask for, and where not, why.

use tempos_control::{Finding, Scheduler};

use super::capability::Rights;
use super::cgroup::{self, Refusal};
use super::limits::Limits;
use super::{Needs, bad, good};
use crate::system::scheduling;

/// Real-time scheduling, tried out.
pub fn granted(needs: &Needs) -> Finding {
    const CHECK: &str = "real-time scheduling";
    let priority = needs.priority();
    if priority == 0 {
        return good(CHECK, "no level asks for a real-time priority");
    }
    match scheduling::probe_real_time(priority) {
        Ok(()) => good(CHECK, format!("SCHED_FIFO {priority} is granted")),
        Err(error) => {
            let (cause, mend) = real_time_cause(priority);
            bad(
                CHECK,
                format!(
                    "SCHED_FIFO {priority} is refused ({error}): {cause}; a strict level then waits behind best-effort work"
                ),
                mend,
            )
        }
    }
}

/// Why real-time scheduling is refused, and how to mend it: capability, rlimit or cgroup, in the order in
/// which the kernel asks (sched(7)).
pub fn real_time_cause(priority: u8) -> (String, String) {
    cause(priority, Rights::of_this_process(), &Limits::of_this_process(), cgroup::refusal())
}

fn cause(priority: u8, rights: Rights, limits: &Limits, group: Option<Refusal>) -> (String, String) {
    let limit = limits.rt_priority;
    if !rights.sys_nice && limit < u64::from(priority) {
        return (
            format!("the process lacks CAP_SYS_NICE and its RLIMIT_RTPRIO is {limit}, below {priority}"),
            "give the service AmbientCapabilities=CAP_SYS_NICE, or LimitRTPRIO=98".into(),
        );
    }
    match group {
        Some(Refusal::NoBudget { group, outermost }) => (
            format!("the cgroup {group} has no real-time budget (cpu.rt_runtime_us = 0)"),
            format!(
                "write a budget to cpu.rt_runtime_us of {outermost}, then of each group below it down to {group}, or boot with rt_group_sched=0"
            ),
        ),
        Some(Refusal::NotTheRoot { group }) => (
            format!(
                "the cgroup {group} of version 2 cannot have a real-time budget with this kernel (CONFIG_RT_GROUP_SCHED)"
            ),
            "boot with rt_group_sched=0, or turn the controller cpu off in the group around it".into(),
        ),
        None => (
            "the system gives no further reason (a seccomp filter or an LSM may refuse it)".into(),
            "look at the container's or the service's security settings".into(),
        ),
    }
}

/// Whether negative nice values are granted.
pub fn nice(needs: &Needs, rights: Rights, limits: &Limits) -> Finding {
    const CHECK: &str = "nice values";
    let lowest = needs.lanes.iter().filter_map(|lane| match lane.scheduler {
        Scheduler::Other { nice } if nice < 0 => Some((nice, &lane.level)),
        _ => None,
    });
    let Some((nice, level)) = lowest.min() else {
        return good(CHECK, "no level asks for a negative one");
    };
    let lowest_granted = 20 - i64::try_from(limits.nice).unwrap_or(40).min(40);
    if rights.sys_nice || i64::from(nice) >= lowest_granted {
        return good(CHECK, format!("nice {nice} of level {level:?} is granted"));
    }
    bad(
        CHECK,
        format!(
            "level {level:?} asks for nice {nice}, the process lacks CAP_SYS_NICE and its RLIMIT_NICE allows {lowest_granted} at best: the level competes as ordinary work does"
        ),
        format!("give the service LimitNICE={nice}, or AmbientCapabilities=CAP_SYS_NICE"),
    )
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::super::LaneNeeds;
    use super::super::limits::tests::ORDINARY;
    use super::super::needs::tests::lane;
    use super::*;

    #[test]
    fn the_cause_is_the_first_thing_that_the_kernel_asks_for() {
        let nice = Rights { sys_nice: true, ..Rights::default() };
        let none = Rights::default();
        let budget = || Some(Refusal::NoBudget { group: "/a/b".into(), outermost: "/a".into() });
        let unified = || Some(Refusal::NotTheRoot { group: "/a/b".into() });
        let enough = Limits { rt_priority: 98, ..ORDINARY };
        for (rights, limits, group, words, mend) in [
            (
                none,
                ORDINARY,
                budget(),
                "lacks CAP_SYS_NICE and its RLIMIT_RTPRIO is 0, below 45",
                "LimitRTPRIO=98",
            ),
            (
                none,
                Limits { rt_priority: 44, ..ORDINARY },
                None,
                "RLIMIT_RTPRIO is 44, below 45",
                "CAP_SYS_NICE",
            ),
            (none, enough, budget(), "/a/b has no real-time budget (cpu.rt_runtime_us = 0)", "of /a, then"),
            (nice, ORDINARY, unified(), "/a/b of version 2", "rt_group_sched=0"),
            (nice, ORDINARY, None, "no further reason", "security settings"),
        ] {
            let (cause, mending) = cause(45, rights, &limits, group);
            assert!(cause.contains(words), "{words}: {cause}");
            assert!(mending.contains(mend), "{mend}: {mending}");
        }
    }

    #[test]
    fn negative_nice_values_need_a_right() {
        let needs = |nice| Needs {
            lanes: vec![LaneNeeds { scheduler: Scheduler::Other { nice }, ..lane("bulk", 0, &[]) }],
            ..Needs::default()
        };
        let able = Rights { sys_nice: true, ..Rights::default() };
        for (asked, rights, limit, verdict) in [
            (5, Rights::default(), 0, Verdict::Good),
            (-5, able, 0, Verdict::Good),
            (-5, Rights::default(), 25, Verdict::Good),
            (-6, Rights::default(), 25, Verdict::Bad),
            (-20, Rights::default(), u64::MAX, Verdict::Good),
            (-1, Rights::default(), 0, Verdict::Bad),
        ] {
            let found = nice(&needs(asked), rights, &Limits { nice: limit, ..ORDINARY });
            assert_eq!(found.verdict, verdict, "{asked} {limit}: {found:?}");
        }
    }

    #[test]
    fn a_node_without_real_time_levels_asks_for_nothing() {
        assert_eq!(granted(&Needs::default()).verdict, Verdict::Good);
    }
}
