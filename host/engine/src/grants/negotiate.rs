//! Admission: requests one after the other, those first that are granted already, each on the lowest level that
//! meets it and leaves all before it what they were granted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tempos_control::request::REQUESTS_MAX;
use tempos_control::{Answer, Delivery, Grant, Kind, Mistake, OnUnmet, QosRequest, TopicSpec};

use super::answer::{Ask, Weighed};
use super::facts::{Facts, LevelFacts};
use super::hops::{View, acknowledges, members};
use super::load::{Lanes, Load, reservations, show_cpu};
use super::response::reservations_fit;
use super::road::{Arrivals, Stage, arrivals_of, loose, road, work_of};
use super::watch::Watched;
use crate::wiring::Wiring;

/// Topics that ask nothing are explained too where a node has no more than so many.
const EXPLAINED_MAX: usize = 1024;

/// What is to be done with the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A wiring is to come: levels are chosen, and what is not met may refuse it.
    Choose,
    /// A wiring is in force: it is said what each gets.
    Explain,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The levels of topics whose level was free, or was given up by `on_unmet = "degrade"`.
    pub levels: BTreeMap<String, String>,
    /// Channels whose receivers are to acknowledge.
    pub acknowledged: BTreeSet<String>,
    /// What each topic gets.
    pub topics: BTreeMap<String, Grant>,
    /// What each workflow gets that asks.
    pub workflows: BTreeMap<String, Grant>,
    /// What is to be watched of those who ask.
    pub watched: Vec<Watched>,
    /// Why the wiring is refused; empty where it is not.
    pub refusals: Vec<Mistake>,
}

impl Settled {
    /// The levels of what is granted under `old`, by topic, where `new` asks for the same: it stays there, and
    /// comes before all that is new or asks for more.
    pub fn held(&self, old: &Wiring, new: &Wiring) -> BTreeMap<String, String> {
        let mut held = BTreeMap::new();
        let mut lost = BTreeSet::new();
        let topics = self.topics.iter().map(|(name, grant)| {
            let request = |wiring: &'_ Wiring| wiring.topics.get(name).map(|topic| topic.request.clone());
            (name.as_str(), grant, request(old) == request(new))
        });
        let workflows = self.workflows.iter().filter_map(|(name, grant)| {
            let request =
                |wiring: &'_ Wiring| wiring.workflows.get(name).map(|workflow| workflow.request.clone());
            Some((old.workflows.get(name)?.from.as_str(), grant, request(old) == request(new)))
        });
        for (topic, grant, is_same) in workflows.chain(topics) {
            if is_same && grant.answer == Answer::Granted {
                held.insert(topic.to_owned(), grant.level.clone());
            } else {
                lost.insert(topic);
            }
        }
        held.retain(|topic, _| !lost.contains(topic.as_str()));
        held
    }

    /// One line for each request, as a person would say it.
    pub fn lines(&self) -> Vec<String> {
        let line = |kind: Kind, (name, grant): (&String, &Grant)| {
            format!("= {} {name:?} asks for {}: {}", kind.word(), grant.asked, grant.sentence)
        };
        let asks = |(_, grant): &(&String, &Grant)| !grant.asked.is_empty();
        let topics = self.topics.iter().filter(asks).map(|one| line(Kind::Topic, one));
        topics.chain(self.workflows.iter().filter(asks).map(|one| line(Kind::Workflow, one))).collect()
    }
}

/// A topic and everything that asks about its events.
struct Unit<'a> {
    topic: &'a TopicSpec,
    asks: Vec<Ask<'a>>,
    arrivals: Option<Arrivals>,
}

/// A unit on a level, tried.
struct Tried<'a> {
    level: &'a LevelFacts,
    load: Option<Arc<Load>>,
    lanes: Lanes,
    weighed: Vec<Weighed<'a>>,
    /// What one before it would lose.
    broken: Option<String>,
}

impl Tried<'_> {
    fn lacking(&self) -> usize {
        self.weighed.iter().map(Weighed::lacking).sum()
    }
}

/// A unit that has its level.
struct Placed<'a> {
    unit: Unit<'a>,
    level: &'a LevelFacts,
    load: Option<Arc<Load>>,
    is_met: bool,
}

