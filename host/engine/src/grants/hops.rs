//! What each hop of a road gives on a level: its bound, its grade, and where that is less than was asked, the
//! sentence that says so.

use tempos_control::{
    ChannelSpec, Delivery, FullQueue, Grade, QosRequest, TopicSpec, Value, WorkflowSpec, request::show_share,
    units::show_ns,
};

use super::costs::{FUNCTION_BODY_NS, LaneCosts, RAREST, rarities};
use super::facts::{Facts, LevelFacts};
use super::load::{Lanes, Load, show_cpu};
use super::response::Overload;
use super::road::{Piece, Stage, function_ns, pieces, wakes, wakes_queue, worst};

/// A hop in figures.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Which.
    pub hop: Hop<'a>,
    /// The longest that it takes (ns).
    pub bound_ns: Result<u64, Overload>,
    /// The least that it takes (ns).
    pub best_ns: u64,
    /// How far that can be relied on.
    pub grade: Grade,
    /// How much of its bound it takes until a thread wakes up for it (ns).
    pub wake_ns: u64,
    /// How much of its bound the event takes itself (ns). The rest waits for others.
    own_ns: u64,
}

/// A hop.
#[derive(Clone, Copy, Debug)]
pub enum Hop<'a> {
    /// Into a topic.
    Ingress(&'a TopicSpec),
    /// Through the queue of its lane.
    Queue(&'a TopicSpec),
    /// Through a function.
    Function(&'a WorkflowSpec),
    /// Out of a topic.
    Egress(&'a TopicSpec),
}

/// What is looked at: a road on a level, under the loads of the lanes.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What is known.
    pub facts: &'a Facts,
    /// The lanes.
    pub lanes: &'a Lanes,
    /// The level.
    pub level: &'a LevelFacts,
    /// What the road's events are among the loads; `None` where their rate is not known.
    pub own: Option<&'a Load>,
}

impl View<'_> {
    fn costs(&self) -> LaneCosts<'_> {
        self.facts.costs.on(self.level.is_real_time)
    }

    /// Which figures count for the pieces of work of a road, and for its wake-ups: those with the least sum.
    pub fn rarities(&self, road: &[Stage<'_>]) -> Option<(usize, usize)> {
        let (costs, wakes) = (self.costs(), wakes(road));
        rarities(pieces(road)).min_by_key(|(of_pieces, of_wakes)| {
            let pieces = costs.rarer(*of_pieces);
            let of = |(at, stage): (usize, &Stage<'_>)| match stage {
                Stage::Queue(topic) if at == 0 => {
                    pieces.queue_ns(&self.level.policy) + worst(pieces, topic.ingress.iter())
                }
                Stage::Queue(_) => pieces.queue_ns(&self.level.policy),
                Stage::Function(workflow) => function_ns(pieces, workflow),
                Stage::Egress(topic) => egress_cost(pieces, topic),
            };
            let sum: u64 = road.iter().enumerate().map(of).sum();
            sum.saturating_add(costs.rarer(*of_wakes).wakes_ns(wakes))
        })
    }

    /// The hops of a road in figures.
    pub fn parts<'w>(&self, road: &[Stage<'w>]) -> Vec<Part<'w>> {
        let (of_pieces, of_wakes) = self.rarities(road).unwrap_or((RAREST, RAREST));
        let costs = self.costs().rarer(of_wakes);
        let own = self.costs().rarer(of_pieces);
        let count = wakes(road);
        let first = costs.wakes_ns(1);
        let rest = costs.wakes_ns(count).saturating_sub(first).div_ceil(count.saturating_sub(1).max(1));
        let wake_ns = [first, rest];
        let mut parts = Vec::new();
        for (at, stage) in road.iter().enumerate() {
            match stage {
                Stage::Queue(topic) => {
                    let first = at == 0 && !topic.ingress.is_empty();
                    if first {
                        parts.push(self.ingress(topic, wake_ns[0], own));
                    }
                    let wakes = wakes_queue(road, at) && !first;
                    let wake_ns = if wakes { wake_ns[usize::from(at > 0)] } else { 0 };
                    let own_ns = own.queue_ns(&self.level.policy);
                    parts.push(self.queue(topic, first, [wake_ns, own_ns], road.get(at + 1)));
                }
                Stage::Function(workflow) => parts.push(self.function(workflow, wake_ns[1], own)),
                Stage::Egress(topic) => parts.push(self.egress(topic, own)),
            }
        }
        self.wait_once(road, &mut parts);
        parts
    }

    /// Each hop alone waits for everything that may come first there, and so the same events are counted at each. On the
    /// whole way an event waits for each of them once: where that is less, the last hops are given less to wait.
    fn wait_once(&self, road: &[Stage<'_>], parts: &mut [Part<'_>]) {
        let Some(own) = self.own.filter(|_| road.len() > 2 && self.level.reserved.is_none()) else { return };
        let Some(sum) = parts.iter().map(|part| part.bound_ns.ok()).sum::<Option<u64>>() else { return };
        let of = |what: fn(&Part<'_>) -> u64| parts.iter().map(what).sum::<u64>();
        let (own_ns, wakes_ns) = (of(|part| part.own_ns), of(|part| part.wake_ns));
        let has_topic =
            |name: &str| road.iter().any(|stage| matches!(stage, Stage::Queue(topic) if topic.name == name));
        let has_function = |name: &str| {
            road.iter().any(|stage| matches!(stage, Stage::Function(workflow) if workflow.name == name))
        };
        let beside = |pieces: &[Piece], is_on_road: &dyn Fn(&str) -> bool| -> u64 {
            pieces.iter().filter(|piece| !is_on_road(&piece.name)).map(|piece| piece.ns).sum()
        };
        // What the same event is beside its road, for other functions of its topics.
        let own_ns =
            own_ns + beside(&own.work.queue, &has_topic) + beside(&own.work.functions, &has_function);
        let functions = road.iter().any(|stage| matches!(stage, Stage::Function(one) if !one.call.inline));
        let Some(whole) = self.lanes.way(self.facts, self.level, functions, own, own_ns, wakes_ns) else {
            return;
        };
        let mut less = sum.saturating_sub(whole);
        for part in parts.iter_mut().rev() {
            if let Ok(ns) = &mut part.bound_ns {
                let gone = ns.saturating_sub(part.own_ns + part.wake_ns).min(less);
                *ns -= gone;
                less -= gone;
            }
        }
    }

    fn ingress<'w>(&self, topic: &'w TopicSpec, wake_ns: u64, own: LaneCosts<'_>) -> Part<'w> {
        let own_ns = worst(own, topic.ingress.iter());
        Part {
            hop: Hop::Ingress(topic),
            bound_ns: Ok(wake_ns + own_ns),
            best_ns: worst(self.costs(), topic.ingress.iter()),
            grade: self.grade(topic.ingress.iter()),
            wake_ns,
            own_ns,
        }
    }

    fn queue<'w>(
        &self,
        topic: &'w TopicSpec,
        first: bool,
        [wake_ns, own_ns]: [u64; 2],
        next: Option<&Stage<'w>>,
    ) -> Part<'w> {
        let own = self.costs().queue_ns(&self.level.policy);
        let ingress = if first { worst(self.costs(), topic.ingress.iter()) } else { 0 };
        // What the next hop shows for itself is a part of the queue worker's time.
        let after = match next {
            Some(Stage::Egress(topic)) => egress_cost(self.costs(), topic),
            Some(Stage::Function(workflow)) if workflow.call.inline => function_ns(self.costs(), workflow),
            _ => 0,
        };
        let whole = own + ingress + after;
        let bound_ns = self.lanes.queue(&self.level.name).map(|ns| {
            let waits = if self.own.is_some() { ns.saturating_sub(whole) } else { ns };
            own_ns.saturating_add(waits).saturating_add(wake_ns)
        });
        let grade = match (self.level.is_real_time, self.lanes.stranger(self.facts, self.level)) {
            (false, _) => Grade::Shared,
            (true, None) if self.own.is_some() => Grade::Guaranteed,
            _ => Grade::Prioritised,
        };
        Part { hop: Hop::Queue(topic), bound_ns, best_ns: own, grade, wake_ns, own_ns }
    }

    fn function<'w>(&self, workflow: &'w WorkflowSpec, wake_ns: u64, own: LaneCosts<'_>) -> Part<'w> {
        let usual = function_ns(self.costs(), workflow);
        let own_ns = function_ns(own, workflow);
        let wake_ns = if workflow.call.inline { 0 } else { wake_ns };
        let bound_ns = match workflow.call.inline {
            true => Ok(own_ns),
            false => self.lanes.functions(&self.level.name).map(|ns| {
                let waits = if self.own.is_some() { ns.saturating_sub(usual) } else { ns };
                own_ns.saturating_add(waits).saturating_add(wake_ns)
            }),
        };
        let grade = match (self.level.is_real_time, workflow.call.deadline_ns) {
            (false, _) => Grade::Shared,
            (true, None) => Grade::Prioritised,
            (true, Some(_)) => Grade::Guaranteed,
        };
        let best_ns = self.costs().method_ns(&workflow.call.method);
        Part { hop: Hop::Function(workflow), bound_ns, best_ns, grade, wake_ns, own_ns }
    }

    fn egress<'w>(&self, topic: &'w TopicSpec, own: LaneCosts<'_>) -> Part<'w> {
        let own_ns = egress_cost(own, topic) + self.level.linger_ns;
        Part {
            hop: Hop::Egress(topic),
            bound_ns: Ok(own_ns),
            best_ns: egress_cost(self.costs(), topic),
            grade: self.grade(members(topic)),
            wake_ns: 0,
            own_ns,
        }
    }

    fn grade<'c>(&self, channels: impl Iterator<Item = &'c ChannelSpec>) -> Grade {
        channels.map(|channel| self.facts.adapter(&channel.adapter).grade).min().unwrap_or(Grade::Guaranteed)
    }

    /// Why a hop gives what it gives, one sentence without its end.
    pub fn why(&self, part: &Part<'_>) -> String {
        let level = self.level;
        let wake = || show_ns(part.wake_ns);
        match part.hop {
            Hop::Ingress(topic) => format!(
                "{} to read it, and at most {} until the queue worker runs as {}; {}",
                show_ns(part.own_ns),
                wake(),
                level.runs_as(),
                self.adapter_words(topic.ingress.iter()),
            ),
            Hop::Queue(topic) => match part.bound_ns {
                Err(overload) => {
                    format!(
                        "there is no bound: {}",
                        self.lanes.arithmetic(self.facts, level, false, overload)
                    )
                }
                Ok(_) => {
                    let mut text = format!(
                        "level {:?} runs as {}, and what may go first uses {} of a CPU",
                        level.name,
                        level.runs_as(),
                        show_cpu(self.lanes.used_ppm(level))
                    );
                    if self.own.is_none() {
                        text.push_str(&format!(
                            "; topic {:?} says no rate: one event at a time is counted",
                            topic.name
                        ));
                    } else if let Some(stranger) = self.lanes.stranger(self.facts, level) {
                        text.push_str(&format!("; topic {stranger:?} says no rate and is not counted"));
                    }
                    text
                }
            },
            Hop::Function(workflow) => {
                let method = format!(
                    "{} takes {}",
                    workflow.call.method,
                    show_ns(part.own_ns - workflow.call.deadline_ns.unwrap_or(FUNCTION_BODY_NS))
                );
                let body = match workflow.call.deadline_ns {
                    Some(ns) => format!("the function at most {}, its deadline", show_ns(ns)),
                    None => format!(
                        "{} are assumed for the function, which declares no deadline",
                        show_ns(FUNCTION_BODY_NS)
                    ),
                };
                match part.bound_ns {
                    Ok(_) if workflow.call.inline => format!("{method}, {body}, on the queue worker"),
                    Ok(_) => format!("{method}, {body}, and its worker wakes up within {}", wake()),
                    Err(overload) => {
                        format!(
                            "there is no bound: {}",
                            self.lanes.arithmetic(self.facts, level, true, overload)
                        )
                    }
                }
            }
            Hop::Egress(topic) => {
                let linger = match level.linger_ns {
                    0 => String::new(),
                    ns => format!(" after at most {} of lingering", show_ns(ns)),
                };
                let words = self.adapter_words(members(topic));
                format!("{} to send it{linger}; {words}", show_ns(part.own_ns - level.linger_ns))
            }
        }
    }

    fn adapter_words<'c>(&self, channels: impl Iterator<Item = &'c ChannelSpec>) -> String {
        let worst = channels.min_by_key(|channel| self.facts.adapter(&channel.adapter).grade);
        worst.map_or_else(String::new, |channel| {
            let grade = self.facts.adapter(&channel.adapter).grade.word();
            format!("{} gives {grade} at best", channel.adapter)
        })
    }

    /// Why channels are no guaranteed hop, with what would mend it.
    pub fn lesser<'c>(&self, mut channels: impl Iterator<Item = &'c ChannelSpec>) -> Option<String> {
        channels.find_map(|channel| {
            let (adapter, grade) = (&channel.adapter, self.facts.adapter(&channel.adapter).grade);
            if grade < Grade::Guaranteed {
                let grade = grade.word();
                return Some(format!(
                    "{adapter} gives {grade} at best, for others share its way: unix or shm between programs of this \
                     machine give more"
                ));
            }
            let (of, obtained) = self.facts.obtained.get(&channel.name)?;
            (of == adapter).then(|| format!("channel {:?} has obtained no more than {obtained}", channel.name))
        })
    }

    /// What a hop lacks of what was asked, beside time: sentences without its name.
    pub fn lacks(&self, part: &Part<'_>, request: &QosRequest, whole_ns: Option<u64>) -> Vec<String> {
        let mut lacks = Vec::new();
        match part.hop {
            Hop::Ingress(topic) => self.ingress_lacks(topic, request, &mut lacks),
            Hop::Queue(topic) => self.queue_lacks(topic, request, whole_ns, &mut lacks),
            Hop::Function(workflow) => {
                let (methods, method) = (&request.allow.methods, &workflow.call.method);
                if !methods.is_empty() && !methods.contains(method) {
                    lacks.push(format!("its method is {method}, and allowed are {}", methods.join(", ")));
                }
            }
            Hop::Egress(topic) => self.egress_lacks(topic, request, &mut lacks),
        }
        lacks
    }

    fn ingress_lacks(&self, topic: &TopicSpec, request: &QosRequest, lacks: &mut Vec<String>) {
        if is_careful(request) {
            let loser = topic.ingress.iter().find(|c| !self.facts.adapter(&c.adapter).holds_back);
            lacks.extend(loser.map(|channel| {
                format!(
                    "{} does not hold its senders back: what is lost on the way to it nobody knows{}",
                    channel.adapter,
                    because(request),
                )
            }));
        }
        let Some(rate) = request.rate else { return };
        let bounds = topic.ingress.iter().map(|channel| channel.endpoint.rate);
        if let Some(sum) = bounds.sum::<Option<u32>>().filter(|sum| u64::from(*sum) * 3600 < rate.per_hour) {
            lacks.push(format!("its endpoints let in {sum}/s, and {} are asked for", rate.show()));
        }
    }

    fn queue_lacks(
        &self,
        topic: &TopicSpec,
        request: &QosRequest,
        whole_ns: Option<u64>,
        lacks: &mut Vec<String>,
    ) {
        let level = self.level;
        if let Some(rate) = request.rate
            && let Some(max) = level.rate_max.filter(|max| u64::from(*max) * 3600 < rate.per_hour)
        {
            lacks.push(format!(
                "level {:?} lets {max}/s pass, and {} are asked for",
                level.name,
                rate.show()
            ));
        }
        if !is_careful(request) {
            return;
        }
        let ttl = topic.time_to_live_ns.or(level.time_to_live_ns);
        if let Some(ttl) = ttl.filter(|ttl| whole_ns.is_none_or(|ns| ns > *ttl)) {
            lacks.push(format!("events older than {} are dropped{}", show_ns(ttl), because(request)));
        }
        if let Some(deadline) =
            topic.deadline_ns.filter(|ns| topic.drops_late && whole_ns.is_none_or(|w| w > *ns))
        {
            lacks.push(format!("events later than {} are dropped{}", show_ns(deadline), because(request)));
        }
        if level.full == FullQueue::Block {
            return;
        }
        if let Some(stranger) = self.stranger_here() {
            lacks.push(format!(
                "topic {stranger:?} says no rate and may fill the queue, which then drops events{}; \
                 full = \"block\" would hold senders back",
                because(request)
            ));
        } else if let Ok(ns) = self.lanes.queue(&level.name) {
            let waiting = self.lanes.backlog(&level.name, ns);
            if waiting > u64::from(level.capacity_events) {
                lacks.push(format!(
                    "up to {waiting} events wait in a queue of {}, which then drops events{}",
                    level.capacity_events,
                    because(request)
                ));
            }
        }
    }

    fn stranger_here(&self) -> Option<&str> {
        self.lanes.unknown.get(&self.level.name).and_then(|topics| topics.first()).map(String::as_str)
    }

    fn egress_lacks(&self, topic: &TopicSpec, request: &QosRequest, lacks: &mut Vec<String>) {
        let mut channels = members(topic);
        let adapter = |channel: &ChannelSpec| self.facts.adapter(&channel.adapter);
        match request.delivery {
            Some(Delivery::EffectivelyOnce) => lacks.push(String::from(
                "no hop of a node takes a second copy out again after its receiver; at-least-once is the most",
            )),
            Some(Delivery::AtLeastOnce) => {
                if let Some(channel) = channels.find(|channel| !acknowledges(channel)) {
                    let name = &channel.adapter;
                    lacks.extend(match (adapter(channel).acknowledges, request.allow.settings) {
                        (false, _) => Some(format!("receivers over {name} cannot acknowledge an event")),
                        (true, false) => Some(format!(
                            "channel {:?} is not acknowledged: write acknowledge = true, or allow = {{ settings = true }}; \
                             its receivers must then acknowledge",
                            channel.name
                        )),
                        (true, true) => None,
                    });
                }
            }
            Some(Delivery::AtMostOnce) => {
                lacks.extend(channels.find(|channel| acknowledges(channel)).map(|channel| {
                    format!("channel {:?} is acknowledged, so that an event may come twice", channel.name)
                }));
            }
            None => {}
        }
        if request.loss_ppm.is_some_and(|ppm| ppm < 1_000_000) {
            let loser = members(topic).find(|c| !adapter(c).holds_back && !acknowledges(c));
            lacks.extend(loser.map(|channel| {
                format!(
                    "what {} loses on the way to its receiver nobody knows{}",
                    channel.adapter,
                    because(request)
                )
            }));
        }
    }
}

