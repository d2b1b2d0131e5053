//! The road of an event through a wiring, and what each event of a topic costs on its lane.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tempos_control::{ChannelSpec, OverRate, Rate, TopicSpec, WorkflowSpec};

use super::costs::{FUNCTION_BODY_NS, LaneCosts};
use crate::wiring::Wiring;

/// The most hops of one road, and the most places that one event comes to.
const STAGES_MAX: usize = 256;

/// A part of a road.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// Through the queue of a topic's lane.
    Queue(&'a TopicSpec),
    /// Through a function.
    Function(&'a WorkflowSpec),
    /// Out of a topic.
    Egress(&'a TopicSpec),
}

/// The road that the events of a topic take: through its own functions where it has no way out, or with
/// `through` along that workflow, then on the longest way, as `Wiring::downstream` counts it.
pub fn road<'a>(
    wiring: &'a Wiring,
    downstream: &HashMap<&str, u64>,
    topic: &'a TopicSpec,
    through: Option<&'a WorkflowSpec>,
) -> Vec<Stage<'a>> {
    let mut stages = vec![Stage::Queue(topic)];
    let length = |workflow: &WorkflowSpec| {
        let after = downstream.get(workflow.name.as_str()).copied().unwrap_or(0);
        workflow.call.deadline_ns.unwrap_or(FUNCTION_BODY_NS).saturating_add(after)
    };
    let longest = |topic: &TopicSpec| {
        let here = wiring.workflows.values().filter(|workflow| workflow.from == topic.name);
        here.max_by_key(|workflow| length(workflow))
    };
    let own = if topic.egress.is_empty() { longest(topic) } else { None };
    let (mut here, mut next) = (topic, through.or(own));
    while stages.len() < STAGES_MAX {
        let Some(workflow) = next else { break };
        stages.push(Stage::Function(workflow));
        let targets = wiring.targets(workflow).filter_map(|name| wiring.topics.get(name));
        let Some(to) = targets.max_by_key(|topic| longest(topic).map_or(0, length)) else { return stages };
        stages.push(Stage::Queue(to));
        (here, next) = (to, longest(to));
    }
    if !here.egress.is_empty() {
        stages.push(Stage::Egress(here));
    }
    stages
}

/// Whether somebody wakes the queue worker for a place of a road: who publishes, and a function worker that is done, but
/// no function that ran on it.
pub fn wakes_queue(road: &[Stage<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| road.get(at));
    !matches!(before, Some(Stage::Function(workflow)) if workflow.call.inline)
}

/// How many wake-ups one after the other an event needs on its road.
pub fn wakes(road: &[Stage<'_>]) -> u64 {
    let wakes = road.iter().enumerate().filter(|(at, stage)| match stage {
        Stage::Queue(_) => wakes_queue(road, *at),
        Stage::Function(workflow) => !workflow.call.inline,
        Stage::Egress(_) => false,
    });
    wakes.count() as u64
}

/// How many pieces of work with a tail of their own the time of a road has.
pub fn pieces(road: &[Stage<'_>]) -> u64 {
    let of = |(at, stage): (usize, &Stage<'_>)| match stage {
        Stage::Queue(topic) => 1 + usize::from(at == 0 && !topic.ingress.is_empty()),
        Stage::Function(_) => 1,
        Stage::Egress(topic) => topic.egress.len(),
    };
    road.iter().enumerate().map(of).sum::<usize>() as u64
}

/// How often events come into a topic from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// The most in a second.
    pub rate: Rate,
    /// The most at once after a pause, at least 1.
    pub burst: u64,
}

/// What is known of how often events come into a topic from outside.
pub fn arrivals_of(wiring: &Wiring, topic: &TopicSpec) -> Option<Arrivals> {
    let own = topic.request.as_ref().and_then(|request| request.rate);
    let workflows = wiring.workflows.values().filter(|workflow| workflow.from == topic.name);
    let asked = workflows.filter_map(|workflow| workflow.request.as_ref()?.rate).chain(own).max();
    // Channels that let no more in.
    let let_in = let_in(topic);
    let burst = let_in.map_or(1, |(_, burst)| burst);
    let rate = asked.or_else(|| let_in.map(|(rate, _)| Rate::per_second(rate)))?;
    Some(Arrivals { rate, burst })
}

/// What a topic's endpoints let in together: events a second, and at once after a pause (as `bridging::shaper` has
/// it); `None` where one of them has no bound, or there is none.
fn let_in(topic: &TopicSpec) -> Option<(u64, u64)> {
    let bounds = topic.ingress.iter().map(|channel| {
        let rate = channel.endpoint.rate?;
        Some((u64::from(rate), u64::from(channel.endpoint.burst.unwrap_or(rate / 100).max(1))))
    });
    let all = bounds.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
    Some(all.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
}

/// Why more may come into a topic than is counted, with what would mend it; `None` where its endpoints see to it.
pub fn loose(wiring: &Wiring, topic: &TopicSpec, counted: Rate) -> Option<String> {
    if topic.ingress.is_empty() {
        return Some(format!(
            "topic {:?} has no endpoint that holds its senders to a rate: ask on the topic whose endpoints do",
            topic.name
        ));
    }
    for channel in &topic.ingress {
        let (name, endpoint) = (&channel.name, &channel.endpoint);
        if endpoint.rate.is_none() {
            return Some(format!("endpoint {name:?} lets in any number of events: give it a rate"));
        }
        if endpoint.over_rate == OverRate::Drop {
            return Some(format!(
                "endpoint {name:?} reads what is over its rate to drop it, any number of events: leave out over_rate"
            ));
        }
    }
    if let Some((rate, _)) = let_in(topic)
        && Rate::per_second(rate) > counted
    {
        let counted = counted.show();
        return Some(format!(
            "the endpoints of topic {:?} let in {rate}/s where {counted} are asked for: give them the same",
            topic.name
        ));
    }
    let is_other = |qos: &str| qos != topic.qos;
    let levels = topic.ingress.iter().filter_map(|channel| channel.qos.as_deref());
    if levels.chain(wiring.levels_by_rule(topic)).any(is_other) {
        return Some(format!(
            "topic {:?} gives its events other levels too, by qos, rules or qos_max, which is not counted",
            topic.name
        ));
    }
    None
}

/// A piece of work that an event is, and where it comes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The topic, or the workflow.
    pub name: String,
    /// CPU time (ns).
    pub ns: u64,
}

/// What one event of a topic costs where it comes along.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// On the queue worker, by topic.
    pub queue: Vec<Piece>,
    /// On function workers, by workflow.
    pub functions: Vec<Piece>,
    /// The figures that this rests on, as `Costs` names them.
    pub figures: BTreeSet<String>,
    /// Why it may be more, with what would mend it.
    pub loose: Option<String>,
}

