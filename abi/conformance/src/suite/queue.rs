//! Queue policies: what is admitted comes out once, the bounds hold, and nobody is forgotten.

use tempos_abi::module::PluginModuleRef;
use tempos_abi::queue::{
    Admission, NO_HANDLE, NextItem, QueueBox, QueueItem, QueuePolicyBox, QueueSpec, TopicShare, WhenFull,
};
use tempos_abi::std_types::{ROption, RResult};
use tempos_abi::{Descriptor, Options};

use super::is_one_sentence;
use crate::random::Random;
use crate::report::Report;
use crate::{Settings, options};

const HANDLES: u32 = 256;
const TOPICS: u32 = 16;
const SEEDS: u64 = 20;
const STEPS: usize = 5000;
/// The clock of a run begins here.
const START_NS: u64 = 1_000_000_000;

/// Runs the suite.
pub fn check(report: &mut Report, module: &PluginModuleRef, descriptor: &Descriptor, settings: &Settings) {
    let ROption::RSome(factory) = module.queue_policy() else { return };
    let policy = match factory() {
        RResult::ROk(policy) => policy,
        RResult::RErr(error) => {
            return report.failed("its factory makes a policy", error.message.into_string());
        }
    };
    report.passed("its factory makes a policy");
    let sane = match options::read(descriptor, &settings.options) {
        Ok(options) => options,
        Err(sentence) => return report.failed("its options can be read", sentence),
    };
    report.judge("wrong options and bounds are refused with one sentence", bad(&policy, descriptor, &sane));
    report.judge("an empty queue has nothing to give and nothing to forget", empty(&policy, &sane));
    for (word, when_full) in [("refuses", WhenFull::REFUSE), ("evicts", WhenFull::EVICT)] {
        let found = (1..=SEEDS).try_for_each(|seed| {
            Run::new(&policy, &sane, when_full, seed)?.walk().map_err(|found| format!("seed {seed}: {found}"))
        });
        let promise = format!(
            "full, it {word}: in {} random steps nothing is lost, doubled or over bounds",
            SEEDS as usize * STEPS
        );
        report.judge(promise, found);
    }
    if let Some(allocations) = settings.allocations {
        let found = Run::new(&policy, &sane, WhenFull::EVICT, 99).and_then(|mut run| {
            let before = allocations();
            let walked = run.quiet_walk();
            match allocations() - before {
                0 => walked,
                count => Err(format!("{count} allocations in {STEPS} steps")),
            }
        });
        report.judge("its calls allocate nothing", found);
    }
}

fn open(policy: &QueuePolicyBox, spec: &QueueSpec) -> Result<QueueBox, tempos_abi::PluginError> {
    match policy.open(spec) {
        RResult::ROk(queue) => Ok(queue),
        RResult::RErr(error) => Err(error),
    }
}

fn spec(options: &Options, capacity_events: u32, capacity_bytes: u64, when_full: WhenFull) -> QueueSpec {
    let options = options.clone();
    QueueSpec {
        handles: HANDLES,
        topics: TOPICS,
        capacity_events,
        when_full,
        capacity_bytes,
        options,
        reserved: [0; 4],
    }
}

fn bad(policy: &QueuePolicyBox, descriptor: &Descriptor, sane: &Options) -> Result<(), String> {
    let good = spec(sane, 8, 1000, WhenFull::REFUSE);
    let mut specs: Vec<(String, QueueSpec)> = options::garbage(descriptor, sane)
        .into_iter()
        .map(|(what, options)| (what, QueueSpec { options, ..good.clone() }))
        .collect();
    specs.push((String::from("no handles"), QueueSpec { handles: 0, ..good.clone() }));
    specs.push((String::from("no topics"), QueueSpec { topics: 0, ..good.clone() }));
    specs.push((String::from("no capacity"), QueueSpec { capacity_events: 0, capacity_bytes: 0, ..good }));
    for (what, spec) in specs {
        match open(policy, &spec) {
            Err(error) => is_one_sentence(&error).map_err(|found| format!("with {what}: {found}"))?,
            Ok(mut queue) => {
                let verdict = queue.next(START_NS).verdict;
                if verdict != NextItem::NOTHING {
                    return Err(format!("with {what}: an empty queue answered {verdict}"));
                }
            }
        }
    }
    Ok(())
}

fn empty(policy: &QueuePolicyBox, sane: &Options) -> Result<(), String> {
    let mut queue =
        open(policy, &spec(sane, 8, 1000, WhenFull::EVICT)).map_err(|error| error.message.into_string())?;
    for topic in [0, TOPICS, u32::MAX] {
        queue.hold(topic, true);
        queue.hold(topic, false);
        queue.set_topic(topic, &TopicShare { rank: 9, weight: 1, reserved: [0; 2] });
    }
    let next = queue.next(START_NS);
    let forgot = [0, HANDLES, NO_HANDLE].iter().any(|handle| queue.forget(*handle));
    match (next.verdict, forgot, queue.queued()) {
        (NextItem::NOTHING, false, 0) => Ok(()),
        other => Err(format!("(next, forgot, queued) is {other:?}")),
    }
}

/// A queue, and what ought to be in it.
struct Run {
    queue: QueueBox,
    random: Random,
    queued: [Option<QueueItem>; HANDLES as usize],
    held: [bool; TOPICS as usize],
    events: u32,
    bytes: u64,
    spec: QueueSpec,
    now_ns: u64,
}

