//! From one wiring to the next, as one transaction: everything new is opened first; only when all of it
//! stands is any lane told. What did not change keeps its sockets, its queued events and its figures.

mod calling;
mod joining;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempos_abi::PluginKind;
use tempos_abi::adapter::Direction;
use tempos_abi::invoker::FunctionBox;
use tempos_abi::level::QosLevel;
use tempos_abi::queue::QueueBox;
use tempos_control::{ChannelSpec, LevelSpec, Mistake, TopicSpec, WorkflowSpec};

use crate::bridging::endpoint::{Entrance, Source};
use crate::delivery::group::Member;
use crate::delivery::outlet::Outlet;
use crate::heirs::{HeirKey, Heirs};
use crate::lane::cell::LaneCell;
use crate::lane::shared::{Errand, Giver};
use crate::lane::tables::{Handover, token};
use crate::opening::{self, Opened};
use crate::plan::{CallPlan, GroupPlan, LanePlan, OutletPlan, SourcePlan, TopicPlan, place_from};
use crate::plugin::{Plugin, Registry, options};
use crate::processing::workflow::{Call, PENDING_MAX};
use crate::stats::{ChannelStats, Tally, TopicStats, WorkflowStats};
use crate::wiring::{Wiring, same_channel, same_workflow};

/// How long a removed topic may take to deliver what it still holds.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// How mistakes are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// A user's order: one mistake refuses the whole.
    Whole,
    /// The node's own doing after a plugin came or went: what cannot be opened is shown as failed.
    Part,
}

/// What a lane is to become.
pub struct LaneDraft {
    /// The level.
    pub level: LevelSpec,
    /// Its index.
    pub index: QosLevel,
    /// Its plan.
    pub plan: LanePlan,
    /// What changes hands.
    pub handover: Handover,
    /// Sources to be watched once the lane has its tables.
    pub opened_sources: Vec<usize>,
    /// Outlets that were opened: those that call back are watched too.
    pub opened_outlets: Vec<usize>,
    /// Sources to be forgotten before.
    pub gone_sources: Vec<SourcePlan>,
    /// Channels to be closed after.
    pub gone_outlets: Vec<OutletPlan>,
    /// Functions to be retired after.
    pub gone_calls: Vec<CallPlan>,
    /// The queue policy's plugin.
    pub queue_plugin: Option<Arc<Plugin>>,
    /// A queue for a lane that is new or must be rebuilt, and for how many topics.
    pub queue: Option<(QueueBox, u32)>,
    opened: Vec<OpenedCell>,
}

enum OpenedCell {
    Source(Arc<LaneCell<Source>>),
    Outlet(Arc<LaneCell<Outlet>>),
    Function(Arc<FunctionBox>),
}

/// The present state of a lane, as a draft starts from it.
pub struct LaneBefore<'a> {
    /// The level as it is in force.
    pub level: &'a LevelSpec,
    /// Its plan.
    pub plan: &'a LanePlan,
    /// The queue policy's plugin.
    pub queue_plugin: &'a Arc<Plugin>,
    /// Topics that its queue has room for.
    pub queue_topics: u32,
    /// Ids that its lists have room for.
    pub ids: usize,
    /// Its shared side.
    pub shared: &'a crate::lane::shared::LaneShared,
}

/// What a draft is made from.
pub struct Drafting<'a> {
    /// Where plugins are found.
    pub registry: &'a Registry,
    /// The wiring to come.
    pub wiring: &'a Wiring,
    /// Which levels reach which topics.
    pub reach: &'a BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// What the functions after each workflow have declared to take (ns).
    pub downstream: &'a HashMap<&'a str, u64>,
    /// The channels of the wiring to come, by name.
    pub channels: &'a HashMap<&'a str, &'a ChannelSpec>,
    /// How mistakes are met.
    pub strictness: Strictness,
    /// Only checks: nothing is opened.
    pub dry_run: bool,
    /// Mistakes so far.
    pub mistakes: Vec<Mistake>,
    /// What is shown as failed, by channel or workflow name.
    pub failed: BTreeMap<String, String>,
    /// What changes though it was declared as before, one line each.
    pub notes: BTreeSet<String>,
    /// Descriptors of channels that go, change or move.
    pub heirs: Heirs,
}