/// Weighs every request of a wiring. `held`: the levels of topics that are granted already.
pub fn settle<'a>(
    facts: &'a Facts,
    wiring: &'a Wiring,
    held: &BTreeMap<String, String>,
    mode: Mode,
) -> Settled {
    let downstream = wiring.downstream();
    let mut settled = Settled::default();
    if wiring.topics.len() > EXPLAINED_MAX && !asks_anything(wiring) {
        check_reservations(facts, wiring, &mut settled);
        return settled;
    }
    let (mut asking, plain) = units(wiring, &downstream);
    check_reservations(facts, wiring, &mut settled);
    if asking.len() > REQUESTS_MAX {
        let sentence = format!(
            "{} topics ask for quality in figures; a node weighs at most {REQUESTS_MAX}",
            asking.len()
        );
        settled.refusals.push(Mistake::new(&asking[REQUESTS_MAX].topic.origin, sentence));
        asking.truncate(REQUESTS_MAX);
    }
    let mut lanes = begin(facts, wiring, &plain);
    asking.sort_by_key(|unit| (!held.contains_key(&unit.topic.name), unit.topic.name.as_str()));
    let mut placed: Vec<Placed<'a>> = Vec::new();
    for unit in asking {
        let (levels, fixed) = candidates(facts, &unit, held, mode);
        if levels.is_empty() {
            let origin = unit.asks.first().map_or(&unit.topic.origin, |ask| ask.origin);
            let sentence =
                format!("topic {:?}: no level of this node is among those that are allowed", unit.topic.name);
            settled.refusals.push(Mistake::new(origin, sentence));
            continue;
        }
        let mut tried: Vec<Tried<'a>> = Vec::new();
        for level in &levels[..fixed] {
            tried.push(attempt(facts, wiring, &lanes, &placed, &unit, level));
            if tried.last().is_some_and(|last| last.lacking() == 0 && last.broken.is_none()) {
                break;
            }
        }
        let met = tried.iter().position(|one| one.lacking() == 0 && one.broken.is_none());
        let refuses = unit.asks.iter().any(|ask| ask.is_request && ask.request.on_unmet == OnUnmet::Refuse);
        let chosen = match met {
            Some(at) => at,
            None if mode == Mode::Explain => 0,
            None if refuses => {
                refuse(facts, &unit, &tried, &mut settled);
                continue;
            }
            None => {
                // What is degraded takes nothing from those before it, and may go below what is allowed for that.
                for level in &levels[fixed..] {
                    if tried.iter().any(|one| one.broken.is_none()) {
                        break;
                    }
                    tried.push(attempt(facts, wiring, &lanes, &placed, &unit, level));
                }
                let sound = tried.iter().enumerate().filter(|(_, one)| one.broken.is_none());
                let whole =
                    |one: &Tried<'_>| one.weighed.iter().map(|w| w.whole_ns.unwrap_or(u64::MAX)).max();
                match sound.min_by_key(|(_, one)| (one.lacking(), whole(one))) {
                    Some((at, _)) => at,
                    None => {
                        refuse(facts, &unit, &tried, &mut settled);
                        continue;
                    }
                }
            }
        };
        let Tried { level, load, lanes: then, weighed, .. } = tried.swap_remove(chosen);
        lanes = then;
        if level.name != unit.topic.qos {
            settled.levels.insert(unit.topic.name.clone(), level.name.clone());
        }
        acknowledge(facts, &unit, &mut settled);
        let is_met = weighed.iter().all(|one| one.lacking() == 0);
        placed.push(Placed { unit, level, load, is_met });
    }
    // Shown under the loads of all, not of those before alone.
    let explained = plain.into_iter().filter(|_| wiring.topics.len() <= EXPLAINED_MAX);
    let plain = explained.filter_map(|unit| {
        let level = facts.levels.get(&unit.topic.qos)?;
        let load = load(facts, wiring, &unit, level);
        Some(Placed { unit, level, load, is_met: true })
    });
    for Placed { unit, level, load, .. } in placed.iter().chain(plain.collect::<Vec<_>>().iter()) {
        let view = View { facts, lanes: &lanes, level, own: load.as_deref() };
        for ask in &unit.asks {
            let mut weighed = ask.weigh(&view);
            weighed.judge(ask, &view);
            let answer = if weighed.lacking() == 0 { Answer::Granted } else { Answer::Degraded };
            let grant = weighed.grant(ask, &view, answer);
            settled.watched.extend(ask.is_request.then(|| weighed.watched(ask, &view)).flatten());
            match ask.kind {
                Kind::Workflow => settled.workflows.insert(ask.name.to_owned(), grant),
                _ => settled.topics.insert(ask.name.to_owned(), grant),
            };
        }
    }
    settled
}

