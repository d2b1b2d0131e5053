use tempos_qdisc::{Entry, Mode, Taprio};
use tempos_tsn::{Schedule, Window};

use crate::fit::{same_gates, schedule_of, taprio};

fn schedule(windows: &[(u8, u64)], guard_ns: u64) -> Schedule {
    let mut classes = [0; 16];
    classes[6] = 1;
    Schedule {
        cycle_ns: windows.iter().map(|(_, ns)| ns).sum(),
        base_ns: 7,
        guard_ns,
        link_mbit: 1000,
        windows: windows
            .iter()
            .map(|(gates, length_ns)| Window { gates: *gates, length_ns: *length_ns, frame_bytes_max: 1514 })
            .collect(),
        classes,
        used: 0b100_0001,
        ptp_priority: None,
    }
}

fn entries(taprio: &Taprio) -> Vec<(u32, u32)> {
    taprio.schedule.entries.iter().map(|Entry { gates, interval_ns }| (*gates, *interval_ns)).collect()
}

#[test]
fn windows_become_entries_and_a_class_has_a_queue() {
    let taprio = taprio(&schedule(&[(2, 500_000), (1, 500_000)], 0), Mode::Software, true);
    assert_eq!(entries(&taprio), [(2, 500_000), (1, 500_000)]);
    assert_eq!((taprio.map[6], taprio.map[0]), (1, 0));
    assert_eq!(taprio.queues.iter().map(|q| (q.count, q.offset)).collect::<Vec<_>>(), [(1, 0), (1, 1)]);
    assert_eq!((taprio.schedule.base_time_ns, taprio.schedule.cycle_ns), (7, 1_000_000));
    assert_eq!(taprio.max_sdu, [1500, 1500]);
}

#[test]
fn a_guard_band_closes_what_does_not_stay_open() {
    let open = |windows, guard| entries(&taprio(&schedule(windows, guard), Mode::Software, false));
    assert_eq!(
        open(&[(2, 500_000), (1, 500_000)], 20_000),
        [(2, 480_000), (0, 20_000), (1, 480_000), (0, 20_000)]
    );
    // Class 0 stays open over the first end, and class 1 is closed nowhere else than there.
    assert_eq!(open(&[(3, 500_000), (1, 500_000)], 20_000), [(3, 480_000), (1, 20_000), (1, 500_000)]);
    assert_eq!(open(&[(3, 1_000_000)], 20_000), [(3, 1_000_000)]);
}

#[test]
fn other_gates_are_told_apart_and_another_base_time_is_not() {
    let asked = taprio(&schedule(&[(2, 500_000), (1, 500_000)], 0), Mode::Software, true);
    let mut has = asked.clone();
    has.schedule.base_time_ns = 99;
    has.max_sdu.clear();
    assert!(same_gates(&asked, &has));
    // What is to follow counts, not what is in force until then.
    let follows = Taprio { admin: Some(has.schedule.clone()), ..has.clone() };
    assert!(same_gates(&asked, &Taprio { schedule: tempos_qdisc::Schedule::default(), ..follows }));
    assert!(!same_gates(&asked, &Taprio { mode: Mode::FullOffload, ..has.clone() }));
    has.map[3] = 1;
    assert!(!same_gates(&asked, &has));
    let other = taprio(&schedule(&[(1, 500_000), (2, 500_000)], 0), Mode::Software, true);
    assert!(!same_gates(&asked, &other));
}

#[test]
fn what_stands_is_drawn_as_it_was_asked_for() {
    let wanted = schedule(&[(2, 500_000), (1, 500_000)], 0);
    let back = schedule_of(&taprio(&wanted, Mode::Software, true), 1000, 1514);
    assert_eq!(back, Schedule { used: u16::MAX, ..wanted });
}
