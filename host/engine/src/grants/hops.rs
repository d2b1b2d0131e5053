//! What each hop of a road gives on a level: its bound, its grade, and where that is less than was asked, the
//! sentence that says so.

use tempos_control::{
    ChannelSpec, Delivery, FullQueue, Grade, QosRequest, TopicSpec, Value, WorkflowSpec, request::show_share,
    units::show_ns,
};

use super::costs::{FUNCTION_BODY_NS, LaneCosts, rarity};
use super::facts::{Facts, LevelFacts};
use super::load::{Lanes, Load, show_cpu};
use super::response::{Overload, Place};
use super::road::{Piece, Stage, function_ns, worst};

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
    /// Which figures its bound is made of: a place in `costs::MISSES_PPM`.
    pub nth: usize,
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

/// How the hops of a road are reckoned.
#[derive(Clone, Copy)]
struct Reckoning<'r, 'w> {
    road: &'r [Stage<'w>],
    /// Which figures count for what the event itself takes: a place in `costs::MISSES_PPM`.
    nth: usize,
    /// Whether an event is through before the next one of its topic comes, so that it waits for none but those that
    /// came with it.
    alone: bool,
}

impl View<'_> {
    fn costs(&self) -> LaneCosts<'_> {
        self.facts.costs.on(self.level.is_real_time)
    }

    /// The hops of a road in figures.
    pub fn parts<'w>(&self, road: &[Stage<'w>]) -> Vec<Part<'w>> {
        let nth = rarity(figures(road)).unwrap_or(usize::MAX);
        let of = |alone| self.reckon(Reckoning { road, nth, alone });
        // It is tried whether each is through before the next one comes, but for those that come at once. Half of the
        // time between two is left for one that takes longer than 99 of 100.
        let Some(own) = self.own.filter(|_| road.len() > 2) else { return of(false) };
        let alone = of(true);
        let whole = alone.iter().map(|part| part.bound_ns.ok()).sum::<Option<u64>>();
        let fits = whole.is_some_and(|ns| ns <= own.rate.interval_ns() / 2);
        if fits { alone } else { of(false) }
    }

    fn reckon<'w>(&self, how: Reckoning<'_, 'w>) -> Vec<Part<'w>> {
        let mut parts = Vec::new();
        for (at, stage) in how.road.iter().enumerate() {
            match stage {
                Stage::Queue(topic) => {
                    let first = at == 0 && !topic.ingress.is_empty();
                    if first {
                        parts.push(self.ingress(topic, how));
                    }
                    parts.push(self.queue(topic, at, first, how));
                }
                Stage::Function(workflow) => parts.push(self.function(workflow, how)),
                Stage::Egress(topic) => parts.push(self.egress(topic, how)),
            }
        }
        parts
    }

    fn ingress<'w>(&self, topic: &'w TopicSpec, how: Reckoning<'_, '_>) -> Part<'w> {
        let costs = self.costs().rarer(how.nth);
        let cost = worst(costs, topic.ingress.iter());
        Part {
            hop: Hop::Ingress(topic),
            bound_ns: Ok(costs.wake_ns() + cost),
            best_ns: worst(self.costs(), topic.ingress.iter()),
            grade: self.grade(topic.ingress.iter()),
            nth: how.nth,
        }
    }

    fn queue<'w>(&self, topic: &'w TopicSpec, at: usize, first: bool, how: Reckoning<'_, '_>) -> Part<'w> {
        let wakes = wakes(how.road, at) && !first;
        let of = |costs: LaneCosts<'_>| {
            let own = costs.queue_ns(&self.level.policy);
            let ingress = if first { worst(costs, topic.ingress.iter()) } else { 0 };
            // What the next hop shows for itself is a part of the queue worker's time.
            let after = match how.road.get(at + 1) {
                Some(Stage::Egress(topic)) => egress_cost(costs, topic),
                Some(Stage::Function(workflow)) if workflow.call.inline => function_ns(costs, workflow),
                _ => 0,
            };
            (own, own + ingress + after)
        };
        let (own, whole) = of(self.costs());
        let bound_ns = self.lanes.queue(&self.level.name).map(|ns| {
            let waits = if self.own.is_some() {
                self.without_own(ns, &how.road[at], how).saturating_sub(whole)
            } else {
                ns
            };
            let costs = self.costs().rarer(how.nth);
            let wake = if wakes { costs.wake_ns() } else { 0 };
            of(costs).0.saturating_add(waits).saturating_add(wake)
        });
        let grade = match (self.level.is_real_time, self.lanes.stranger(self.facts, self.level)) {
            (false, _) => Grade::Shared,
            (true, None) if self.own.is_some() => Grade::Guaranteed,
            _ => Grade::Prioritised,
        };
        Part { hop: Hop::Queue(topic), bound_ns, best_ns: own, grade, nth: how.nth }
    }

    fn function<'w>(&self, workflow: &'w WorkflowSpec, how: Reckoning<'_, '_>) -> Part<'w> {
        let costs = self.costs().rarer(how.nth);
        let (usual, cost) = (function_ns(self.costs(), workflow), function_ns(costs, workflow));
        let bound_ns = match workflow.call.inline {
            true => Ok(cost),
            false => self.lanes.functions(&self.level.name).map(|ns| {
                let waits = if self.own.is_some() {
                    self.without_own(ns, &Stage::Function(workflow), how).saturating_sub(usual)
                } else {
                    ns
                };
                cost.saturating_add(waits).saturating_add(costs.wake_ns())
            }),
        };
        let grade = match (self.level.is_real_time, workflow.call.deadline_ns) {
            (false, _) => Grade::Shared,
            (true, None) => Grade::Prioritised,
            (true, Some(_)) => Grade::Guaranteed,
        };
        let best_ns = self.costs().method_ns(&workflow.call.method);
        Part { hop: Hop::Function(workflow), bound_ns, best_ns, grade, nth: how.nth }
    }

    fn egress<'w>(&self, topic: &'w TopicSpec, how: Reckoning<'_, '_>) -> Part<'w> {
        let cost = egress_cost(self.costs().rarer(how.nth), topic);
        Part {
            hop: Hop::Egress(topic),
            bound_ns: Ok(cost + self.level.linger_ns),
            best_ns: egress_cost(self.costs(), topic),
            grade: self.grade(members(topic)),
            nth: how.nth,
        }
    }

    /// How long what comes before an event at a place takes (`ns` with everything) where no event of its own topic is
    /// there at the same time but those that came with it: at the other hops of its road there are no more. `R - Σ d(R)`
    /// of what is not there is no less than the fixed point without it, because the analysis is monotone.
    fn without_own(&self, ns: u64, here: &Stage<'_>, how: Reckoning<'_, '_>) -> u64 {
        let Some(own) = self.own.filter(|_| how.alone) else { return ns };
        let level = self.level;
        let on_queue = matches!(here, Stage::Queue(_));
        let place = if on_queue { level.queue } else { level.functions };
        let of = |pieces: &[Piece], at: Place, names: &dyn Fn(&Stage<'_>) -> Option<String>| -> u64 {
            let before = pieces.iter().filter(|piece| {
                place.yields_to(at)
                    && names(here).as_ref() != Some(&piece.name)
                    && how.road.iter().any(|stage| names(stage).as_ref() == Some(&piece.name))
            });
            let gone = ns.div_ceil(own.rate.interval_ns()).max(1);
            before.map(|piece| piece.ns.saturating_mul(gone)).sum()
        };
        let topic = |stage: &Stage<'_>| match stage {
            Stage::Queue(topic) => Some(topic.name.clone()),
            _ => None,
        };
        let workflow = |stage: &Stage<'_>| match stage {
            Stage::Function(workflow) => Some(workflow.name.clone()),
            _ => None,
        };
        // On function workers a reservation counts as a whole; its events are not among the tasks there.
        let is_reserved = level.reserved.is_some() && !on_queue;
        let queue = if is_reserved { 0 } else { of(&own.work.queue, level.queue, &topic) };
        ns.saturating_sub(queue + of(&own.work.functions, level.functions, &workflow))
    }

    fn grade<'c>(&self, channels: impl Iterator<Item = &'c ChannelSpec>) -> Grade {
        channels.map(|channel| self.facts.adapter(&channel.adapter).grade).min().unwrap_or(Grade::Guaranteed)
    }

    /// Why a hop gives what it gives, one sentence without its end.
    pub fn why(&self, part: &Part<'_>) -> String {
        let (costs, level) = (self.costs().rarer(part.nth), self.level);
        let wake = || show_ns(costs.wake_ns());
        match part.hop {
            Hop::Ingress(topic) => format!(
                "{} to read it, and at most {} until the queue worker runs as {}; {}",
                show_ns(worst(costs, topic.ingress.iter())),
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
                    show_ns(costs.method_ns(&workflow.call.method))
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
                format!("{} to send it{linger}; {words}", show_ns(egress_cost(costs, topic)))
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

/// Who wakes the queue worker for a place of a road: who publishes, and a function worker that is done, but no
/// function that ran on it.
fn wakes(road: &[Stage<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| road.get(at));
    !matches!(before, Some(Stage::Function(workflow)) if workflow.call.inline)
}

/// Of how many figures with a tail the time of a road is the sum: each wake-up, each piece of work, and once a look of
/// the supervisor.
pub fn figures(road: &[Stage<'_>]) -> usize {
    let of = |(at, stage): (usize, &Stage<'_>)| match stage {
        Stage::Queue(topic) => {
            let reads = at == 0 && !topic.ingress.is_empty();
            1 + usize::from(reads) + usize::from(wakes(road, at))
        }
        Stage::Function(workflow) => 1 + usize::from(!workflow.call.inline),
        Stage::Egress(topic) => topic.egress.len(),
    };
    1 + road.iter().enumerate().map(of).sum::<usize>()
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
