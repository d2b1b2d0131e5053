//! Shares, evictions, holds; the paper's algorithm and a plain model beside it.

use std::collections::VecDeque;

use tempos_abi::{OptionValue, Options};

use super::*;

mod model;

const HANDLES: u32 = 256;
const TOPICS: u32 = 5;

fn spec(capacity_events: u32, capacity_bytes: u64, when_full: WhenFull) -> QueueSpec {
    let (handles, topics, options, reserved) = (HANDLES, TOPICS, Options::new(), [0; 4]);
    QueueSpec { handles, topics, capacity_events, when_full, capacity_bytes, options, reserved }
}

fn queue_by(share_by: &str, mut spec: QueueSpec) -> DrrQueue {
    spec.options.set("share_by", OptionValue::Text(share_by.into()));
    spec.options.set("quantum", OptionValue::Integer(100));
    Drr.open(&spec).expect("opens")
}

fn weigh(queue: &mut DrrQueue, topic: u32, weight: u32) {
    give(queue, topic, weight, 0);
}

fn give(queue: &mut DrrQueue, topic: u32, weight: u32, permille: u32) {
    let share = TopicShare { rank: 0, weight, reserved: [0; 2] };
    queue.set_topic(topic, &share.with_minimum_permille(permille));
}

fn item(handle: u32, topic: u32, size: u32) -> QueueItem {
    QueueItem { handle, topic, size, rank: 0, arrival_ns: 0, deadline_ns: 0, key_hash: 0, reserved: 0 }
}

fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Who goes, `count` times.
fn order(queue: &mut DrrQueue, count: usize) -> Vec<u32> {
    (0..count).map(|_| queue.next(0).handle).collect()
}

#[test]
fn topics_take_turns_by_bytes_and_each_keeps_its_order() {
    let mut queue = queue_by("bytes", spec(64, 100_000, WhenFull::REFUSE));
    weigh(&mut queue, 1, 2);
    // Topic 0 sends large events, topic 1 small ones at twice the weight.
    for handle in 0..3 {
        assert_eq!(queue.admit(&item(handle, 0, 100), 0), Admission::accepted());
    }
    for handle in 10..22 {
        assert_eq!(queue.admit(&item(handle, 1, 50), 0), Admission::accepted());
    }
    assert_eq!(order(&mut queue, 10), [0, 10, 11, 12, 13, 1, 14, 15, 16, 17]);
}

#[test]
fn shares_of_events_do_not_look_at_sizes() {
    let mut queue = queue_by("events", spec(64, 100_000, WhenFull::REFUSE));
    weigh(&mut queue, 1, 2);
    for handle in 0..3 {
        queue.admit(&item(handle, 0, 9000), 0);
    }
    for handle in 10..16 {
        queue.admit(&item(handle, 1, 1), 0);
    }
    assert_eq!(order(&mut queue, 9), [0, 10, 11, 1, 12, 13, 2, 14, 15]);
}

#[test]
fn a_newcomer_waits_for_one_turn_of_each_other_topic_at_most() {
    let mut queue = queue_by("bytes", spec(256, 100_000, WhenFull::REFUSE));
    (0..100).for_each(|handle| {
        queue.admit(&item(handle, handle % 2, 100), 0);
    });
    order(&mut queue, 41);
    queue.admit(&item(200, 4, 100), 0);
    assert!(order(&mut queue, 3).contains(&200));
    // One that empties and comes back at once does not get a second portion of the round.
    queue.admit(&item(201, 4, 100), 0);
    queue.admit(&item(202, 4, 100), 0);
    let order = order(&mut queue, 6);
    let places: Vec<_> = [201, 202].iter().map(|h| order.iter().position(|o| o == h)).collect();
    assert_eq!(places[1].zip(places[0]).map(|(late, early)| late - early), Some(3), "{order:?}");
}

#[test]
fn a_full_queue_takes_from_the_longest_topic_so_that_a_flood_pays_for_itself() {
    let mut queue = queue_by("bytes", spec(8, 1000, WhenFull::EVICT));
    queue.admit(&item(0, 0, 100), 0);
    queue.admit(&item(1, 1, 200), 0);
    (2..8).for_each(|handle| {
        queue.admit(&item(handle, 2, 60), 0);
    });
    assert_eq!(queue.admit(&item(8, 2, 60), 0), Admission::evicted(2), "the flood's own oldest");
    assert_eq!(queue.admit(&item(8, 2, 60), 0), Admission::accepted());
    assert_eq!(queue.admit(&item(9, 3, 10), 0), Admission::evicted(3), "the flood's, for another topic");
    assert_eq!(queue.admit(&item(9, 3, 10), 0), Admission::accepted());
    assert_eq!(queue.admit(&item(10, 1, 150), 0), Admission::evicted(1), "it would be the longest itself");
    assert_eq!(queue.admit(&item(11, 1, 1001), 0), Admission::refused(), "it never fits");
}