/// Topics about whose events somebody asks, and the others.
fn units<'a>(wiring: &'a Wiring, downstream: &HashMap<&str, u64>) -> (Vec<Unit<'a>>, Vec<Unit<'a>>) {
    let mut workflows: HashMap<&str, Vec<&tempos_control::WorkflowSpec>> = HashMap::new();
    for workflow in wiring.workflows.values().filter(|workflow| workflow.request.is_some()) {
        workflows.entry(&workflow.from).or_default().push(workflow);
    }
    let explains = wiring.topics.len() <= EXPLAINED_MAX;
    let mut asking = Vec::new();
    let mut plain = Vec::new();
    for topic in wiring.topics.values() {
        let through = workflows.remove(topic.name.as_str()).unwrap_or_default();
        let asks = topic.request.is_some() || !through.is_empty();
        let named_level = named_level(topic);
        let ask = |kind, name: &'a str, origin, request: Option<&QosRequest>, road| Ask {
            kind,
            name,
            origin,
            request: request.cloned().unwrap_or_default(),
            is_request: request.is_some(),
            named_level,
            road,
        };
        let mut unit = Unit { topic, asks: Vec::new(), arrivals: arrivals_of(wiring, topic) };
        if asks || explains {
            let way: Vec<Stage<'a>> = road(wiring, downstream, topic, None);
            unit.asks.push(ask(Kind::Topic, &topic.name, &topic.origin, topic.request.as_deref(), way));
        }
        for workflow in through {
            let way = road(wiring, downstream, topic, Some(workflow));
            unit.asks.push(ask(
                Kind::Workflow,
                &workflow.name,
                &workflow.origin,
                workflow.request.as_deref(),
                way,
            ));
        }
        if asks { asking.push(unit) } else { plain.push(unit) }
    }
    (asking, plain)
}

/// The lanes before any request: what the others are known to bring, and whose rate nobody knows.
fn begin(facts: &Facts, wiring: &Wiring, plain: &[Unit<'_>]) -> Lanes {
    let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let strangers = plain.iter().filter(|unit| unit.arrivals.is_none() && !unit.topic.ingress.is_empty());
    for unit in strangers {
        unknown.entry(unit.topic.qos.clone()).or_default().push(unit.topic.name.clone());
    }
    let mut lanes = Lanes::new(facts, unknown);
    lanes.guests = Arc::new(guests(wiring));
    for unit in plain {
        if let Some(level) = facts.levels.get(&unit.topic.qos)
            && let Some(load) = load(facts, wiring, unit, level)
        {
            lanes.take(facts, load);
        }
    }
    lanes.respond(facts);
    lanes
}

/// Topics whose events may come to other levels than their own, by level.
fn guests(wiring: &Wiring) -> BTreeMap<String, String> {
    let mut guests = BTreeMap::new();
    for topic in wiring.topics.values() {
        let endpoints = topic.ingress.iter().filter_map(|channel| channel.qos.as_deref());
        for level in endpoints.chain(wiring.levels_by_rule(topic)).filter(|level| *level != topic.qos) {
            guests.entry(level.to_owned()).or_insert_with(|| topic.name.clone());
        }
    }
    guests
}

/// What a unit is for its lane, where its rate is known.
fn load(facts: &Facts, wiring: &Wiring, unit: &Unit<'_>, level: &LevelFacts) -> Option<Arc<Load>> {
    let Arrivals { rate, burst } = unit.arrivals?;
    let mut work = work_of(facts.costs.on(level.is_real_time), wiring, unit.topic, &level.policy);
    Some(Arc::new(Load {
        topic: unit.topic.name.clone(),
        level: level.name.clone(),
        rate,
        burst,
        loose: loose(wiring, unit.topic, rate).or_else(|| work.loose.take()),
        work,
    }))
}

/// The levels on which a unit may stand, and how many of them are allowed; the others come below those.
fn candidates<'a>(
    facts: &'a Facts,
    unit: &Unit<'_>,
    held: &BTreeMap<String, String>,
    mode: Mode,
) -> (Vec<&'a LevelFacts>, usize) {
    if mode == Mode::Explain {
        return (facts.levels.get(&unit.topic.qos).into_iter().collect(), 1);
    }
    let mut all: Vec<&LevelFacts> = facts.levels.values().collect();
    all.sort_by_key(|level| (level.rank, level.name.as_str()));
    let allowed = |level: &LevelFacts| {
        let named = named_level(unit.topic).is_none_or(|name| name == level.name);
        let fits = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        let all = unit.asks.iter().all(|ask| {
            fits(&ask.request.allow.levels, &level.name) && fits(&ask.request.allow.policies, &level.policy)
        });
        named && all
    };
    let mut levels: Vec<&LevelFacts> = all.iter().copied().filter(|level| allowed(level)).collect();
    let held = held.get(&unit.topic.name);
    levels.sort_by_key(|level| Some(&level.name) != held);
    let fixed = levels.len();
    let lowest = levels.iter().map(|level| level.rank).min().unwrap_or(0);
    levels.extend(all.into_iter().rev().filter(|level| level.rank < lowest));
    (levels, fixed)
}

