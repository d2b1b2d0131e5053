//! The mapping, case by case: `table.txt` holds requests and the answers that they must get.

use std::collections::BTreeMap;

use tempos_control::{
    Allowed, CallSpec, ChannelSpec, Command, Delivery, EndpointSpec, EventFormat, Grade, GroupSpec,
    LevelSpec, OnUnmet, Origin, OverRate, Pick, QosRequest, RetrySpec, Scheduler, TopicSpec, Value,
    WorkflowSpec, units,
};

use super::costs::Costs;
use super::facts::{AdapterFacts, Facts, LevelFacts};
use super::{Mode, settle};
use crate::calibration::{Calibration, Cost};
use crate::wiring::Wiring;

const TABLE: &str = include_str!("table.txt");

/// A level between the two that always exist.
fn between(name: &str, rank: u8, scheduler: Scheduler) -> LevelSpec {
    LevelSpec { rank, scheduler, share_percent: 0, ..LevelSpec::named(name, &Origin::builtin()) }
}

/// The costs of a scene: stated, or of a calibration.
fn costs(scene: &str) -> Costs {
    let (loaded, samples) = match scene {
        name if !name.starts_with("calibrated") => return Costs::stated(),
        "calibrated in haste" => (true, 3900),
        "calibrated, quiet" => (false, 100_000),
        _ => (true, 100_000),
    };
    // p99; what is rarer takes a tenth of it longer each time.
    let cost = |what: &str, us: u64| Cost {
        what: what.into(),
        real_time: true,
        loaded,
        ns: [us * 500, us * 1000, us * 1300, us * 2000],
        tail_ns: [us * 1050, us * 1100, us * 1200, us * 1400],
        samples,
    };
    let channels = ["unix", "udp", "shm"].map(|name| cost(&format!("send/{name}"), 10));
    let queues = ["fifo", "edf"].map(|name| cost(&format!("queue/{name}"), 1));
    let mut all = vec![cost("wake", 100), cost("wake-3", 250), cost("wake-5", 400), cost("method/dlf", 10)];
    all.extend(channels.into_iter().chain(queues));
    let of = |value: &str| BTreeMap::from([("udp".to_owned(), value.to_owned())]);
    let calibration = Calibration { costs: all, plugins: of("1"), files: of("a"), ..Calibration::default() };
    let costs = Costs::measured("the calibration of today", &calibration);
    match scene {
        "calibrated, another build" => costs.of_another_build(),
        "calibrated, another version" => costs.of_versions(|_| Some(("2".into(), "a".into()))),
        "calibrated, another file" => costs.of_versions(|_| Some(("1".into(), "b".into()))),
        _ => costs,
    }
}

/// The levels of a scene, what they run as instead, and topics that are there before.
fn scene(name: &str) -> (Vec<LevelSpec>, Option<&'static str>, Vec<&'static str>) {
    let mut control = between("control", 150, Scheduler::RoundRobin { priority: 20 });
    control.queue.policy = "edf".into();
    control.rate.max = Some(50_000);
    let ms = 1_000_000;
    let reserved = Scheduler::Deadline { runtime_ns: 2 * ms, deadline_ns: 10 * ms, period_ns: 10 * ms };
    let blocks = || {
        let mut level = between("careful", 160, Scheduler::Fifo { priority: 30 });
        level.queue.full = tempos_control::FullQueue::Block;
        level
    };
    match name {
        "real time" => (vec![control], None, vec![]),
        "ordinary" => (vec![control], Some("other"), vec![]),
        "busy" => (vec![control], None, vec!["unix | unix | - | rate=20000/s p99=1ms qos=strict"]),
        "strangers" => (
            vec![control, blocks()],
            None,
            vec!["udp | unix | - | qos=strict", "tcp@2000 | - | - | qos=careful"],
        ),
        "pinned" => {
            control.cpus = vec![1];
            let strict = LevelSpec { cpus: vec![0], ..LevelSpec::strict() };
            (vec![control, strict], None, vec!["unix | unix | - | rate=40000/s p99=1ms qos=strict"])
        }
        "reservation" => (vec![between("reserved", 180, reserved)], None, vec![]),
        "too many reservations" | "as many reservations as there may be" => {
            let runtime_ns = if name == "too many reservations" { 7 * ms } else { 6 * ms };
            let reserved = Scheduler::Deadline { runtime_ns, deadline_ns: 10 * ms, period_ns: 10 * ms };
            (["a", "b", "c"].map(|name| between(name, 180, reserved.clone())).into(), None, vec![])
        }
        "calibrated, ordinary" => (vec![control], Some("other"), vec![]),
        "calibrated, beside a stranger" => (vec![control], None, vec!["udp | unix | - | qos=strict"]),
        "calibrated, beside a loose one" => {
            (vec![control], None, vec!["unix | unix | - | rate=100/s p99=2ms qos=strict"])
        }
        "calibrated, beside another" => {
            (vec![control], None, vec!["unix@2000/2 | unix | - | p99=2ms qos=strict"])
        }
        "calibrated, reservation" => (vec![between("reserved", 180, reserved)], None, vec![]),
        "calibrated, unlocked" | "calibrated, functions refused" => (vec![control], None, vec![]),
        name if name.starts_with("calibrated") => (vec![control], None, vec![]),
        other => panic!("no scene {other:?}"),
    }
}

