//! What goes first, what is given up, what is evicted; and a plain model beside it.

use tempos_abi::{OptionValue, Options};

use super::*;

const HANDLES: u32 = 48;
const TOPICS: u32 = 5;

fn queue(capacity_events: u32, capacity_bytes: u64, when_full: WhenFull, late: &str) -> EdfQueue {
    let mut options = Options::new();
    options.set("late", OptionValue::Text(late.into()));
    let (handles, topics, reserved) = (HANDLES, TOPICS, [0; 4]);
    let spec = QueueSpec { handles, topics, capacity_events, when_full, capacity_bytes, options, reserved };
    Edf.open(&spec).expect("opens")
}

fn item(handle: u32, topic: u32, size: u32, deadline_ns: u64) -> QueueItem {
    QueueItem { handle, topic, size, rank: 0, arrival_ns: 0, deadline_ns, key_hash: 0, reserved: 0 }
}

#[test]
fn the_earliest_deadline_goes_first_and_none_goes_last() {
    let mut queue = queue(16, 1000, WhenFull::REFUSE, "drop");
    for (handle, topic, deadline) in
        [(0, 0, 0), (1, 1, 900), (2, 0, 500), (3, 2, 900), (4, 1, 0), (5, 3, 100)]
    {
        assert_eq!(queue.admit(&item(handle, topic, 10, deadline), 0), Admission::accepted());
    }
    queue.hold(3, true);
    let order: Vec<u32> = (0..5).map(|_| queue.next(50).handle).collect();
    assert_eq!(order, [2, 1, 3, 0, 4], "deadlines, then arrivals");
    assert_eq!(queue.next(50), NextItem::nothing(101), "on hold until it is late");
    queue.hold(3, false);
    assert_eq!(queue.next(50), NextItem::go(5));
    assert_eq!(queue.next(50), NextItem::nothing(0));
}

#[test]
fn what_is_late_is_given_up_or_passed_on() {
    for (late, verdict) in [("drop", NextItem::EXPIRED), ("pass", NextItem::GO)] {
        let mut queue = queue(16, 1000, WhenFull::REFUSE, late);
        queue.admit(&item(0, 0, 10, 0), 0);
        queue.admit(&item(1, 0, 10, 100), 0);
        queue.admit(&item(2, 0, 10, 200), 0);
        let next = queue.next(101);
        assert_eq!((next.handle, next.verdict), (1, verdict), "{late}");
        assert_eq!(queue.next(200), NextItem::go(2), "not late in the instant itself");
        assert_eq!(queue.next(u64::MAX), NextItem::go(0), "never late");
    }
}

#[test]
fn what_is_late_makes_room_also_on_hold() {
    let mut queue = queue(16, 1000, WhenFull::REFUSE, "drop");
    queue.hold(0, true);
    queue.admit(&item(0, 0, 10, 100), 0);
    assert_eq!(queue.next(100), NextItem::nothing(101));
    assert_eq!(queue.next(101), NextItem::expired(0));
    assert_eq!(queue.queued(), 0);
}

#[test]
fn a_full_queue_gives_up_the_latest_deadline_and_never_an_earlier_one() {
    let mut queue = queue(3, 30, WhenFull::EVICT, "drop");
    for (handle, deadline) in [(0, 500), (1, 0), (2, 0)] {
        queue.admit(&item(handle, 0, 10, deadline), 0);
    }
    assert_eq!(queue.admit(&item(3, 1, 10, 0), 0), Admission::evicted(1), "the oldest of its equals");
    assert_eq!(queue.admit(&item(3, 1, 10, 0), 0), Admission::accepted());
    assert_eq!(queue.admit(&item(4, 1, 10, 600), 0), Admission::evicted(2));
    assert_eq!(queue.admit(&item(4, 1, 10, 600), 0), Admission::accepted());
    assert_eq!(queue.admit(&item(5, 1, 10, 300), 0), Admission::evicted(3));
    assert_eq!(queue.admit(&item(5, 1, 10, 300), 0), Admission::accepted());
    assert_eq!(queue.admit(&item(6, 2, 10, 700), 0), Admission::refused(), "it matters least itself");
    assert_eq!(queue.admit(&item(6, 2, 20, 550), 0), Admission::refused(), "one of two would have to stay");
    assert_eq!(queue.queued(), 3, "and nothing was lost for it");
}