fn attempt<'a>(
    facts: &'a Facts,
    wiring: &'a Wiring,
    lanes: &Lanes,
    placed: &[Placed<'a>],
    unit: &Unit<'a>,
    level: &'a LevelFacts,
) -> Tried<'a> {
    let load = load(facts, wiring, unit, level);
    let lanes = match &load {
        Some(load) => lanes.with(facts, Arc::clone(load)),
        None => {
            let mut lanes = lanes.clone();
            if !unit.topic.ingress.is_empty() {
                lanes.unknown.entry(level.name.clone()).or_default().push(unit.topic.name.clone());
            }
            lanes
        }
    };
    let weighed = {
        let view = View { facts, lanes: &lanes, level, own: load.as_deref() };
        unit.asks.iter().map(|ask| ask.weigh(&view)).collect()
    };
    let broken = placed.iter().filter(|before| before.is_met).find_map(|before| {
        let view = View { facts, lanes: &lanes, level: before.level, own: before.load.as_deref() };
        before.unit.asks.iter().filter(|ask| ask.is_request).find_map(|ask| {
            let sentence = ask.weigh(&view).sentences(&view).into_iter().next()?;
            Some(format!("{} is granted already and would no longer be: {sentence}", ask.subject()))
        })
    });
    Tried { level, load, lanes, weighed, broken }
}

/// Notes why a unit is refused: the sentences of the level on which it lacks least.
fn refuse(facts: &Facts, unit: &Unit<'_>, tried: &[Tried<'_>], settled: &mut Settled) {
    let Some(best) = tried.iter().min_by_key(|one| {
        let whole = one.weighed.iter().map(|weighed| weighed.whole_ns.unwrap_or(u64::MAX)).max();
        (one.lacking(), one.broken.is_some(), whole)
    }) else {
        return;
    };
    let view = View { facts, lanes: &best.lanes, level: best.level, own: best.load.as_deref() };
    for (ask, weighed) in unit.asks.iter().zip(&best.weighed).filter(|(ask, _)| ask.is_request) {
        for sentence in weighed.sentences(&view) {
            let sentence =
                format!("{} is not granted on level {:?}: {sentence}", ask.subject(), best.level.name);
            settled.refusals.push(Mistake::new(ask.origin, sentence));
        }
    }
    if let (Some(broken), Some(ask)) = (&best.broken, unit.asks.iter().find(|ask| ask.is_request)) {
        let sentence = format!("{} is not granted on level {:?}: {broken}", ask.subject(), best.level.name);
        settled.refusals.push(Mistake::new(ask.origin, sentence));
    }
}

/// Channels on the way out whose receivers are to acknowledge, where that may be changed.
fn acknowledge(facts: &Facts, unit: &Unit<'_>, settled: &mut Settled) {
    let wanted =
        |ask: &&Ask<'_>| ask.request.delivery == Some(Delivery::AtLeastOnce) && ask.request.allow.settings;
    for ask in unit.asks.iter().filter(wanted) {
        if let Some(Stage::Egress(topic)) = ask.road.last() {
            let changed =
                members(topic).filter(|c| facts.adapter(&c.adapter).acknowledges && !acknowledges(c));
            settled.acknowledged.extend(changed.map(|channel| channel.name.clone()));
        }
    }
}

/// The kernel takes all reservations or refuses the last ones: it is said before it does.
fn check_reservations(facts: &Facts, wiring: &Wiring, settled: &mut Settled) {
    let (reserved, text) = reservations(&facts.levels);
    let Err(overload) = reservations_fit(&reserved, facts.cpus, facts.reservable_ppm) else { return };
    let last = facts.levels.values().rfind(|level| level.reserved.is_some());
    let Some(level) = last.and_then(|level| wiring.levels.get(&level.name)) else { return };
    let sentence = format!(
        "level {:?}: the reservations make {text}, together {} of a CPU; the kernel grants {} of {} CPUs = {} (sched-deadline)",
        level.name,
        show_cpu(overload.used_ppm),
        show_cpu(facts.reservable_ppm),
        facts.cpus,
        show_cpu(overload.limit_ppm),
    );
    settled.refusals.push(Mistake::new(&level.origin, sentence));
}

/// The level that a user named for a topic.
fn named_level(topic: &TopicSpec) -> Option<&str> {
    let named = topic.qos_given_up.as_deref().unwrap_or(&topic.qos);
    (!topic.qos_is_free).then_some(named)
}

fn asks_anything(wiring: &Wiring) -> bool {
    wiring.topics.values().any(|topic| topic.request.is_some())
        || wiring.workflows.values().any(|workflow| workflow.request.is_some())
}
