//! What is written is what is read, garbage is survived, and the kernel's own words come through.

mod garbage;
mod kernel;
mod round;

use crate::mqprio::Queues;
use crate::taprio::{Entry, Mode, Schedule, Taprio};
use crate::wire::{HEADER_BYTES, Request, find};

/// Strict traffic in the first half of a millisecond, the rest in the second.
pub fn halves() -> Taprio {
    let mut map = [1; 16];
    map[7] = 0;
    Taprio {
        map,
        queues: vec![Queues { count: 1, offset: 0 }, Queues { count: 1, offset: 1 }],
        schedule: Schedule {
            base_time_ns: 5,
            cycle_ns: 1_000_000,
            extension_ns: 0,
            entries: vec![Entry { gates: 1, interval_ns: 500_000 }, Entry { gates: 2, interval_ns: 500_000 }],
        },
        admin: None,
        mode: Mode::Software,
        max_sdu: Vec::new(),
    }
}

/// What a discipline writes as its options.
pub fn options(put: impl FnOnce(&mut Request, u16)) -> Vec<u8> {
    let mut request = Request::new(0, 0, &[]);
    put(&mut request, 2);
    let bytes = request.finish(1);
    find(&bytes[HEADER_BYTES..], 2).expect("options").to_vec()
}
