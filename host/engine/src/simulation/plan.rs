//! What a lane is wired to, as the controller would say it: topics, groups, channels, functions, each at its
//! place, and the lane's tables made of that.

use std::collections::VecDeque;
use std::sync::Arc;

use tempos_abi::queue::TopicShare;
use tempos_abi::std_types::RArc;
use tempos_control::{Pick, RetrySpec};

use super::fakes;
use super::world::with;
use crate::bridging::endpoint::{Entrance, Source};
use crate::delivery::group::{Group, Member};
use crate::delivery::outlet::Outlet;
use crate::lane::cell::LaneCell;
use crate::lane::tables::{Handover, LaneTables, MemberEntry, TopicEntry};
use crate::processing::canary::Canary;
use crate::processing::retry::Retry;
use crate::processing::workflow::{Call, PENDING_MAX};
use crate::stats::{ChannelStats, Tally, TopicStats, WorkflowStats};

/// A group.
#[derive(Clone)]
pub struct GroupPlan {
    /// Its number in the world.
    pub serial: usize,
    pub members: Vec<Member>,
    pub pick: Pick,
    pub cursor: Arc<LaneCell<usize>>,
    pub tap: bool,
}

/// A topic.
#[derive(Clone)]
pub struct TopicPlan {
    /// Its number in the world.
    pub serial: usize,
    pub stats: Arc<TopicStats>,
    pub groups: Vec<GroupPlan>,
    pub rank: u32,
    pub deadline_ns: u64,
    pub time_to_live_ns: u64,
    /// It was removed; turns that it has left.
    pub removed: Option<u32>,
}

/// A channel of the world at its place on the lane.
pub struct ChannelPlan<C> {
    pub channel: usize,
    pub topic: usize,
    pub cell: Arc<LaneCell<C>>,
    pub stats: Arc<ChannelStats>,
}

impl<C> Clone for ChannelPlan<C> {
    fn clone(&self) -> Self {
        ChannelPlan { cell: Arc::clone(&self.cell), stats: Arc::clone(&self.stats), ..*self }
    }
}

/// A function of the world at its place on the lane.
#[derive(Clone)]
pub struct CallPlan {
    pub function: usize,
    /// A function of the world beside it, for a share of its events.
    pub canary: Option<usize>,
    pub topic: usize,
    pub cell: Arc<LaneCell<Call>>,
    pub outstanding: Arc<Tally>,
    pub stats: Arc<WorkflowStats>,
}

/// What a lane is wired to.
#[derive(Clone, Default)]
pub struct Plan {
    pub topics: Vec<Option<TopicPlan>>,
    pub sources: Vec<Option<ChannelPlan<Source>>>,
    pub outlets: Vec<Option<ChannelPlan<Outlet>>>,
    pub calls: Vec<Option<CallPlan>>,
}

impl TopicPlan {
    /// Groups that are no taps.
    pub fn receivers(&self) -> usize {
        self.groups.iter().filter(|group| !group.tap).count()
    }
}

/// A channel of the world at its place among the sources.
pub fn source(id: usize, topic: usize, channel: usize) -> ChannelPlan<Source> {
    let stats = Arc::<ChannelStats>::default();
    let door = fakes::channel(channel);
    let cell = Arc::new(LaneCell::new(Source {
        descriptor: door.readiness(),
        channel: door,
        id: id as u32,
        topic: topic as u32,
        format: with(|world| world.format_of(channel)),
        batch: 1,
        barren: 0,
        rests_until_ns: 0,
        entrance: Entrance::default(),
        failed: false,
        stats: Arc::clone(&stats),
    }));
    ChannelPlan { channel, topic, cell, stats }
}

/// A channel of the world at its place among the outlets.
pub fn outlet(id: usize, topic: usize, channel: usize, stats: Arc<ChannelStats>) -> ChannelPlan<Outlet> {
    let format = with(|world| world.format_of(channel));
    let counters = RArc::default();
    let outlet = Outlet::new(fakes::channel(channel), id as u32, format, Arc::clone(&stats), counters);
    ChannelPlan { channel, topic, cell: Arc::new(LaneCell::new(outlet)), stats }
}

