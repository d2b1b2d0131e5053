//! The aims, as ratios within one run.

use crate::options::Scene;
use crate::report::{LatencyRow, Report};
use crate::systems;

/// One aim.
pub struct Aim {
    /// Whether it is met.
    pub met: bool,
    /// What it is, and by how much.
    pub sentence: String,
    /// The whole run fails where it is missed.
    pub binds: bool,
}

/// A rate that an earlier build had may be missed by so much: what is beneath it got slower.
const SLOWER_MIN: f64 = 0.95;

fn at_most(what: String, value: f64, bound: f64) -> Aim {
    Aim { met: value <= bound, sentence: format!("{what}: {value:.2}, at most {bound:.2}"), binds: false }
}

fn at_least(what: String, value: f64, bound: f64) -> Aim {
    Aim { met: value >= bound, sentence: format!("{what}: {value:.2}, at least {bound:.2}"), binds: false }
}

/// Judges what was run.
pub fn judge(report: &Report) -> Vec<Aim> {
    let mut aims = Vec::new();
    let row = |system: &str, scene: Scene| {
        report.latencies.iter().find(|row| row.system == system && row.scene == scene)
    };
    let ours: Vec<&str> = systems::OURS
        .into_iter()
        .filter(|name| row(name, Scene::Quiet).is_some() || row(name, Scene::Flood).is_some())
        .collect();
    for name in &ours {
        latency(name, &row, &mut aims);
    }
    peers(&row, &mut aims);
    rates(report, &mut aims);
    if let Some((p99_ns, lost, said)) = &report.ungranted {
        aims.push(at_most(String::from("without real time, strict p99 in a flood in ms"), p99_ns / 1e6, 2.0));
        let met = *lost == 0 && said != "not degraded";
        aims.push(Aim {
            met,
            sentence: format!("without real time {lost} strict events are lost, and the node says so"),
            binds: false,
        });
    }
    if let Some(topics) = report.topics {
        let ratio = topics.many_p50 / topics.few_p50.max(1.0);
        aims.push(at_most(String::from("p50 among 10,000 topics over that among ten"), ratio, 1.1));
        aims.push(at_most(String::from("KiB for each idle topic"), topics.bytes_per_topic / 1024.0, 4.0));
        aims.push(at_most(String::from("seconds to apply 10,000 topics"), topics.apply_s, 1.0));
    }
    aims
}

fn latency<'a>(name: &str, row: &impl Fn(&str, Scene) -> Option<&'a LatencyRow>, aims: &mut Vec<Aim>) {
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    if let (Some(own), Some(bare)) = (row(name, Scene::Quiet), row(systems::FORWARDER, Scene::Quiet)) {
        let what = format!("{name}: strict p50 over the bare forwarder's");
        aims.push(at_most(what, ratio(own.due.p50, bare.due.p50), 1.15));
    }
    let quiet = row(name, Scene::Quiet);
    for (scene, bound) in [(Scene::Three, 1.25), (Scene::Flood, 1.25), (Scene::Shared, 1.5)] {
        let (Some(own), Some(quiet)) = (row(name, scene), quiet) else { continue };
        let word = scene.word();
        aims.push(at_most(
            format!("{name}: strict p99 in {word} over quiet"),
            ratio(own.due.p99, quiet.due.p99),
            bound,
        ));
        if scene == Scene::Flood {
            let what = format!("{name}: strict p99.9 in {word} over quiet");
            aims.push(at_most(what, ratio(own.due.p999, quiet.due.p999), bound));
        }
        aims.push(Aim {
            met: own.lost == 0,
            sentence: format!("{name}: {} strict events lost in {word}", own.lost),
            binds: false,
        });
        aims.push(Aim {
            met: own.bulk_came > 0,
            sentence: format!(
                "{name}: {} of {} best-effort events served in {word}",
                own.bulk_came, own.bulk_sent
            ),
            binds: false,
        });
    }
}

/// Every peer is behind under the flood.
fn peers<'a>(row: &impl Fn(&str, Scene) -> Option<&'a LatencyRow>, aims: &mut Vec<Aim>) {
    let best = systems::OURS.iter().filter_map(|name| row(name, Scene::Flood)).map(|row| row.due.p99).min();
    let Some(best) = best else { return };
    for name in systems::PEERS {
        if let Some(peer) = row(name, Scene::Flood) {
            let what = format!("{name}: strict p99 in flood over our best");
            aims.push(at_least(what, peer.due.p99 as f64 / best.max(1) as f64, 1.0));
        }
    }
}

fn rates(report: &Report, aims: &mut Vec<Aim>) {
    let rate = |system: &str| report.rates.iter().find(|row| row.system == system);
    let best = ["tempos-tcp", "tempos-unix"].iter().filter_map(|name| rate(name)).map(|row| row.per_second);
    if let (Some(best), Some(nats)) = (best.reduce(f64::max), rate("nats")) {
        aims.push(at_least(String::from("rate over tcp or unix over nats"), best / nats.per_second, 1.0));
    }
    if let (Some(shm), Some(nats)) = (rate("tempos-shm"), rate("nats")) {
        aims.push(at_least(String::from("rate over shm over nats"), shm.per_second / nats.per_second, 2.0));
    }
    if let (Some(shm), Some(peer)) = (rate("tempos-shm"), rate("iceoryx2")) {
        let what = String::from("rate over shm over iceoryx2 with notification");
        aims.push(at_least(what, shm.per_second / peer.per_second, 1.0));
    }
    if let (Some(udp), Some(bare)) = (rate("tempos-udp"), rate(systems::BATCHES)) {
        let what = String::from("rate over udp over a bare forwarder in batches");
        aims.push(at_least(what, udp.per_second / bare.per_second, 0.9));
    }
    for row in report.rates.iter().filter(|row| row.system.starts_with("tempos")) {
        aims.push(Aim {
            met: row.lost == 0,
            sentence: format!("{}: {} events lost at the highest rate", row.system, row.lost),
            binds: false,
        });
    }
    for (now, before) in systems::OURS.into_iter().zip(systems::BEFORE) {
        if let (Some(now), Some(before)) = (rate(now), rate(before)) {
            let what = format!("{}: the quickest round over that of the build before", now.system);
            let ratio = now.best_per_second / before.best_per_second.max(1.0);
            aims.push(Aim { binds: true, ..at_least(what, ratio, SLOWER_MIN) });
        }
    }
}