impl Work {
    /// All of it (ns): with what is done on the queue worker, and on function workers.
    pub fn ns(&self, queue: bool, functions: bool) -> u64 {
        let sum = |pieces: &[Piece]| pieces.iter().map(|piece| piece.ns).sum::<u64>();
        (if queue { sum(&self.queue) } else { 0 }) + (if functions { sum(&self.functions) } else { 0 })
    }

    /// The part of a CPU that it needs at a rate, in millionths.
    pub fn used_ppm(&self, rate: Rate) -> u64 {
        part_ppm(self.ns(true, true), rate)
    }
}

/// The part of a CPU that so many nanoseconds for each event need, in millionths, rounded up.
pub fn part_ppm(ns: u64, rate: Rate) -> u64 {
    let used = (u128::from(ns) * 1_000_000).div_ceil(u128::from(rate.interval_ns()));
    u64::try_from(used).unwrap_or(u64::MAX)
}

/// The work that an event of a topic is for its lane: every topic and function that it comes to.
pub fn work_of(costs: LaneCosts<'_>, wiring: &Wiring, topic: &TopicSpec, policy: &str) -> Work {
    let mut work = Work { figures: BTreeSet::from([format!("queue/{policy}")]), ..Work::default() };
    let mut next = VecDeque::from([(topic, true)]);
    while let Some((topic, first)) = next.pop_front() {
        let mut here = costs.queue_ns(policy);
        if first {
            here += worst(costs, topic.ingress.iter());
            work.figures.extend(topic.ingress.iter().map(|channel| format!("channel/{}", channel.adapter)));
        } else if !topic.rules.is_empty() {
            work.loose.get_or_insert_with(|| {
                format!("topic {:?} gives its events other levels by rules, which is not counted", topic.name)
            });
        }
        for group in &topic.egress {
            here += worst(costs, group.members.iter());
            work.figures.extend(group.members.iter().map(|channel| format!("channel/{}", channel.adapter)));
        }
        for workflow in wiring.workflows.values().filter(|workflow| workflow.from == topic.name) {
            let cost = function_ns(costs, workflow);
            work.figures.insert(format!("method/{}", workflow.call.method));
            let name = &workflow.name;
            if workflow.call.deadline_ns.is_none() {
                work.loose
                    .get_or_insert_with(|| format!("workflow {name:?} declares no deadline: give it one"));
            }
            if workflow.call.retry.is_some() {
                work.loose.get_or_insert_with(|| {
                    format!(
                        "workflow {name:?} tries again what failed, which is not counted: leave out retry"
                    )
                });
            }
            if workflow.call.inline {
                here += cost;
            } else {
                work.functions.push(Piece { name: name.clone(), ns: cost });
            }
            for to in wiring.targets(workflow).filter_map(|name| wiring.topics.get(name)) {
                if next.len() + work.queue.len() < STAGES_MAX {
                    next.push_back((to, false));
                } else {
                    work.loose.get_or_insert_with(|| {
                        format!("events of topic {:?} come to more than {STAGES_MAX} places", topic.name)
                    });
                }
            }
        }
        work.queue.push(Piece { name: topic.name.clone(), ns: here });
    }
    work
}

/// CPU time of the dearest of these channels for one event (ns).
pub fn worst<'a>(costs: LaneCosts<'_>, channels: impl Iterator<Item = &'a ChannelSpec>) -> u64 {
    channels.map(|channel| costs.channel_ns(&channel.adapter)).max().unwrap_or(0)
}

/// What an invocation takes (ns): the method, and the function's own deadline or what is stated for it.
pub fn function_ns(costs: LaneCosts<'_>, workflow: &WorkflowSpec) -> u64 {
    let body = workflow.call.deadline_ns.unwrap_or(FUNCTION_BODY_NS);
    costs.method_ns(&workflow.call.method).saturating_add(body)
}
