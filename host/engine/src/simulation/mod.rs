//! A deterministic simulation of the core: lanes with the real queue policies, driven turn by turn on one
//! thread and a virtual clock, amid channels and functions that block, err, panic and do not come back,
//! while wirings are swapped and lanes rebuilt. One seed decides everything.
//!
//! After every turn the lane's books are made anew and compared; see `checks`. What plugins are asked is
//! checked where they are asked; see `fakes` and `world`.
//!
//! `TEMPOS_SEEDS=100000` runs so many seeds instead of 10,000, from `TEMPOS_FIRST_SEED` on; `TEMPOS_SEED=7` one
//! with its trace, of which `TEMPOS_TRACE=1000` shows so many lines. What lost threads may still touch is never
//! freed, here as in a node: a million seeds are ten runs of a hundred thousand, each with some gigabytes.

mod checks;
mod draft;
mod fakes;
mod plan;
mod policies;
pub mod random;
mod rig;
mod scenes;
pub mod world;

use draft::Draft;
use random::Random;
use rig::{Level, Rig};
use world::{Fault, Frame, Mode, note, with};

use crate::lane::ownership::Doing;
use crate::lane::pool::PoolSize;
use crate::system::clock::virtual_time;

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;

/// What may happen in one seed: each kind of trouble is left out of some, so that the rest goes deep.
#[derive(Clone, Copy, Debug)]
struct Troubles {
    faults: bool,
    hangs: bool,
    swaps: bool,
    rebuilds: bool,
    policy_panics: bool,
}

impl Troubles {
    fn any() -> Self {
        with(|world| {
            let random = &mut world.random;
            Troubles {
                faults: random.chance(50),
                hangs: random.chance(40),
                swaps: random.chance(60),
                rebuilds: random.chance(40),
                policy_panics: random.chance(15),
            }
        })
    }
}

/// Runs one seed; what went wrong, and what had happened before.
fn run(seed: u64, traced: bool) -> Result<u64, (Vec<String>, Vec<String>)> {
    world::begin(Random::new(seed), traced);
    let troubles = Troubles::any();
    let lanes = 1 + usize::from(with(|world| world.random.chance(25)));
    let mut rigs: Vec<Rig> = (0..lanes).map(Rig::new).collect();
    note(|| format!("{troubles:?} {:?}", rigs.iter().map(|rig| rig.level).collect::<Vec<_>>()));
    // Miri takes a second for a turn.
    let most = if cfg!(miri) { 24 } else { 120 };
    let steps = with(|world| world.random.between(most / 4, most));
    for _ in 0..steps {
        let rig = with(|world| world.random.below(lanes));
        step(&mut rigs[rig], troubles);
        checks::between_turns(&rigs[rig]);
        if with(|world| !world.broken.is_empty()) {
            break;
        }
    }
    if with(|world| world.broken.is_empty()) {
        rigs.iter_mut().for_each(come_to_rest);
    }
    let events = with(|world| world.events.len() as u64);
    drop(rigs);
    let world = world::end();
    match world {
        Some(world) if !world.broken.is_empty() => Err((world.broken, world.trace.unwrap_or_default())),
        _ => Ok(events),
    }
}

/// Something happens to a lane.
fn step(rig: &mut Rig, troubles: Troubles) {
    let action = with(|world| world.random.below(100));
    match action {
        0..25 => arrive(rig),
        25..55 => {
            for _ in 0..with(|world| world.random.between(1, 4)) {
                rig.turn(true);
                checks::between_turns(rig);
            }
        }
        55..67 => work(rig),
        67..70 => {
            answer(rig);
        }
        70..78 => {
            let ns = with(|world| *world.random.pick(&[1_000, 100_000, 1_000_000, 20_000_000]));
            virtual_time::advance(ns);
        }
        78..86 => turn_a_channel(rig),
        86..88 => inject(rig),
        88..91 if troubles.faults => plan_a_fault(rig, troubles),
        91..93 if troubles.hangs => {
            let doings = [Doing::Receive, Doing::Send, Doing::Policy, Doing::Function];
            let doing = with(|world| *world.random.pick(&doings));
            with(|world| world.hang = Some(doing));
            note(|| format!("the next {doing:?} does not come back"));
        }
        93..94 if troubles.hangs => {
            let number = with(|world| world.random.below(rig.workers.len()));
            rig.lose_worker(number);
        }
        94..98 if troubles.swaps => change(rig),
        98..100 if troubles.rebuilds || rig.lane.queue_failed => {
            let hangs = troubles.hangs && with(|world| world.random.chance(30));
            let hanging = hangs.then(|| with(|world| world.random.below(rig.workers.len())));
            let level = next_level(rig.level);
            rig.rebuild(level, hanging);
        }
        _ => {
            rig.turn(false);
        }
    }
}