impl Drafting<'_> {
    fn mistake(&mut self, name: &str, origin: &tempos_control::Origin, sentences: Vec<String>) {
        match self.strictness {
            Strictness::Whole => {
                self.mistakes.extend(sentences.into_iter().map(|sentence| Mistake::new(origin, sentence)));
            }
            Strictness::Part => {
                self.failed.insert(name.to_owned(), sentences.join("; "));
            }
        }
    }

    /// Drafts one lane. Mistakes are gathered; the draft is good only where there are none.
    pub fn lane(&mut self, level: &LevelSpec, index: QosLevel, before: Option<&LaneBefore<'_>>) -> LaneDraft {
        let mut draft = LaneDraft {
            level: level.clone(),
            index,
            plan: before.map(|b| b.plan.clone()).unwrap_or_default(),
            handover: Handover::default(),
            opened_sources: Vec::new(),
            opened_outlets: Vec::new(),
            gone_sources: Vec::new(),
            gone_outlets: Vec::new(),
            gone_calls: Vec::new(),
            queue_plugin: None,
            queue: None,
            opened: Vec::new(),
        };
        let names: HashMap<Arc<str>, usize> = draft
            .plan
            .topics
            .iter()
            .enumerate()
            .filter_map(|(at, topic)| topic.as_ref().map(|topic| (Arc::clone(&topic.name), at)))
            .collect();
        let mut work = Work {
            level,
            index,
            marks_changed: before.is_some_and(|b| marks_differ(b.level, level)),
            names,
            free: Free::default(),
            draft: &mut draft,
        };
        self.topics(&mut work);
        self.queue(&mut draft, before);
        draft
    }

    /// Channels of a lane that go, change or move give their descriptors to whoever takes their address, on
    /// this lane or another; `level` is what the lane becomes, `None` where it goes. Before any lane is
    /// drafted.
    pub fn gather(&mut self, level: Option<&LevelSpec>, index: QosLevel, before: &LaneBefore<'_>) {
        if self.dry_run {
            return;
        }
        let marks = level.is_none_or(|level| marks_differ(before.level, level));
        let stays = |spec: &ChannelSpec, topic: &str, direction: Direction, plugin: &Arc<Plugin>| {
            !marks
                && self.registry.current(&spec.adapter).is_some_and(|now| Arc::ptr_eq(&now, plugin))
                && self.keeps(spec, topic, direction, &before.level.name)
        };
        let mut errand = Errand::default();
        let mut keys = Vec::new();
        for source in before.plan.sources.iter().flatten() {
            if !stays(&source.spec, &source.topic, Direction::INGRESS, &source.plugin) {
                keys.push(HeirKey::of(&source.spec, Direction::INGRESS));
                errand.givers.push((Giver::Source(Arc::clone(&source.cell)), -1));
            }
        }
        for outlet in before.plan.outlets.iter().flatten() {
            if !stays(&outlet.spec, &outlet.topic, Direction::EGRESS, &outlet.plugin) {
                keys.push(HeirKey::of(&outlet.spec, Direction::EGRESS));
                errand.givers.push((Giver::Outlet(Arc::clone(&outlet.cell)), -1));
            }
        }
        if keys.is_empty() || !before.shared.run_errand(&mut errand, 1000) {
            return;
        }
        for (key, (_, descriptor)) in keys.into_iter().zip(&errand.givers) {
            if *descriptor >= 0 {
                let claimed = self.channels.get(key.name()).is_some_and(|next| key.suits(next));
                self.heirs.add(key, index, claimed, *descriptor);
            }
        }
    }

    /// Whether the wiring to come holds a channel as it is, at the same place of the same topic and level.
    fn keeps(&self, spec: &ChannelSpec, topic: &str, direction: Direction, level: &str) -> bool {
        let Some(next) = self.wiring.topics.get(topic) else { return false };
        let mut ingress = next.ingress.iter();
        let mut egress = next.egress.iter().flat_map(|group| &group.members);
        let here = if direction == Direction::INGRESS {
            ingress.any(|c| c.name == spec.name && c.qos.as_deref().unwrap_or(&next.qos) == level)
        } else {
            self.reach.get(topic).is_some_and(|levels| levels.contains(level))
                && egress.any(|c| c.name == spec.name && c.qos.as_deref().is_none_or(|qos| qos == level))
        };
        here && self.channels.get(spec.name.as_str()).is_some_and(|channel| same_channel(channel, spec))
    }

    /// What panicked is opened again whenever there is an occasion; what a thread was lost in only where a
    /// user says so.
    fn may_stay(&self, failed: u64) -> bool {
        failed == 0 || (failed == crate::stats::LOST && self.strictness == Strictness::Part)
    }

    fn topics(&mut self, work: &mut Work<'_>) {
        let mut planned = BTreeSet::new();
        let mut used = Used::default();
        let here: Vec<&TopicSpec> = self
            .wiring
            .topics
            .values()
            .filter(|topic| {
                self.reach
                    .get(topic.name.as_str())
                    .is_some_and(|levels| levels.contains(work.level.name.as_str()))
            })
            .collect();
        // First every topic's place, so that workflows find where their output goes.
        for topic in &here {
            let at = match work.names.get(topic.name.as_str()) {
                Some(at) => *at,
                None => {
                    let at = place_from(&mut work.draft.plan.topics, &mut work.free.topics);
                    work.names.insert(topic.name.as_str().into(), at);
                    at
                }
            };
            planned.insert(at);
            let old = work.draft.plan.topics[at].take();
            let (number, stats, taps) = match old {
                Some(old) => (old.number, old.stats, old.groups),
                None => {
                    work.draft.plan.topic_number += 1;
                    (work.draft.plan.topic_number, Arc::new(TopicStats::default()), Vec::new())
                }
            };
            let ttl = topic.time_to_live_ns.or(work.level.queue.time_to_live_ns).unwrap_or(0);
            work.draft.plan.topics[at] = Some(TopicPlan {
                name: topic.name.as_str().into(),
                number,
                stats,
                rank: u32::from(topic.rank),
                weight: topic.weight,
                minimum_permille: u32::from(topic.share_percent) * 10,
                deadline_ns: topic.deadline_ns.unwrap_or(0),
                time_to_live_ns: ttl,
                drops_late: topic.drops_late,
                takes_replies: topic.takes_replies,
                rules: None,
                groups: taps,
                removed: None,
            });
        }
        let mut workflows: HashMap<&str, Vec<&WorkflowSpec>> = HashMap::new();
        for workflow in self.wiring.workflows.values() {
            workflows.entry(workflow.from.as_str()).or_default().push(workflow);
        }
        let existing = Existing::of(&work.draft.plan);
        for topic in here {
            let Some(at) = work.names.get(topic.name.as_str()).copied() else { continue };
            self.ingress(work, topic, at, &existing, &mut used);
            let groups =
                self.egress(work, topic, at, &existing, workflows.get(topic.name.as_str()), &mut used);
            if let Some(plan) = &mut work.draft.plan.topics[at] {
                plan.groups = groups;
            }
        }
        remove_unused(work.draft, &planned, &used);
    }

    /// The lane's queue: a new one where the lane is new, or where anything that its pool, its workers or
    /// its policy were made from has changed.
    fn queue(&mut self, draft: &mut LaneDraft, before: Option<&LaneBefore<'_>>) {
        let level = &draft.level;
        let plugin = match opening::plugin(self.registry, &level.queue.policy, PluginKind::QUEUE) {
            Ok(plugin) => plugin,
            Err(sentence) => match (self.strictness, before) {
                // The policy's file was removed: what is mapped goes on.
                (Strictness::Part, Some(before)) => Arc::clone(before.queue_plugin),
                _ => {
                    self.mistakes
                        .push(Mistake::new(&level.origin, format!("level {:?}: {sentence}", level.name)));
                    return;
                }
            },
        };
        let topics = draft.plan.topics.len();
        let ids = topics.max(draft.plan.outlets.len());
        let fits = before.is_some_and(|before| {
            !shape_differs(before.level, level)
                && Arc::ptr_eq(before.queue_plugin, &plugin)
                && topics <= before.queue_topics as usize
                && ids <= before.ids
        });
        draft.queue_plugin = Some(Arc::clone(&plugin));
        if fits {
            return;
        }
        let room = (topics * 2).next_power_of_two().max(1024) as u32;
        // The pool is of another process's making only when the lane is built: its number of handles is
        // known from its size alone.
        let handles = crate::lane::pool::handles_of(crate::lane::handle::pool_size(level, false));
        match opening::open_queue(&plugin, level, handles, room) {
            Ok(queue) => draft.queue = Some((queue, room)),
            Err(sentences) => {
                self.mistakes.extend(sentences.into_iter().map(|s| Mistake::new(&level.origin, s)))
            }
        }
    }
}

