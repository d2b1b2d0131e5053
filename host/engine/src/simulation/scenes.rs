//! Courses of events that seeds have found, written out: each shows one fault that there was.

use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use tempos_abi::queue::WhenFull;
use tempos_control::Pick;

use super::checks;
use super::draft::Draft;
use super::plan::{GroupPlan, Plan, TopicPlan, outlet};
use super::policies;
use super::random::Random;
use super::rig::{Level, Rig};
use super::world::{self, Fault, Mode, with};
use crate::delivery::group::Member;
use crate::lane::cell::LaneCell;
use crate::lane::pool::PoolSize;
use crate::stats::{Reason, TopicStats};
use crate::system::clock::virtual_time;

/// A lane with one topic, whose only receiver acknowledges up to four events at once; and that receiver.
fn lane_with_a_receiver_that_acknowledges(time_to_live_ns: u64) -> (Rig, usize) {
    world::begin(Random::new(1), false);
    let (topic, group, channel) = with(|world| {
        let (topic, group) = (world.new_topic(), world.new_group());
        world.topics[topic].groups = Some(1);
        let channel = world.new_channel(0, topic, Some(group));
        let known = &mut world.channels[channel];
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        known.descriptor = Some(eventfd(0, flags).expect("descriptors"));
        known.window = Some(4);
        known.mode = Mode::Open;
        (topic, group, channel)
    });
    let mut draft = Draft::of(0, &Plan::default());
    draft.plan.outlets.push(Some(outlet(0, 0, channel, Arc::default())));
    draft.plan.topics.push(Some(TopicPlan {
        serial: topic,
        stats: Arc::new(TopicStats::default()),
        groups: vec![GroupPlan {
            serial: group,
            members: vec![Member::Outlet(0)],
            pick: Pick::RoundRobin,
            cursor: Arc::new(LaneCell::new(0)),
            tap: false,
        }],
        rank: 0,
        deadline_ns: 0,
        time_to_live_ns,
        removed: None,
    }));
    let level = Level {
        size: PoolSize { events: 16, bytes: 65_536, event_bytes_max: 600, lock: false },
        batch: 1,
        workers: 1,
        policy: policies::FIFO,
        when_full: WhenFull::REFUSE,
        block: false,
    };
    (Rig::of(0, level, draft), channel)
}

/// An event for its topic.
fn publish(rig: &mut Rig) {
    let payload = with(|world| {
        world.topics[0].given += 1;
        world.new_event(0, None, 100, false)
    });
    rig.inject(0, payload);
    checks::between_turns(rig);
}

fn dropped(rig: &Rig, reason: Reason) -> u64 {
    rig.plan.topics[0].as_ref().map_or(0, |topic| topic.stats.dropped.get(reason))
}

/// Nothing went against an invariant.
fn holds(rig: Rig) {
    checks::at_rest(&rig);
    drop(rig);
    let broken = world::end().map(|world| world.broken).unwrap_or_default();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn what_expired_while_the_lane_slept_is_not_sent_to_a_receiver_that_calls_back() {
    let (mut rig, channel) = lane_with_a_receiver_that_acknowledges(1_000_000);
    with(|world| world.channels[channel].mode = Mode::Full);
    publish(&mut rig);
    assert!(!rig.turn(false), "the receiver takes nothing: the lane sleeps until it calls");
    virtual_time::advance(1_000_000_000);
    with(|world| {
        world.channels[channel].mode = Mode::Open;
        world.channels[channel].call();
    });
    rig.turn(false);
    assert_eq!(with(|world| world.channels[channel].unacknowledged.len()), 0, "its time to live was over");
    assert_eq!(dropped(&rig, Reason::Expired), 1);
    holds(rig);
}

#[test]
fn a_receiver_that_calls_with_nothing_under_way_to_it_is_answered_and_the_lane_sleeps() {
    let (mut rig, channel) = lane_with_a_receiver_that_acknowledges(0);
    while rig.turn(false) {}
    // Its timer rang, or the receiver has gone: only the channel knows.
    with(|world| world.channels[channel].call());
    assert!(rig.turn(false), "the call wakes the lane");
    assert!(!rig.turn(false), "it was answered: the lane sleeps");
    holds(rig);
}

#[test]
fn a_receiver_that_has_failed_does_not_keep_the_lane_awake() {
    let (mut rig, channel) = lane_with_a_receiver_that_acknowledges(0);
    with(|world| world.channels[channel].next_fault = Some(Fault::Panic));
    publish(&mut rig);
    assert_eq!(dropped(&rig, Reason::ReceiverFailed), 1);
    while rig.turn(false) {}
    with(|world| world.channels[channel].call());
    assert!(!rig.turn(false), "nobody answers it: the lane sleeps");
    holds(rig);
}

#[test]
fn a_policy_that_has_nothing_left_does_not_keep_the_lane_awake() {
    let (mut rig, _) = lane_with_a_receiver_that_acknowledges(0);
    while rig.turn(false) {}
    // It wanted to be asked then, for an event that has since left with its topic.
    rig.lane.wake_at_ns = virtual_time::now() + 1;
    virtual_time::advance(1_000_000);
    assert!(rig.turn(false), "its time has come");
    assert!(!rig.turn(false), "nothing is queued: the lane sleeps");
    holds(rig);
}