/// A function of the world at its place among the calls: with a canary beside it and retries, or not, as the seed
/// gives it.
pub fn call(
    id: usize,
    topic: usize,
    function: usize,
    to: Option<usize>,
    stats: Arc<WorkflowStats>,
) -> CallPlan {
    let (inline, concurrency, canary, retry) = with(|world| {
        let known = world.functions[function].clone();
        let canary = world.random.chance(25).then(|| {
            world.functions.push(super::world::Function { beside: Some(function), ..known.clone() });
            world.functions.len() - 1
        });
        let retry = (!known.inline && world.random.chance(40)).then(|| RetrySpec {
            times: world.random.between(1, 3) as u8,
            backoff_ns: *world.random.pick(&[1_000, 100_000, 1_000_000]),
            outcomes: vec![String::from("failed")],
            codes: Vec::new(),
        });
        (known.inline, known.concurrency(), canary, retry)
    });
    let outstanding = Arc::<Tally>::default();
    let cell = Arc::new(LaneCell::new(Call {
        function: Arc::new(fakes::function(function)),
        canary: canary.map(|canary| Canary {
            function: Arc::new(fakes::function(canary)),
            share_percent: 30,
            failed: false,
            stats: Arc::default(),
        }),
        id: id as u32,
        topic: format!("topic{}", with(|world| world.functions[function].topic)).into(),
        to: to.map(|to| to as u32),
        branches: Vec::new(),
        replies: false,
        inline,
        concurrency,
        worker: id as u32,
        deadline_ns: 0,
        downstream_ns: 0,
        output_bytes_max: 300,
        in_flight: 0,
        outstanding: Arc::clone(&outstanding),
        pending: VecDeque::with_capacity(PENDING_MAX * 2),
        retry: retry.as_ref().map(Retry::of),
        retrying: VecDeque::with_capacity(PENDING_MAX * 2),
        failed: false,
        stats: Arc::clone(&stats),
    }));
    CallPlan { function, canary, topic, cell, outstanding, stats }
}

impl Plan {
    /// Tables for the lane.
    pub fn tables(&self, batch: u32, block: bool, handover: Handover) -> Arc<LaneTables> {
        let entry = |topic: &TopicPlan| TopicEntry {
            name: format!("topic{}", topic.serial).into(),
            stats: Arc::clone(&topic.stats),
            groups: topic
                .groups
                .iter()
                .map(|group| Group {
                    members: group.members.clone(),
                    pick: group.pick,
                    cursor: Arc::clone(&group.cursor),
                    stall_ns: 1_000_000_000,
                })
                .collect(),
            number: topic.serial as u64,
            drops_late: false,
            takes_replies: false,
            rules: None,
            receivers: topic.receivers(),
            rank: topic.rank,
            deadline_ns: topic.deadline_ns,
            time_to_live_ns: topic.time_to_live_ns,
        };
        let share = |(at, topic): (usize, &Option<TopicPlan>)| {
            let topic = topic.as_ref()?;
            Some((at as u32, TopicShare { rank: topic.rank, weight: 1 + topic.rank, reserved: [0; 2] }))
        };
        Arc::new(LaneTables {
            topics: self.topics.iter().map(|topic| topic.as_ref().map(entry)).collect(),
            sources: self.sources.iter().map(|s| s.as_ref().map(|s| Arc::clone(&s.cell))).collect(),
            outlets: self
                .outlets
                .iter()
                .enumerate()
                .map(|(id, plan)| {
                    let plan = plan.as_ref()?;
                    Some(self.entry(plan.topic, Member::Outlet(id as u32), &plan.cell))
                })
                .collect(),
            calls: self
                .calls
                .iter()
                .enumerate()
                .map(|(id, plan)| {
                    let plan = plan.as_ref()?;
                    Some(self.entry(plan.topic, Member::Call(id as u32), &plan.cell))
                })
                .collect(),
            shares: self.topics.iter().enumerate().filter_map(share).collect(),
            batch,
            block,
            linger_ns: 0,
            rate_max: 0,
            levels: Arc::default(),
            reply_topics: Vec::new(),
            handover: LaneCell::new(handover),
        })
    }

    /// A member and where it stands.
    fn entry<T>(&self, topic: usize, member: Member, cell: &Arc<LaneCell<T>>) -> MemberEntry<T> {
        let groups = self.topics[topic].as_ref().map_or(&[][..], |topic| &topic.groups);
        let group = groups.iter().position(|group| group.members.contains(&member));
        MemberEntry {
            topic: topic as u32,
            group: group.map_or(u32::MAX, |at| at as u32),
            cell: Arc::clone(cell),
        }
    }
}
