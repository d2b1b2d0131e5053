//! The monitor's eyes: what the hops of granted requests took since the last look, and what is told of it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use histogram::{Bucket, Histogram, SparseHistogram};
use tempos_control::{Kind, Notice};

use super::Controller;
use crate::grants::{HopOf, Watched};
use crate::monitor::{Change, Judge, Reading};
use crate::plugin::LogLevel;
use crate::stats::{ChannelStats, Latency, TopicStats, WorkflowStats};

/// How often grants are looked at, at most.
const LOOK: Duration = Duration::from_millis(100);
/// And how many times as long as a look took is waited for the next: a thousand grants cost the controller no more.
const REST: u32 = 20;
/// The name of this among the node's degradations.
const DEGRADED: &str = "kept grants";

/// All grants that are watched.
#[derive(Default)]
pub struct Watch {
    of: BTreeMap<(Kind, String), Entry>,
    /// Why those that are violated are.
    violated: BTreeMap<(Kind, String), String>,
    /// When they are looked at next.
    next: Option<Instant>,
}

struct Entry {
    watched: Watched,
    judge: Judge,
    meters: Vec<Meter>,
    /// Of the last topic's whole, where only these events come there.
    whole: Option<Meter>,
}

/// What a hop had done at the last look.
#[derive(Default)]
struct Meter {
    before: Option<SparseHistogram>,
    progress: u64,
    /// When that was, where it held events then.
    held_at: Option<Instant>,
    stuck_since: Option<Instant>,
}

/// What is counted of a hop now.
#[derive(Default)]
struct Counted {
    took: Option<Histogram>,
    /// Events that it has been done with.
    done: u64,
    /// Events that it holds.
    held: u64,
}

impl Counted {
    fn add(&mut self, latency: Option<&Latency>) {
        let Some(one) = latency.and_then(Latency::load) else { return };
        self.took = Some(match self.took.take() {
            Some(sum) => sum.wrapping_add(&one).unwrap_or(sum),
            None => one,
        });
    }
}

impl Meter {
    fn read(&mut self, counted: &Counted, limit_ns: u64, now: Instant) -> Reading {
        let mut reading = Reading::default();
        let took = counted.took.as_ref().map(SparseHistogram::from);
        // At the first look, and where counts went back, there is nothing to compare with.
        let since = match (&took, &self.before) {
            (Some(now), Some(before)) => now.checked_sub(before).ok(),
            _ => None,
        };
        if let Some(since) = since {
            for bucket in since.iter() {
                reading.events += bucket.count();
                // Values within 3 % are in one bucket: only those that are surely above count.
                reading.over += if bucket.start() > limit_ns { bucket.count() } else { 0 };
            }
            let quantiles = since.quantile(0.99).ok().flatten();
            let bucket = quantiles.as_ref().and_then(|quantiles| quantiles.entries().values().next());
            reading.p99_ns = bucket.map_or(0, Bucket::end);
        }
        // A hop without a histogram yet begins at nothing.
        self.before = took.or_else(|| self.before.take()).or_else(empty);
        // What it held at the last look it still holds.
        let is_stuck = counted.held > 0 && counted.done == self.progress;
        let since = if is_stuck { self.stuck_since.or(self.held_at) } else { None };
        self.progress = counted.done;
        self.held_at = (counted.held > 0).then_some(now);
        self.stuck_since = since;
        let ns = since.map_or(0, |since| now.saturating_duration_since(since).as_nanos());
        reading.stuck_ns = u64::try_from(ns).unwrap_or(u64::MAX);
        reading
    }
}

/// The counters of all lanes, by name.
#[derive(Default)]
struct Counters<'a> {
    topics: HashMap<&'a str, Vec<&'a TopicStats>>,
    outlets: HashMap<&'a str, Vec<&'a ChannelStats>>,
    workflows: HashMap<&'a str, Vec<&'a WorkflowStats>>,
}

impl Counters<'_> {
    fn of(&self, hop: &HopOf) -> Counted {
        let mut counted = Counted::default();
        match hop {
            HopOf::Queue(topic) => {
                for stats in self.topics.get(topic.as_str()).into_iter().flatten() {
                    counted.add(stats.latency.get().map(|latency| &latency.queue));
                }
            }
            HopOf::Egress(topic) => {
                for stats in self.topics.get(topic.as_str()).into_iter().flatten() {
                    counted.add(stats.latency.get().map(|latency| &latency.egress));
                }
                for stats in self.outlets.get(topic.as_str()).into_iter().flatten() {
                    counted.done += stats.frames_sent.get();
                    counted.held += stats.pending.get();
                }
            }
            HopOf::Function(workflow) => {
                for stats in self.workflows.get(workflow.as_str()).into_iter().flatten() {
                    counted.add(Some(&stats.latency));
                    counted.done += stats.events_done.get();
                    counted.held += stats.busy.get();
                }
            }
        }
        counted
    }

    fn whole(&self, topic: &str) -> Counted {
        let mut counted = Counted::default();
        for stats in self.topics.get(topic).into_iter().flatten() {
            counted.add(stats.latency.get().map(|latency| &latency.total));
        }
        counted
    }
}