impl LaneDraft {
    /// The lane's ids of the sources that go.
    pub fn gone_ids(&self) -> Vec<u32> {
        self.gone_sources.iter().map(|source| source.id).collect()
    }

    /// Closes everything that was opened for it: the transaction was refused.
    pub fn undo(self) {
        let soon = crate::system::clock::monotonic_ns() + 100_000_000;
        for opened in self.opened {
            match opened {
                // SAFETY: no lane has seen these cells.
                OpenedCell::Source(cell) => unsafe { cell.get() }.channel.close(soon),
                // SAFETY: as above.
                OpenedCell::Outlet(cell) => unsafe { cell.get() }.channel.close(soon),
                OpenedCell::Function(function) => function.retire(soon),
            }
        }
    }

    /// Watches the sources that were opened; called once the lane has its tables.
    pub fn watch_sources(&self, shared: &crate::lane::shared::LaneShared) -> Vec<String> {
        let mut failed = Vec::new();
        for id in &self.opened_sources {
            let Some(source) = &self.plan.sources[*id] else { continue };
            if source.descriptor < 0 {
                failed.push(format!("channel {:?} has no descriptor to wait on", source.name));
                continue;
            }
            // SAFETY: the channel owns the descriptor and lives in the plan.
            let descriptor = unsafe { BorrowedFd::borrow_raw(source.descriptor) };
            if let Err(error) = shared.place.watch_readable(descriptor, token::source(*id as u32)) {
                failed.push(format!("channel {:?} cannot be waited on: {error}", source.name));
            }
        }
        for id in &self.opened_outlets {
            let Some(plan) = &self.plan.outlets[*id] else { continue };
            // SAFETY: only what never changes while the channel lives is read.
            let (calls_back, descriptor) = unsafe {
                let outlet = plan.cell.get();
                (outlet.calls_back(), outlet.descriptor)
            };
            if !calls_back || descriptor < 0 {
                continue;
            }
            // SAFETY: the channel owns the descriptor and lives in the plan.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            if let Err(error) = shared.place.watch_always(descriptor, token::outlet(*id as u32)) {
                failed.push(format!("channel {:?} cannot be waited on: {error}", plan.name));
            }
        }
        failed
    }
}

