//! What may make a lane wait for memory: pages that are not locked, swap, huge pages that are put together
//! under it.

use tempos_control::{Finding, units};

use super::capability::Rights;
use super::limits::{Limits, UNLIMITED};
use super::{Needs, bad, good, poor, read};

/// What a node of a few levels locks.
const LOCKED_BYTES_USUAL: u64 = 64 << 20;

/// Whether the lanes' memory is locked.
pub fn locked(needs: &Needs, rights: Rights, limits: &Limits) -> Finding {
    const CHECK: &str = "locked memory";
    const MEND: &str = "give the service LimitMEMLOCK=infinity, or CAP_IPC_LOCK";
    let limit = limits.locked_bytes;
    if !needs.lock_memory {
        return poor(
            CHECK,
            "the node file turns locking off: a page that was swapped out or dropped makes a lane wait for the disk",
            "set lock_memory = true in [realtime]",
        );
    }
    if rights.ipc_lock || limit == UNLIMITED {
        return match needs.lanes.iter().find(|lane| !lane.is_locked) {
            Some(lane) => bad(
                CHECK,
                format!(
                    "the events of level {:?} are not locked, though the limits allow it: a page that was dropped makes the lane wait for the disk",
                    lane.level
                ),
                "free memory, or give the levels smaller queues",
            ),
            None => good(CHECK, "locking is not limited"),
        };
    }
    let sentence =
        format!("the process lacks CAP_IPC_LOCK and RLIMIT_MEMLOCK is {}", units::show_bytes(limit));
    if limit < LOCKED_BYTES_USUAL || needs.lanes.iter().any(|lane| !lane.is_locked) {
        return bad(
            CHECK,
            format!("{sentence}: a page that was dropped makes a lane wait for the disk"),
            MEND,
        );
    }
    good(CHECK, sentence)
}

/// Whether the machine swaps.
pub fn swap(needs: &Needs) -> Finding {
    judge_swap(read("/proc/swaps").as_deref(), needs.lock_memory)
}

fn judge_swap(swaps: Option<&str>, lock_memory: bool) -> Finding {
    const CHECK: &str = "swap";
    // A heading, then one line for each place: name, type, KiB, KiB used, priority (proc_swaps(5)).
    let places = swaps.into_iter().flat_map(|text| text.lines().skip(1)).filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().skip(2).map(|word| word.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    let (size_kib, used_kib) = places.fold((0, 0), |(size, used): (u64, u64), (more, more_used)| {
        (size.saturating_add(more), used.saturating_add(more_used))
    });
    let said = |kib: u64| units::show_bytes(kib.saturating_mul(1024));
    match (size_kib, used_kib) {
        (0, _) => good(CHECK, "the machine does not swap"),
        (_, 0) if lock_memory => {
            good(CHECK, format!("{} of swap, none in use; the lanes' memory is locked", said(size_kib)))
        }
        (_, used) if lock_memory => poor(
            CHECK,
            format!(
                "{} of {} of swap are in use: the lanes' memory is locked, all else in the node may wait for the disk",
                said(used),
                said(size_kib)
            ),
            "give the machine or the service's cgroup more memory, or swapoff -a",
        ),
        (_, used) => poor(
            CHECK,
            format!(
                "{} of swap, {} in use, and the node locks no memory: a lane may wait for the disk",
                said(size_kib),
                said(used)
            ),
            "set lock_memory = true in [realtime], or swapoff -a",
        ),
    }
}

/// Whether the kernel puts huge pages together behind the node's back.
pub fn huge_pages() -> Finding {
    judge_huge_pages(read("/sys/kernel/mm/transparent_hugepage/enabled").as_deref())
}

fn judge_huge_pages(enabled: Option<&str>) -> Finding {
    const CHECK: &str = "transparent huge pages";
    match enabled.and_then(chosen) {
        None => good(CHECK, "the kernel has none"),
        Some("always") => poor(
            CHECK,
            "always: khugepaged moves pages of the node together, and a lane that touches one of them waits until it is done",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(other) => good(CHECK, format!("{other}: the node's pages are left alone")),
    }
}

/// The word in brackets of a choice as the kernel writes it: `always [madvise] never`.
pub fn chosen(text: &str) -> Option<&str> {
    let word = text.split_ascii_whitespace().find(|word| word.starts_with(['[', '(']))?;
    Some(word.trim_matches(['[', ']', '(', ')']))
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::super::LaneNeeds;
    use super::super::limits::tests::ORDINARY;
    use super::super::needs::tests::lane;
    use super::*;

    #[test]
    fn locking_needs_a_right_or_a_limit() {
        let able = Rights { ipc_lock: true, ..Rights::default() };
        let none = Rights::default();
        for (lock_memory, is_locked, rights, locked_bytes, verdict, words) in [
            (false, true, able, UNLIMITED, Verdict::Poor, "turns locking off"),
            (true, true, able, 0, Verdict::Good, "not limited"),
            (true, true, none, UNLIMITED, Verdict::Good, "not limited"),
            (true, false, able, 0, Verdict::Bad, "level \"strict\" are not locked"),
            (true, true, none, 8 << 20, Verdict::Bad, "lacks CAP_IPC_LOCK and RLIMIT_MEMLOCK is 8 MiB"),
            (true, true, none, 64 << 20, Verdict::Good, "64 MiB"),
            (true, false, none, 64 << 20, Verdict::Bad, "64 MiB: a page"),
        ] {
            let lanes = vec![LaneNeeds { is_locked, ..lane("strict", 45, &[]) }];
            let needs = Needs { lanes, lock_memory, ..Needs::default() };
            let found = locked(&needs, rights, &Limits { locked_bytes, ..ORDINARY });
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
    }

    #[test]
    fn swap_in_use_costs_and_swap_at_rest_does_not() {
        const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority";
        let swaps = |lines: &str| format!("{HEAD}\n{lines}");
        let idle = swaps("/dev/sda2                               partition\t2097148\t\t0\t\t-2\n");
        let used = swaps("/dev/sda2 partition 2097148 1024 -2\n/swap file 1024 0 -3\n");
        for (text, lock_memory, verdict, words) in [
            (None, false, Verdict::Good, "does not swap"),
            (Some(swaps("")), false, Verdict::Good, "does not swap"),
            (Some(idle.clone()), true, Verdict::Good, "none in use"),
            (Some(idle), false, Verdict::Poor, "locks no memory"),
            (Some(used), true, Verdict::Poor, "1 MiB of"),
            (Some(swaps("nonsense\n")), true, Verdict::Good, "does not swap"),
        ] {
            let found = judge_swap(text.as_deref(), lock_memory);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
    }

    #[test]
    fn huge_pages_cost_where_the_kernel_puts_them_together_by_itself() {
        for (text, verdict) in [
            (None, Verdict::Good),
            (Some("[always] madvise never"), Verdict::Poor),
            (Some("always [madvise] never"), Verdict::Good),
            (Some("always madvise [never]"), Verdict::Good),
            (Some("nonsense"), Verdict::Good),
        ] {
            assert_eq!(judge_huge_pages(text).verdict, verdict, "{text:?}");
        }
    }
}
