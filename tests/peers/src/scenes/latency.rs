//! A strict flow of 1000 events a second: alone, beside best-effort flows, beside a flood, and beside a flood that
//! ends in the same consumer. All systems take turns in short rounds, so that whatever else the machine does
//! meets them alike.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::opens;
use crate::client::{self, Arrivals, Flow};
use crate::machine::{Layout, Usage, Watch};
use crate::options::{Options, Scene};
use crate::report::{LatencyRow, Report};
use crate::summary::{Percentiles, median};
use crate::systems::System;

const RATE: u64 = 1000;

#[derive(Default)]
struct Rounds {
    rounds: Vec<(Percentiles, Percentiles)>,
    lost: u64,
    out_of_order: u64,
    bulk_sent: u64,
    bulk_came: u64,
    cpu_ns: u64,
    events: u64,
    others: Vec<f64>,
}

/// Runs all rounds of one scene.
pub fn run(
    scene: Scene,
    systems: &mut [Box<dyn System>],
    options: &Options,
    layout: &Layout,
    report: &mut Report,
) {
    let mut all: BTreeMap<usize, Rounds> = BTreeMap::new();
    for round in 0..options.rounds {
        for step in 0..systems.len() {
            let at = (step + round) % systems.len();
            let system = &systems[at];
            let number = (round * systems.len() + at) as u32 + scene as u32 * 10_000;
            match play(scene, &**system, number, options.events, layout) {
                Ok(turn) => all.entry(at).or_default().add(turn, options.events),
                Err(error) => report.failed(system.name(), scene, &error.to_string()),
            }
        }
    }
    for (at, rounds) in all {
        report.latency(rounds.row(systems[at].name(), scene));
    }
}

impl Rounds {
    fn add(&mut self, mut turn: Turn, events: u64) {
        let arrivals = &mut turn.arrivals;
        self.lost += events - (arrivals.from_due.len() as u64).min(events);
        self.out_of_order += arrivals.out_of_order;
        self.rounds.push((Percentiles::of(&mut arrivals.from_due), Percentiles::of(&mut arrivals.from_send)));
        self.bulk_sent += turn.bulk_sent;
        self.bulk_came += turn.bulk_came;
        self.cpu_ns += turn.cpu_ns;
        self.events += events + turn.bulk_came;
        self.others.push(turn.others);
    }

    /// The middle of the rounds for each figure: one round that a neighbour spoiled does not decide.
    fn row(&self, system: &str, scene: Scene) -> LatencyRow {
        let of = |part: fn(&(Percentiles, Percentiles)) -> u64| {
            median(&self.rounds.iter().map(|round| part(round) as f64).collect::<Vec<_>>()) as u64
        };
        LatencyRow {
            system: system.to_owned(),
            scene,
            due: Percentiles {
                p50: of(|r| r.0.p50),
                p99: of(|r| r.0.p99),
                p999: of(|r| r.0.p999),
                max: self.rounds.iter().map(|r| r.0.max).max().unwrap_or(0),
            },
            sent: Percentiles {
                p50: of(|r| r.1.p50),
                p99: of(|r| r.1.p99),
                p999: of(|r| r.1.p999),
                max: self.rounds.iter().map(|r| r.1.max).max().unwrap_or(0),
            },
            lost: self.lost,
            out_of_order: self.out_of_order,
            bulk_sent: self.bulk_sent,
            bulk_came: self.bulk_came,
            cpu_ns_per_event: self.cpu_ns as f64 / self.events.max(1) as f64,
            others: median(&self.others),
        }
    }
}

struct Turn {
    arrivals: Arrivals,
    bulk_sent: u64,
    bulk_came: u64,
    cpu_ns: u64,
    others: f64,
}

fn play(scene: Scene, system: &dyn System, round: u32, events: u64, layout: &Layout) -> io::Result<Turn> {
    let shared = scene == Scene::Shared;
    let mut strict = system.producer(Flow::Strict)?;
    let mut consumer = system.consumer(if shared { &[Flow::Strict, Flow::Bulk] } else { &[Flow::Strict] })?;
    if !opens(&mut *strict, &mut *consumer) {
        return Err(io::Error::other("no event came through"));
    }
    let mut bulk_consumer = match scene {
        Scene::Three | Scene::Flood => Some(system.consumer(&[Flow::Bulk])?),
        _ => None,
    };
    let flows = match scene {
        Scene::Quiet => 0,
        Scene::Three => 3,
        _ => 1,
    };
    let mut bulk: Vec<_> = (0..flows).map(|_| system.producer(Flow::Bulk)).collect::<Result<_, _>>()?;
    if let (Some(producer), Some(consumer)) = (bulk.first_mut(), &mut bulk_consumer)
        && !opens(&mut **producer, &mut **consumer)
    {
        return Err(io::Error::other("no best-effort event came through"));
    }
    let (sent_all, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (bulk_came, bulk_sent) = (AtomicU64::new(0), AtomicU64::new(0));
    let pids: Vec<u32> = system.pid().into_iter().collect();
    let watch = Watch::begin(pids.clone());
    let before = pids.first().map(|pid| Usage::of(*pid));
    let arrivals = std::thread::scope(|scope| {
        let (sent_all, stop, bulk_came, bulk_sent) = (&sent_all, &stop, &bulk_came, &bulk_sent);
        let receiver = scope.spawn(move || {
            client::as_receiver(layout);
            client::consume(&mut *consumer, round, events, sent_all, bulk_came)
        });
        if let Some(mut consumer) = bulk_consumer {
            scope.spawn(move || {
                client::as_bulk(layout);
                client::count(&mut *consumer, round, stop, bulk_came);
            });
        }
        for (number, mut producer) in bulk.into_iter().enumerate() {
            scope.spawn(move || {
                client::as_bulk(layout);
                let sent = match scene {
                    Scene::Three => {
                        client::pace(&mut *producer, round, number as u32 + 1, u64::MAX, RATE, stop)
                    }
                    _ => client::flood(&mut *producer, round, stop),
                };
                bulk_sent.fetch_add(sent, Ordering::Relaxed);
            });
        }
        let sender = scope.spawn(move || {
            client::as_sender(layout);
            client::pace(&mut *strict, round, 0, events, RATE, stop);
            sent_all.store(true, Ordering::Release);
        });
        let _ = sender.join();
        let arrivals = receiver.join().unwrap_or_default();
        stop.store(true, Ordering::Relaxed);
        arrivals
    });
    let after = pids.first().map(|pid| Usage::of(*pid));
    Ok(Turn {
        arrivals,
        bulk_sent: bulk_sent.into_inner(),
        bulk_came: bulk_came.into_inner(),
        cpu_ns: after.zip(before).map_or(0, |(after, before)| after.since(before).cpu_ns),
        others: watch.others(),
    })
}
