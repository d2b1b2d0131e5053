//! What is superseded, what is not; and a plain model beside it.

use tempos_abi::{OptionValue, Options};

use super::*;

const HANDLES: u32 = 64;
const TOPICS: u32 = 4;

fn spec(keep: i64, capacity_events: u32, capacity_bytes: u64, when_full: WhenFull) -> QueueSpec {
    let mut options = Options::new();
    options.set("keep", OptionValue::Integer(keep));
    let (handles, topics, reserved) = (HANDLES, TOPICS, [0; 4]);
    QueueSpec { handles, topics, capacity_events, when_full, capacity_bytes, options, reserved }
}

fn item(handle: u32, topic: u32, size: u32, key_hash: u64) -> QueueItem {
    QueueItem { handle, topic, size, rank: 0, arrival_ns: 0, deadline_ns: 0, key_hash, reserved: 0 }
}

#[test]
fn a_newer_event_takes_the_older_one_of_its_key_out() {
    let mut queue = Newest.open(&spec(1, 16, 1000, WhenFull::REFUSE)).expect("opens");
    // Handles 3 and 4: the same hash in another topic, and the topic as a whole.
    for (handle, topic, key) in [(0, 0, 7), (1, 0, 8), (3, 1, 7), (4, 0, 0)] {
        assert_eq!(queue.admit(&item(handle, topic, 10, key), 0), Admission::accepted());
    }
    for (newer, older, key) in [(10, 0, 7), (11, 10, 7), (12, 4, 0)] {
        assert_eq!(queue.admit(&item(newer, 0, 10, key), 0), Admission::evicted(older));
        assert_eq!(queue.admit(&item(newer, 0, 10, key), 0), Admission::accepted());
    }
    let order: Vec<u32> = (0..4).map(|_| queue.next(0).handle).collect();
    assert_eq!(order, [1, 3, 11, 12]);
    assert_eq!(queue.admit(&item(20, 0, 10, 7), 0), Admission::accepted(), "nothing of the key waits");
}

#[test]
fn the_last_few_of_a_key_are_kept_in_their_order() {
    let mut queue = Newest.open(&spec(3, 16, 1000, WhenFull::REFUSE)).expect("opens");
    for handle in 0..10 {
        if queue.admit(&item(handle, 0, 10, 7), 0).verdict == Admission::EVICTED {
            assert_eq!(queue.admit(&item(handle, 0, 10, 7), 0), Admission::accepted());
        }
    }
    queue.hold(0, true);
    assert_eq!(queue.next(0), NextItem::nothing(0));
    queue.hold(0, false);
    let order: Vec<u32> = (0..4).map(|_| queue.next(0).handle).collect();
    assert_eq!(order, [7, 8, 9, tempos_abi::queue::NO_HANDLE]);
}

#[test]
fn nothing_is_given_up_for_what_is_refused_all_the_same() {
    let mut queue = Newest.open(&spec(1, 16, 100, WhenFull::REFUSE)).expect("opens");
    queue.admit(&item(0, 0, 50, 7), 0);
    queue.admit(&item(1, 0, 50, 8), 0);
    assert_eq!(queue.admit(&item(2, 0, 60, 7), 0), Admission::refused(), "the other key's 50 stay");
    assert_eq!(queue.admit(&item(2, 0, 101, 7), 0), Admission::refused(), "it never fits");
    assert_eq!(queue.queued(), 2);
}

#[test]
fn a_full_queue_that_evicts_gives_up_the_oldest_of_all() {
    let mut queue = Newest.open(&spec(1, 2, 100, WhenFull::EVICT)).expect("opens");
    queue.admit(&item(0, 0, 50, 7), 0);
    queue.admit(&item(1, 1, 50, 8), 0);
    assert_eq!(queue.admit(&item(2, 2, 60, 9), 0), Admission::evicted(0));
    assert_eq!(queue.admit(&item(2, 2, 60, 9), 0), Admission::evicted(1));
    assert_eq!(queue.admit(&item(2, 2, 60, 9), 0), Admission::accepted());
}

