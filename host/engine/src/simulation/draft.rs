//! The controller's part, made small: how one wiring becomes the next. It keeps the controller's promises:
//! indices are stable, a topic that was removed delivers what it holds, a cell lives until nothing of it is
//! under way.

use std::sync::Arc;

use tempos_control::Pick;

use super::plan::{CallPlan, ChannelPlan, GroupPlan, Plan, TopicPlan, call, outlet, source};
use super::world::with;
use crate::bridging::endpoint::Source;
use crate::delivery::group::Member;
use crate::delivery::outlet::Outlet;
use crate::lane::cell::LaneCell;
use crate::lane::tables::Handover;
use crate::plan::place;
use crate::stats::TopicStats;

/// One wiring on its way to become the next.
pub struct Draft {
    pub lane: usize,
    pub plan: Plan,
    pub handover: Handover,
    pub new_sources: Vec<usize>,
    pub gone_sources: Vec<ChannelPlan<Source>>,
    pub gone_outlets: Vec<ChannelPlan<Outlet>>,
    pub gone_calls: Vec<CallPlan>,
}

impl Draft {
    /// The present wiring, to be changed.
    pub fn of(lane: usize, plan: &Plan) -> Self {
        Draft {
            lane,
            plan: plan.clone(),
            handover: Handover::default(),
            new_sources: Vec::new(),
            gone_sources: Vec::new(),
            gone_outlets: Vec::new(),
            gone_calls: Vec::new(),
        }
    }

    /// A topic with whatever the seed gives it.
    pub fn add_topic(&mut self) {
        let at = place(&mut self.plan.topics);
        let (serial, rank, deadline_ns, time_to_live_ns) = with(|world| {
            let random = &mut world.random;
            let rank = random.below(4) as u32;
            let deadline = [0, 0, 500_000, 5_000_000][random.below(4)];
            let ttl = [0, 0, 300_000, 3_000_000, 30_000_000][random.below(5)];
            (world.new_topic(), rank, deadline, ttl)
        });
        self.plan.topics[at] = Some(TopicPlan {
            serial,
            stats: Arc::new(TopicStats::default()),
            groups: Vec::new(),
            rank,
            deadline_ns,
            time_to_live_ns,
            removed: None,
        });
        for _ in 0..with(|world| world.random.between(1, 2)) {
            self.add_source(at);
        }
        for _ in 0..with(|world| *world.random.pick(&[0, 1, 1, 1, 1, 2, 2, 3])) {
            self.add_group(at);
        }
        let groups = self.topic(at).groups.len();
        with(|world| world.topics[serial].groups = Some(groups));
    }

    fn topic(&mut self, at: usize) -> &mut TopicPlan {
        self.plan.topics[at].as_mut().expect("the topic is planned")
    }

    /// Topics that are wired.
    pub fn topics(&self) -> Vec<usize> {
        let wired = |at: &usize| self.plan.topics[*at].as_ref().is_some_and(|topic| topic.removed.is_none());
        (0..self.plan.topics.len()).filter(wired).collect()
    }

    fn add_source(&mut self, at: usize) {
        let serial = self.topic(at).serial;
        let id = place(&mut self.plan.sources);
        let channel = with(|world| world.new_channel(self.lane, serial, None));
        self.plan.sources[id] = Some(source(id, at, channel));
        self.new_sources.push(id);
    }

    /// A group of a topic with whatever the seed gives it.
    pub fn add_group(&mut self, at: usize) {
        let picks = [Pick::RoundRobin, Pick::LeastLoaded, Pick::Hash, Pick::Sticky];
        let (serial, pick, members, tap) = with(|world| {
            let serial = world.new_group();
            let random = &mut world.random;
            (serial, *random.pick(&picks), random.between(1, 3), random.chance(15))
        });
        let mut group =
            GroupPlan { serial, members: Vec::new(), pick, cursor: Arc::new(LaneCell::new(0)), tap };
        for _ in 0..members {
            self.add_member(at, &mut group);
        }
        let topic = self.topic(at);
        // Taps are last.
        let place = if tap { topic.groups.len() } else { topic.receivers() };
        topic.groups.insert(place, group);
        self.changed(at);
    }

    /// The groups of a topic are others from now on.
    fn changed(&mut self, at: usize) {
        let serial = self.topic(at).serial;
        with(|world| world.topics[serial].changed |= world.topics[serial].groups.is_some());
    }