impl Run {
    fn new(policy: &QueuePolicyBox, sane: &Options, when_full: WhenFull, seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let spec = spec(sane, 1 + random.below(100) as u32, 1 + random.below(40_000), when_full);
        let mut queue = open(policy, &spec).map_err(|error| error.message.into_string())?;
        for topic in 0..TOPICS {
            let share = TopicShare { rank: topic % 5 * 50, weight: 1 + topic, reserved: [0; 2] };
            queue.set_topic(topic, &share);
        }
        let (queued, held) = ([None; HANDLES as usize], [false; TOPICS as usize]);
        Ok(Run { queue, random, queued, held, events: 0, bytes: 0, spec, now_ns: START_NS })
    }

    fn walk(mut self) -> Result<(), String> {
        self.quiet_walk()?;
        // Once nobody is on hold, all that is left comes out, at the latest in an hour.
        (0..TOPICS).for_each(|topic| self.hold(topic, false));
        for _ in 0..10_000 {
            if self.events == 0 {
                break;
            }
            self.now_ns += 360_000_000;
            self.next()?;
        }
        match (self.events, self.queue.queued()) {
            (0, 0) => Ok(()),
            (left, said) => Err(format!("{left} items never came out (it says {said})")),
        }
    }

    /// Allocates nothing itself, unless something is wrong.
    fn quiet_walk(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.now_ns += self.random.below(1_000_000);
            match self.random.below(10) {
                0..=4 => self.admit()?,
                5..=7 => self.next()?,
                8 => self.forget()?,
                _ => {
                    let (topic, held) =
                        (self.random.below(u64::from(TOPICS)) as u32, self.random.below(2) == 0);
                    self.hold(topic, held);
                }
            }
            if self.queue.queued() != self.events {
                return Err(format!("it says {} queued, {} are", self.queue.queued(), self.events));
            }
        }
        Ok(())
    }

    fn admit(&mut self) -> Result<(), String> {
        let handle = self.random.below(u64::from(HANDLES)) as u32;
        if self.queued[handle as usize].is_some() {
            return Ok(());
        }
        let topic = self.random.below(u64::from(TOPICS)) as u32;
        let deadline = self.random.below(4);
        let item = QueueItem {
            handle,
            topic,
            size: self.random.below(2000) as u32,
            rank: topic % 5 * 50,
            arrival_ns: self.now_ns,
            deadline_ns: if deadline == 0 { 0 } else { self.now_ns + deadline * 10_000_000 },
            key_hash: self.random.below(4),
            reserved: 0,
        };
        let mut evictions = 0;
        loop {
            let fits = self.events < self.spec.capacity_events
                && self.bytes + u64::from(item.size) <= self.spec.capacity_bytes;
            let Admission { verdict, evicted } = self.queue.admit(&item, self.now_ns);
            match verdict {
                Admission::ACCEPTED if fits => {
                    self.queued[handle as usize] = Some(item);
                    self.events += 1;
                    self.bytes += u64::from(item.size);
                    return Ok(());
                }
                Admission::REFUSED if !fits => return Ok(()),
                Admission::EVICTED
                    if !fits && self.spec.when_full == WhenFull::EVICT || self.supersedes(&item, evicted) =>
                {
                    self.take(evicted, "evicted")?;
                    evictions += 1;
                    if evictions > self.spec.capacity_events {
                        return Err(String::from("it evicted more items than it can hold for one newcomer"));
                    }
                }
                other => {
                    let room = if fits { "there was room" } else { "it was full" };
                    return Err(format!("an admission was answered with {other} although {room}"));
                }
            }
        }
    }

    /// Whether an item and an older one are the same thing, of one topic and key: a policy may then take the
    /// older one out, also where there is room or where a full queue refuses.
    fn supersedes(&self, item: &QueueItem, older: u32) -> bool {
        let older = self.queued.get(older as usize).copied().flatten();
        older.is_some_and(|older| (older.topic, older.key_hash) == (item.topic, item.key_hash))
    }

    fn next(&mut self) -> Result<(), String> {
        let NextItem { verdict, handle, wake_at_ns } = self.queue.next(self.now_ns);
        match verdict {
            NextItem::NOTHING => {
                let ready = self.queued.iter().flatten().any(|item| !self.held[item.topic as usize]);
                if ready && wake_at_ns <= self.now_ns {
                    return Err(String::from("items wait, and it names no later time to ask again"));
                }
                Ok(())
            }
            NextItem::GO => {
                let item = self.take(handle, "handed out")?;
                if self.held[item.topic as usize] {
                    return Err(format!("item {handle} was handed out although its topic is on hold"));
                }
                Ok(())
            }
            NextItem::EXPIRED => {
                let item = self.take(handle, "given up")?;
                if item.deadline_ns == 0 || item.deadline_ns > self.now_ns {
                    return Err(format!("item {handle} was given up before its deadline"));
                }
                Ok(())
            }
            other => Err(format!("it answered {other} to who goes next")),
        }
    }

    fn forget(&mut self) -> Result<(), String> {
        let handle = self.random.below(u64::from(HANDLES)) as u32;
        let expected = self.queued[handle as usize].is_some();
        if self.queue.forget(handle) != expected {
            return Err(format!("forgetting item {handle} was not answered with {expected}"));
        }
        if expected {
            self.take(handle, "forgotten")?;
        }
        Ok(())
    }

    fn hold(&mut self, topic: u32, held: bool) {
        self.held[topic as usize] = held;
        self.queue.hold(topic, held);
    }

    fn take(&mut self, handle: u32, how: &str) -> Result<QueueItem, String> {
        let item = self.queued.get_mut(handle as usize).and_then(Option::take);
        let item = item.ok_or_else(|| format!("item {handle} was {how}, and is not queued"))?;
        self.events -= 1;
        self.bytes -= u64::from(item.size);
        Ok(item)
    }
}
