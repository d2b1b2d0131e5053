use std::collections::VecDeque;

use super::*;
use crate::options::Options;

fn spec(capacity_events: u32, capacity_bytes: u64, when_full: WhenFull) -> QueueSpec {
    let options = Options::new();
    QueueSpec {
        handles: 32,
        topics: 4,
        capacity_events,
        when_full,
        capacity_bytes,
        options,
        reserved: [0; 4],
    }
}

fn item(handle: u32, topic: u32, size: u32) -> QueueItem {
    QueueItem { handle, topic, size, rank: 0, arrival_ns: 0, deadline_ns: 0, key_hash: 0, reserved: 0 }
}

/// The same rules, written as plainly as possible.
struct Model {
    queued: VecDeque<(u32, u32, u32, u8)>,
    held: [bool; 4],
    events_max: usize,
    bytes_max: u64,
    evict: bool,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.queued.iter().map(|q| u64::from(q.2)).sum()
    }

    fn admit(&mut self, item: &QueueItem, class: u8) -> Admission {
        if self.queued.iter().any(|q| q.0 == item.handle) || u64::from(item.size) > self.bytes_max {
            return Admission::refused();
        }
        let over = (self.bytes() + u64::from(item.size)).saturating_sub(self.bytes_max);
        if self.queued.len() < self.events_max && over == 0 {
            self.queued.push_back((item.handle, item.topic, item.size, class));
            return Admission::accepted();
        }
        let weaker: u64 = self.queued.iter().filter(|q| q.3 >= class).map(|q| u64::from(q.2)).sum();
        let last = self.queued.iter().map(|q| q.3).max();
        if !self.evict || last.is_none_or(|last| last < class) || weaker < over {
            return Admission::refused();
        }
        let at = self.queued.iter().position(|q| Some(q.3) == last).expect("just found");
        Admission::evicted(self.queued.remove(at).expect("just found").0)
    }

    fn next(&mut self) -> Option<u32> {
        let firsts = (0..4u32).filter(|t| !self.held[*t as usize]);
        let firsts = firsts.filter_map(|t| self.queued.iter().position(|q| q.1 == t));
        let at = firsts.min_by_key(|at| (self.queued[*at].3, *at))?;
        self.queued.remove(at).map(|q| q.0)
    }

    fn forget(&mut self, handle: u32) -> bool {
        let at = self.queued.iter().position(|q| q.0 == handle);
        at.and_then(|at| self.queued.remove(at)).is_some()
    }
}

#[test]
fn it_does_what_the_plain_model_does() {
    for seed in 1..=40u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let evict = draw(2) == 0;
        let (events_max, bytes_max) = (1 + draw(12) as u32, 1 + draw(2000));
        let when_full = if evict { WhenFull::EVICT } else { WhenFull::REFUSE };
        let mut ledger = Ledger::open(&spec(events_max, bytes_max, when_full), 4).expect("opens");
        let events_max = events_max as usize;
        let mut model = Model { queued: VecDeque::new(), held: [false; 4], events_max, bytes_max, evict };
        for _ in 0..4000 {
            match draw(10) {
                0..=4 => {
                    let item = item(draw(32) as u32, draw(4) as u32, draw(400) as u32);
                    let class = draw(4) as u8;
                    assert_eq!(ledger.admit(&item, class), model.admit(&item, class));
                }
                5..=7 => assert_eq!(ledger.take_next(), model.next()),
                8 => {
                    let handle = draw(40) as u32;
                    assert_eq!(ledger.forget(handle), model.forget(handle));
                }
                _ => {
                    let (topic, held) = (draw(4) as u32, draw(2) == 0);
                    ledger.hold(topic, held);
                    model.held[topic as usize] = held;
                }
            }
            assert_eq!((ledger.events() as usize, ledger.bytes()), (model.queued.len(), model.bytes()));
        }
    }
}

#[test]
fn what_does_not_exist_is_refused_and_ignored() {
    let mut ledger = Ledger::open(&spec(4, 100, WhenFull::EVICT), 1).expect("opens");
    assert_eq!(ledger.admit(&item(32, 0, 1), 0), Admission::refused());
    assert_eq!(ledger.admit(&item(0, 4, 1), 0), Admission::refused());
    assert!(!ledger.forget(u32::MAX));
    ledger.hold(99, true);
    assert_eq!(ledger.take_next(), None);
}

#[test]
fn bounds_that_hold_nothing_are_refused_with_a_sentence() {
    let error = Ledger::open(&spec(0, 1, WhenFull::REFUSE), 1).expect_err("refused");
    assert!(error.message.contains("both capacities must be at least 1"), "{error}");
    let beyond = QueueSpec { topics: TABLE_ROWS_MAX + 1, ..spec(1, 1, WhenFull::REFUSE) };
    let error = Ledger::open(&beyond, 1).expect_err("refused");
    assert!(error.message.contains("1 to 16777216 are possible"), "{error}");
}