fn facts(wiring: &Wiring, scene: &str, instead: Option<&str>) -> Facts {
    let adapter = |grade, holds_back, acknowledges| AdapterFacts { grade, holds_back, acknowledges };
    let levels = wiring.levels.values().map(|level| {
        let instead = instead.filter(|_| !matches!(level.scheduler, Scheduler::Other { .. }));
        let facts = LevelFacts {
            is_locked: scene != "calibrated, unlocked",
            functions_instead: (scene == "calibrated, functions refused").then(|| "other".into()),
            ..LevelFacts::of(level, instead.map(str::to_owned))
        };
        (level.name.clone(), facts)
    });
    Facts {
        cpus: 2,
        reservable_ppm: 900_000,
        levels: levels.collect(),
        adapters: BTreeMap::from([
            ("udp".into(), adapter(Grade::Prioritised, false, false)),
            ("unix".into(), adapter(Grade::Guaranteed, true, true)),
            ("tcp".into(), adapter(Grade::Prioritised, true, true)),
            ("shm".into(), adapter(Grade::Guaranteed, true, false)),
            ("tsn".into(), adapter(Grade::Guaranteed, true, false)),
        ]),
        obtained: BTreeMap::new(),
        kernel: (scene == "calibrated, slow kernel").then_some("the kernel runs preempt=none"),
        costs: costs(scene),
    }
}

