//! What doors may look at while the controller works: names, conditions, and the counters themselves,
//! which are read at the moment of asking.

mod workflow;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tempos_abi::counters::ChannelCounters;
use tempos_abi::private::abi_stable::std_types::RArc;
use tempos_control::{Condition, Figure, Figures, Kind, LevelSpec, ObjectState, TopicSpec};

use crate::plugin::PluginState;
use crate::stats::{self, ChannelStats, TopicStats};
use crate::system::clock::realtime_us;
use crate::system::memory;
use crate::system::scheduling::{self, ThreadId};

pub use workflow::WorkflowView;

/// A level as it is shown.
pub struct LevelView {
    /// As it is in force.
    pub spec: LevelSpec,
    /// Its lane's shared side.
    pub shared: Arc<crate::lane::shared::LaneShared>,
    /// Its threads, with what they are.
    pub threads: Vec<(String, ThreadId)>,
    /// The topics that it carries.
    pub topics: Vec<Arc<TopicStats>>,
}

/// A channel as it is shown.
pub struct ChannelView {
    /// Its topic.
    pub topic: String,
    /// Its group; empty for ingress.
    pub group: String,
    /// Its adapter.
    pub adapter: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Its level.
    pub level: String,
    /// Where it is open.
    pub address: String,
    /// What is counted; `None` where it could not be opened.
    pub counts: Option<(Arc<ChannelStats>, RArc<ChannelCounters>)>,
}

/// A topic as it is shown.
pub struct TopicView {
    /// As it was declared.
    pub spec: TopicSpec,
    /// What is counted, for each lane that carries it.
    pub stats: Vec<Arc<TopicStats>>,
}

/// An adapter as it is shown.
pub struct AdapterView {
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Channels open with it.
    pub channels: u64,
}

/// Everything, at one generation of the wiring.
#[derive(Default)]
pub struct Picture {
    /// Of the wiring.
    pub generation: u64,
    /// Of the node: `starting`, `started`, `draining`, `drained`.
    pub state: String,
    /// Levels.
    pub levels: BTreeMap<String, LevelView>,
    /// Channels.
    pub channels: BTreeMap<String, ChannelView>,
    /// Topics.
    pub topics: BTreeMap<String, TopicView>,
    /// Workflows.
    pub workflows: BTreeMap<String, WorkflowView>,
    /// Adapters.
    pub adapters: BTreeMap<String, AdapterView>,
    /// Plugins.
    pub plugins: BTreeMap<String, PluginState>,
    /// What topics and workflows get for what they ask.
    pub grants: Arc<crate::grants::Settled>,
}

/// The model.
pub struct Model {
    node_id: String,
    started_us: u64,
    picture: RwLock<Picture>,
    conditions: RwLock<BTreeMap<(Kind, String), Condition>>,
    degraded: RwLock<BTreeMap<String, String>>,
    drain_report: RwLock<String>,
    abandoned: std::sync::atomic::AtomicU64,
    /// The number of the wiring that comes next.
    next_generation: std::sync::atomic::AtomicU64,
    measured: RwLock<Measured>,
}

/// The p99 of each hop (ns) of what is watched, by what it is.
pub type Measured = BTreeMap<(Kind, String), BTreeMap<String, u64>>;

impl Model {
    /// An empty model.
    pub fn new(node_id: &str) -> Self {
        let started_us = realtime_us();
        Model {
            node_id: node_id.to_owned(),
            started_us,
            picture: RwLock::default(),
            conditions: RwLock::default(),
            degraded: RwLock::default(),
            drain_report: RwLock::default(),
            abandoned: std::sync::atomic::AtomicU64::new(0),
            next_generation: std::sync::atomic::AtomicU64::new(1),
            measured: RwLock::default(),
        }
    }

    /// Shows another picture.
    pub fn show(&self, picture: Picture) {
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = picture;
    }

