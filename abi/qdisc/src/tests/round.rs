use proptest::prelude::*;

use super::{halves, options};
use crate::etf::Etf;
use crate::mqprio::{Mqprio, Queues};
use crate::taprio::{Entry, Mode, Schedule, Taprio};
use crate::wire::{HEADER_BYTES, Request, attributes, messages};

fn queues() -> impl Strategy<Value = Vec<Queues>> {
    prop::collection::vec(
        (any::<u16>(), any::<u16>()).prop_map(|(count, offset)| Queues { count, offset }),
        1..=16,
    )
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Software),
        Just(Mode::FullOffload),
        any::<u32>().prop_map(|delay_ns| Mode::TxtimeAssist { delay_ns }),
    ]
}

fn taprio() -> impl Strategy<Value = Taprio> {
    let entries = prop::collection::vec(
        (any::<u32>(), any::<u32>()).prop_map(|(gates, interval_ns)| Entry { gates, interval_ns }),
        1..200,
    );
    let schedule = (any::<i64>(), any::<i64>(), any::<i64>(), entries).prop_map(
        |(base_time_ns, cycle_ns, extension_ns, entries)| Schedule {
            base_time_ns,
            cycle_ns,
            extension_ns,
            entries,
        },
    );
    (any::<[u8; 16]>(), queues(), schedule, mode(), any::<u32>()).prop_map(
        |(map, queues, schedule, mode, size)| {
            // As it is read back: no sizes, or one for each class.
            let max_sdu = if size == 0 { Vec::new() } else { vec![size; queues.len()] };
            Taprio { map, queues, schedule, admin: None, mode, max_sdu }
        },
    )
}

proptest! {
    #[test]
    fn taprio_is_read_as_it_was_written(taprio in taprio()) {
        let bytes = options(|request, kind| taprio.put(request, kind));
        prop_assert_eq!(Taprio::decode(&bytes), Some(taprio));
    }

    #[test]
    fn mqprio_is_read_as_it_was_written(map in any::<[u8; 16]>(), queues in queues(), hardware in any::<bool>()) {
        let mqprio = Mqprio { map, queues, hardware };
        let bytes = options(|request, kind| mqprio.put(request, kind));
        prop_assert_eq!(Mqprio::decode(&bytes), Some(mqprio));
    }

    #[test]
    fn etf_is_read_as_it_was_written(delta_ns in 0..=i32::MAX as u32, flags in any::<[bool; 3]>()) {
        let [offload, deadline_mode, skip_sock_check] = flags;
        let etf = Etf { delta_ns, offload, deadline_mode, skip_sock_check };
        let bytes = options(|request, kind| etf.put(request, kind));
        prop_assert_eq!(Etf::decode(&bytes), Some(etf));
    }

    #[test]
    fn attributes_are_read_as_they_were_written(all in prop::collection::vec((0..0x4000u16, prop::collection::vec(any::<u8>(), 0..70)), 0..20)) {
        let mut request = Request::new(9, 8, &[7; 20]);
        for (kind, value) in &all {
            request.put(*kind, value);
        }
        let bytes = request.finish(77);
        let message = messages(&bytes).next().expect("one message");
        prop_assert_eq!((message.kind, message.flags, message.sequence), (9, 8, 77));
        let read: Vec<_> = attributes(&message.body[20..]).map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, all);
        prop_assert_eq!(messages(&bytes).count(), 1);
    }
}

#[test]
fn the_bytes_are_those_of_the_kernels_header() {
    // linux/pkt_sched.h, struct tc_mqprio_qopt: num_tc, prio_tc_map[16], hw, count[16], offset[16].
    let bytes = options(|request, kind| halves().put(request, kind));
    let map = attributes(&bytes).find(|(kind, _)| *kind == 1).expect("TCA_TAPRIO_ATTR_PRIOMAP").1;
    assert_eq!(map.len(), 82);
    assert_eq!((map[0], map[8], map[9], map[17]), (2, 0, 1, 0));
    assert_eq!((&map[18..22], &map[50..54]), (&[1, 0, 1, 0][..], &[0, 0, 1, 0][..]));
    let kinds: Vec<u16> = attributes(&bytes).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [1, 5, 3, 8, 2], "priomap, clock, base time, cycle, entries");
    let offload = Taprio { mode: Mode::FullOffload, ..halves() };
    let bytes = options(|request, kind| offload.put(request, kind));
    assert!(attributes(&bytes).all(|(kind, _)| kind != 5), "full offload names no clock");
}

#[test]
fn what_does_not_fit_an_attribute_is_left_out() {
    let mut request = Request::new(0, 0, &[]);
    request.put(1, &[0; 70_000]);
    request.nest(2, |request| {
        for _ in 0..3 {
            request.put(3, &[0; 30_000]);
        }
    });
    request.put(4, &[1]);
    let bytes = request.finish(1);
    let kinds: Vec<u16> = attributes(&bytes[HEADER_BYTES..]).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [4]);
    let full = Schedule { entries: vec![Entry { gates: 1, interval_ns: 1 }; 1024], ..Schedule::default() };
    let full = Taprio { schedule: full, ..halves() };
    let bytes = options(|request, kind| full.put(request, kind));
    assert_eq!(Taprio::decode(&bytes), Some(full), "the longest list fits");
}

#[test]
fn a_map_beyond_its_classes_is_refused_with_the_place() {
    let mut taprio = halves();
    taprio.map[3] = 2;
    let sentence = taprio.check().expect_err("there is no class 2");
    assert_eq!(sentence, "priority 3 is mapped to class 2, but there are 2 classes, counted from 0");
    let empty = Taprio { queues: Vec::new(), ..halves() };
    assert_eq!(empty.check().expect_err("no classes"), "0 classes; there are 1 to 16");
    let gateless = Taprio { schedule: Schedule::default(), ..halves() };
    assert_eq!(gateless.check().expect_err("no gates"), "0 gate entries; there are 1 to 1024");
    let mut nothing = halves();
    nothing.schedule.entries[1].interval_ns = 0;
    let sentence = nothing.check().expect_err("no time");
    assert_eq!(sentence, "gate entry 2 lasts 0 ns; give each the time of a frame at least");
}
