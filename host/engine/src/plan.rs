//! A lane's plan: the controller's own picture of what a lane's tables hold, with all that the lane itself
//! need not know. A changed wiring is a changed copy of the plan; tables are made from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tempos_abi::counters::ChannelCounters;
use tempos_abi::private::abi_stable::std_types::RArc;
use tempos_abi::queue::TopicShare;
use tempos_control::{ChannelSpec, LevelSpec, Pick, WorkflowSpec};

use crate::bridging::endpoint::Source;
use crate::bridging::rules::LevelTable;
use crate::delivery::group::{Group, Member};
use crate::delivery::outlet::Outlet;
use crate::lane::cell::LaneCell;
use crate::lane::tables::{Handover, LaneTables, MemberEntry, TopicEntry, TopicRules};
use crate::opening::Prepared;
use crate::plugin::Plugin;
use crate::processing::workflow::Call;
use crate::stats::{ChannelStats, Tally, TopicStats, WorkflowStats};

/// A group of a planned topic.
#[derive(Clone)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Its members.
    pub members: Vec<Member>,
    /// How one is chosen.
    pub pick: Pick,
    /// Where the choice stands.
    pub cursor: Arc<LaneCell<usize>>,
    /// How long a member may take nothing before the others get its events (ns).
    pub stall_ns: u64,
    /// It belongs to a subscription and not to the wiring.
    pub tap: bool,
}

/// A topic on a lane.
#[derive(Clone)]
pub struct TopicPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Given once, and to no other topic of this lane.
    pub number: u64,
    /// What is counted.
    pub stats: Arc<TopicStats>,
    /// For the policy `priority`.
    pub rank: u32,
    /// For the policy `drr`.
    pub weight: u32,
    /// Likewise.
    pub minimum_permille: u32,
    /// 0: none.
    pub deadline_ns: u64,
    /// 0: none.
    pub time_to_live_ns: u64,
    /// An event that is late when its turn comes is dropped.
    pub drops_late: bool,
    /// Outputs may come here by an event's `reply-to`.
    pub takes_replies: bool,
    /// What gives its events other levels, and where it stands on the other lanes.
    pub rules: Option<Arc<TopicRules>>,
    /// Its groups, taps last.
    pub groups: Vec<GroupPlan>,
    /// It was removed and only delivers what it still holds, until then at the latest.
    pub removed: Option<Instant>,
}

/// An ingress channel on a lane.
#[derive(Clone)]
pub struct SourcePlan {
    /// Its id on the lane.
    pub id: u32,
    /// The name under which it is shown.
    pub name: String,
    /// Its topic's name.
    pub topic: String,
    /// As it was declared.
    pub spec: ChannelSpec,
    /// What it was opened with.
    pub plugin: Arc<Plugin>,
    /// What the lane holds.
    pub cell: Arc<LaneCell<Source>>,
    /// Its descriptor.
    pub descriptor: i32,
    /// Where it is open.
    pub address: String,
    /// What it obtained.
    pub grant: String,
    /// What is counted.
    pub stats: Arc<ChannelStats>,
    /// What the adapter counts.
    pub counters: RArc<ChannelCounters>,
}

/// An egress channel on a lane.
#[derive(Clone)]
pub struct OutletPlan {
    /// The name under which it is shown.
    pub name: String,
    /// Its topic's name.
    pub topic: String,
    /// Its topic's index.
    pub topic_index: u32,
    /// Its group's name.
    pub group: String,
    /// As it was declared.
    pub spec: ChannelSpec,
    /// What it was opened with.
    pub plugin: Arc<Plugin>,
    /// What the lane holds.
    pub cell: Arc<LaneCell<Outlet>>,
    /// Where it is open.
    pub address: String,
    /// What it obtained.
    pub grant: String,
    /// What is counted.
    pub stats: Arc<ChannelStats>,
    /// What the adapter counts.
    pub counters: RArc<ChannelCounters>,
}

/// A workflow on a lane.
#[derive(Clone)]
pub struct CallPlan {
    /// As it was declared.
    pub spec: WorkflowSpec,
    /// Its topic's index.
    pub topic_index: u32,
    /// Where its outputs go, and what the functions downstream have declared.
    pub road: CallRoad,
    /// Its function.
    pub function: Prepared,
    /// Other code for a share of its events, and what is counted for that.
    pub canary: Option<(Prepared, Arc<WorkflowStats>)>,
    /// What the lane holds.
    pub cell: Arc<LaneCell<Call>>,
    /// Jobs of that cell that are with workers.
    pub outstanding: Arc<Tally>,
    /// What is counted.
    pub stats: Arc<WorkflowStats>,
}

/// What follows a call on its lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRoad {
    /// The index of the topic that its output goes to.
    pub to: Option<u32>,
    /// Indices of topics by the names of branches.
    pub branches: Vec<(String, u32)>,
    /// What the functions downstream have declared to take, on the longest way (ns).
    pub downstream_ns: u64,
}

impl CallRoad {
    /// Whether an output may go to the topic of that index.
    pub fn leads_to(&self, topic: u32) -> bool {
        self.to == Some(topic) || self.branches.iter().any(|(_, to)| *to == topic)
    }
}

impl CallPlan {
    /// Its function, and its canary.
    pub fn functions(&self) -> impl Iterator<Item = &Prepared> {
        std::iter::once(&self.function).chain(self.canary.iter().map(|(canary, _)| canary))
    }

