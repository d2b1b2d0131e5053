//! A plain model beside it, and the account: what was admitted is served, evicted, forgotten or still there.

use tempos_abi::Options;
use tempos_abi::queue::{Admission, NextItem, Queue, QueueItem, QueuePolicy, QueueSpec, WhenFull};

use crate::queue::Fifo;

const HANDLES: u32 = 64;
const TOPICS: u32 = 4;

#[test]
fn it_does_what_the_plain_model_does_and_accounts_for_every_item() {
    for seed in 1..=40u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let when_full = if draw(2) == 0 { WhenFull::EVICT } else { WhenFull::REFUSE };
        let (capacity_events, capacity_bytes) = (1 + draw(50) as u32, 1 + draw(8000));
        let (handles, topics, options, reserved) = (HANDLES, TOPICS, Options::new(), [0; 4]);
        let spec =
            QueueSpec { handles, topics, capacity_events, when_full, capacity_bytes, options, reserved };
        let mut queue = Fifo.open(&spec).expect("opens");
        // Handle, topic, size; in the order of arrival.
        let mut queued: Vec<(u32, u32, u64)> = Vec::new();
        let mut held = [false; TOPICS as usize];
        let (mut admitted, mut gone) = (0, 0);
        for _ in 0..5000 {
            let topic = draw(u64::from(TOPICS)) as u32;
            match draw(10) {
                0..=5 => {
                    let (handle, size) = (draw(u64::from(HANDLES)) as u32, draw(400));
                    let item = QueueItem {
                        handle,
                        topic,
                        size: size as u32,
                        rank: draw(256) as u32,
                        arrival_ns: 0,
                        deadline_ns: draw(1000),
                        key_hash: draw(9),
                        reserved: 0,
                    };
                    let bytes: u64 = queued.iter().map(|q| q.2).sum();
                    let fits = queued.len() < capacity_events as usize && bytes + size <= capacity_bytes;
                    let known = queued.iter().any(|q| q.0 == handle) || size > capacity_bytes;
                    let expected = match (known, fits, when_full) {
                        (true, ..) => Admission::refused(),
                        (_, true, _) => Admission::accepted(),
                        (_, _, WhenFull::EVICT) => Admission::evicted(queued[0].0),
                        _ => Admission::refused(),
                    };
                    assert_eq!(queue.admit(&item, draw(1000)), expected, "seed {seed}");
                    if expected.verdict == Admission::ACCEPTED {
                        queued.push((handle, topic, size));
                        admitted += 1;
                    } else if expected.verdict == Admission::EVICTED {
                        queued.remove(0);
                        gone += 1;
                    }
                }
                6..=7 => {
                    let at = queued.iter().position(|q| !held[q.1 as usize]);
                    let expected = at.map_or(NextItem::nothing(0), |at| NextItem::go(queued.remove(at).0));
                    gone += usize::from(at.is_some());
                    assert_eq!(queue.next(draw(1000)), expected, "seed {seed}");
                }
                8 => {
                    let handle = draw(u64::from(HANDLES) + 4) as u32;
                    let at = queued.iter().position(|q| q.0 == handle);
                    gone += usize::from(at.map(|at| queued.remove(at)).is_some());
                    assert_eq!(queue.forget(handle), at.is_some(), "seed {seed}");
                }
                _ => {
                    held[topic as usize] = draw(2) == 0;
                    queue.hold(topic, held[topic as usize]);
                }
            }
            assert_eq!(queue.queued() as usize, queued.len());
            assert_eq!(admitted, gone + queued.len(), "seed {seed}: the account");
            assert!(queued.len() <= capacity_events as usize);
        }
    }
}