fn channel(topic: &str, number: usize, text: &str) -> ChannelSpec {
    let (text, acknowledged) = text.strip_suffix("+ack").map_or((text, false), |text| (text, true));
    let (text, drops) = text.strip_suffix("/drop").map_or((text, false), |text| (text, true));
    let (text, held) = text.split_once('#').map_or((text, None), |(text, held)| (text, Some(held)));
    let (adapter, rate) = text.split_once('@').map_or((text, None), |(a, r)| (a, Some(r)));
    let (rate, burst) = match rate.map(|rate| rate.split_once('/').unwrap_or((rate, ""))) {
        Some((rate, burst)) => (Some(rate.parse().expect("a rate")), burst.parse().ok()),
        None => (None, None),
    };
    let over_rate = if drops { OverRate::Drop } else { OverRate::Wait };
    let in_flight = held.map(|held| held.parse().expect("a number"));
    ChannelSpec {
        name: format!("{topic}/{number}"),
        adapter: adapter.into(),
        qos: None,
        format: EventFormat::Raw,
        endpoint: EndpointSpec { rate, burst, over_rate, in_flight, ..EndpointSpec::default() },
        options: if acknowledged { vec![("acknowledge".into(), Value::Flag(true))] } else { Vec::new() },
        origin: Origin::builtin(),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The commands of one case: a topic, and with a call a workflow that asks in its place.
fn commands(name: &str, case: &str) -> Vec<Command> {
    let columns: Vec<&str> = case.split('|').map(str::trim).collect();
    let [ways_in, ways_out, call, asks, ..] = columns[..] else { panic!("four columns: {case}") };
    let origin = Origin::new("table.txt", 1);
    let mut request = QosRequest::default();
    let mut topic = TopicSpec { qos_is_free: true, ..TopicSpec::named(name, &origin) };
    let mut asked = false;
    for word in asks.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let ns = || units::duration_ns(value).expect("a duration");
        asked |= key != "qos" && key != "ttl";
        match key {
            "p99" => request.latency_p99_ns = Some(ns()),
            "jitter" => request.jitter_ns = Some(ns()),
            "rate" => request.rate = Some(units::rate(value).expect("a rate")),
            "loss" => request.loss_ppm = Some((value.parse::<f64>().expect("a share") * 1e6) as u32),
            "delivery" => request.delivery = Some(Delivery::of(value).expect("a delivery")),
            "qos" => (topic.qos, topic.qos_is_free) = (value.into(), false),
            "ttl" => topic.time_to_live_ns = Some(ns()),
            "levels" => request.allow.levels = list(value),
            "policies" => request.allow.policies = list(value),
            "methods" => request.allow.methods = list(value),
            "settings" => request.allow = Allowed { settings: true, ..request.allow },
            "degrade" => request.on_unmet = OnUnmet::Degrade,
            "refuse" => {}
            other => panic!("no word {other:?}"),
        }
    }
    let ways =
        |text: &'_ str| text.split(',').filter(|way| *way != "-").map(str::to_owned).collect::<Vec<_>>();
    topic.ingress = ways(ways_in).iter().enumerate().map(|(at, way)| channel(name, at, way)).collect();
    let egress = ways(ways_out).into_iter().enumerate().map(|(at, way)| GroupSpec {
        name: format!("group {at}"),
        members: vec![channel(name, at + 10, &way)],
        pick: Pick::RoundRobin,
        stall_ns: 1,
        origin: origin.clone(),
    });
    let request = asked.then(|| Box::new(request));
    if call == "-" {
        topic.egress = egress.collect();
        topic.request = request;
        return vec![Command::DeclareTopic(topic)];
    }
    let last = format!("{name}/last");
    let mut parts = call.split(':');
    let mut spec = CallSpec::new(parts.next().unwrap_or_default(), "/f", &origin);
    for part in parts {
        if part == "inline" {
            spec.inline = true;
        } else if part == "retry" {
            spec.retry = Some(RetrySpec { times: 1, backoff_ns: 0, outcomes: Vec::new(), codes: Vec::new() });
        } else {
            spec.deadline_ns = Some(units::duration_ns(part).expect("a duration"));
        }
    }
    let to = TopicSpec { egress: egress.collect(), ..TopicSpec::named(&last, &origin) };
    let workflow = WorkflowSpec {
        name: name.into(),
        from: name.into(),
        to: Some(last),
        branches: Vec::new(),
        replies: false,
        group: None,
        request,
        call: spec,
        origin,
    };
    vec![Command::DeclareTopic(topic), Command::DeclareTopic(to), Command::DeclareWorkflow(workflow)]
}

/// What a case comes to: answer, level, and everything that is said.
fn answer(scene_name: &str, case: &str) -> (String, String, String) {
    let (levels, instead, before) = scene(scene_name);
    let base = Wiring::new(&levels);
    let mut all = Vec::new();
    for (at, one) in before.iter().enumerate() {
        all.extend(commands(&format!("before{at}"), one));
    }
    let there = base.after(&base, &all, true).expect("a sound scene");
    let first_facts = facts(&there, scene_name, instead);
    let first = settle(&first_facts, &there, &BTreeMap::new(), Mode::Choose);
    let refuses = scene_name == "too many reservations";
    assert_eq!(first.refusals.is_empty(), !refuses, "{scene_name}: {:?}", first.refusals);
    all.extend(commands("new", case));
    let wiring = base.after(&base, &all, true).unwrap_or_else(|m| panic!("{case}: {m:?}"));
    let known = facts(&wiring, scene_name, instead);
    let settled = settle(&known, &wiring, &first.held(&there, &wiring), Mode::Choose);
    if !settled.refusals.is_empty() {
        let said: Vec<String> = settled.refusals.iter().map(|m| m.sentence.clone()).collect();
        return ("refused".into(), "-".into(), said.join("\n"));
    }
    let is_workflow = case.split('|').nth(2).is_some_and(|call| call.trim() != "-");
    let grant = if is_workflow { settled.workflows.get("new") } else { settled.topics.get("new") };
    let grant = grant.unwrap_or_else(|| panic!("{case}: no grant"));
    let rows = grant.hops.iter().map(|hop| format!("{} {} {} {}", hop.hop, hop.asked, hop.granted, hop.why));
    let said: Vec<String> = std::iter::once(grant.sentence.clone()).chain(rows).collect();
    (grant.answer.word().into(), grant.level.clone(), said.join("\n"))
}

#[test]
fn every_request_of_the_table_gets_its_answer() {
    let (mut scene_name, mut cases, mut wrong) = ("", 0, Vec::new());
    for (number, line) in (1..).zip(TABLE.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            scene_name = name;
            continue;
        }
        cases += 1;
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, _, _, expected, level, words] = columns[..] else {
            panic!("line {number}: seven columns")
        };
        let (got, on, said) = answer(scene_name, line);
        if got != expected || on != level || !said.contains(words) {
            wrong.push(format!(
                "table.txt:{number}: {line}\n  {got} on {on}\n  {}",
                said.replace('\n', "\n  ")
            ));
        }
    }
    assert!(cases >= 100, "only {cases} cases");
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Two topics of one strict lane, at so many events a second.
fn pair(first: u32, second: u32) -> (Wiring, Facts) {
    let base = Wiring::new(&[]);
    let mut all = commands("a", &format!("unix | unix | - | qos=strict rate={first}/s"));
    all.extend(commands("b", &format!("unix | unix | - | qos=strict rate={second}/s")));
    let wiring = base.after(&base, &all, true).expect("sound");
    let facts = facts(&wiring, "real time", None);
    (wiring, facts)
}