    /// The mark of its canary's failure; 0: it has not failed.
    pub fn canary_failed(&self) -> u64 {
        self.canary.as_ref().map_or(0, |(_, stats)| stats.failed.get())
    }
}

/// The plan. Indices are stable.
#[derive(Clone, Default)]
pub struct LanePlan {
    /// Topics by index.
    pub topics: Vec<Option<TopicPlan>>,
    /// Ingress channels by id.
    pub sources: Vec<Option<SourcePlan>>,
    /// Egress channels by id.
    pub outlets: Vec<Option<OutletPlan>>,
    /// Workflows by id.
    pub calls: Vec<Option<CallPlan>>,
    /// The levels of the node.
    pub levels: Arc<LevelTable>,
    /// The number of the topic that came last.
    pub topic_number: u64,
}

/// The first free index, or a new one.
pub fn place<T>(list: &mut Vec<Option<T>>) -> usize {
    place_from(list, &mut 0)
}

/// The same for many in a row: nothing before `from` is free, and the next search begins behind the place
/// that was found. Without it a thousand channels would look at each other's places a million times.
pub fn place_from<T>(list: &mut Vec<Option<T>>, from: &mut usize) -> usize {
    let free = list.iter().skip(*from).position(Option::is_none).map_or(list.len(), |at| *from + at);
    if free == list.len() {
        list.push(None);
    }
    *from = free + 1;
    free
}

impl LanePlan {
    /// The index of a topic that is not removed.
    pub fn topic_index(&self, name: &str) -> Option<u32> {
        self.topics
            .iter()
            .position(|topic| topic.as_ref().is_some_and(|t| t.removed.is_none() && &*t.name == name))
            .map(|at| at as u32)
    }

    /// Tables for the lane. The group of a topic that has lost all its members to failures stays: its
    /// events are counted as lost, not as unwanted.
    pub fn tables(&self, level: &LevelSpec, handover: Handover) -> Arc<LaneTables> {
        let topics = self
            .topics
            .iter()
            .map(|topic| {
                topic.as_ref().map(|topic| TopicEntry {
                    name: Arc::clone(&topic.name),
                    number: topic.number,
                    stats: Arc::clone(&topic.stats),
                    groups: topic
                        .groups
                        .iter()
                        .map(|group| Group {
                            members: group.members.clone(),
                            pick: group.pick,
                            cursor: Arc::clone(&group.cursor),
                            stall_ns: group.stall_ns,
                        })
                        .collect(),
                    receivers: topic.groups.iter().filter(|group| !group.tap).count(),
                    rank: topic.rank,
                    deadline_ns: topic.deadline_ns,
                    time_to_live_ns: topic.time_to_live_ns,
                    drops_late: topic.drops_late,
                    takes_replies: topic.takes_replies,
                    rules: topic.rules.clone(),
                })
            })
            .collect();
        let mut reply_topics: Vec<(Arc<str>, u32)> = self
            .topics
            .iter()
            .enumerate()
            .filter_map(|(at, topic)| {
                let topic = topic.as_ref().filter(|topic| topic.takes_replies && topic.removed.is_none())?;
                Some((Arc::clone(&topic.name), at as u32))
            })
            .collect();
        reply_topics.sort_unstable();
        let places = self.places();
        let shares = self
            .topics
            .iter()
            .enumerate()
            .filter_map(|(index, topic)| {
                let topic = topic.as_ref()?;
                let share = TopicShare { rank: topic.rank, weight: topic.weight, reserved: [0; 2] };
                Some((index as u32, share.with_minimum_permille(topic.minimum_permille)))
            })
            .collect();
        Arc::new(LaneTables {
            topics,
            sources: self.sources.iter().map(|source| source.as_ref().map(|s| Arc::clone(&s.cell))).collect(),
            outlets: self
                .outlets
                .iter()
                .enumerate()
                .map(|(id, outlet)| {
                    let group = places.get(&Member::Outlet(id as u32)).copied().unwrap_or(u32::MAX);
                    outlet.as_ref().map(|o| MemberEntry {
                        topic: o.topic_index,
                        group,
                        cell: Arc::clone(&o.cell),
                    })
                })
                .collect(),
            calls: self
                .calls
                .iter()
                .enumerate()
                .map(|(id, call)| {
                    let group = places.get(&Member::Call(id as u32)).copied().unwrap_or(u32::MAX);
                    call.as_ref().map(|c| MemberEntry {
                        topic: c.topic_index,
                        group,
                        cell: Arc::clone(&c.cell),
                    })
                })
                .collect(),
            shares,
            batch: level.batch,
            block: level.queue.full == tempos_control::FullQueue::Block,
            linger_ns: level.linger_ns,
            rate_max: level.rate.max.unwrap_or(0),
            levels: Arc::clone(&self.levels),
            reply_topics,
            handover: LaneCell::new(handover),
        })
    }

    /// In which group of its topic each member stands.
    fn places(&self) -> HashMap<Member, u32> {
        let mut places = HashMap::new();
        for topic in self.topics.iter().flatten() {
            for (at, group) in topic.groups.iter().enumerate() {
                places.extend(group.members.iter().map(|member| (*member, at as u32)));
            }
        }
        places
    }
}
