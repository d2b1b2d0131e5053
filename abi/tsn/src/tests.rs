use proptest::prelude::*;

use crate::{Hop, Schedule, Window, draw, draw_plan, parse, parse_duration, plan, show_duration, wire_ns};

const PAPER: &str = r#"cycle = "1ms"
guard_band = "5us"
link_mbit = 1000
ptp_priority = 7
priorities = { 0 = 0, 6 = 1, 7 = 1 }

[[window]]
classes = [1]
length = "500us"

[[window]]
classes = [0]
length = "500us"
"#;

fn paper() -> Schedule {
    parse(PAPER).expect("it is right").schedule
}

#[test]
fn the_papers_schedule_is_read() {
    let schedule = paper();
    assert_eq!((schedule.cycle_ns, schedule.guard_ns, schedule.class_count()), (1_000_000, 5_000, 2));
    let gates: Vec<_> = schedule.gates().iter().map(|gate| (gate.mask, gate.interval_ns)).collect();
    assert_eq!(gates, [(2, 500_000), (1, 500_000)]);
    assert_eq!((schedule.class_of(6), schedule.class_of(3), schedule.class_of(900)), (1, 0, 0));
}

#[test]
fn each_mistake_has_its_line_and_one_sentence() {
    for (from, to, expected) in [
        (
            "cycle = \"1ms\"",
            "cycle = \"0us\"",
            "1: cycle = 0 is not within 1ns to 10s; write for example \"1ms\"",
        ),
        (
            "cycle = \"1ms\"",
            "cycle = \"1 hour\"",
            "1: cycle = \"1 hour\" is not a duration; write a number with ns, us, ms or s, such as \"500us\"",
        ),
        (
            "classes = [0]\nlength = \"500us\"",
            "classes = [0]\nlength = \"400us\"",
            "7: the windows last 900us together, 100us too short for the cycle of 1ms; a window without classes \
             fills a gap",
        ),
        (
            "classes = [0]\nlength = \"500us\"",
            "classes = [0]\nlength = \"10us\"",
            "11: window 2 lasts 10us, but its largest frame of 1514 bytes takes 12336ns at 1000 Mbit/s and the guard \
             band 5us: make it 17336ns or longer, or its frames smaller",
        ),
        (
            "6 = 1",
            "6 = 3",
            "5: priority 6 is mapped to class 3, which has no window: its frames would wait for ever; open its gate in \
             a window, or map it to a class that has one",
        ),
        (
            "7 = 1",
            "7 = 2",
            "4: PTP's priority 7 is mapped to class 2, which has no window: clocks would never synchronise; open its \
             gate in a window, or map it to a class that has one",
        ),
        ("6 = 1", "6 = 8", "5: priority 6 is mapped to class 8; classes are 0 to 7"),
        ("6 = 1", "16 = 1", "5: \"16\" is not a priority of 0 to 15"),
        ("link_mbit = 1000", "link_mbit = 0", "3: link_mbit = 0 is no speed; write the link's, such as 1000"),
        ("classes = [0]", "classes = [9]", "11: class 9 is not within 0 to 7"),
        ("guard_band", "guard_bnd", "2: unknown field `guard_bnd`"),
    ] {
        let text = PAPER.replace(from, to);
        assert_ne!(text, PAPER, "{from:?} is not in the text");
        let sentence = parse(&text).map(|_| ()).expect_err(expected);
        assert!(sentence.starts_with(expected), "{sentence}\nexpected\n{expected}");
    }
}