#[test]
fn what_asks_for_more_comes_after_what_stayed() {
    let (before, known) = pair(20_000, 20_000);
    let first = settle(&known, &before, &BTreeMap::new(), Mode::Choose);
    for (a, b, blamed) in [(50_000, 20_000, "a"), (20_000, 50_000, "b")] {
        let (after, known) = pair(a, b);
        let said = settle(&known, &after, &first.held(&before, &after), Mode::Choose).refusals;
        assert!(!said.is_empty(), "0.98 of a CPU");
        for one in &said {
            assert!(
                one.sentence.starts_with(&format!("topic {blamed:?} is not granted")),
                "{}",
                one.sentence
            );
        }
    }
}

#[test]
fn what_is_granted_stays_where_it_is() {
    // Alone it would stand on best-effort; it was granted control and keeps that.
    let base = Wiring::new(&scene("real time").0);
    let all = commands("a", "unix | unix | - | rate=10/s p99=10ms");
    let wiring = base.after(&base, &all, true).expect("sound");
    let facts = facts(&wiring, "real time", None);
    let level = |held: &BTreeMap<String, String>| {
        settle(&facts, &wiring, held, Mode::Choose).topics["a"].level.clone()
    };
    assert_eq!(level(&BTreeMap::new()), "best-effort");
    assert_eq!(level(&BTreeMap::from([("a".into(), "control".into())])), "control");
}

#[test]
fn as_many_requests_as_may_be_are_weighed() {
    let base = Wiring::new(&[]);
    let most = tempos_control::request::REQUESTS_MAX;
    let all = |count: usize| {
        (0..count)
            .flat_map(|at| {
                commands(
                    &format!("t{at}"),
                    &format!("unix | unix | - | rate={}/h p99=20ms levels=strict", at + 1),
                )
            })
            .collect::<Vec<_>>()
    };
    let wiring = base.after(&base, &all(most), true).expect("sound");
    let known = facts(&wiring, "real time", None);
    let begin = std::time::Instant::now();
    let settled = settle(&known, &wiring, &BTreeMap::new(), Mode::Choose);
    println!("{most} requests: {:?}", begin.elapsed());
    assert!(settled.refusals.is_empty(), "{:?}", settled.refusals.first());
    assert_eq!(settled.levels.values().filter(|level| *level == "strict").count(), most);
    let more = base.after(&base, &all(most + 1), true).expect("sound");
    let said = settle(&facts(&more, "real time", None), &more, &BTreeMap::new(), Mode::Choose).refusals;
    assert!(said.iter().any(|one| one.sentence.contains("weighs at most 1024")), "{said:?}");
}