/// Another level whose largest event is no smaller: what is held already fits.
fn next_level(level: Level) -> Level {
    let next = Level::any();
    let event_bytes_max = next.size.event_bytes_max.max(level.size.event_bytes_max);
    Level { size: PoolSize { event_bytes_max, ..next.size }, ..next }
}

/// Frames arrive at a source.
fn arrive(rig: &Rig) {
    let sources: Vec<_> = rig.plan.sources.iter().flatten().map(|plan| plan.channel).collect();
    let most = rig.level.size.event_bytes_max as usize;
    let count = with(|world| {
        let Some(channel) = (!sources.is_empty()).then(|| *world.random.pick(&sources)) else { return 0 };
        let count = *world.random.pick(&[1, 1, 2, 5, 20, 80]);
        for _ in 0..count {
            let truncated = world.random.chance(1);
            let too_large = world.random.chance(1);
            let bytes = match world.random.below(10) {
                0..7 => world.random.between(4, 100),
                7..9 => world.random.between(4, most),
                _ => most,
            } + if too_large { 5000 } else { 0 };
            let topic = world.channels[channel].topic;
            let wrong = world.channels[channel].with_header && world.random.chance(3);
            let mut bytes = world.new_event(topic, Some(channel), bytes, truncated || too_large || wrong);
            if world.channels[channel].with_header {
                // Ids of senders say nothing about their order.
                let id = world.random.next();
                match world.random.below(2) {
                    0 if wrong => bytes[0..2].copy_from_slice(b"xx"),
                    _ if wrong => bytes = fakes::with_header(&bytes, "another", id),
                    0 => bytes = fakes::with_header(&bytes, "", id),
                    _ => bytes = fakes::with_header(&bytes, &format!("topic{topic}"), id),
                }
            }
            let key_hash = world.random.below(4) as u64;
            world.channels[channel].waiting.push_back(Frame { bytes, key_hash, truncated });
        }
        if let Some(descriptor) = &world.channels[channel].descriptor {
            let _ = rustix::io::write(descriptor, &1u64.to_ne_bytes());
        }
        count
    });
    note(|| format!("{count} frames arrive at lane {}", rig.number));
}

/// Workers begin or end jobs.
fn work(rig: &mut Rig) {
    for _ in 0..with(|world| world.random.between(1, 6)) {
        let number = with(|world| world.random.below(rig.workers.len()));
        let _ = rig.start_job(number) || rig.end_job(number);
    }
    rig.close_retired();
}

/// An egress channel takes more, or less.
fn turn_a_channel(rig: &Rig) {
    let outlets: Vec<_> = rig.plan.outlets.iter().flatten().map(|plan| plan.channel).collect();
    with(|world| {
        let Some(channel) = (!outlets.is_empty()).then(|| *world.random.pick(&outlets)) else { return };
        let mode = *world.random.pick(&[Mode::Open, Mode::Open, Mode::Trickle, Mode::Full]);
        world.channels[channel].mode = mode;
        if mode != Mode::Full {
            world.channels[channel].drain();
        }
    });
}

/// Members answer for what they took; whether any did.
fn answer(rig: &Rig) -> bool {
    let outlets: Vec<_> = rig.plan.outlets.iter().flatten().map(|plan| plan.channel).collect();
    with(|world| outlets.iter().filter(|channel| world.answer(**channel)).count() > 0)
}

fn inject(rig: &mut Rig) {
    let draft = Draft::of(rig.number, &rig.plan);
    let topics = draft.topics();
    if topics.is_empty() {
        return;
    }
    let at = with(|world| *world.random.pick(&topics));
    let Some(serial) = rig.plan.topics[at].as_ref().map(|topic| topic.serial) else { return };
    let payload = with(|world| {
        world.topics[serial].given += 1;
        let bytes = world.random.between(4, 300);
        world.new_event(serial, Some(usize::MAX - 1 - serial), bytes, false)
    });
    rig.inject(at, payload);
}