struct Work<'a> {
    level: &'a LevelSpec,
    index: QosLevel,
    marks_changed: bool,
    names: HashMap<Arc<str>, usize>,
    free: Free,
    draft: &'a mut LaneDraft,
}

/// Up to where the plan's lists have no free place: nothing is taken out while places are given.
#[derive(Default)]
struct Free {
    topics: usize,
    sources: usize,
    outlets: usize,
    calls: usize,
}

#[derive(Default)]
struct Used {
    sources: BTreeSet<usize>,
    outlets: BTreeSet<usize>,
    calls: BTreeSet<usize>,
}

/// Where what is there stands, by name.
struct Existing {
    sources: HashMap<String, usize>,
    outlets: HashMap<String, usize>,
    calls: HashMap<String, usize>,
}

impl Existing {
    fn of(plan: &LanePlan) -> Self {
        let index = |names: Vec<Option<String>>| {
            names
                .into_iter()
                .enumerate()
                .filter_map(|(at, name)| Some((name?, at)))
                .collect::<HashMap<_, _>>()
        };
        Existing {
            sources: index(plan.sources.iter().map(|s| s.as_ref().map(|s| s.spec.name.clone())).collect()),
            outlets: index(plan.outlets.iter().map(|o| o.as_ref().map(|o| o.spec.name.clone())).collect()),
            calls: index(plan.calls.iter().map(|c| c.as_ref().map(|c| c.spec.name.clone())).collect()),
        }
    }
}

