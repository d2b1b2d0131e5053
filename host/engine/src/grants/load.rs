//! What the lanes have to do: the events whose rate is known, as tasks for the analysis, and the arithmetic that
//! is shown where they are too many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tempos_control::{Rate, units::show_ns};

use super::facts::{Facts, LevelFacts};
use super::response::{
    CpuSet, Overload, Place, REAL_TIME_PPM, RESERVED, Reservation, Task, WHOLE_PPM, reserved_response_ns,
    response_ns, settle, used_ppm,
};
use super::road::{Piece, Work, part_ppm};

/// The most topics that one sentence names.
const NAMED_MAX: usize = 6;

/// The events of a topic on a level.
#[derive(Clone, Debug)]
pub struct Load {
    /// The topic that they come into.
    pub topic: String,
    /// Its level.
    pub level: String,
    /// How often they come.
    pub rate: Rate,
    /// How many come at once after a pause, at least 1.
    pub burst: u64,
    /// What each costs.
    pub work: Work,
    /// Why more may come than that, with what would mend it; `None` where the node itself sees to it.
    pub loose: Option<String>,
}

impl Load {
    /// A piece of it for the analysis.
    pub fn task(&self, place: Place, cost_ns: u64) -> Task {
        Task { place, cost_ns, interval_ns: self.rate.interval_ns(), count: 1, burst: self.burst }
    }
}

/// The loads of a node, and how long each lane takes under them.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    loads: Vec<Arc<Load>>,
    tasks: Vec<Task>,
    /// Topics whose rate nobody knows, by level.
    pub unknown: BTreeMap<String, Vec<String>>,
    /// Topics of other levels some of whose events come to a level all the same, by level.
    pub guests: Arc<BTreeMap<String, String>>,
    /// By level: its queue worker, its function workers.
    responses: BTreeMap<String, [Result<u64, Overload>; 2]>,
}

impl Lanes {
    /// Lanes without any event, of which only reservations are known.
    pub fn new(facts: &Facts, unknown: BTreeMap<String, Vec<String>>) -> Self {
        let reserved = facts.levels.values().filter_map(|level| Some((level.reserved?, level.queue)));
        let tasks = reserved.map(|(reserved, place)| Task {
            place,
            cost_ns: reserved.runtime_ns,
            interval_ns: reserved.period_ns,
            count: 1,
            burst: 1,
        });
        let mut lanes = Lanes { tasks: tasks.collect(), unknown, ..Lanes::default() };
        lanes.respond(facts);
        lanes
    }

    /// The same with another load.
    pub fn with(&self, facts: &Facts, load: Arc<Load>) -> Self {
        let mut lanes = self.clone();
        lanes.take(facts, load);
        lanes.respond(facts);
        lanes
    }

    /// Takes another load, and leaves the responses to [`respond`](Self::respond).
    pub fn take(&mut self, facts: &Facts, load: Arc<Load>) {
        if let Some(level) = facts.levels.get(&load.level) {
            for piece in &load.work.queue {
                // What a reservation holds is in its own task; the rest of the node does not meet its events.
                if level.reserved.is_none() {
                    self.add(load.task(level.queue, piece.ns));
                }
            }
            for piece in &load.work.functions {
                self.add(load.task(level.functions, piece.ns));
            }
        }
        self.loads.push(load);
    }

    /// Like tasks are counted together: a thousand topics of one kind are one.
    fn add(&mut self, task: Task) {
        let alike = |known: &&mut Task| Task { count: task.count, ..**known } == task;
        match self.tasks.iter_mut().find(alike) {
            Some(known) => known.count += task.count,
            None => self.tasks.push(task),
        }
    }

    /// Reckons how long each lane takes.
    pub fn respond(&mut self, facts: &Facts) {
        self.responses = facts
            .levels
            .values()
            .map(|level| {
                let queue = match level.reserved {
                    Some(reserved) => reserved_response_ns(reserved, 0, &self.own(level)),
                    None => self.response(facts, level, level.queue),
                };
                (level.name.clone(), [queue, self.response(facts, level, level.functions)])
            })
            .collect();
    }

