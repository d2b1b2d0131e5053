//! A schedule as the kernel takes it, and back.

use tempos_qdisc::{Entry, Mode, Queues, Taprio};
use tempos_tsn::{CLASSES_MAX, Schedule, Window};

/// Bytes of an Ethernet header, which the kernel's largest sizes do not count.
const HEAD_BYTES: u32 = 14;

/// taprio's settings for a schedule: a transmit queue for each class, the queue of class c being the c-th; the guard
/// band as an entry of its own, in which only those gates stay open that the next window opens as well.
pub fn taprio(schedule: &Schedule, mode: Mode, sizes: bool) -> Taprio {
    let classes = schedule.class_count();
    let mut map = [0; 16];
    map.copy_from_slice(&schedule.classes);
    let largest =
        |class: usize| schedule.frame_bytes_max(class as u8).unwrap_or(0).saturating_sub(HEAD_BYTES);
    Taprio {
        map,
        queues: (0..classes).map(|class| Queues { count: 1, offset: class as u16 }).collect(),
        schedule: tempos_qdisc::Schedule {
            base_time_ns: i64::try_from(schedule.base_ns).unwrap_or(i64::MAX),
            cycle_ns: i64::try_from(schedule.cycle_ns).unwrap_or(i64::MAX),
            extension_ns: 0,
            entries: entries(schedule),
        },
        admin: None,
        mode,
        max_sdu: if sizes { (0..classes).map(largest).collect() } else { Vec::new() },
    }
}

fn entries(schedule: &Schedule) -> Vec<Entry> {
    let windows = &schedule.windows;
    let mut entries = Vec::new();
    let mut push = |gates: u8, ns: u64| {
        if ns > 0 {
            let interval_ns = u32::try_from(ns).unwrap_or(u32::MAX);
            entries.push(Entry { gates: u32::from(gates), interval_ns });
        }
    };
    for (at, window) in windows.iter().enumerate() {
        let next = &windows[(at + 1) % windows.len()];
        let stays = window.gates & next.gates;
        if stays == window.gates || schedule.guard_ns >= window.length_ns {
            push(window.gates, window.length_ns);
        } else {
            push(window.gates, window.length_ns - schedule.guard_ns);
            push(stays, schedule.guard_ns);
        }
    }
    entries
}

/// Whether the kernel has the gates that were asked for: map, queues, cycle, entries and who opens them. The base
/// time is the kernel's to move.
pub fn same_gates(asked: &Taprio, has: &Taprio) -> bool {
    let (wanted, found) = (&asked.schedule, has.newest());
    asked.map == has.map
        && asked.queues == has.queues
        && std::mem::discriminant(&asked.mode) == std::mem::discriminant(&has.mode)
        && wanted.entries == found.entries
        && wanted.cycle_ns == found.cycle_ns
}

/// What stands on an interface as a schedule, to be drawn: every priority counts as used, a guard band is a window.
pub fn schedule_of(taprio: &Taprio, link_mbit: u32, frame_bytes: u32) -> Schedule {
    let standing = taprio.newest();
    let windows: Vec<Window> = standing
        .entries
        .iter()
        .map(|entry| Window {
            gates: (entry.gates & 0xff) as u8,
            length_ns: u64::from(entry.interval_ns),
            frame_bytes_max: frame_bytes,
        })
        .collect();
    let sum = windows.iter().map(|window| window.length_ns).sum();
    let cycle = u64::try_from(standing.cycle_ns).unwrap_or(0);
    Schedule {
        cycle_ns: if cycle == 0 { sum } else { cycle },
        base_ns: u64::try_from(standing.base_time_ns).unwrap_or(0),
        guard_ns: 0,
        link_mbit,
        windows,
        classes: taprio.map.map(|class| class.min(CLASSES_MAX as u8 - 1)),
        used: u16::MAX,
        ptp_priority: None,
    }
}
