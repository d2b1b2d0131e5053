//! The road of an event through a wiring, and what each event of a topic costs on its lane.

use std::collections::{HashMap, VecDeque};

use tempos_control::{ChannelSpec, Rate, TopicSpec, WorkflowSpec};

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

/// What is known of how often events come into a topic from outside.
pub fn rate_of(wiring: &Wiring, topic: &TopicSpec) -> Option<Rate> {
    let own = topic.request.as_ref().and_then(|request| request.rate);
    let workflows = wiring.workflows.values().filter(|workflow| workflow.from == topic.name);
    let asked = workflows.filter_map(|workflow| workflow.request.as_ref()?.rate).chain(own).max();
    asked.or_else(|| {
        // Channels that let no more in.
        let bounds = topic.ingress.iter().map(|channel| channel.endpoint.rate);
        let sum = bounds.sum::<Option<u32>>().filter(|sum| *sum > 0)?;
        Some(Rate::per_second(u64::from(sum)))
    })
}

/// What one event of a topic costs where it comes along.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// On the queue worker (ns), by place of the way.
    pub queue_ns: Vec<u64>,
    /// On function workers (ns).
    pub functions_ns: Vec<u64>,
}

/// The work that an event of a topic is for its lane: every topic and function that it comes to.
pub fn work_of(costs: LaneCosts<'_>, wiring: &Wiring, topic: &TopicSpec, policy: &str) -> Work {
    let mut work = Work::default();
    let mut next = VecDeque::from([(topic, true)]);
    while let Some((topic, first)) = next.pop_front() {
        let mut here = costs.queue_ns(policy);
        if first {
            here += worst(costs, topic.ingress.iter());
        }
        for group in &topic.egress {
            here += worst(costs, group.members.iter());
        }
        for workflow in wiring.workflows.values().filter(|workflow| workflow.from == topic.name) {
            let cost = function_ns(costs, workflow);
            if workflow.call.inline {
                here += cost;
            } else {
                work.functions_ns.push(cost);
            }
            for to in wiring.targets(workflow).filter_map(|name| wiring.topics.get(name)) {
                if next.len() + work.queue_ns.len() < STAGES_MAX {
                    next.push_back((to, false));
                }
            }
        }
        work.queue_ns.push(here);
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
