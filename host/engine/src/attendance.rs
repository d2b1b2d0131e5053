//! What the controller does for running lanes: successors of whoever was lost, and passing on what lanes
//! have to tell.

use std::collections::BTreeMap;
use std::time::Duration;

use tempos_control::{Kind, Notice};

use crate::controller::Controller;
use crate::lane::order::LaneNotice;
use crate::plan::OutletPlan;
use crate::plugin::{LogLevel, PluginEvent};
use crate::stats::{LOST, TopicStats};

/// Signals of one kind passed on for each look; more are only counted.
const SIGNALS_MAX: usize = 64;

/// Drops by reason; what only some groups lost begins with `copy-`.
pub(crate) fn all_drops(stats: &TopicStats) -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    stats.dropped.add_to(&mut drops);
    let mut copies = BTreeMap::new();
    stats.copies_lost.add_to(&mut copies);
    for (reason, count) in copies {
        *drops.entry(format!("copy-{reason}")).or_default() += count;
    }
    drops
}

/// How an invocation ended, with the function's own sentence.
fn what_went_wrong(notice: &LaneNotice) -> String {
    let LaneNotice::FunctionFailed { canary, no_branch, outcome, explanation, explanation_len, .. } = notice
    else {
        return String::new();
    };
    let said = String::from_utf8_lossy(&explanation[..*explanation_len as usize]);
    let of_whom = if *canary { "canary: " } else { "" };
    let word = outcome.word();
    match (no_branch, said.is_empty()) {
        (true, true) => format!("{of_whom}{word}: it names no branch, and there is none named \"default\""),
        (true, false) => format!("{of_whom}{word}: it names the branch {said:?}, which its workflow has not"),
        (false, true) => format!("{of_whom}{word}"),
        (false, false) => format!("{of_whom}{word}: {said}"),
    }
}

fn what_failed(lost: bool) -> &'static str {
    if lost { "did not come back" } else { "panicked or broke its contract" }
}

fn what_follows(lost: bool) -> &'static str {
    if lost { "; it is left alone until the wiring is applied again" } else { "; it is opened again" }
}

impl Controller {
    /// Starts successors, and passes on what lanes have told.
    pub(crate) fn attend_lanes(&mut self) {
        let mut abandoned = 0;
        for index in 0..self.lanes.len() {
            let Some(entry) = &mut self.lanes[index] else { continue };
            let said = entry.lane.attend();
            abandoned += entry.lane.abandoned;
            let notices: Vec<LaneNotice> = entry.lane.notices().collect();
            let changed = !said.is_empty();
            for sentence in said {
                self.say(LogLevel::ERROR, "lanes", &sentence);
            }
            self.pass_on(index, &notices);
            if changed {
                self.show();
                self.check_grants();
                self.explain();
                self.herald.tell(Notice::ObjectsChanged);
            }
        }
        self.model.set_abandoned(abandoned);
        self.make_histograms();
    }

    fn pass_on(&mut self, index: usize, notices: &[LaneNotice]) {
        let (mut late, mut failures) = (0, 0);
        for notice in notices {
            match *notice {
                LaneNotice::Late { topic, event_id, late_ns } => {
                    late += 1;
                    if late <= SIGNALS_MAX
                        && let Some(topic) = self.topic_name(index, topic)
                    {
                        self.herald.tell(Notice::DeadlineMissed { topic, event_id, late_ns });
                    }
                }
                LaneNotice::FunctionFailed { call, canary, event_id, .. } => {
                    failures += 1;
                    let Some(workflow) = self.call_name(index, call) else { continue };
                    let error = what_went_wrong(notice);
                    self.note_call(index, call, canary, &workflow, &error);
                    if failures <= SIGNALS_MAX {
                        self.herald.tell(Notice::FunctionFailed { workflow, event_id, error });
                    }
                }
                LaneNotice::SourceFailed { source } => self.source_failed(index, source),
                LaneNotice::OutletFailed { outlet } => self.outlet_failed(index, outlet),
                LaneNotice::MemberOut { outlet, stalled } => self.member_out(index, outlet, stalled),
                LaneNotice::MemberBack { outlet } => self.member_back(index, outlet),
                LaneNotice::PolicyFailed => self.policy_failed(index),
            }
        }
    }

    fn topic_name(&self, index: usize, topic: u32) -> Option<String> {
        let entry = self.lanes[index].as_ref()?;
        entry.plan.topics.get(topic as usize)?.as_ref().map(|topic| topic.name.to_string())
    }

    fn call_name(&self, index: usize, call: u32) -> Option<String> {
        let entry = self.lanes[index].as_ref()?;
        entry.plan.calls.get(call as usize)?.as_ref().map(|call| call.spec.name.clone())
    }

