//! A workflow as it is shown: its counts over all lanes, and those of its canary beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::private::abi_stable::std_types::RArc;
use tempos_control::{Figure, Figures, WorkflowSpec};

use crate::plan::CallPlan;
use crate::stats::{self, WorkflowStats};

/// What is counted for a workflow on one lane.
struct Lane {
    stats: Arc<WorkflowStats>,
    canary: Option<Arc<WorkflowStats>>,
    /// Of its function, and of its canary.
    counters: Vec<RArc<FunctionCounters>>,
}

/// A workflow as it is shown.
pub struct WorkflowView {
    spec: WorkflowSpec,
    lanes: Vec<Lane>,
}

impl WorkflowView {
    /// One that no lane carries yet.
    pub fn of(spec: &WorkflowSpec) -> Self {
        WorkflowView { spec: spec.clone(), lanes: Vec::new() }
    }

    /// A lane carries it too.
    pub fn add(&mut self, call: &CallPlan) {
        self.lanes.push(Lane {
            stats: Arc::clone(&call.stats),
            canary: call.canary.as_ref().map(|(_, stats)| Arc::clone(stats)),
            counters: call.functions().map(|one| one.counters.clone()).collect(),
        });
    }

    /// Whether its function or its canary gets nothing more on one of its lanes.
    pub fn has_failed(&self) -> bool {
        self.counted().chain(self.canaries()).any(|stats| stats.failed.get() != 0)
    }

    fn counted(&self) -> impl Iterator<Item = &WorkflowStats> {
        self.lanes.iter().map(|lane| &*lane.stats)
    }

    fn canaries(&self) -> impl Iterator<Item = &WorkflowStats> {
        self.lanes.iter().filter_map(|lane| lane.canary.as_deref())
    }

    /// Its figures, read now.
    pub fn figures(&self) -> Figures {
        let sum = |of: fn(&WorkflowStats) -> u64| Figure::Count(self.counted().map(of).sum());
        let counters = || self.lanes.iter().flat_map(|lane| &lane.counters);
        let instances = |of: fn(&FunctionCounters) -> u64| Figure::Count(counters().map(|c| of(c)).sum());
        let (mut failures, mut canary_failures) = (BTreeMap::new(), BTreeMap::new());
        self.counted().for_each(|stats| stats.add_to(&mut failures));
        self.canaries().for_each(|stats| stats.add_to(&mut canary_failures));
        let mut latency = BTreeMap::new();
        if let Some(figures) = stats::percentiles(self.counted().map(|stats| &stats.latency)) {
            latency.insert(String::from("function"), figures);
        }
        if let Some(figures) = stats::percentiles(self.canaries().map(|stats| &stats.latency)) {
            latency.insert(String::from("canary"), figures);
        }
        let spec = &self.spec;
        let canary = spec.call.canary.as_ref();
        Figures::from([
            ("From", Figure::Text(spec.from.clone())),
            ("To", Figure::Text(spec.to.clone().unwrap_or_default())),
            (
                "Branches",
                Figure::Texts(spec.branches.iter().map(|(name, topic)| format!("{name}={topic}")).collect()),
            ),
            ("Method", Figure::Text(spec.call.method.clone())),
            ("File", Figure::Text(spec.call.file.clone())),
            ("Group", Figure::Text(spec.group.clone().unwrap_or_default())),
            ("EventsIn", sum(|stats| stats.events_in.get())),
            ("EventsDone", sum(|stats| stats.events_done.get())),
            ("Failures", Figure::Counts(failures)),
            ("Retries", sum(|stats| stats.retries.get())),
            ("Busy", sum(|stats| stats.busy.get())),
            ("Warm", instances(|counters| counters.warm.get())),
            ("InstancesStarted", instances(|counters| counters.started.get())),
            ("InstancesCrashed", instances(|counters| counters.crashed.get())),
            ("Canary", Figure::Text(canary.map_or_else(String::new, |canary| canary.file.clone()))),
            ("CanaryShare", Figure::Count(canary.map_or(0, |canary| canary.share_percent.into()))),
            ("CanaryDone", Figure::Count(self.canaries().map(|stats| stats.events_done.get()).sum())),
            ("CanaryFailures", Figure::Counts(canary_failures)),
            ("LatencyNs", Figure::Latency(latency)),
        ])
    }
}