#[test]
fn a_hold_takes_nothing_away_that_was_had_and_gives_nothing() {
    let mut queue = queue_by("bytes", spec(256, 100_000, WhenFull::REFUSE));
    (0..100).for_each(|handle| {
        queue.admit(&item(handle, 0, 100), 0);
    });
    queue.admit(&item(200, 1, 1000), 0);
    // Held and released in each round, it still gets the ten portions that it needs.
    let mut sent = 0;
    while queue.next(0) != NextItem::go(200) {
        sent += 1;
        queue.hold(1, true);
        queue.hold(1, false);
    }
    assert_eq!(sent, 10);
    // On hold for ten rounds, it comes back without savings.
    queue.hold(2, true);
    (210..220).for_each(|handle| {
        queue.admit(&item(handle, 2, 100), 0);
    });
    assert!(order(&mut queue, 10).iter().all(|handle| *handle < 100));
    queue.hold(2, false);
    let of_both = order(&mut queue, 10).iter().filter(|handle| **handle >= 210).count();
    assert!((4..=6).contains(&of_both), "{of_both} of 10");
}

#[test]
fn options_out_of_range_are_refused_with_a_sentence() {
    for (key, value, sentence) in [
        ("quantum", OptionValue::Integer(1), "quantum = 1 bytes is not within 64B to 16MiB"),
        (
            "share_by",
            OptionValue::Text("time".into()),
            "share_by = \"time\" is neither \"bytes\" nor \"events\"",
        ),
    ] {
        let mut spec = spec(1, 1, WhenFull::REFUSE);
        spec.options.set(key, value);
        let error = Drr.open(&spec).err().expect("refused");
        assert_eq!(error.message, format!("queue policy drr: {sentence}"));
    }
}

#[test]
fn a_backlog_leaves_in_the_order_of_the_papers_algorithm() {
    for seed in 1..=50 {
        let mut draw = generator(seed);
        let mut queue = queue_by("bytes", spec(256, 1 << 30, WhenFull::REFUSE));
        let weights: Vec<u64> = (0..TOPICS).map(|_| 1 + draw(5)).collect();
        let mut topics: Vec<VecDeque<(u32, u64)>> = vec![VecDeque::new(); TOPICS as usize];
        for topic in 0..TOPICS {
            weigh(&mut queue, topic, weights[topic as usize] as u32);
        }
        for handle in 0..HANDLES {
            let (topic, size) = (draw(u64::from(TOPICS)) as u32, 1 + draw(1500));
            queue.admit(&item(handle, topic, size as u32), 0);
            topics[topic as usize].push_back((handle, size));
        }
        let mut active: VecDeque<usize> = (0..TOPICS as usize).filter(|t| !topics[*t].is_empty()).collect();
        let mut deficits = [0; TOPICS as usize];
        while let Some(topic) = active.pop_front() {
            deficits[topic] += 100 * weights[topic];
            while let Some((handle, size)) = topics[topic].front().copied()
                && size <= deficits[topic]
            {
                topics[topic].pop_front();
                deficits[topic] -= size;
                assert_eq!(queue.next(0), NextItem::go(handle), "seed {seed}");
            }
            if !topics[topic].is_empty() {
                active.push_back(topic);
            }
        }
        assert_eq!(queue.next(0), NextItem::nothing(0));
    }
}

/// Lemma 2 of the paper: after the same number of rounds two topics that always wait have had the same for
/// each unit of weight, to within an event of each; within a round, to within a quantum more.
#[test]
fn topics_that_always_wait_get_their_shares() {
    const LARGEST: u64 = 1500;
    for seed in 1..=10 {
        let mut draw = generator(seed);
        let mut queue = queue_by("bytes", spec(256, 1 << 30, WhenFull::REFUSE));
        let weights: Vec<u64> = (0..TOPICS).map(|_| 1 + draw(7)).collect();
        let mut sizes = [0; HANDLES as usize];
        for topic in 0..TOPICS {
            weigh(&mut queue, topic, weights[topic as usize] as u32);
        }
        let mut admit = |queue: &mut DrrQueue, handle: u32, topic: u32, sizes: &mut [u64]| {
            // Some topics send small events only.
            sizes[handle as usize] = 1 + draw(if topic.is_multiple_of(2) { LARGEST } else { 60 });
            let admission = queue.admit(&item(handle, topic, sizes[handle as usize] as u32), 0);
            assert_eq!(admission, Admission::accepted());
        };
        // Two for each topic: one waits while the other has just gone.
        (0..2 * TOPICS).for_each(|handle| admit(&mut queue, handle, handle % TOPICS, &mut sizes));
        let mut sent = [0u64; TOPICS as usize];
        for step in 0..20_000 {
            let handle = queue.next(0).handle;
            let topic = handle % TOPICS;
            sent[topic as usize] += sizes[handle as usize];
            admit(&mut queue, handle, topic, &mut sizes);
            for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let (of_a, of_b) = (sent[a] * weights[b], sent[b] * weights[a]);
                let bound = 100 * weights[a] * weights[b] + LARGEST * (weights[a] + weights[b]);
                assert!(of_a.abs_diff(of_b) <= bound, "seed {seed}, step {step}: {sent:?} for {weights:?}");
            }
        }
        assert!(sent.iter().all(|bytes| *bytes > 20_000), "everyone got something: {sent:?}");
    }
}