    /// A workflow whose function or canary was given up says so.
    fn note_call(&mut self, index: usize, call: u32, canary: bool, workflow: &str, error: &str) {
        let plan = self.lanes[index].as_ref().and_then(|entry| entry.plan.calls.get(call as usize)?.as_ref());
        let mark = plan.map_or(0, |plan| if canary { plan.canary_failed() } else { plan.stats.failed.get() });
        if mark == 0 {
            return;
        }
        let lost = mark == LOST;
        if canary {
            let what = what_failed(lost);
            let reason = format!(
                "its canary {what} ({error}); its own function gets all events until the wiring is applied again"
            );
            self.condition(Kind::Workflow, workflow, "degraded", &reason);
            self.say(LogLevel::ERROR, "functions", &format!("workflow {workflow:?}: {reason}"));
            return;
        }
        let reason = format!("its function {} ({error}){}", what_failed(lost), what_follows(lost));
        self.condition(Kind::Workflow, workflow, "failed", &reason);
        if !lost {
            self.restarts.ask(workflow);
        }
    }

    fn source_failed(&mut self, index: usize, source: u32) {
        let Some(entry) = &self.lanes[index] else { return };
        let Some(Some(plan)) = entry.plan.sources.get(source as usize) else { return };
        entry.lane.shared.place.forget_raw(plan.descriptor);
        let lost = plan.stats.failed.get() == LOST;
        let (adapter, channel, topic) = (plan.spec.adapter.clone(), plan.name.clone(), plan.topic.clone());
        self.channel_failed(&adapter, &channel, &topic, "received", lost);
    }

    /// A member of a group is out: its channel says so.
    fn member_out(&self, index: usize, outlet: u32, stalled: bool) {
        let Some(plan) = self.outlet_plan(index, outlet) else { return };
        let why = if stalled { "it took no event for its group's stall" } else { "it refused events" };
        let reason =
            format!("{why}: the others of group {:?} get its events until it takes them again", plan.group);
        self.condition(Kind::Channel, &plan.name, "out", &reason);
        self.say(LogLevel::WARNING, "channels", &format!("channel {:?} is out: {reason}", plan.name));
    }

    /// It takes events again.
    fn member_back(&self, index: usize, outlet: u32) {
        let Some(plan) = self.outlet_plan(index, outlet) else { return };
        self.show_what_was_said(&plan.name, &plan.grant);
        self.say(LogLevel::INFO, "channels", &format!("channel {:?} takes events again", plan.name));
    }

    fn outlet_plan(&self, index: usize, outlet: u32) -> Option<&OutletPlan> {
        self.lanes[index].as_ref()?.plan.outlets.get(outlet as usize)?.as_ref()
    }

    fn outlet_failed(&mut self, index: usize, outlet: u32) {
        let Some(entry) = &self.lanes[index] else { return };
        let Some(Some(plan)) = entry.plan.outlets.get(outlet as usize) else { return };
        let lost = plan.stats.failed.get() == LOST;
        let (adapter, channel, topic) = (plan.spec.adapter.clone(), plan.name.clone(), plan.topic.clone());
        self.channel_failed(&adapter, &channel, &topic, "sent", lost);
    }

    fn channel_failed(&mut self, adapter: &str, channel: &str, topic: &str, did: &str, lost: bool) {
        let reason = format!("adapter {adapter} {} while it {did}{}", what_failed(lost), what_follows(lost));
        self.condition(Kind::Channel, channel, "failed", &reason);
        self.condition(Kind::Topic, topic, "failed", &format!("its channel {channel:?} failed: {reason}"));
        self.say(LogLevel::ERROR, "channels", &format!("channel {channel:?}: {reason}"));
        if !lost {
            self.restarts.ask(channel);
        }
    }

    /// A policy that broke its contract is replaced by a new instance of itself; the lane admits what it
    /// holds again.
    fn policy_failed(&mut self, index: usize) {
        let Some(entry) = &mut self.lanes[index] else { return };
        let level = entry.lane.spec.clone();
        let sentence = format!(
            "level {:?}: queue policy {} broke its contract and was replaced by a new instance",
            level.name, level.queue.policy
        );
        let handles = crate::lane::pool::handles_of(crate::lane::handle::pool_size(&level, false));
        let queue = crate::opening::open_queue(&entry.queue_plugin, &level, handles, entry.queue_topics);
        let answer = match queue {
            Ok(queue) => {
                let tables = entry.plan.tables(&level, crate::lane::tables::Handover::default());
                entry.lane.rebuild(level.clone(), queue, tables).map(drop).map_err(|error| error.to_string())
            }
            Err(sentences) => Err(sentences.join("; ")),
        };
        match answer {
            Ok(()) => self.say(LogLevel::ERROR, "lanes", &sentence),
            Err(error) => {
                let reason = format!("{sentence}, but that failed: {error}");
                self.condition(Kind::QosLevel, &level.name, "failed", &reason);
                self.say(LogLevel::ERROR, "lanes", &reason);
            }
        }
    }