#[test]
fn durations_are_read_and_shown() {
    for (text, ns) in
        [("500us", 500_000), ("1.5us", 1_500), ("2 ms", 2_000_000), ("7ns", 7), ("1s", 1_000_000_000)]
    {
        assert_eq!(parse_duration(text), Ok(ns));
        assert_eq!(parse_duration(&show_duration(ns)), Ok(ns));
    }
    for text in ["", "5", "us", "1.5ns", "-1us", "1h", "99999999999999999999s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_frame_starts_where_it_still_fits() {
    let schedule = paper();
    let wire = wire_ns(1514, 1000);
    assert_eq!(wire, 12_336);
    for (from, expected) in [
        (0, 0),
        (100, 100),
        (499_999 - wire, 1_000_000),
        (500_000 - wire - 5_000, 500_000 - wire - 5_000),
        (600_000, 1_000_000),
        (7_000_123, 7_000_123),
    ] {
        assert_eq!(schedule.next_opening(1, from, 1514), Some(expected), "from {from}");
    }
    assert_eq!(schedule.next_opening(0, 10, 1514), Some(500_000));
    assert_eq!(schedule.next_opening(5, 10, 1514), None);
    assert_eq!(schedule.next_opening(1, 10, 1_000_000), None);
}

#[test]
fn hops_follow_each_other() {
    let hop = |name: &str| Hop {
        name: name.into(),
        class: 1,
        link_mbit: 1000,
        frames: 10,
        propagation_ns: 1_000,
        processing_ns: 57_000,
        clock_error_ns: 1_000,
    };
    let hops = plan(&paper(), &[hop("trigger-queue"), hop("queue-invoker")]).expect("it fits");
    let each = 10 * 12_336 + 59_000;
    assert_eq!((hops[0].opens_ns, hops[0].worst_ns), (0, each));
    assert_eq!((hops[1].opens_ns, hops[1].worst_ns, hops[1].schedule.base_ns), (each, 2 * each, each));
    let picture = draw_plan(&hops, 40);
    assert!(picture.contains("queue-invoker: opens at 182360ns"), "{picture}");
    let error = plan(&paper(), &[Hop { frames: 41, ..hop("x") }]).expect_err("41 do not fit");
    assert!(error.sentence.starts_with("hop \"x\": 41 frames of 1514 bytes take 505776ns"), "{error}");
}

#[test]
fn the_picture_shows_the_gates() {
    let expected = "  class 1 ██████████·········· priority 6,7\n  class 0 ··········██████████ priority 0\n          0                1ms\n";
    assert_eq!(draw(&paper(), 20), expected);
}

/// Any schedule whose windows are long enough.
fn schedules() -> impl Strategy<Value = Schedule> {
    (prop::collection::vec((0u8..8, 20_000u64..300_000), 1..8), 0u64..1 << 60, 0u64..2_000).prop_map(
        |(windows, base_ns, guard_ns)| {
            let windows: Vec<Window> = windows
                .into_iter()
                .map(|(gates, length_ns)| Window { gates, length_ns, frame_bytes_max: 1514 })
                .collect();
            Schedule {
                cycle_ns: windows.iter().map(|w| w.length_ns).sum(),
                base_ns,
                guard_ns,
                link_mbit: 1000,
                windows,
                classes: [0; 16],
                used: 0,
                ptp_priority: None,
            }
        },
    )
}

/// Whether a gate is open at an instant, by the definition of a schedule and nothing else.
fn is_open(schedule: &Schedule, class: u8, at: u64) -> bool {
    let mut phase = (at - schedule.base_ns) % schedule.cycle_ns;
    for window in &schedule.windows {
        if phase < window.length_ns {
            return window.gates & (1 << class) != 0;
        }
        phase -= window.length_ns;
    }
    false
}

proptest! {
    #[test]
    fn a_right_schedule_passes_and_a_wrong_sum_never_does(schedule in schedules(), more in 1u64..1000) {
        prop_assert!(schedule.check().is_ok());
        let wrong = Schedule { cycle_ns: schedule.cycle_ns + more, ..schedule };
        prop_assert!(wrong.check().is_err());
    }

    #[test]
    fn a_frame_that_starts_at_the_opening_leaves_through_open_gates(
        schedule in schedules(), class in 0u8..3, ahead in 0u64..1 << 40,
    ) {
        let from = schedule.base_ns + ahead;
        let used = schedule.windows.iter().any(|w| w.gates & (1 << class) != 0);
        match schedule.next_opening(class, from, 1514) {
            None => prop_assert!(!used, "a class with a long enough window has an opening"),
            Some(at) => {
                prop_assert!(at >= from && at - from <= 2 * schedule.cycle_ns);
                for step in 0..=20 {
                    prop_assert!(is_open(&schedule, class, at + (wire_ns(1514, 1000) - 1) * step / 20));
                }
                // Nothing earlier would have done: an instant before it is too late for its gate, or the gate is shut.
                if at > from {
                    let needs = wire_ns(1514, 1000) + schedule.guard_ns;
                    prop_assert!(!is_open(&schedule, class, at - 1) || !is_open(&schedule, class, at - 2 + needs) || at - 1 < from);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", cut in 0usize..200) {
        let _ = parse(&text);
        let _ = parse(PAPER.get(..cut).unwrap_or(PAPER));
        let _ = parse_duration(&text);
    }

    #[test]
    fn no_schedule_makes_the_picture_panic(schedule in schedules(), width in 0usize..500) {
        prop_assert!(draw(&schedule, width).lines().count() >= 2);
    }
}