    fn response(&self, facts: &Facts, level: &LevelFacts, place: Place) -> Result<u64, Overload> {
        let blocking = facts.costs.on(level.is_real_time).blocking_ns();
        response_ns(place, 0, blocking, &self.tasks, limit_ppm(facts, level))
    }

    /// The queue worker's tasks of a lane that has a reservation.
    fn own(&self, level: &LevelFacts) -> Vec<Task> {
        let loads = self.loads.iter().filter(|load| load.level == level.name);
        let place = Place { priority: RESERVED, cpus: CpuSet::ALL };
        loads.flat_map(|load| load.work.queue.iter().map(move |piece| load.task(place, piece.ns))).collect()
    }

    /// How long a level's queue worker takes at most for everything that may come before an event, and it.
    pub fn queue(&self, level: &str) -> Result<u64, Overload> {
        self.responses.get(level).map_or(Ok(0), |both| both[0])
    }

    /// The same of its function workers.
    pub fn functions(&self, level: &str) -> Result<u64, Overload> {
        self.responses.get(level).map_or(Ok(0), |both| both[1])
    }

    /// How long an event of a load takes at most on its whole way (ns), where everything that may come first does so
    /// once: the busy period of all threads on the way as if they shared one CPU, in a window that its wake-ups make
    /// longer. `own_ns`: what the event takes itself; `wakes_ns`: all of its wake-ups. `None` where there is no bound.
    pub fn way(
        &self,
        facts: &Facts,
        level: &LevelFacts,
        functions: bool,
        own: &Load,
        own_ns: u64,
        wakes_ns: u64,
    ) -> Option<u64> {
        let place = if functions { level.functions } else { level.queue };
        let first: Vec<&Task> = self.tasks.iter().filter(|task| place.yields_to(task.place)).collect();
        let pieces = |pieces: &[Piece], at: Place| -> Vec<Task> {
            let counted = pieces.iter().filter(|_| place.yields_to(at));
            counted.map(|piece| own.task(at, piece.ns)).collect()
        };
        let of_own =
            [pieces(&own.work.queue, level.queue), pieces(&own.work.functions, level.functions)].concat();
        let total = own.work.ns(true, true);
        let base = facts.costs.on(level.is_real_time).blocking_ns().saturating_add(own_ns);
        let busy = settle(base, |ns| {
            let window = ns.saturating_add(wakes_ns);
            let all = first.iter().fold(0, |sum: u64, task| sum.saturating_add(task.demand(window)));
            let gone = of_own.iter().fold(0, |sum: u64, task| sum.saturating_add(task.demand(window)));
            // Of its own topic those that come within the window or came with it, without itself.
            let others = window.div_ceil(own.rate.interval_ns()).max(1) + own.burst - 2;
            base.saturating_add(all.saturating_sub(gone)).saturating_add(total.saturating_mul(others))
        })?;
        Some(busy.saturating_add(wakes_ns))
    }

    /// The most events that wait in a level's queue within so long.
    pub fn backlog(&self, level: &str, ns: u64) -> u64 {
        let loads = self.loads.iter().filter(|load| load.level == level);
        let events = |load: &Load| ns.div_ceil(load.rate.interval_ns()).max(1) + load.burst - 1;
        loads.map(|load| events(load) * load.work.queue.len() as u64).sum()
    }