    fn add_member(&mut self, at: usize, group: &mut GroupPlan) {
        let serial = self.topic(at).serial;
        if group.tap || with(|world| world.random.chance(65)) {
            let id = place(&mut self.plan.outlets);
            let channel = with(|world| world.new_channel(self.lane, serial, Some(group.serial)));
            self.plan.outlets[id] = Some(outlet(id, at, channel, Arc::default()));
            group.members.push(Member::Outlet(id as u32));
        } else {
            let id = place(&mut self.plan.calls);
            let (function, to) = self.new_function(at, group.serial);
            self.plan.calls[id] = Some(call(id, at, function, to, Arc::default()));
            group.members.push(Member::Call(id as u32));
        }
    }

    /// A function of the world for a topic, and the place of the topic that its output goes to: a later one,
    /// so that nothing goes round for ever.
    fn new_function(&mut self, at: usize, group: usize) -> (usize, Option<usize>) {
        let topic = self.topic(at).serial;
        let later: Vec<usize> = self.topics().into_iter().filter(|other| *other > at).collect();
        with(|world| {
            let to = (!later.is_empty() && world.random.chance(70)).then(|| *world.random.pick(&later));
            let serial = to.and_then(|to| self.plan.topics[to].as_ref()).map(|topic| topic.serial);
            let (inline, in_order) = (world.random.chance(30), world.random.chance(60));
            world.functions.push(super::world::Function {
                lane: self.lane,
                topic,
                group,
                to: serial,
                inline,
                in_order: in_order || inline,
                beside: None,
                next_fault: None,
            });
            (world.functions.len() - 1, to)
        })
    }

    /// Another channel or function in the place of one.
    pub fn replace_member(&mut self) {
        let Some((at, group, member)) = self.some_member() else { return };
        let topic = self.topic(at);
        let (topic_serial, group_serial) = (topic.serial, topic.groups[group].serial);
        match topic.groups[group].members[member] {
            Member::Outlet(id) => {
                let channel = with(|world| world.new_channel(self.lane, topic_serial, Some(group_serial)));
                let slot = &mut self.plan.outlets[id as usize];
                let old = slot.take().expect("members are planned");
                old.stats.failed.set(0);
                *slot = Some(outlet(id as usize, at, channel, Arc::clone(&old.stats)));
                self.handover.outlets.push((Arc::clone(&old.cell), Some(id)));
                self.gone_outlets.push(old);
            }
            Member::Call(id) => {
                let old = self.plan.calls[id as usize].take().expect("members are planned");
                old.stats.failed.set(0);
                let (function, to) = self.new_function(at, group_serial);
                // A new version of the same workflow: its output goes where it went.
                let kept = with(|world| {
                    let (to, inline) = {
                        let former = &world.functions[old.function];
                        (former.to, former.inline)
                    };
                    world.functions[function].to = to;
                    world.functions[function].inline = inline;
                    world.functions[function].in_order |= inline;
                    to
                });
                let to = kept.map_or(to.filter(|_| false), |serial| self.place_of(serial));
                self.plan.calls[id as usize] =
                    Some(call(id as usize, at, function, to, Arc::clone(&old.stats)));
                self.handover.calls.push((Arc::clone(&old.cell), Some(id)));
                self.gone_calls.push(old);
            }
        }
    }

    fn place_of(&self, serial: usize) -> Option<usize> {
        self.plan.topics.iter().position(|topic| topic.as_ref().is_some_and(|topic| topic.serial == serial))
    }

    fn some_member(&self) -> Option<(usize, usize, usize)> {
        let mut all = Vec::new();
        for at in self.topics() {
            let Some(topic) = &self.plan.topics[at] else { continue };
            for (number, group) in topic.groups.iter().enumerate() {
                all.extend((0..group.members.len()).map(|member| (at, number, member)));
            }
        }
        (!all.is_empty()).then(|| with(|world| *world.random.pick(&all)))
    }

    /// Takes a member out of its group, and the group out of its topic where it was the last.
    pub fn remove_member(&mut self) {
        let Some((at, group, member)) = self.some_member() else { return };
        let groups = &mut self.topic(at).groups;
        let gone = groups[group].members.remove(member);
        if groups[group].members.is_empty() {
            groups.remove(group);
            self.changed(at);
        }
        self.let_go(gone);
    }

