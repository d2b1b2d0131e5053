//! The kernel's own gates, without a moment in which all of them are open.
//!
//! A software taprio that gets a schedule opens every gate until that starts, which may be a cycle later
//! (net/sched/sch_taprio.c: it forgets the entry in force), and where the base time has passed it takes the first
//! entry too early. So a schedule whose gates are all closed, with a cycle of some microseconds, goes first: it starts
//! at once. When it is in force the true one follows, with a base time that lies ahead; until then the closed one goes
//! on. Some kernels begin a schedule one entry of the old one before its base time: the last closed entry is a very
//! short one. Until the closed one is in force whoever sends is to hold back (`Changing`).

use std::time::Duration;

use tempos_qdisc::{Entry, Link, Refusal, Taprio, change_taprio};
use tempos_tsn::{Schedule, wire_ns};

use crate::clock::tai_ns;
use crate::fit::taprio;
use crate::ladder::Shape;

/// The cycle of the closed schedule between two others, at least: short, for the gates are open until it starts, and
/// long enough for a slow CPU to have time beside the kernel's timer. The kernel refuses what is shorter than its
/// shortest frame takes.
const BRIEF_NS: u64 = 50_000;
/// The cycle of the closed schedule that goes first.
const FIRST_NS: u64 = 1_000_000;
/// The last closed entry ends, and another begins, so long before the base time.
const LAST_NS: u64 = 1_000;
/// What the kernel takes for a speed that it does not know.
const UNKNOWN_MBIT: u32 = 10;
/// How far ahead the base time lies: the kernel has both schedules by then.
const AHEAD_NS: u64 = 800_000;
/// Before a base time that lies further ahead than this nothing is closed.
const WAIT_NS_MAX: u64 = 1_000_000_000;
const TRIES_MAX: u32 = 3;
/// What the kernel's timer may be late.
const TIMER_NS: u64 = 20_000;

/// Closes all gates of a taprio that stands there, and opens them as the schedule says at the start of a cycle.
///
/// # Errors
/// What the kernel says.
pub fn reopen(link: &Link, schedule: &Schedule, shape: &Shape) -> Result<(), Refusal> {
    let cycle_ns = closed_cycle_ns(link, BRIEF_NS);
    for further in 0..TRIES_MAX {
        let base_ns = next_start(schedule, tai_ns() + (AHEAD_NS << further));
        let asked = taprio(&Schedule { base_ns, ..schedule.clone() }, shape.mode, shape.sizes);
        change_taprio(link, shape.root, &closed(asked.clone(), base_ns, cycle_ns))?;
        // Before its first cycle it would be forgotten for the true one, and the gates stay open until that starts.
        std::thread::sleep(Duration::from_nanos(u64::from(cycle_ns) + TIMER_NS));
        change_taprio(link, shape.root, &asked)?;
        if tai_ns() < base_ns {
            break;
        }
        // It may have been too late: once more, with more time.
    }
    Ok(())
}

/// The same with all gates closed.
pub fn shut(link: &Link, asked: Taprio) -> Taprio {
    closed(asked, 0, closed_cycle_ns(link, FIRST_NS))
}

fn closed(asked: Taprio, before_ns: u64, cycle_ns: u32) -> Taprio {
    let phase = before_ns.saturating_sub(LAST_NS) % u64::from(cycle_ns);
    let schedule = tempos_qdisc::Schedule {
        base_time_ns: phase.cast_signed(),
        cycle_ns: i64::from(cycle_ns),
        extension_ns: 0,
        entries: vec![Entry { gates: 0, interval_ns: cycle_ns }],
    };
    Taprio { schedule, ..asked }
}

fn closed_cycle_ns(link: &Link, least_ns: u64) -> u32 {
    let speed = link.speed_mbit().ok().flatten().unwrap_or(UNKNOWN_MBIT);
    u32::try_from(least_ns.max(2 * wire_ns(0, speed))).unwrap_or(u32::MAX)
}

/// The first start of a cycle at an instant or later.
fn next_start(schedule: &Schedule, from_ns: u64) -> u64 {
    if schedule.base_ns >= from_ns {
        return schedule.base_ns;
    }
    let cycle = schedule.cycle_ns.max(1);
    let behind = (from_ns - schedule.base_ns) % cycle;
    if behind == 0 { from_ns } else { from_ns - behind + cycle }
}

/// Whether a schedule starts so late that its gates stay open until then, as the kernel has them.
pub fn starts_late(schedule: &Schedule) -> bool {
    schedule.base_ns > tai_ns().saturating_add(WAIT_NS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_starts_where_the_base_time_says() {
        let schedule = Schedule {
            cycle_ns: 1000,
            base_ns: 300,
            guard_ns: 0,
            link_mbit: 1000,
            windows: Vec::new(),
            classes: [0; 16],
            used: 0,
            ptp_priority: None,
        };
        for (from, start) in [(0, 300), (300, 300), (301, 1300), (1300, 1300), (5_299, 5_300), (5_301, 6_300)]
        {
            assert_eq!(next_start(&schedule, from), start, "{from}");
        }
    }
}