fn cursor(old: &[GroupPlan], name: &str) -> Arc<LaneCell<usize>> {
    old.iter()
        .find(|group| group.name == name)
        .map_or_else(|| Arc::new(LaneCell::new(0)), |group| Arc::clone(&group.cursor))
}

/// Takes out what the wiring to come does not hold. A topic that still holds events stays, without
/// ingress, until it has delivered them.
fn remove_unused(draft: &mut LaneDraft, planned: &BTreeSet<usize>, used: &Used) {
    for id in 0..draft.plan.sources.len() {
        if !used.sources.contains(&id)
            && let Some(source) = draft.plan.sources[id].take()
        {
            draft.gone_sources.push(source);
        }
    }
    let mut lingering = BTreeSet::new();
    // One moment for all: none goes before another whose functions put out to it.
    let until = Instant::now() + REMOVAL_LIMIT;
    for at in 0..draft.plan.topics.len() {
        if planned.contains(&at) {
            continue;
        }
        if let Some(topic) = &mut draft.plan.topics[at] {
            topic.removed.get_or_insert(until);
            lingering.insert(at as u32);
        }
    }
    for id in 0..draft.plan.outlets.len() {
        let keep = used.outlets.contains(&id)
            || draft.plan.outlets[id].as_ref().is_some_and(|outlet| lingering.contains(&outlet.topic_index));
        if !keep && let Some(outlet) = draft.plan.outlets[id].take() {
            draft.handover.outlets.push((Arc::clone(&outlet.cell), None));
            draft.gone_outlets.push(outlet);
        }
    }
    for id in 0..draft.plan.calls.len() {
        let keep = used.calls.contains(&id)
            || draft.plan.calls[id].as_ref().is_some_and(|call| lingering.contains(&call.topic_index));
        if !keep && let Some(call) = draft.plan.calls[id].take() {
            draft.handover.calls.push((Arc::clone(&call.cell), None));
            draft.gone_calls.push(call);
        }
    }
}

/// Whether what channels were opened with has changed.
fn marks_differ(a: &LevelSpec, b: &LevelSpec) -> bool {
    a.network != b.network || a.rank != b.rank || a.batch != b.batch || a.event_bytes_max != b.event_bytes_max
}

/// Whether the lane must be rebuilt.
fn shape_differs(a: &LevelSpec, b: &LevelSpec) -> bool {
    a.queue != b.queue
        || a.workers != b.workers
        || a.batch != b.batch
        || a.event_bytes_max != b.event_bytes_max
}