    /// What may go first where an event of the level is served, by its queue worker and with `functions` by its
    /// function workers as well; and the level's own.
    pub fn first<'a>(
        &'a self,
        facts: &'a Facts,
        level: &'a LevelFacts,
        functions: bool,
    ) -> impl Iterator<Item = &'a Load> {
        self.loads.iter().map(Arc::as_ref).filter(move |load| {
            facts.levels.get(&load.level).is_some_and(|of| goes_first(level, of, functions))
        })
    }

    /// A topic of which nobody knows how many events come where an event of the level is served: one that says no rate,
    /// or gives its events other levels than its own.
    pub fn unbounded(&self, facts: &Facts, level: &LevelFacts, functions: bool) -> Option<String> {
        let before = || facts.levels.values().filter(|of| goes_first(level, of, functions));
        let unknown = before().find_map(|of| self.unknown.get(&of.name)?.first());
        if let Some(topic) = unknown {
            return Some(format!("topic {topic:?} says no rate: give its endpoints a rate"));
        }
        let guest = before().find_map(|of| Some((of, self.guests.get(&of.name)?)));
        guest.map(|(of, topic)| {
            format!(
                "topic {topic:?} may bring its events to level {:?} by rules or qos_max, which is not counted",
                of.name
            )
        })
    }

    /// What real-time levels above one with a share of the CPU use, in millionths of one; the name of that one.
    pub fn above_a_share<'a>(&self, facts: &'a Facts, level: &LevelFacts) -> Option<(u64, &'a str)> {
        let below = facts.levels.values().filter(|of| of.rank < level.rank && of.share_percent > 0);
        let used = |below: &LevelFacts| -> u64 {
            let above = self
                .loads
                .iter()
                .filter(|load| facts.levels.get(&load.level).is_some_and(|of| of.rank > below.rank));
            above.map(|load| load.work.used_ppm(load.rate)).sum()
        };
        below.map(|below| (used(below), below.name.as_str())).max()
    }

    /// How many events a second come to a level, and how many at once: of those whose rate is known.
    pub fn arrivals(&self, level: &str) -> (u64, u64) {
        let loads = self.loads.iter().filter(|load| load.level == level);
        loads.fold((0, 0), |(rate, burst), load| {
            let places = load.work.queue.len() as u64;
            (rate + load.rate.per_hour.div_ceil(3600) * places, burst + load.burst * places)
        })
    }

    /// How much of a CPU is in use where an event of the level is to be served, in millionths.
    pub fn used_ppm(&self, level: &LevelFacts) -> u64 {
        match level.reserved {
            Some(reserved) => reserved.ppm(),
            None => used_ppm(level.queue, &self.tasks),
        }
    }

    /// A topic whose rate nobody knows, and which may go first where an event of the level is to be served.
    pub fn stranger(&self, facts: &Facts, level: &LevelFacts) -> Option<&str> {
        let before = facts.levels.values().filter(|other| {
            other.name == level.name
                || other.reserved.is_none() && level.reserved.is_none() && level.queue.yields_to(other.queue)
        });
        before.filter_map(|other| self.unknown.get(&other.name)?.first()).map(String::as_str).next()
    }

    /// The arithmetic of an overload: who needs how much of a CPU, and how much there is.
    pub fn arithmetic(
        &self,
        facts: &Facts,
        level: &LevelFacts,
        functions: bool,
        overload: Overload,
    ) -> String {
        let place = if functions { level.functions } else { level.queue };
        let mut parts: Vec<(u64, String)> = Vec::new();
        for load in &self.loads {
            let Some(of) = facts.levels.get(&load.level) else { continue };
            // What a reserved lane does is within its reservation, which stands for itself.
            let own = of.name == level.name && !functions;
            let counts = match (of.reserved, level.reserved) {
                (Some(_), _) => own,
                (None, Some(_)) if !functions => false,
                _ => place.yields_to(of.queue),
            };
            let reserved = level.reserved.is_some() && !functions;
            let calls = !reserved && place.yields_to(of.functions);
            let ns = load.work.ns(counts, calls);
            if ns > 0 {
                let used = part_ppm(ns, load.rate);
                let text =
                    format!("{} {} × {} = {}", load.topic, load.rate.show(), show_ns(ns), show_cpu(used));
                parts.push((used, text));
            }
        }
        for other in facts.levels.values().filter(|other| functions || other.name != level.name) {
            if let Some(reserved) = other.reserved.filter(|_| place.yields_to(other.queue)) {
                let text = format!("the reservation of level {:?} {}", other.name, show_cpu(reserved.ppm()));
                parts.push((reserved.ppm(), text));
            }
        }
        parts.sort_by(|a, b| b.cmp(a));
        let mut text = String::new();
        for (at, (_, part)) in parts.iter().take(NAMED_MAX).enumerate() {
            let _ = write!(text, "{}{part}", if at == 0 { "" } else { " + " });
        }
        if parts.len() > NAMED_MAX {
            let rest: u64 = parts[NAMED_MAX..].iter().map(|(used, _)| *used).sum();
            let _ = write!(text, " + {} more = {}", parts.len() - NAMED_MAX, show_cpu(rest));
        }
        let what = if functions { "function workers" } else { "queue worker" };
        format!(
            "the {what} of level {:?}{}: {text}, together {} of a CPU; {}",
            level.name,
            if level.is_pinned { "" } else { " (not pinned: taken as sharing one CPU with all)" },
            show_cpu(overload.used_ppm),
            limit_words(facts, level, functions, overload),
        )
    }
}