    /// One more member for a group.
    pub fn grow_group(&mut self) {
        let Some((at, group, _)) = self.some_member() else { return };
        let mut grown = self.topic(at).groups[group].clone();
        self.add_member(at, &mut grown);
        self.topic(at).groups[group] = grown;
    }

    fn let_go(&mut self, member: Member) {
        match member {
            Member::Outlet(id) => {
                if let Some(old) = self.plan.outlets[id as usize].take() {
                    self.handover.outlets.push((Arc::clone(&old.cell), None));
                    self.gone_outlets.push(old);
                }
            }
            Member::Call(id) => {
                if let Some(old) = self.plan.calls[id as usize].take() {
                    self.handover.calls.push((Arc::clone(&old.cell), None));
                    self.gone_calls.push(old);
                }
            }
        }
    }

    /// Another channel in the place of a source.
    pub fn replace_source(&mut self) {
        let ids: Vec<usize> =
            (0..self.plan.sources.len()).filter(|id| self.plan.sources[*id].is_some()).collect();
        let Some(id) = (!ids.is_empty()).then(|| with(|world| *world.random.pick(&ids))) else { return };
        let Some(old) = self.plan.sources[id].take() else { return };
        let topic = old.topic;
        let serial = self.topic(topic).serial;
        let channel = with(|world| world.new_channel(self.lane, serial, None));
        self.plan.sources[id] = Some(source(id, topic, channel));
        if !self.new_sources.contains(&id) {
            self.new_sources.push(id);
        }
        self.gone_sources.push(old);
    }

    /// Removes a topic: nothing comes in any more, what it holds goes out. Functions that put out to it go.
    pub fn remove_topic(&mut self, turns: u32) {
        let topics = self.topics();
        let Some(at) = (!topics.is_empty()).then(|| with(|world| *world.random.pick(&topics))) else {
            return;
        };
        self.topic(at).removed = Some(turns);
        for slot in &mut self.plan.sources {
            if slot.as_ref().is_some_and(|source| source.topic == at) {
                self.gone_sources.extend(slot.take());
            }
        }
        let serial = self.topic(at).serial;
        for other in self.topics() {
            for group in (0..self.topic(other).groups.len()).rev() {
                for member in (0..self.topic(other).groups[group].members.len()).rev() {
                    let Member::Call(id) = self.topic(other).groups[group].members[member] else { continue };
                    let function = self.plan.calls[id as usize].as_ref().map(|call| call.function);
                    if function.is_some_and(|function| with(|w| w.functions[function].to == Some(serial))) {
                        let gone = self.topic(other).groups[group].members.remove(member);
                        self.let_go(gone);
                    }
                }
                if self.topic(other).groups[group].members.is_empty() {
                    self.topic(other).groups.remove(group);
                    self.changed(other);
                }
            }
        }
    }

    /// Whether a function of another topic that was removed may still put out to one.
    fn is_awaited(&self, at: usize) -> bool {
        let Some(serial) = self.plan.topics[at].as_ref().map(|topic| topic.serial) else { return false };
        let mut calls = self.plan.calls.iter().flatten();
        calls.any(|call| with(|world| world.functions[call.function].to == Some(serial)))
    }

    /// Lets removed topics go that hold nothing more, or have had their time; whether there were any.
    pub fn finish_removals(&mut self) -> bool {
        let mut some = false;
        // Functions put out to later places only, so that theirs come first.
        for at in 0..self.plan.topics.len() {
            let awaited = self.is_awaited(at);
            let Some(topic) = &mut self.plan.topics[at] else { continue };
            let Some(turns) = &mut topic.removed else { continue };
            *turns = turns.saturating_sub(1);
            if awaited || topic.stats.live.get() != 0 && *turns > 0 {
                continue;
            }
            some = true;
            let groups = std::mem::take(&mut topic.groups);
            self.plan.topics[at] = None;
            for member in groups.into_iter().flat_map(|group| group.members) {
                self.let_go(member);
            }
        }
        some
    }

    /// A topic's settings change.
    pub fn tune_topic(&mut self) {
        let topics = self.topics();
        let Some(at) = (!topics.is_empty()).then(|| with(|world| *world.random.pick(&topics))) else {
            return;
        };
        let (rank, ttl) = with(|w| (w.random.below(4) as u32, [0, 300_000, 3_000_000][w.random.below(3)]));
        let topic = self.topic(at);
        topic.rank = rank;
        topic.time_to_live_ns = ttl;
    }
}