/// CPU time of an event's way to every group of a topic (ns).
fn egress_cost(costs: LaneCosts<'_>, topic: &TopicSpec) -> u64 {
    topic.egress.iter().map(|group| worst(costs, group.members.iter())).sum()
}

/// All channels out of a topic.
pub fn members(topic: &TopicSpec) -> impl Iterator<Item = &ChannelSpec> {
    topic.egress.iter().flat_map(|group| &group.members)
}

/// Whether a channel's receivers acknowledge each event.
pub fn acknowledges(channel: &ChannelSpec) -> bool {
    channel.options.iter().any(|(key, value)| key == "acknowledge" && *value == Value::Flag(true))
}

/// Whether events are to be kept.
fn is_careful(request: &QosRequest) -> bool {
    request.loss_ppm.is_some_and(|ppm| ppm < 1_000_000)
        || request.delivery.is_some_and(|delivery| delivery > Delivery::AtMostOnce)
}

/// What of the request a loss would break.
fn because(request: &QosRequest) -> String {
    match (request.loss_ppm, request.delivery) {
        (Some(ppm), _) if ppm < 1_000_000 => format!(", and loss {} is asked for", show_share(ppm)),
        (_, Some(delivery)) => format!(", and {} is asked for", delivery.word()),
        _ => String::new(),
    }
}