/// Whether what a level does may go first where another one is served.
fn goes_first(level: &LevelFacts, other: &LevelFacts, functions: bool) -> bool {
    let place = if functions { level.functions } else { level.queue };
    let meets = match (level.reserved, other.reserved) {
        // A reservation is met by its own events alone, and is a task of its own for all others.
        (Some(_), _) if !functions => false,
        (_, Some(_)) => place.yields_to(other.functions),
        _ => place.yields_to(other.queue) || place.yields_to(other.functions),
    };
    other.name == level.name || meets
}

fn limit_words(facts: &Facts, level: &LevelFacts, functions: bool, overload: Overload) -> String {
    if level.reserved.is_some() && !functions {
        return format!("its reservation has {}", show_cpu(overload.limit_ppm));
    }
    let promised = promised_ppm(facts, level);
    match (level.is_real_time, promised) {
        (false, _) => format!("there is {}", show_cpu(overload.limit_ppm)),
        (true, 0) => format!("real-time threads may use {} (sched(7))", show_cpu(overload.limit_ppm)),
        (true, promised) => format!(
            "there is {}: {} for real-time threads (sched(7)) less {} promised to lower levels",
            show_cpu(overload.limit_ppm),
            show_cpu(REAL_TIME_PPM),
            show_cpu(promised),
        ),
    }
}

/// What a level's threads may use of a CPU, in millionths.
fn limit_ppm(facts: &Facts, level: &LevelFacts) -> u64 {
    if !level.is_real_time {
        return WHOLE_PPM;
    }
    REAL_TIME_PPM.saturating_sub(promised_ppm(facts, level))
}

/// The shares promised to the levels below, where they may meet.
fn promised_ppm(facts: &Facts, level: &LevelFacts) -> u64 {
    let below = facts
        .levels
        .values()
        .filter(|other| other.rank < level.rank && other.queue.cpus.meets(level.queue.cpus));
    below.map(|other| u64::from(other.share_percent) * 10_000).sum()
}

/// What a set of reservations comes to, for a sentence.
pub fn reservations(levels: &BTreeMap<String, LevelFacts>) -> (Vec<Reservation>, String) {
    let reserved: Vec<(&str, Reservation)> =
        levels.values().filter_map(|level| Some((level.name.as_str(), level.reserved?))).collect();
    let text = reserved.iter().map(|(name, one)| {
        format!("{name} {} in {} = {}", show_ns(one.runtime_ns), show_ns(one.period_ns), show_cpu(one.ppm()))
    });
    (reserved.iter().map(|(_, one)| *one).collect(), text.collect::<Vec<_>>().join(" + "))
}

/// Millionths of a CPU for a reader: `0.720`.
pub fn show_cpu(ppm: u64) -> String {
    let thousandths = ppm.div_ceil(1000);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}