#[test]
fn a_number_out_of_range_is_refused_with_a_sentence() {
    let error = Newest.open(&spec(0, 1, 1, WhenFull::EVICT)).err().expect("refused");
    assert_eq!(error.message, "queue policy newest: keep = 0 is not within 1 to 65536");
}

/// The same rules, written as plainly as possible.
struct Model {
    /// In the order of arrival.
    queued: Vec<QueueItem>,
    held: [bool; TOPICS as usize],
    keep: usize,
    spec: QueueSpec,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.queued.iter().map(|q| u64::from(q.size)).sum()
    }

    fn admit(&mut self, item: &QueueItem) -> Admission {
        let (size, spec) = (u64::from(item.size), &self.spec);
        if self.queued.iter().any(|q| q.handle == item.handle) || size > spec.capacity_bytes {
            return Admission::refused();
        }
        let same = |q: &&QueueItem| (q.topic, q.key_hash) == (item.topic, item.key_hash);
        let oldest = self.queued.iter().find(same).copied();
        if let Some(oldest) = oldest.filter(|_| self.queued.iter().filter(same).count() >= self.keep) {
            let fits = self.bytes() - u64::from(oldest.size) + size <= spec.capacity_bytes;
            if !fits && spec.when_full == WhenFull::REFUSE {
                return Admission::refused();
            }
            self.forget(oldest.handle);
            return Admission::evicted(oldest.handle);
        }
        if self.queued.len() < spec.capacity_events as usize && self.bytes() + size <= spec.capacity_bytes {
            self.queued.push(*item);
            return Admission::accepted();
        }
        if spec.when_full == WhenFull::REFUSE {
            return Admission::refused();
        }
        Admission::evicted(self.queued.remove(0).handle)
    }

    fn next(&mut self) -> NextItem {
        let at = self.queued.iter().position(|q| !self.held[q.topic as usize]);
        at.map_or(NextItem::nothing(0), |at| NextItem::go(self.queued.remove(at).handle))
    }

    fn forget(&mut self, handle: u32) -> bool {
        let at = self.queued.iter().position(|q| q.handle == handle);
        at.map(|at| self.queued.remove(at)).is_some()
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
        let (keep, keys) = (1 + draw(4), 1 + draw(30));
        let when_full = if draw(2) == 0 { WhenFull::EVICT } else { WhenFull::REFUSE };
        let spec = spec(keep as i64, 1 + draw(60) as u32, 1 + draw(9000), when_full);
        let mut queue = Newest.open(&spec).expect("opens");
        let mut model = Model { queued: Vec::new(), held: [false; 4], keep: keep as usize, spec };
        for _ in 0..5000 {
            let topic = draw(u64::from(TOPICS)) as u32;
            match draw(10) {
                0..=5 => {
                    let item = item(draw(u64::from(HANDLES)) as u32, topic, draw(400) as u32, draw(keys));
                    assert_eq!(queue.admit(&item, 0), model.admit(&item), "seed {seed}");
                }
                6..=7 => assert_eq!(queue.next(0), model.next(), "seed {seed}"),
                8 => {
                    let handle = draw(u64::from(HANDLES) + 4) as u32;
                    assert_eq!(queue.forget(handle), model.forget(handle), "seed {seed}");
                }
                _ => {
                    let held = draw(2) == 0;
                    queue.hold(topic, held);
                    model.held[topic as usize] = held;
                }
            }
            assert_eq!((queue.queued() as usize, queue.ledger.bytes()), (model.queued.len(), model.bytes()));
            let keys_of =
                |queue: &NewestQueue, q: &QueueItem| queue.keys.of((q.topic, q.key_hash)).0 as usize;
            assert!(model.queued.iter().all(|q| keys_of(&queue, q) <= keep as usize));
        }
    }
}
