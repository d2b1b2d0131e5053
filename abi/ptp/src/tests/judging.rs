//! A table of what is read when, and what the clock is worth then.

use crate::message::{Identity, PortState};
use crate::watch::{Bounds, Cause, Reading, Role, Watch};

/// What happens at an instant.
enum Step {
    /// State, nanoseconds from the grandmaster, number of the last Sync.
    Read(u8, i64, i64),
    /// A follower that is 5 ns away; what the grandmaster and the kernel say of TAI.
    Tai(Option<i32>, Option<i32>, i64),
    /// A follower that is 5 ns away; how far the card's clock is ahead of the kernel's.
    Card(i64, i64),
    /// Nothing; what the system said.
    Miss(Option<&'static str>),
}
use Step::{Card, Miss, Read, Tai};

const LISTENING: u8 = 4;
const MASTER: u8 = 6;
const UNCALIBRATED: u8 = 8;
const SLAVE: u8 = 9;

/// Milliseconds, what happens, whether it is granted, and words of the sentence.
type Row = (u64, Step, bool, &'static str);

/// Offset at most 1000 ns, a hold of 500 ms, silence of 300 ms.
const TABLE: &[(Role, &[Row])] = &[
    (
        Role::Follower,
        &[
            (
                0,
                Read(SLAVE, 10, 1),
                false,
                "it counts after 500.00 ms without a break, which have lasted 0 ns",
            ),
            (
                499,
                Read(SLAVE, -1000, 2),
                false,
                "port 1 is 1.0 µs from grandmaster 000000.0000.000007; it counts after",
            ),
            (500, Read(SLAVE, 10, 3), true, "port 1 is 10 ns from grandmaster 000000.0000.000007"),
            (
                600,
                Read(SLAVE, 1001, 4),
                false,
                "the clock is 1.0 µs from grandmaster 000000.0000.000007, and may be 1.0 µs",
            ),
            (700, Read(SLAVE, -5_000_000, 5), false, "the clock is 5.00 ms from grandmaster"),
            (800, Read(SLAVE, 10, 6), false, "it counts after"),
            (1200, Read(SLAVE, 2000, 7), false, "the clock is 2.0 µs"),
            (1300, Read(SLAVE, 10, 8), false, "which have lasted 0 ns"),
            (1799, Read(SLAVE, 10, 9), false, "which have lasted 499.00 ms"),
            (1800, Read(SLAVE, 10, 10), true, "10 ns"),
            (1900, Read(UNCALIBRATED, 10, 11), false, "port 1 of ptp4l is UNCALIBRATED, and is to be SLAVE"),
            (2000, Read(MASTER, 0, 11), false, "port 1 of ptp4l is MASTER, and is to be SLAVE"),
            (2100, Read(77, 0, 11), false, "is state 77, and"),
            (2200, Read(SLAVE, i64::MIN, 12), false, "the clock is 9223372036.85 s from"),
        ],
    ),
    (
        // Silence of ptp4l: a pause within the bound is none.
        Role::Follower,
        &[
            (0, Read(SLAVE, 0, 1), false, "it counts after"),
            (500, Read(SLAVE, 0, 2), true, "0 ns"),
            (800, Miss(None), true, "0 ns"),
            (801, Miss(None), false, "ptp4l has not answered for 301.00 ms"),
            (
                900,
                Miss(Some("/run/p: Connection refused")),
                false,
                "not said enough for 400.00 ms: /run/p: Connection refused",
            ),
            (1000, Read(SLAVE, 0, 3), false, "it counts after"),
            (1400, Miss(None), false, "ptp4l has not answered for 400.00 ms"),
            (1500, Read(SLAVE, 0, 4), false, "which have lasted 0 ns"),
            (2000, Read(SLAVE, 0, 5), true, "0 ns"),
        ],
    ),
    (
        // It answers, but no Sync comes any more: the offset is of the past.
        Role::Any,
        &[
            (0, Read(SLAVE, 0, 1), false, "it counts after"),
            (500, Read(SLAVE, 0, 2), true, "0 ns"),
            (800, Read(SLAVE, 0, 2), true, "0 ns"),
            (801, Read(SLAVE, 0, 2), false, "port 1 has heard no Sync for 301.00 ms"),
            (900, Read(SLAVE, 0, 3), false, "it counts after"),
            (
                1100,
                Read(LISTENING, 0, 3),
                false,
                "port 1 of ptp4l is LISTENING, and is to be SLAVE or MASTER",
            ),
            // It has become grandmaster itself.
            (1200, Read(MASTER, 123_456, 3), false, "port 1 gives the time; it counts after"),
            (1700, Read(MASTER, 123_456, 3), true, "port 1 gives the time"),
        ],
    ),
    (
        Role::Leader,
        &[
            (0, Read(SLAVE, 0, 1), false, "port 1 of ptp4l is SLAVE, and is to be MASTER"),
            (100, Read(MASTER, 0, 1), false, "it counts after"),
            (600, Read(MASTER, 0, 1), true, "port 1 gives the time"),
        ],
    ),
    (
        Role::Follower,
        &[
            (0, Tai(None, Some(0), 1), false, "it counts after"),
            (500, Tai(Some(37), None, 2), true, "5 ns"),
            (600, Tai(Some(37), Some(37), 3), true, "5 ns"),
            (
                700,
                Tai(Some(37), Some(0), 4),
                false,
                "the kernel has TAI 0 s ahead of UTC, and the grandmaster 37 s",
            ),
            (800, Tai(Some(37), Some(37), 5), false, "it counts after"),
            (1300, Tai(Some(37), Some(37), 6), true, "5 ns"),
        ],
    ),
    (
        // ptp4l keeps the card's clock, and nobody the kernel's beside it.
        Role::Follower,
        &[
            (0, Card(-1000, 1), false, "it counts after"),
            (500, Card(1000, 2), true, "5 ns"),
            (
                600,
                Card(-1001, 3),
                false,
                "the card's clock is 1.0 µs from CLOCK_TAI, and may be 1.0 µs: phc2sys",
            ),
            (700, Card(i64::MIN, 4), false, "9223372036.85 s from CLOCK_TAI"),
            (800, Card(0, 5), false, "it counts after"),
            (1300, Card(0, 6), true, "5 ns"),
        ],
    ),
    (
        // It never answered.
        Role::Any,
        &[
            (300, Miss(Some("no such file")), false, "ptp4l has not answered yet"),
            (301, Miss(Some("no such file")), false, "for 301.00 ms: no such file"),
        ],
    ),
];

#[test]
fn the_clock_is_worth_what_the_table_says() {
    let grandmaster = Identity([0, 0, 0, 0, 0, 0, 0, 7]);
    let follower = Reading {
        port: 1,
        state: PortState(SLAVE),
        offset_ns: 5,
        ingress_ns: 0,
        grandmaster,
        utc_offset_s: None,
        tai_offset_s: None,
        hardware_ahead_ns: None,
    };
    for (case, (role, rows)) in TABLE.iter().enumerate() {
        let bounds =
            Bounds { role: *role, offset_max_ns: 1000, hold_ns: 500_000_000, silence_max_ns: 300_000_000 };
        let mut watch = Watch::new(bounds, 0);
        assert!(!watch.verdict().granted, "nothing is known of it");
        for (at_ms, step, granted, words) in *rows {
            let now_ns = at_ms * 1_000_000;
            match step {
                Read(state, offset_ns, sync) => {
                    let (state, offset_ns) = (PortState(*state), *offset_ns);
                    watch.see(now_ns, &Reading { state, offset_ns, ingress_ns: *sync, ..follower });
                }
                Tai(utc_offset_s, tai_offset_s, sync) => {
                    let (utc_offset_s, tai_offset_s) = (*utc_offset_s, *tai_offset_s);
                    watch.see(now_ns, &Reading { utc_offset_s, tai_offset_s, ingress_ns: *sync, ..follower });
                }
                Card(ahead_ns, sync) => {
                    let hardware_ahead_ns = Some(*ahead_ns);
                    watch.see(now_ns, &Reading { hardware_ahead_ns, ingress_ns: *sync, ..follower });
                }
                Miss(why) => watch.miss(now_ns, *why),
            }
            let verdict = watch.verdict();
            let comes = verdict.reason.contains("it counts after");
            assert_eq!(verdict.in_bounds, *granted || comes, "case {case} at {at_ms} ms");
            assert_eq!(verdict.cause == Some(Cause::Hold), comes, "case {case} at {at_ms} ms");
            assert_eq!(verdict.cause.is_none(), *granted, "case {case} at {at_ms} ms");
            assert_eq!(verdict.granted, *granted, "case {case} at {at_ms} ms: {}", verdict.reason);
            assert!(
                verdict.reason.contains(words),
                "case {case} at {at_ms} ms: {words:?} is not in {:?}",
                verdict.reason
            );
        }
    }
}