    /// Says how an object is, and tells doors where that is news.
    pub(crate) fn condition(&self, kind: Kind, name: &str, state: &str, reason: &str) {
        if self.model.set_condition(kind, name, state, reason) {
            self.herald.tell(Notice::StateChanged { kind, name: name.to_owned() });
        }
    }

    /// Topics that have seen their first event get histograms.
    fn make_histograms(&self) {
        for entry in self.lanes.iter().flatten() {
            for topic in entry.plan.topics.iter().flatten() {
                if topic.stats.events_in.get() > 0 {
                    topic.stats.latency.get_or_init(Box::default);
                }
            }
        }
    }

    /// Tells what was dropped since the last time, for each topic and reason. What a socket's own buffer
    /// lost before the node could see it is told as `kernel-buffer`.
    pub(crate) fn tell_drops(&mut self) {
        let mut now: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        for entry in self.lanes.iter().flatten() {
            let level = &entry.lane.spec.name;
            for topic in entry.plan.topics.iter().flatten() {
                for (reason, count) in all_drops(&topic.stats) {
                    now.insert((level.clone(), topic.name.to_string(), reason), count);
                }
            }
            for source in entry.plan.sources.iter().flatten() {
                let count = source.counters.kernel_dropped.get();
                if count > 0 {
                    let key = (level.clone(), source.topic.clone(), String::from("kernel-buffer"));
                    *now.entry(key).or_default() += count;
                }
            }
        }
        for (key, count) in &now {
            // A count that went back is of a topic or channel that went and came back.
            let told = self.drops_told.get(key).copied().filter(|told| told <= count).unwrap_or(0);
            if *count > told {
                let (_, topic, reason) = key.clone();
                self.herald.tell(Notice::EventsDropped { topic, reason, count: count - told });
            }
        }
        self.drops_told = now;
    }

    /// Levels that are to pass at least so many events a second, and do not although events wait, say so.
    pub(crate) fn watch_rates(&mut self, elapsed: Duration) {
        let mut changed = false;
        let names: Vec<String> = self
            .lanes
            .iter()
            .flatten()
            .filter(|entry| entry.lane.spec.rate.min.is_some())
            .map(|entry| entry.lane.spec.name.clone())
            .collect();
        changed |= !self.slow.is_empty() && self.slow.keys().any(|name| !names.contains(name));
        self.slow.retain(|name, _| names.contains(name));
        self.passed.retain(|name, _| names.contains(name));
        for entry in self.lanes.iter().flatten() {
            let spec = &entry.lane.spec;
            let Some(min) = spec.rate.min else { continue };
            let topics = entry.plan.topics.iter().flatten();
            let out: u64 = topics.map(|topic| topic.stats.events_out.get()).sum();
            let Some(before) = self.passed.insert(spec.name.clone(), out) else { continue };
            let per_second = (out.saturating_sub(before) as f64 / elapsed.as_secs_f64()).round() as u64;
            let waiting = entry.lane.shared.stats.queued.get();
            let slow = waiting > 0 && per_second < u64::from(min);
            let sentence = format!(
                "it passes {per_second} events a second of the {min} that it is to, and {waiting} wait"
            );
            changed |= match (slow, self.slow.contains_key(&spec.name)) {
                (true, known) => {
                    self.slow.insert(spec.name.clone(), sentence);
                    !known
                }
                (false, known) => {
                    self.slow.remove(&spec.name);
                    known
                }
            };
        }
        if changed {
            self.check_grants();
            self.herald.tell(Notice::ObjectsChanged);
        }
    }

    /// Tells what happened to plugins.
    pub(crate) fn tell_plugins(&self, events: &[PluginEvent]) {
        for event in events {
            let (name, state, report) = match event {
                PluginEvent::Started(plugin) => (
                    plugin.info.name.clone(),
                    "started",
                    format!("version {} is in use", plugin.info.version),
                ),
                PluginEvent::Replaced { old, new } => {
                    let report = format!(
                        "version {} took over from {}, which drains",
                        new.info.version, old.info.version
                    );
                    (new.info.name.clone(), "started", report)
                }
                PluginEvent::Draining(plugin) => (
                    plugin.info.name.clone(),
                    "draining",
                    String::from("its file was removed: it takes no new work"),
                ),
                PluginEvent::Gone { name, version, sentence } => {
                    (name.clone(), "gone", format!("version {version}: {sentence}"))
                }
                PluginEvent::Failed { name, sentence, .. } => (name.clone(), "failed", sentence.clone()),
                PluginEvent::Unchanged => continue,
            };
            // The registry has written it to the log.
            self.herald.tell(Notice::PluginStateChanged { name, state: state.to_owned(), report });
        }
    }
}