    /// Reads the picture.
    pub fn read<R>(&self, look: impl FnOnce(&Picture) -> R) -> R {
        look(&self.picture.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the picture in place.
    pub fn change<R>(&self, change: impl FnOnce(&mut Picture) -> R) -> R {
        change(&mut self.picture.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says how an object is; whether that is a change.
    pub fn set_condition(&self, kind: Kind, name: &str, state: &str, reason: &str) -> bool {
        let mut conditions = self.conditions.write().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, name.to_owned());
        if conditions.get(&key).is_some_and(|c| c.state == state && c.reason == reason) {
            return false;
        }
        let condition = Condition { state: state.into(), reason: reason.into(), since_us: realtime_us() };
        conditions.insert(key, condition);
        true
    }

    /// Forgets how objects were that are no more.
    pub fn keep_conditions(&self, keep: impl Fn(Kind, &str) -> bool) {
        self.conditions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(kind, name), _| keep(*kind, name));
    }

    /// How an object is.
    pub fn condition(&self, kind: Kind, name: &str) -> Option<Condition> {
        let conditions = self.conditions.read().unwrap_or_else(PoisonError::into_inner);
        conditions.get(&(kind, name.to_owned())).cloned()
    }

    /// Adds or takes away a sentence that says what the node does without; whether that is a change.
    pub fn degrade(&self, source: &str, sentence: Option<String>) -> bool {
        let mut degraded = self.degraded.write().unwrap_or_else(PoisonError::into_inner);
        match sentence {
            Some(sentence) => degraded.insert(source.to_owned(), sentence.clone()) != Some(sentence),
            None => degraded.remove(source).is_some(),
        }
    }

    /// What the node does without.
    pub fn degraded(&self) -> Vec<String> {
        self.degraded.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Says what the hops of granted requests take.
    pub fn set_measured(&self, measured: Measured) {
        *self.measured.write().unwrap_or_else(PoisonError::into_inner) = measured;
    }

    /// What the hops of one of them take.
    fn measured(&self, kind: Kind, name: &str) -> Figure {
        let measured = self.measured.read().unwrap_or_else(PoisonError::into_inner);
        Figure::Counts(measured.get(&(kind, name.to_owned())).cloned().unwrap_or_default())
    }

    /// Says what a drain came to.
    pub fn set_drain_report(&self, report: &str) {
        *self.drain_report.write().unwrap_or_else(PoisonError::into_inner) = report.to_owned();
    }

    /// Another wiring is in force: gives it the next number.
    pub fn count_generation(&self) -> u64 {
        let number = self.next_generation.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.change(|picture| picture.generation = number);
        number
    }

    /// The next wiring gets that number.
    pub fn set_next_generation(&self, number: u64) {
        self.next_generation.store(number, std::sync::atomic::Ordering::Relaxed);
    }

    /// Says how many threads did not come back from a plugin.
    pub fn set_abandoned(&self, threads: u64) {
        self.abandoned.store(threads, std::sync::atomic::Ordering::Relaxed);
    }

    /// The names of all objects of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.read(|picture| match kind {
            Kind::QosLevel => picture.levels.keys().cloned().collect(),
            Kind::Plugin => picture.plugins.keys().cloned().collect(),
            Kind::Adapter => picture.adapters.keys().cloned().collect(),
            Kind::Channel => picture.channels.keys().cloned().collect(),
            Kind::Topic => picture.topics.keys().cloned().collect(),
            Kind::Workflow => picture.workflows.keys().cloned().collect(),
            _ => Vec::new(),
        })
    }

    /// One object, read now.
    pub fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState> {
        let figures = self.read(|picture| match kind {
            Kind::Node => Some(self.node(picture)),
            Kind::QosLevel => picture.levels.get(name).map(level),
            Kind::Plugin => picture.plugins.get(name).map(plugin),
            Kind::Adapter => picture.adapters.get(name).map(|view| adapter(name, view)),
            Kind::Channel => picture.channels.get(name).map(channel),
            Kind::Topic => picture.topics.get(name).map(|view| {
                let mut figures = topic(view);
                granted(&mut figures, picture.grants.topics.get(name));
                figures.insert("MeasuredP99Ns", self.measured(kind, name));
                figures
            }),
            Kind::Workflow => picture.workflows.get(name).map(|view| {
                let mut figures = view.figures();
                granted(&mut figures, picture.grants.workflows.get(name));
                figures.insert("MeasuredP99Ns", self.measured(kind, name));
                figures
            }),
            _ => None,
        })?;
        let condition = match kind {
            Kind::Node => self.node_condition(),
            Kind::Plugin => self.read(|picture| {
                picture.plugins.get(name).map(|p| Condition {
                    state: p.state.into(),
                    reason: p.reason.clone(),
                    since_us: p.since_us,
                })
            })?,
            _ => self.condition(kind, name).unwrap_or(Condition {
                state: "started".into(),
                reason: String::from("it is in use"),
                since_us: self.started_us,
            }),
        };
        Some(ObjectState { kind, name: name.to_owned(), condition, figures })
    }

    fn node_condition(&self) -> Condition {
        let degraded = self.degraded();
        let (state, since) = self.read(|picture| {
            let known = self.condition(Kind::Node, "");
            (picture.state.clone(), known.map_or(self.started_us, |c| c.since_us))
        });
        let reason = match degraded.first() {
            Some(first) if state == "started" => first.clone(),
            _ => match state.as_str() {
                "started" => String::from("it serves"),
                "draining" => String::from("it was asked to drain: ingress is closed"),
                "drained" => self.drain_report.read().unwrap_or_else(PoisonError::into_inner).clone(),
                _ => String::from("it is starting"),
            },
        };
        let state = if state == "started" && !degraded.is_empty() { String::from("degraded") } else { state };
        Condition { state, reason, since_us: since }
    }

