//! When a bound is a promise: the conditions of the grade `guaranteed`, and the sentence that names the first one that
//! is missing, with what would mend it.
//!
//! What is promised is a p99: of the events of a road, up to the rates that its sources are held to, 99 of 100 are
//! through within the bound, whatever the other traffic of the node does. It rests on measured figures, so it holds for
//! the machine, kernel and build that were measured, and for load such as there was then. A kernel that cannot be
//! preempted (preempt=none) lets other programs hold a CPU for as long as they are in it, which no calibration bounds:
//! there nothing is promised. Nor is a maximum anywhere: what a machine does at its worst can be measured, but not bounded from here. Left out of it are orders to the node
//! (a new wiring, `Publish`), programs outside it with real-time priorities of their own, and receivers that do not
//! read.

use tempos_control::units::show_ns;

use super::costs::wakes_figure;
use super::hops::{Hop, Part, View};
use super::load::show_cpu;
use super::road::{Stage, pieces, wakes};

/// What real-time levels may use of a CPU while a level below them has a share of it, in millionths: the supervisor
/// makes up for a share from a quarter on (`lane::supervisor`), a window of 50 ms at a time.
const ABOVE_A_SHARE_PPM: u64 = 200_000;

/// The first condition that is missing, with what would mend it; `None` where the bound is promised.
pub fn missing(
    view: &View<'_>,
    road: &[Stage<'_>],
    parts: &[Part<'_>],
    lacking: Option<&str>,
) -> Option<String> {
    let has_worker = road.iter().any(|stage| matches!(stage, Stage::Function(one) if !one.call.inline));
    lacking
        .map(str::to_owned)
        .or_else(|| threads(view, has_worker))
        .or_else(|| hops(view, parts))
        .or_else(|| arrivals(view, has_worker))
        .or_else(|| measured(view, road, has_worker))
        .or_else(|| share(view))
        .or_else(|| room(view, parts))
        // The last, for it takes a reboot.
        .or_else(|| view.facts.kernel.map(str::to_owned))
}

/// The threads of every hop run in real time as was asked, in memory that is there.
fn threads(view: &View<'_>, has_worker: bool) -> Option<String> {
    let level = view.level;
    let name = &level.name;
    if let Some(instead) = &level.instead {
        let asked = &level.asked;
        return Some(format!(
            "level {name:?} runs as {instead} instead of {asked}: temposctl doctor names the cause"
        ));
    }
    if !level.is_real_time {
        return Some(format!(
            "level {name:?} runs as {}, beside every other program: a level with a real-time scheduler does not",
            level.runs_as()
        ));
    }
    if let Some(instead) = level.functions_instead.as_ref().filter(|_| has_worker) {
        return Some(format!(
            "a function worker of level {name:?} runs as {instead} and not as asked: temposctl doctor names the cause"
        ));
    }
    (!level.is_locked).then(|| {
        format!("the memory of level {name:?} is not locked: set lock_memory, and see temposctl doctor")
    })
}

/// Every hop keeps its events apart from others.
fn hops(view: &View<'_>, parts: &[Part<'_>]) -> Option<String> {
    parts.iter().find_map(|part| match part.hop {
        Hop::Ingress(topic) => view.lesser(topic.ingress.iter()),
        Hop::Egress(topic) => view.lesser(super::hops::members(topic)),
        Hop::Function(workflow) if workflow.call.deadline_ns.is_none() => {
            Some(format!("workflow {:?} declares no deadline: give it one", workflow.name))
        }
        // What may come before it is looked at below.
        Hop::Function(_) | Hop::Queue(_) => None,
    })
}

/// What may come first is bounded, by the node itself.
fn arrivals(view: &View<'_>, has_worker: bool) -> Option<String> {
    let Some(own) = view.own else {
        return Some(String::from("nobody says how often its events come: give its endpoints a rate"));
    };
    let others = || view.lanes.first(view.facts, view.level, has_worker);
    own.loose
        .clone()
        .or_else(|| view.lanes.unbounded(view.facts, view.level, has_worker))
        .or_else(|| others().find_map(|load| load.loose.clone()))
}

/// Every figure was measured: on this machine, kernel and build, in real time and beside load, often enough.
fn measured(view: &View<'_>, road: &[Stage<'_>], has_worker: bool) -> Option<String> {
    let costs = &view.facts.costs;
    let (wakes, pieces) = (wakes(road), pieces(road));
    let (Some((of_pieces, of_wakes)), Some(row)) = (view.rarities(road), wakes_figure(wakes)) else {
        return Some(format!(
            "its way has {wakes} wake-ups and {pieces} pieces of work, more than are measured: ask on a part of it"
        ));
    };
    let rows = costs.lacks(row, of_wakes).or_else(|| costs.lacks("wake", of_wakes));
    let own = rows.or_else(|| view.own?.work.figures.iter().find_map(|what| costs.lacks(what, of_pieces)));
    own.or_else(|| {
        let before = view.lanes.first(view.facts, view.level, has_worker);
        before.flat_map(|load| &load.work.figures).find_map(|what| costs.lacks(what, 0))
    })
}