#[test]
fn a_word_that_is_not_known_is_refused_with_a_sentence() {
    let mut options = Options::new();
    options.set("late", OptionValue::Text("keep".into()));
    let spec = QueueSpec {
        handles: 1,
        topics: 1,
        capacity_events: 1,
        when_full: WhenFull::EVICT,
        capacity_bytes: 1,
        options,
        reserved: [0; 4],
    };
    let error = Edf.open(&spec).err().expect("refused");
    assert_eq!(error.message, "queue policy edf: late = \"keep\" is neither \"drop\" nor \"pass\"");
}

/// The same rules, written as plainly as possible.
struct Model {
    /// Handle, topic, size, deadline; in the order of arrival.
    queued: Vec<(u32, u32, u32, u64)>,
    held: [bool; TOPICS as usize],
    events_max: usize,
    bytes_max: u64,
    evict: bool,
    drop_late: bool,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.queued.iter().map(|q| u64::from(q.2)).sum()
    }

    fn admit(&mut self, item: &QueueItem) -> Admission {
        let size = u64::from(item.size);
        if self.queued.iter().any(|q| q.0 == item.handle) || size > self.bytes_max {
            return Admission::refused();
        }
        let deadline = deadline(item);
        let over = (self.bytes() + size).saturating_sub(self.bytes_max);
        if self.queued.len() < self.events_max && over == 0 {
            self.queued.push((item.handle, item.topic, item.size, deadline));
            return Admission::accepted();
        }
        let weaker: u64 = self.queued.iter().filter(|q| q.3 >= deadline).map(|q| u64::from(q.2)).sum();
        let latest = self.queued.iter().map(|q| q.3).max();
        if !self.evict || latest.is_none_or(|latest| latest < deadline) || weaker < over {
            return Admission::refused();
        }
        let at = self.queued.iter().position(|q| Some(q.3) == latest).expect("just found");
        Admission::evicted(self.queued.remove(at).0)
    }

    fn next(&mut self, now_ns: u64) -> NextItem {
        let earliest = |ready: &dyn Fn(u32) -> bool| {
            let candidates = self.queued.iter().enumerate().filter(|(_, q)| ready(q.1));
            candidates.min_by_key(|(at, q)| (q.3, *at)).map(|(at, q)| (at, q.3))
        };
        let of_all = earliest(&|_| true).filter(|(_, deadline)| self.drop_late && *deadline != NEVER);
        if let Some((at, _)) = of_all.filter(|(_, deadline)| *deadline < now_ns) {
            return NextItem::expired(self.queued.remove(at).0);
        }
        match earliest(&|topic| !self.held[topic as usize]) {
            Some((at, _)) => NextItem::go(self.queued.remove(at).0),
            None => NextItem::nothing(of_all.map_or(0, |(_, deadline)| deadline + 1)),
        }
    }

    fn forget(&mut self, handle: u32) -> bool {
        let at = self.queued.iter().position(|q| q.0 == handle);
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
        let (evict, drop_late) = (draw(2) == 0, draw(2) == 0);
        let (events_max, bytes_max) = (1 + draw(40) as u32, 1 + draw(6000));
        let when_full = if evict { WhenFull::EVICT } else { WhenFull::REFUSE };
        let mut queue = queue(events_max, bytes_max, when_full, if drop_late { "drop" } else { "pass" });
        let (events_max, held) = (events_max as usize, [false; TOPICS as usize]);
        let mut model = Model { queued: Vec::new(), held, events_max, bytes_max, evict, drop_late };
        let mut now_ns = 1000;
        for _ in 0..5000 {
            now_ns += draw(20);
            match draw(10) {
                0..=4 => {
                    let (handle, topic) = (draw(u64::from(HANDLES)) as u32, draw(u64::from(TOPICS)) as u32);
                    // Few different deadlines, so that many are equal; some in the past already.
                    let deadline = if draw(4) == 0 { 0 } else { (now_ns / 100 + draw(6)) * 100 };
                    let item = item(handle, topic, draw(400) as u32, deadline);
                    assert_eq!(queue.admit(&item, now_ns), model.admit(&item), "seed {seed}");
                }
                5..=7 => assert_eq!(queue.next(now_ns), model.next(now_ns), "seed {seed}"),
                8 => {
                    let handle = draw(u64::from(HANDLES) + 4) as u32;
                    assert_eq!(queue.forget(handle), model.forget(handle), "seed {seed}");
                }
                _ => {
                    let (topic, held) = (draw(u64::from(TOPICS)) as u32, draw(2) == 0);
                    queue.hold(topic, held);
                    model.held[topic as usize] = held;
                }
            }
            assert_eq!((queue.queued() as usize, queue.bytes), (model.queued.len(), model.bytes()));
        }
    }
}