/// The next call of somebody errs or panics.
fn plan_a_fault(rig: &Rig, troubles: Troubles) {
    let sources = rig.plan.sources.iter().flatten().map(|plan| plan.channel);
    let outlets = rig.plan.outlets.iter().flatten().map(|plan| plan.channel);
    let channels: Vec<_> = sources.chain(outlets).collect();
    let functions: Vec<_> = rig
        .plan
        .calls
        .iter()
        .flatten()
        .flat_map(|plan| std::iter::once(plan.function).chain(plan.canary))
        .collect();
    let what = with(|world| {
        let fault = *world.random.pick(&[Fault::Error, Fault::Error, Fault::Panic]);
        if troubles.policy_panics && world.random.chance(20) {
            world.policy_panics = true;
            return String::from("the policy panics next");
        }
        if !functions.is_empty() && world.random.chance(40) {
            let function = *world.random.pick(&functions);
            world.functions[function].next_fault = Some(fault);
            return format!("function {function}: {fault:?} next");
        }
        let Some(channel) = (!channels.is_empty()).then(|| *world.random.pick(&channels)) else {
            return String::new();
        };
        world.channels[channel].next_fault = Some(fault);
        format!("channel {channel}: {fault:?} next")
    });
    note(|| what);
}

/// The wiring changes.
fn change(rig: &mut Rig) {
    let mut draft = Draft::of(rig.number, &rig.plan);
    if draft.finish_removals() {
        rig.swap(draft);
        draft = Draft::of(rig.number, &rig.plan);
    }
    for _ in 0..with(|world| world.random.between(1, 2)) {
        let kind = with(|world| world.random.below(9));
        note(|| format!("lane {}: change of kind {kind}", rig.number));
        match kind {
            0 if draft.topics().len() < 8 => draft.add_topic(),
            1 => {
                let turns = with(|world| world.random.between(1, 4)) as u32;
                draft.remove_topic(turns);
            }
            2 | 3 => draft.replace_member(),
            4 => draft.remove_member(),
            5 => draft.grow_group(),
            6 => draft.replace_source(),
            7 => {
                let topics = draft.topics();
                if let Some(at) = topics.first() {
                    draft.add_group(*at);
                }
            }
            _ => draft.tune_topic(),
        }
    }
    rig.swap(draft);
}

/// Nothing more comes, everybody takes what he gets: all that the lane holds must go.
fn come_to_rest(rig: &mut Rig) {
    const ROUNDS_MAX: usize = 20_000;
    note(|| format!("lane {} is to come to rest", rig.number));
    with(|world| {
        world.calm = true;
        for channel in world.channels.iter_mut().filter(|channel| channel.group.is_some()) {
            channel.mode = Mode::Open;
            channel.drain();
        }
    });
    if rig.lane.queue_failed {
        let level = next_level(rig.level);
        rig.rebuild(level, None);
    }
    for _ in 0..ROUNDS_MAX {
        let mut moved = answer(rig) | rig.turn(true);
        for number in 0..rig.workers.len() {
            moved |= rig.start_job(number);
            moved |= rig.end_job(number);
        }
        if !moved {
            rig.close_retired();
            return checks::at_rest(rig);
        }
    }
    let why = rig.why_awake();
    with(|world| world.broken.push(format!("lane {} stays awake and has nothing to do: {why}", rig.number)));
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed again with its trace, and says what happened.
fn explain(seed: u64) -> String {
    match run(seed, true) {
        Ok(_) => format!("seed {seed} holds"),
        Err((broken, trace)) => {
            let last = trace.len().saturating_sub(setting("TEMPOS_TRACE").unwrap_or(40) as usize);
            format!("seed {seed}:\n  {}\nafter\n  {}", broken.join("\n  "), trace[last..].join("\n  "))
        }
    }
}

#[test]
fn every_seed_keeps_the_books_and_the_promises() {
    if let Some(seed) = setting("TEMPOS_SEED") {
        let said = explain(seed);
        assert!(said.ends_with("holds"), "{said}");
        return;
    }
    let first = setting("TEMPOS_FIRST_SEED").unwrap_or(0);
    let seeds = setting("TEMPOS_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (failed, events) = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let mut events = 0;
                    for seed in (first + part..first + seeds).step_by(threads as usize) {
                        match run(seed, false) {
                            Ok(count) => events += count,
                            Err(_) => return (Some(seed), events),
                        }
                    }
                    (None, events)
                })
            })
            .collect();
        let ends: Vec<_> = parts.into_iter().map(|part| part.join().expect("a seed panicked")).collect();
        (ends.iter().filter_map(|end| end.0).min(), ends.iter().map(|end| end.1).sum::<u64>())
    });
    if let Some(seed) = failed {
        panic!("{}", explain(seed));
    }
    assert!(events > seeds, "{events} events were made: the simulation simulates nothing");
}
