//! The highest rate without loss. Nobody is pinned and nobody has real time; where a system does not hold its
//! producer back, the events under way are bounded.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::opens;
use crate::client::{self, Flow};
use crate::event::{EVENT_BYTES, Stamp};
use crate::machine::{Usage, Watch};
use crate::options::{Options, Scene};
use crate::report::{RateRow, Report};
use crate::summary::median;
use crate::systems::System;

/// Events of one call of the producer.
const BATCH: usize = 64;
/// After so long without an arrival, what is under way counts as lost.
const SILENCE: Duration = Duration::from_millis(500);

struct Turn {
    per_second: f64,
    cpu_ns_per_event: f64,
    lost: u64,
    others: f64,
}

/// Runs all turns.
pub fn run(systems: &mut [Box<dyn System>], options: &Options, report: &mut Report) {
    let mut turns: Vec<Vec<Turn>> = systems.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for step in 0..systems.len() {
            let at = (step + round) % systems.len();
            if !systems[at].has(Flow::Rate) {
                continue;
            }
            let number = 900_000 + (round * systems.len() + at) as u32;
            match play(&*systems[at], number, Duration::from_millis(options.turn_ms)) {
                Ok(turn) => turns[at].push(turn),
                Err(error) => report.failed(systems[at].name(), Scene::Rate, &error.to_string()),
            }
        }
    }
    for (system, turns) in systems.iter().zip(turns).filter(|(_, turns)| !turns.is_empty()) {
        let of = |part: fn(&Turn) -> f64| median(&turns.iter().map(part).collect::<Vec<_>>());
        report.rate(RateRow {
            system: system.name().to_owned(),
            per_second: of(|turn| turn.per_second),
            best_per_second: turns.iter().map(|turn| turn.per_second).fold(0.0, f64::max),
            cpu_ns_per_event: system.rate_pid().map(|_| of(|turn| turn.cpu_ns_per_event)),
            lost: turns.iter().map(|turn| turn.lost).sum(),
            others: of(|turn| turn.others),
        });
    }
}

fn play(system: &dyn System, round: u32, length: Duration) -> io::Result<Turn> {
    let mut producer = system.producer(Flow::Rate)?;
    let mut consumer = system.consumer(&[Flow::Rate])?;
    if !opens(&mut *producer, &mut *consumer) {
        return Err(io::Error::other("no event came through"));
    }
    let window = system.window().unwrap_or(u64::MAX);
    let (came, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let pids: Vec<u32> = system.rate_pid().into_iter().collect();
    let watch = Watch::begin(pids.clone());
    let usage = || pids.first().map_or_else(Usage::default, |pid| Usage::of(*pid));
    std::thread::scope(|scope| {
        let (came, stop) = (&came, &stop);
        scope.spawn(move || client::count(&mut *consumer, round, stop, came));
        let before = usage();
        let begin = Instant::now();
        let (mut sent, mut answer) = (0u64, Ok(()));
        let mut events = vec![[0x5a; EVENT_BYTES]; BATCH];
        while begin.elapsed() < length {
            if sent + BATCH as u64 > came.load(Ordering::Relaxed).saturating_add(window) {
                std::thread::yield_now();
                continue;
            }
            for (at, event) in (0u64..).zip(&mut events) {
                Stamp { round, flow: 2, sequence: sent + at, ..Stamp::default() }.write(event);
            }
            match producer.send_many(&events) {
                Ok(count) => sent += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => {
                    answer = Err(error);
                    break;
                }
            }
        }
        let (took, in_time) = (begin.elapsed(), came.load(Ordering::Relaxed));
        let (mut last, mut since) = (in_time, Instant::now());
        while last < sent && since.elapsed() < SILENCE {
            std::thread::sleep(Duration::from_millis(10));
            let now = came.load(Ordering::Relaxed);
            if now > last {
                (last, since) = (now, Instant::now());
            }
        }
        let cpu_ns = usage().since(before).cpu_ns;
        stop.store(true, Ordering::Relaxed);
        answer.map(|()| Turn {
            per_second: in_time as f64 / took.as_secs_f64(),
            cpu_ns_per_event: cpu_ns as f64 / last.max(1) as f64,
            lost: sent - last.min(sent),
            others: watch.others(),
        })
    })
}