/// Nobody is lifted above the level for a share of the CPU.
fn share(view: &View<'_>) -> Option<String> {
    let (used, below) = view.lanes.above_a_share(view.facts, view.level)?;
    (used > ABOVE_A_SHARE_PPM).then(|| {
        format!(
            "levels above {below:?} may use {} of a CPU, and from {} on its share of the CPU may go first: \
             share = 0 there, or less load",
            show_cpu(used),
            show_cpu(ABOVE_A_SHARE_PPM)
        )
    })
}

/// Nothing of it is held back or dropped in the node.
fn room(view: &View<'_>, parts: &[Part<'_>]) -> Option<String> {
    let (level, own) = (view.level, view.own?);
    let whole_ns = parts.iter().map(|part| part.bound_ns.ok()).sum::<Option<u64>>()?;
    if let Some(max) = level.rate_max {
        // Its bucket holds a hundredth of a second's (`bridging::shaper`).
        let (rate, burst) = view.lanes.arrivals(&level.name);
        let at_once = u64::from(max / 100).max(1);
        if rate > u64::from(max) || burst > at_once {
            return Some(format!(
                "level {:?} lets {max}/s pass and {at_once} at once, and {rate}/s and {burst} at once may come: what \
                 waits for that is not counted",
                level.name
            ));
        }
    }
    for part in parts {
        let Hop::Queue(topic) = part.hop else { continue };
        if let Some(ttl) = topic.time_to_live_ns.or(level.time_to_live_ns).filter(|ttl| *ttl < whole_ns) {
            return Some(format!("events older than {} are dropped: give them more time", show_ns(ttl)));
        }
        if let Some(deadline) = topic.deadline_ns.filter(|ns| topic.drops_late && *ns < whole_ns) {
            return Some(format!("events later than {} are dropped: give them more time", show_ns(deadline)));
        }
    }
    let waiting = view.lanes.backlog(&level.name, view.lanes.queue(&level.name).ok()?);
    if waiting > u64::from(level.capacity_events) {
        let capacity = level.capacity_events;
        return Some(format!(
            "up to {waiting} events wait in a queue of {capacity}: give it a larger capacity"
        ));
    }
    let held = whole_ns.div_ceil(own.rate.interval_ns()) + own.burst;
    let topic = parts.iter().find_map(|part| match part.hop {
        Hop::Ingress(topic) => Some(topic),
        _ => None,
    })?;
    topic.ingress.iter().find_map(|channel| {
        let (name, endpoint) = (&channel.name, &channel.endpoint);
        let rate = endpoint.rate?.max(1);
        // One that is read late makes the next ones wait at a bucket that holds no more (`bridging::shaper`).
        let needed = 1 + whole_ns.div_ceil(1_000_000_000 / u64::from(rate));
        let burst = u64::from(endpoint.burst.unwrap_or(rate / 100).max(1));
        if burst < needed {
            return Some(format!(
                "endpoint {name:?} lets in {burst} at once, so that one that is read late makes the next one wait: \
                 burst = {needed}"
            ));
        }
        let most = endpoint.in_flight.filter(|most| u64::from(*most) < held)?;
        Some(format!("endpoint {name:?} lets {most} events in at a time, and {held} may be there"))
    })
}