impl Controller {
    /// Takes the grants in force to be watched; what is known of those that were there before stays.
    pub(super) fn watch_grants(&mut self) {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.watch.of);
        for watched in &self.grants.watched {
            let key = (watched.kind, watched.name.clone());
            let entry = match before.remove(&key) {
                Some(same) if same.watched == *watched => same,
                other => {
                    let hops = watched.hops.len();
                    Entry {
                        judge: match other {
                            Some(other) => other.judge.under(hops, now),
                            None => Judge::new(hops),
                        },
                        meters: (0..hops).map(|_| Meter::default()).collect(),
                        whole: self.is_told_apart(watched).then(Meter::default),
                        watched: watched.clone(),
                    }
                }
            };
            self.watch.of.insert(key, entry);
        }
        if self.watch.of.is_empty() {
            self.model.set_measured(BTreeMap::new());
        }
        let of = &self.watch.of;
        self.watch.violated.retain(|key, _| of.contains_key(key));
        self.say_violations();
    }

    /// Whether all events that come to the last topic of a way have gone this way.
    fn is_told_apart(&self, watched: &Watched) -> bool {
        let Some(last) = watched.last_topic() else { return false };
        let is_first = watched.hops.first().is_some_and(|hop| hop.of == HopOf::Queue(last.to_owned()));
        let from_outside = self.wiring.topics.get(last).is_some_and(|topic| !topic.ingress.is_empty());
        let feeders =
            self.wiring.workflows.values().filter(|one| self.wiring.targets(one).any(|to| to == last));
        feeders.count() <= usize::from(!is_first) && (is_first || !from_outside)
    }

    /// Why a topic or workflow does not get what it was granted.
    pub(crate) fn violation(&self, kind: Kind, name: &str) -> Option<&str> {
        self.watch.violated.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// Compares what was measured with what was granted, where it is time to.
    pub(super) fn look_at_grants(&mut self) {
        let now = Instant::now();
        // The controller comes by every 100 ms while events flow; a few early ones must not cost every other look.
        let is_time = self.watch.next.is_none_or(|at| now + LOOK / 4 >= at);
        if self.watch.of.is_empty() || !is_time {
            return;
        }
        let mut changes = Vec::new();
        let mut watch = std::mem::take(&mut self.watch);
        let counters = self.counters();
        for (key, entry) in &mut watch.of {
            let Entry { watched, judge, meters, whole } = entry;
            let readings: Vec<Reading> = watched
                .hops
                .iter()
                .zip(meters)
                .map(|(hop, meter)| meter.read(&counters.of(&hop.of), hop.limit_ns, now))
                .collect();
            let whole = match (whole, watched.last_topic()) {
                (Some(meter), Some(topic)) => Some(meter.read(&counters.whole(topic), watched.whole_ns, now)),
                _ => None,
            };
            if let Some(change) = judge.look(watched, &readings, whole, now) {
                changes.push((key.clone(), change));
            }
        }
        drop(counters);
        let measured = watch.of.iter().map(|(key, entry)| {
            let hops = entry.watched.hops.iter().zip(entry.judge.measured());
            (key.clone(), hops.filter_map(|(hop, p99)| Some((hop.name.clone(), p99?))).collect())
        });
        self.model.set_measured(measured.collect());
        self.watch = watch;
        self.watch.next = Some(now + LOOK.max(now.elapsed() * REST));
        if changes.is_empty() {
            return;
        }
        for ((kind, name), change) in changes {
            let subject = format!("{} {name:?}", kind.word());
            match change {
                Change::Violated(sentence) => {
                    self.say(
                        LogLevel::WARNING,
                        "grants",
                        &format!("{subject} does not get what it was granted: {sentence}"),
                    );
                    self.watch.violated.insert((kind, name), sentence);
                }
                Change::Kept(after) => {
                    let ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                    let after = tempos_control::units::show_ns(ns);
                    self.say(
                        LogLevel::INFO,
                        "grants",
                        &format!("{subject} gets what it was granted again, after {after}"),
                    );
                    self.watch.violated.remove(&(kind, name));
                }
            }
        }
        self.say_violations();
        self.show();
    }

    /// The node says that it does not keep what it granted.
    fn say_violations(&self) {
        let violated = &self.watch.violated;
        let sentence = violated.iter().next().map(|((kind, name), sentence)| {
            let more = match violated.len() {
                1 => String::new(),
                more => format!(" (and {} more)", more - 1),
            };
            format!("{} {name:?} does not get what it was granted: {sentence}{more}", kind.word())
        });
        // It stands in the log already.
        if self.model.degrade(DEGRADED, sentence) {
            self.herald.tell(Notice::StateChanged { kind: Kind::Node, name: String::new() });
        }
    }

    fn counters(&self) -> Counters<'_> {
        let mut counters = Counters::default();
        for entry in self.lanes.iter().flatten() {
            for topic in entry.plan.topics.iter().flatten() {
                counters.topics.entry(&topic.name).or_default().push(&topic.stats);
            }
            for outlet in entry.plan.outlets.iter().flatten() {
                // A subscription that does not keep up is no receiver of the topic's own.
                if &*outlet.spec.origin.file != "subscription" {
                    counters.outlets.entry(&outlet.topic).or_default().push(&outlet.stats);
                }
            }
            for call in entry.plan.calls.iter().flatten() {
                counters.workflows.entry(&call.spec.name).or_default().push(&call.stats);
            }
        }
        counters
    }
}

fn empty() -> Option<SparseHistogram> {
    Some(SparseHistogram::from(&Latency::default().load()?))
}
