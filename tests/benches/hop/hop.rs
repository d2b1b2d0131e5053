//! Latency of a hop: all ways in turns.

use crate::machine::{Layout, Usage, Watch};
use crate::options::Options;
use crate::scene::Scene;
use crate::summary::{Percentiles, median};
use crate::traffic::{Round, flow};

/// Events that warm a way up before its first round.
const WARM_UP: u32 = 100;

/// What a way came to.
#[derive(Debug)]
pub struct HopResult {
    /// Its name.
    pub name: &'static str,
    /// The way that it is compared with.
    pub beside: Option<&'static str>,
    /// From the instant that the event was due.
    pub from_due: Percentiles,
    /// From the call that sent it.
    pub from_send: Percentiles,
    /// Median, over the rounds, of this way's median over that of the way beside it.
    pub ratio: f64,
    /// Events sent.
    pub events: u64,
    /// Events that did not come.
    pub lost: u64,
    /// Events that came after a later one.
    pub out_of_order: u64,
    /// CPU time of the forwarding process for each event.
    pub cpu_ns_per_event: u64,
    /// CPUs that others used meanwhile.
    pub others: f64,
}

#[derive(Default)]
struct Gathered {
    sum: Round,
    medians: Vec<u64>,
    cpu_ns: u64,
    others: Vec<f64>,
}

/// Runs all rounds.
pub fn run(scene: &mut Scene, layout: &Layout, options: &Options) -> Vec<HopResult> {
    let events = (options.events / options.rounds).max(1);
    let mut gathered: Vec<Gathered> = scene.ways.iter().map(|_| Gathered::default()).collect();
    let pids = scene.pids();
    for round in 0..options.rounds {
        for step in 0..scene.ways.len() {
            // Another one is first in each round.
            let at = (step + round as usize) % scene.ways.len();
            let (way, to) = (&scene.ways[at], &mut gathered[at]);
            let sink = if way.to_unix { &scene.unix } else { &scene.udp };
            let number = round * 1000 + at as u32 * 2 + 1;
            if round == 0 {
                flow(way.target, sink, number, WARM_UP, options.rate, layout);
            }
            let watch = Watch::begin(pids.clone());
            let before = Usage::of(way.pid);
            let mut brought = flow(way.target, sink, number + 1, events, options.rate, layout);
            to.cpu_ns += Usage::of(way.pid).since(before).cpu_ns;
            to.others.push(watch.others());
            to.medians.push(Percentiles::of(&mut brought.from_due).p50);
            to.sum.lost += brought.lost;
            to.sum.out_of_order += brought.out_of_order;
            to.sum.from_due.append(&mut brought.from_due);
            to.sum.from_send.append(&mut brought.from_send);
        }
    }
    let medians: Vec<(&str, Vec<u64>)> =
        scene.ways.iter().zip(&gathered).map(|(way, of)| (way.name, of.medians.clone())).collect();
    let sent = u64::from(events) * u64::from(options.rounds);
    scene
        .ways
        .iter()
        .zip(gathered)
        .map(|(way, mut of)| {
            let beside = way.beside.and_then(|name| medians.iter().find(|entry| entry.0 == name));
            let ratios: Vec<f64> = beside
                .into_iter()
                .flat_map(|(_, theirs)| of.medians.iter().zip(theirs))
                .map(|(ours, theirs)| *ours as f64 / (*theirs).max(1) as f64)
                .collect();
            HopResult {
                name: way.name,
                beside: way.beside,
                from_due: Percentiles::of(&mut of.sum.from_due),
                from_send: Percentiles::of(&mut of.sum.from_send),
                ratio: if ratios.is_empty() { 1.0 } else { median(&ratios) },
                events: sent,
                lost: of.sum.lost,
                out_of_order: of.sum.out_of_order,
                cpu_ns_per_event: of.cpu_ns / sent.max(1),
                others: median(&of.others),
            }
        })
        .collect()
}