    fn node(&self, picture: &Picture) -> Figures {
        Figures::from([
            ("Version", Figure::Text(env!("CARGO_PKG_VERSION").into())),
            ("NodeId", Figure::Text(self.node_id.clone())),
            ("Generation", Figure::Count(picture.generation)),
            ("StartedAt", Figure::Count(self.started_us)),
            ("Degraded", Figure::Texts(self.degraded())),
            ("ResidentKiB", Figure::Count(memory::resident_kib())),
            ("LockedKiB", Figure::Count(memory::locked_kib())),
            ("AbandonedThreads", Figure::Count(self.abandoned.load(std::sync::atomic::Ordering::Relaxed))),
            (
                "DrainReport",
                Figure::Text(self.drain_report.read().unwrap_or_else(PoisonError::into_inner).clone()),
            ),
        ])
    }
}

fn level(view: &LevelView) -> Figures {
    let stats = &view.shared.stats;
    let mut latency = BTreeMap::new();
    for (hop, histogram) in [
        ("arrival", &stats.arrival),
        ("queue", &stats.queue),
        ("function", &stats.function),
        ("egress", &stats.egress),
        ("total", &stats.total),
    ] {
        if let Some(figures) = stats::percentiles(std::iter::once(histogram)) {
            latency.insert(hop.to_owned(), figures);
        }
    }
    let mut drops = BTreeMap::new();
    let (mut events_in, mut events_out, mut late) = (0, 0, 0);
    for topic in &view.topics {
        topic.dropped.add_to(&mut drops);
        events_in += topic.events_in.get();
        events_out += topic.events_out.get();
        late += topic.late.get();
    }
    let (mut minor, mut major, mut cpu) = (0, 0, 0);
    let mut threads = Vec::new();
    let mut granted = String::from("gone");
    for (what, thread) in &view.threads {
        let usage = scheduling::usage(*thread).unwrap_or_default();
        minor += usage.minor_faults;
        major += usage.major_faults;
        cpu += scheduling::cpu_time_ns(*thread);
        let policy = scheduling::granted(*thread);
        threads.push(format!("{what}: {policy}, thread {}", thread.0));
        if what == "queue worker" {
            granted = policy;
        }
    }
    let spec = &view.spec;
    Figures::from([
        ("Rank", Figure::Count(u64::from(spec.rank))),
        ("Scheduler", Figure::Text(scheduling::requested(&spec.scheduler))),
        ("Cpus", Figure::Text(cpus(&spec.cpus))),
        ("Granted", Figure::Text(granted)),
        ("Threads", Figure::Texts(threads)),
        ("Queued", Figure::Count(stats.queued.get())),
        ("QueuedBytes", Figure::Count(stats.bytes.get())),
        ("SharePercent", Figure::Count(u64::from(spec.share_percent))),
        ("CapacityEvents", Figure::Count(u64::from(spec.queue.capacity_events))),
        ("CapacityBytes", Figure::Count(spec.queue.capacity_bytes)),
        ("Policy", Figure::Text(spec.queue.policy.clone())),
        ("EventsIn", Figure::Count(events_in)),
        ("EventsOut", Figure::Count(events_out)),
        ("EventsLate", Figure::Count(late)),
        ("EventsDropped", Figure::Counts(drops)),
        ("LatencyNs", Figure::Latency(latency)),
        ("MinorFaults", Figure::Count(minor)),
        ("MajorFaults", Figure::Count(major)),
        ("CpuNs", Figure::Count(cpu)),
    ])
}