/// In every window in which a topic waits it gets its minimum share, whatever the weights are and however
/// the others come and go: to within the two events between which a share cannot be cut.
#[test]
fn a_minimum_share_is_kept_in_every_window() {
    const LARGEST: u64 = 1500;
    for seed in 1..=30 {
        let mut draw = generator(seed);
        let word = if draw(2) == 0 { "bytes" } else { "events" };
        let largest = if word == "bytes" { LARGEST } else { 1 };
        let mut queue = queue_by(word, spec(256, 1 << 30, WhenFull::REFUSE));
        let mut left = 1000;
        let shares: Vec<u64> = (0..TOPICS)
            .map(|topic| {
                // The last takes what is left of the whole in some runs, so that nothing is spare.
                let share = if topic == TOPICS - 1 && draw(3) == 0 { left } else { draw(left / 2 + 1) };
                left -= share;
                share
            })
            .collect();
        for topic in 0..TOPICS {
            // Weights that have nothing to do with the shares.
            give(&mut queue, topic, 1 + draw(1000) as u32, shares[topic as usize] as u32);
        }
        // Topic and size of each handle.
        let mut sent = [(0, 0); HANDLES as usize];
        let mut waiting = [0u32; TOPICS as usize];
        // By how much a topic was ahead of its share at most since it waits; in thousandths.
        let (mut ahead, mut most_ahead) = ([0i64; TOPICS as usize], [0i64; TOPICS as usize]);
        let mut free: Vec<u32> = (0..HANDLES).collect();
        for step in 0..20_000 {
            for topic in 0..TOPICS as usize {
                // Topics 3 and 4 come and go, the others wait always.
                let wanted = if topic < 3 { waiting[topic] < 3 } else { draw(6) == 0 };
                if !wanted || free.len() < 8 {
                    continue;
                }
                let handle = free.pop().expect("just counted");
                let size = 1 + draw(LARGEST) as u32;
                sent[handle as usize] = (topic, size);
                let admission = queue.admit(&item(handle, topic as u32, size), 0);
                assert_eq!(admission, Admission::accepted());
                if waiting[topic] == 0 {
                    (ahead[topic], most_ahead[topic]) = (0, 0);
                }
                waiting[topic] += 1;
            }
            let handle = queue.next(0).handle;
            let (topic, size) = sent[handle as usize];
            let served = queue.share.cost(size);
            waiting[topic] -= 1;
            free.push(handle);
            for other in (0..TOPICS as usize).filter(|other| waiting[*other] > 0 || *other == topic) {
                let got = if other == topic { served } else { 0 };
                ahead[other] += (got * 1000) as i64 - (served * shares[other]) as i64;
                most_ahead[other] = most_ahead[other].max(ahead[other]);
                let bound = ((2000 + shares[other]) * largest + 2000) as i64;
                let behind = most_ahead[other] - ahead[other];
                assert!(
                    behind <= bound,
                    "seed {seed}, step {step}: topic {other} of {shares:?} is {behind} behind"
                );
            }
        }
    }
}

#[test]
fn a_share_is_a_minimum_and_no_limit() {
    let mut queue = queue_by("events", spec(256, 100_000, WhenFull::REFUSE));
    give(&mut queue, 0, 9, 50);
    give(&mut queue, 1, 1, 50);
    (0..200).for_each(|handle| {
        queue.admit(&item(handle, handle % 2, 1), 0);
    });
    let of_first = order(&mut queue, 100).iter().filter(|handle| *handle % 2 == 0).count();
    assert!((89..=91).contains(&of_first), "the weights rule where the shares allow it: {of_first}");
    give(&mut queue, 0, 9, 0);
    give(&mut queue, 1, 1, 1000);
    assert!(order(&mut queue, 20).iter().all(|handle| handle % 2 == 1), "the whole is one topic's");
}