fn cpus(list: &[u32]) -> String {
    if list.is_empty() {
        return String::from("all");
    }
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn plugin(state: &PluginState) -> Figures {
    Figures::from([
        ("PluginKind", Figure::Text(state.kind.into())),
        ("Version", Figure::Text(state.version.clone())),
        ("AbiVersion", Figure::Text(state.abi.clone())),
        ("Path", Figure::Text(state.path.display().to_string())),
        ("Sha256", Figure::Text(state.sha256.clone())),
        ("Summary", Figure::Text(state.summary.clone())),
        ("Options", Figure::Texts(state.options.clone())),
        ("Generations", Figure::Count(u64::from(state.generations))),
        ("ResidentKiB", Figure::Count(state.resident_kib)),
    ])
}

fn adapter(name: &str, view: &AdapterView) -> Figures {
    Figures::from([
        ("Plugin", Figure::Text(name.to_owned())),
        ("Capabilities", Figure::Texts(view.capabilities.clone())),
        ("Channels", Figure::Count(view.channels)),
    ])
}

fn channel(view: &ChannelView) -> Figures {
    let mut figures = Figures::from([
        ("Topic", Figure::Text(view.topic.clone())),
        ("Group", Figure::Text(view.group.clone())),
        ("Adapter", Figure::Text(view.adapter.clone())),
        ("Direction", Figure::Text(view.direction.into())),
        ("Level", Figure::Text(view.level.clone())),
        ("Address", Figure::Text(view.address.clone())),
    ]);
    if let Some((stats, counters)) = &view.counts {
        figures.extend([
            ("FramesReceived", Figure::Count(stats.frames_received.get())),
            ("FramesSent", Figure::Count(stats.frames_sent.get().saturating_sub(counters.send_errors.get()))),
            ("BytesReceived", Figure::Count(stats.bytes_received.get())),
            ("BytesSent", Figure::Count(stats.bytes_sent.get())),
            ("SendErrors", Figure::Count(stats.errors.get() + counters.send_errors.get())),
            ("KernelDropped", Figure::Count(counters.kernel_dropped.get())),
            ("Malformed", Figure::Count(counters.malformed.get())),
            ("Pending", Figure::Count(stats.pending.get())),
            ("Unsettled", Figure::Count(stats.unsettled.get())),
            ("Connections", Figure::Count(counters.connections.get())),
            ("Refused", Figure::Count(counters.refused.get())),
            ("Capped", Figure::Count(stats.capped.get())),
            ("Incidents", Figure::Counts(incidents(counters))),
        ]);
    }
    figures
}

/// What befell a channel, by reason: only what did.
fn incidents(counters: &ChannelCounters) -> BTreeMap<String, u64> {
    let seen = counters.incidents().filter(|(_, count)| *count > 0);
    seen.map(|(reason, count)| (reason.to_owned(), count)).collect()
}

/// What is given for what was asked.
fn granted(figures: &mut Figures, grant: Option<&tempos_control::Grant>) {
    let Some(grant) = grant else { return };
    let rows = grant
        .hops
        .iter()
        .map(|hop| [hop.hop.clone(), hop.asked.clone(), hop.granted.clone(), hop.why.clone()]);
    figures.extend([
        ("Requested", Figure::Text(grant.asked.clone())),
        ("Granted", Figure::Text(grant.sentence.clone())),
        ("Grant", Figure::Rows(rows.collect())),
    ]);
}

fn topic(view: &TopicView) -> Figures {
    let mut drops = BTreeMap::new();
    let (mut events_in, mut events_out, mut late, mut live) = (0, 0, 0, 0);
    let (mut rerouted, mut crossed_out, mut crossed_in) = (0, 0, 0);
    for stats in &view.stats {
        // In this order, so that what crosses meanwhile is not counted as missing.
        crossed_in += stats.crossed_in.get();
        crossed_out += stats.crossed_out.get();
        rerouted += stats.rerouted.get();
        for (reason, count) in crate::attendance::all_drops(stats) {
            *drops.entry(reason).or_default() += count;
        }
        events_in += stats.events_in.get();
        events_out += stats.events_out.get();
        late += stats.late.get();
        live += stats.live.get();
    }
    let hops = || view.stats.iter().filter_map(|stats| stats.latency.get());
    let mut latency = BTreeMap::new();
    if let Some(figures) = stats::percentiles(hops().map(|l| &l.queue)) {
        latency.insert(String::from("queue"), figures);
    }
    if let Some(figures) = stats::percentiles(hops().map(|l| &l.egress)) {
        latency.insert(String::from("egress"), figures);
    }
    if let Some(figures) = stats::percentiles(hops().map(|l| &l.total)) {
        latency.insert(String::from("total"), figures);
    }
    let spec = &view.spec;
    Figures::from([
        ("Level", Figure::Text(spec.qos.clone())),
        ("Ingress", Figure::Texts(spec.ingress.iter().map(|c| c.name.clone()).collect())),
        (
            "Egress",
            Figure::Texts(
                spec.egress.iter().flat_map(|g| g.members.iter().map(|m| m.name.clone())).collect(),
            ),
        ),
        ("EventsIn", Figure::Count(events_in)),
        ("EventsOut", Figure::Count(events_out)),
        ("EventsLate", Figure::Count(late)),
        ("EventsDropped", Figure::Counts(drops)),
        ("EventsCrossed", Figure::Count(crossed_out)),
        ("EventsRerouted", Figure::Count(rerouted)),
        ("Queued", Figure::Count(live + crossed_out.saturating_sub(crossed_in))),
        ("LatencyNs", Figure::Latency(latency)),
    ])
}
