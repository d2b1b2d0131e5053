//! The controller: the one ordinary thread that owns plugins, plans and lanes. Orders come to it one at a
//! time; between them it looks after the lanes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tempos_abi::level::QosLevel;
use tempos_control::level::{BEST_EFFORT, LEVELS_MAX, STRICT};
use tempos_control::{Mistake, Notice, Order, Refusal, RefusalKind, Reply, Scheduler};

use crate::engine::EngineConfig;
use crate::heirs::Heirs;
use crate::herald::Herald;
use crate::lane::handle::Lane;
use crate::lane::supervisor::Supervisor;
use crate::model::Model;
use crate::plan::{CallPlan, LanePlan, OutletPlan, SourcePlan};
use crate::plugin::{FolderChange, LogLevel, Plugin, PluginEvent, Registry};
use crate::restart::Restarts;
use crate::stats::LOST;
use crate::system::memory::{Keep, lock_code};
use crate::transaction::{Drafting, LaneBefore, LaneDraft, Strictness};
use crate::wiring::{Channels as _, Wiring};

/// An order with the way back.
pub struct Ask {
    /// The order.
    pub order: Order,
    /// Where the answer goes.
    pub answer: SyncSender<Result<Reply, Refusal>>,
}

/// What wakes the controller.
pub enum Call {
    /// An order.
    Order(Ask),
    /// The plugin folders changed.
    Folders(FolderChange),
    /// The engine stops.
    Stop,
}

/// A lane and what the controller knows of it.
pub struct LaneEntry {
    /// It.
    pub lane: Lane,
    /// What its tables are made from.
    pub plan: LanePlan,
    /// The policy of its queue.
    pub queue_plugin: Arc<Plugin>,
    /// Topics that its queue has room for.
    pub queue_topics: u32,
}

impl LaneEntry {
    /// What a draft of its next state starts from.
    fn before(&self) -> LaneBefore<'_> {
        LaneBefore {
            level: &self.lane.spec,
            plan: &self.plan,
            queue_plugin: &self.queue_plugin,
            queue_topics: self.queue_topics,
            ids: self.lane.ids,
            shared: &self.lane.shared,
        }
    }
}

/// Something that no lane uses any more, and that may only be closed once nothing is under way in it.
pub enum Retired {
    /// A channel.
    Source(SourcePlan),
    /// A channel.
    Outlet(OutletPlan),
    /// A function, with the time after which it is left alone.
    Call(CallPlan, Instant),
}

/// The controller.
pub struct Controller {
    pub(crate) config: EngineConfig,
    pub(crate) registry: Registry,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) model: Arc<Model>,
    pub(crate) herald: Arc<Herald>,
    base: Wiring,
    pub(crate) wiring: Wiring,
    pub(crate) lanes: Vec<Option<LaneEntry>>,
    retired: Vec<Retired>,
    pub(crate) failed: BTreeMap<String, String>,
    pub(crate) draining: bool,
    pub(crate) next_publish_id: u64,
    pub(crate) next_tap: u64,
    /// What was told of drops, by level, topic and reason.
    pub(crate) drops_told: BTreeMap<(String, String, String), u64>,
    pub(crate) restarts: Restarts,
    last_told: Instant,
    pulse: u64,
    quiet: u32,
}

impl Controller {
    /// A controller with its plugins loaded and its lanes running, and an empty wiring.
    ///
    /// # Errors
    /// A lane cannot be started at all, or real-time scheduling was insisted on and is not granted.
    pub fn new(
        config: EngineConfig,
        model: Arc<Model>,
        herald: Arc<Herald>,
        supervisor: Arc<Supervisor>,
    ) -> Result<Self, Refusal> {
        let registry = Registry::new(
            crate::plugin::PluginConfig {
                folders: config.plugin_folders.clone(),
                stage_folder: stage_folder(&config),
                probe_command: config.probe_command.clone(),
                probe_timeout: Duration::from_secs(2),
                trusted_uid: rustix::process::geteuid().as_raw(),
            },
            Arc::clone(&config.log),
        )?;
        let base = Wiring::new(&config.levels);
        let mut controller = Controller {
            registry,
            supervisor,
            model,
            herald,
            wiring: base.clone(),
            base,
            lanes: (0..LEVELS_MAX).map(|_| None).collect(),
            retired: Vec::new(),
            failed: BTreeMap::new(),
            draining: false,
            next_publish_id: 0xff << 56,
            next_tap: 0,
            drops_told: BTreeMap::new(),
            restarts: Restarts::default(),
            last_told: Instant::now(),
            pulse: 0,
            quiet: 0,
            config,
        };
        let events = controller.registry.load_folders();
        controller.tell_plugins(&events);
        let wiring = controller.wiring.clone();
        match controller.bring_into_force(wiring, Strictness::Whole) {
            Ok(_) => {}
            // Without the plugin of a queue policy there is no lane yet; it may be dropped in later.
            Err(refusal) => {
                let sentence = format!("no lane runs: {}", refusal.message);
                controller.say(LogLevel::ERROR, "lanes", &sentence);
                controller.model.degrade("lanes", Some(sentence));
                controller.show();
            }
        }
        controller.check_grants();
        if controller.config.strict_realtime {
            let missing = controller.model.degraded();
            if let Some(first) = missing.first() {
                let message = format!("--strict-realtime: {first}");
                controller.stop_lanes();
                return Err(Refusal::new(RefusalKind::QosNotGrantable, message));
            }
        }
        controller.model.change(|picture| picture.state = String::from("started"));
        Ok(controller)
    }

    /// The body of the controller's thread.
    pub fn run(mut self, calls: &Receiver<Call>) {
        loop {
            match calls.recv_timeout(self.pause()) {
                Ok(Call::Order(ask)) => {
                    let reply = self.carry_out(ask.order);
                    // A caller that gave up waiting is no mistake.
                    let _ = ask.answer.try_send(reply);
                }
                Ok(Call::Folders(change)) => self.folders_changed(change),
                Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look_after();
        }
        self.stop_lanes();
    }

    /// Ten looks a second while events flow, one while none do.
    fn pause(&mut self) -> Duration {
        let pulse = self.lanes.iter().flatten().map(|entry| entry.lane.shared.stats.turns.get()).sum();
        self.quiet = if pulse == self.pulse && self.retired.is_empty() && self.restarts.is_empty() {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        self.pulse = pulse;
        Duration::from_millis(if self.quiet > 10 { 1000 } else { 100 })
    }

    fn carry_out(&mut self, order: Order) -> Result<Reply, Refusal> {
        match order {
            Order::Apply { commands, whole, dry_run } => {
                if self.draining {
                    return Err(Refusal::new(
                        RefusalKind::ShuttingDown,
                        "the node is draining and takes no other wiring",
                    ));
                }
                let answer = self.apply(&commands, whole, dry_run);
                if let (Err(refusal), false) = (&answer, dry_run) {
                    self.herald.tell(Notice::WiringRejected { report: refusal.message.clone() });
                }
                answer
            }
            Order::Drain { timeout_ms } => Ok(Reply::Report(self.drain(timeout_ms))),
            Order::Publish { topic, attributes, payload } => self.publish(&topic, &attributes, &payload),
            Order::Subscribe { topic } => self.subscribe(&topic),
            Order::LoadPlugin { path } => {
                let event = self.registry.load_file(&path, true)?;
                self.plugins_changed(vec![event]);
                Ok(Reply::Done)
            }
            Order::Prewarm { workflow, instances } => self.prewarm(&workflow, instances),
            Order::Doctor => Ok(Reply::Findings(self.doctor())),
            _ => Err(Refusal::new(RefusalKind::System, "the engine does not read scripts")),
        }
    }

    fn apply(
        &mut self,
        commands: &[tempos_control::Command],
        whole: bool,
        dry_run: bool,
    ) -> Result<Reply, Refusal> {
        let next = self.wiring.after(&self.base, commands, whole).map_err(Refusal::of_mistakes)?;
        let lines = self.wiring.difference(&next);
        // What can be refused without opening anything is: no channel then hands its descriptor over in vain.
        self.check(&next)?;
        if dry_run {
            return Ok(Reply::Report(report(&lines, "would change nothing")));
        }
        let notes = self.bring_into_force(next, Strictness::Whole)?;
        let mut said = report(&lines, "nothing changed");
        for note in notes {
            said.push('\n');
            said.push_str(&note);
        }
        let generation = self.model.change(|picture| {
            picture.generation += 1;
            picture.generation
        });
        self.herald.tell(Notice::WiringApplied { generation, report: said.clone() });
        Ok(Reply::Report(said))
    }

    /// Checks everything that can be checked without opening anything.
    fn check(&self, next: &Wiring) -> Result<(), Refusal> {
        let (drafts, mistakes, _) = self.draft(next, Strictness::Whole, true);
        drop(drafts);
        if mistakes.is_empty() { Ok(()) } else { Err(Refusal::of_mistakes(mistakes)) }
    }

    /// Drafts every lane of a wiring.
    fn draft(
        &self,
        next: &Wiring,
        strictness: Strictness,
        dry_run: bool,
    ) -> (Vec<LaneDraft>, Vec<Mistake>, BTreeMap<String, String>) {
        let reach = next.levels_of_topics();
        let channels: HashMap<&str, &tempos_control::ChannelSpec> = next
            .topics
            .values()
            .flat_map(|topic| {
                topic.channels().map(|channel| (channel.name.as_str(), channel)).collect::<Vec<_>>()
            })
            .collect();
        let mut drafting = Drafting {
            registry: &self.registry,
            wiring: next,
            reach: &reach,
            channels: &channels,
            strictness,
            dry_run,
            mistakes: Vec::new(),
            failed: BTreeMap::new(),
            heirs: Heirs::default(),
        };
        for (index, entry) in self.lanes.iter().enumerate() {
            if let Some(entry) = entry {
                let level = next.levels.get(&entry.lane.spec.name);
                drafting.gather(level, QosLevel(index as u8), &entry.before());
            }
        }
        let mut drafts = Vec::new();
        let mut taken: Vec<bool> = self.lanes.iter().map(Option::is_some).collect();
        for level in next.levels.values() {
            let index = self.index_of(&level.name).or_else(|| match level.name.as_str() {
                STRICT => Some(0),
                BEST_EFFORT => Some(1),
                _ => (2..LEVELS_MAX).find(|at| !taken[*at]),
            });
            let Some(index) = index else { continue };
            taken[index] = true;
            let before = self.lanes[index].as_ref().map(LaneEntry::before);
            drafts.push(drafting.lane(level, QosLevel(index as u8), before.as_ref()));
        }
        drafting.heirs.close();
        (drafts, drafting.mistakes, drafting.failed)
    }

    /// The index of a level's lane.
    pub(crate) fn index_of(&self, level: &str) -> Option<usize> {
        self.lanes.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.lane.spec.name == level))
    }

    /// Brings a wiring into force, as a whole or not at all. The answer is what a user should know beside
    /// the difference.
    pub(crate) fn bring_into_force(
        &mut self,
        next: Wiring,
        strictness: Strictness,
    ) -> Result<Vec<String>, Refusal> {
        let (drafts, mistakes, failed) = self.draft(&next, strictness, false);
        if !mistakes.is_empty() {
            for draft in drafts {
                draft.undo();
            }
            return Err(Refusal::of_mistakes(mistakes));
        }
        let mut notes = Vec::new();
        for draft in drafts {
            let index = draft.index.0 as usize;
            if let Err(sentence) = self.commit(draft, index) {
                self.say(LogLevel::ERROR, "wiring", &sentence);
                notes.push(sentence);
            }
        }
        let gone: Vec<usize> = (0..self.lanes.len())
            .filter(|at| {
                self.lanes[*at].as_ref().is_some_and(|entry| !next.levels.contains_key(&entry.lane.spec.name))
            })
            .collect();
        for index in gone {
            if let Some(entry) = self.lanes[index].take() {
                entry.lane.stop();
                self.retire_plan(entry.plan);
            }
        }
        self.wiring = next;
        self.failed = failed;
        self.lock_code();
        self.show();
        self.check_grants();
        self.herald.tell(Notice::ObjectsChanged);
        Ok(notes)
    }

    /// Tells one lane. What goes is closed only after the lane has left it.
    fn commit(&mut self, mut draft: LaneDraft, index: usize) -> Result<(), String> {
        let handover = std::mem::take(&mut draft.handover);
        let tables = draft.plan.tables(&draft.level, handover);
        let Some(queue_plugin) = draft.queue_plugin.take() else { return Ok(()) };
        let name = draft.level.name.clone();
        match &mut self.lanes[index] {
            None => {
                let Some((queue, topics)) = draft.queue.take() else { return Ok(()) };
                let lane = Lane::start(
                    draft.level.clone(),
                    draft.index,
                    queue,
                    tables,
                    &self.supervisor,
                    self.config.lock_memory,
                )
                .map_err(|error| format!("level {name:?}: its lane cannot be started: {error}"))?;
                let failed = draft.watch_sources(&lane.shared);
                self.lanes[index] =
                    Some(LaneEntry { lane, plan: draft.plan, queue_plugin, queue_topics: topics });
                if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
            }
            Some(entry) => {
                for source in &draft.gone_sources {
                    entry.lane.shared.place.forget_raw(source.descriptor);
                }
                let rescheduled = entry.lane.spec.scheduler != draft.level.scheduler
                    || entry.lane.spec.cpus != draft.level.cpus
                    || entry.lane.spec.function_priority != draft.level.function_priority;
                let old = match entry.lane.swap(tables) {
                    Ok(old) => old,
                    Err(tables) => {
                        // What the lane may have seen for an instant is not freed.
                        std::mem::forget(tables);
                        return Err(format!("level {name:?}: its lane did not take the new wiring in time"));
                    }
                };
                drop(old);
                let mut answer = Ok(());
                if let Some((queue, topics)) = draft.queue.take() {
                    let tables = draft.plan.tables(&draft.level, crate::lane::tables::Handover::default());
                    match entry.lane.rebuild(draft.level.clone(), queue, tables) {
                        Ok(old) => {
                            drop(old);
                            entry.queue_topics = topics;
                            entry.queue_plugin = queue_plugin;
                        }
                        Err(error) => {
                            answer = Err(format!("level {name:?}: its lane cannot be rebuilt: {error}"))
                        }
                    }
                } else {
                    if rescheduled && let Err(error) = entry.lane.reschedule(&draft.level) {
                        answer =
                            Err(format!("level {name:?}: the system does not grant its scheduling: {error}"));
                    }
                    entry.lane.spec = draft.level.clone();
                }
                let failed = draft.watch_sources(&entry.lane.shared);
                entry.plan = std::mem::take(&mut draft.plan);
                self.retire(draft.gone_sources, draft.gone_outlets, draft.gone_calls);
                if failed.is_empty() { answer } else { Err(failed.join("; ")) }
            }
        }
    }

    fn retire(&mut self, sources: Vec<SourcePlan>, outlets: Vec<OutletPlan>, calls: Vec<CallPlan>) {
        let limit = Instant::now() + Duration::from_secs(60);
        self.retired.extend(sources.into_iter().map(Retired::Source));
        self.retired.extend(outlets.into_iter().map(Retired::Outlet));
        self.retired.extend(calls.into_iter().map(|call| Retired::Call(call, limit)));
        self.close_retired();
    }

    pub(crate) fn retire_outlets(&mut self, outlets: Vec<OutletPlan>) {
        self.retire(Vec::new(), outlets, Vec::new());
    }

    fn retire_plan(&mut self, plan: LanePlan) {
        let LanePlan { sources, outlets, calls, .. } = plan;
        self.retire(
            sources.into_iter().flatten().collect(),
            outlets.into_iter().flatten().collect(),
            calls.into_iter().flatten().collect(),
        );
    }

    /// Closes what is no longer used.
    fn close_retired(&mut self) {
        let soon = crate::system::clock::monotonic_ns() + 100_000_000;
        let mut waiting = Vec::new();
        for retired in self.retired.drain(..) {
            match retired {
                Retired::Source(plan) => {
                    // SAFETY: the lane has left the tables that held this cell.
                    let source = unsafe { plan.cell.get() };
                    if plan.stats.failed.get() == LOST {
                        // A lost thread may still be in it.
                        std::mem::forget(plan);
                    } else {
                        source.channel.close(soon);
                    }
                }
                Retired::Outlet(plan) => {
                    // SAFETY: as above.
                    let outlet = unsafe { plan.cell.get() };
                    if plan.stats.failed.get() == LOST {
                        std::mem::forget(plan);
                    } else {
                        outlet.channel.close(soon);
                    }
                }
                Retired::Call(plan, limit) => {
                    let failed = plan.stats.failed.get() == LOST;
                    if plan.outstanding.get() == 0 && !failed {
                        // SAFETY: as above; no job of it is under way.
                        unsafe { plan.cell.get() }.function.retire(soon);
                    } else if failed || Instant::now() > limit {
                        std::mem::forget(plan);
                    } else {
                        waiting.push(Retired::Call(plan, limit));
                    }
                }
            }
        }
        self.retired = waiting;
    }

    /// What is done between orders.
    fn look_after(&mut self) {
        self.attend_lanes();
        self.restart_failed();
        self.close_retired();
        self.finish_removals();
        self.drop_dead_taps();
        if self.last_told.elapsed() >= Duration::from_secs(1) {
            self.last_told = Instant::now();
            self.tell_drops();
            self.retire_plugins();
        }
    }

    /// Topics that were removed and have delivered what they held leave for good.
    fn finish_removals(&mut self) {
        for index in 0..self.lanes.len() {
            let Some(entry) = &mut self.lanes[index] else { continue };
            let now = Instant::now();
            let done: Vec<usize> = entry
                .plan
                .topics
                .iter()
                .enumerate()
                .filter_map(|(at, topic)| {
                    let topic = topic.as_ref()?;
                    let limit = topic.removed?;
                    (topic.stats.live.get() == 0 || now > limit).then_some(at)
                })
                .collect();
            if done.is_empty() {
                continue;
            }
            let mut plan = entry.plan.clone();
            let mut handover = crate::lane::tables::Handover::default();
            let (mut outlets, mut calls) = (Vec::new(), Vec::new());
            for at in done {
                plan.topics[at] = None;
                for slot in
                    plan.outlets.iter_mut().filter(|o| o.as_ref().is_some_and(|o| o.topic_index == at as u32))
                {
                    outlets.extend(slot.take());
                }
                for slot in
                    plan.calls.iter_mut().filter(|c| c.as_ref().is_some_and(|c| c.topic_index == at as u32))
                {
                    calls.extend(slot.take());
                }
            }
            handover.outlets = outlets.iter().map(|o| (Arc::clone(&o.cell), None)).collect();
            handover.calls = calls.iter().map(|c| (Arc::clone(&c.cell), None)).collect();
            let tables = plan.tables(&entry.lane.spec, handover);
            match entry.lane.swap(tables) {
                Ok(old) => {
                    drop(old);
                    entry.plan = plan;
                    self.retire(Vec::new(), outlets, calls);
                }
                Err(tables) => std::mem::forget(tables),
            }
        }
    }

    /// The plugins of the folders changed: what they open is opened again with what is there now.
    fn folders_changed(&mut self, change: FolderChange) {
        let mut events = Vec::new();
        for path in change.gone {
            events.extend(self.registry.file_gone(&path));
        }
        for path in change.appeared {
            match self.registry.load_file(&path, false) {
                Ok(event) => events.push(event),
                Err(refusal) => {
                    let name =
                        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    self.herald.tell(Notice::PluginStateChanged {
                        name,
                        state: "failed".into(),
                        report: refusal.message,
                    });
                }
            }
        }
        self.plugins_changed(events);
    }

    pub(crate) fn plugins_changed(&mut self, events: Vec<PluginEvent>) {
        self.tell_plugins(&events);
        let matters = events.iter().any(|event| {
            matches!(event, PluginEvent::Started(_) | PluginEvent::Replaced { .. } | PluginEvent::Draining(_))
        });
        if matters && !self.draining {
            let wiring = self.wiring.clone();
            match self.bring_into_force(wiring, Strictness::Part) {
                Ok(_) => {
                    self.model.degrade("lanes", None);
                }
                Err(refusal) => self.say(LogLevel::ERROR, "plugins", &refusal.message),
            }
            self.retire_plugins();
        }
        self.show();
        self.herald.tell(Notice::ObjectsChanged);
    }

    /// Old generations that nothing uses any more.
    fn retire_plugins(&mut self) {
        let used: Vec<Arc<Plugin>> = self
            .lanes
            .iter()
            .flatten()
            .flat_map(|entry| {
                let sources = entry.plan.sources.iter().flatten().map(|s| Arc::clone(&s.plugin));
                let outlets = entry.plan.outlets.iter().flatten().map(|o| Arc::clone(&o.plugin));
                let calls = entry.plan.calls.iter().flatten().map(|c| Arc::clone(&c.plugin));
                sources
                    .chain(outlets)
                    .chain(calls)
                    .chain([Arc::clone(&entry.queue_plugin)])
                    .collect::<Vec<_>>()
            })
            .collect();
        let draining = self.registry.draining();
        let mut changed = false;
        for plugin in draining {
            if !used.iter().any(|other| Arc::ptr_eq(other, &plugin)) {
                let events = self.registry.drained(&plugin);
                self.tell_plugins(&events);
                changed = true;
            }
        }
        if changed {
            self.show();
        }
    }

    /// The lanes' code is locked, so that a branch seldom taken waits for no disk: the plugins that a lane
    /// uses, the C library, and of the node itself what lies around the lanes' functions.
    fn lock_code(&self) {
        if !self.config.lock_memory {
            return;
        }
        let plans = || self.lanes.iter().flatten().map(|entry| &entry.plan);
        let sources = plans().flat_map(|plan| plan.sources.iter().flatten()).map(|source| &source.plugin);
        let outlets = plans().flat_map(|plan| plan.outlets.iter().flatten()).map(|outlet| &outlet.plugin);
        let calls = plans().flat_map(|plan| plan.calls.iter().flatten()).map(|call| &call.plugin);
        let queues = self.lanes.iter().flatten().map(|entry| &entry.queue_plugin);
        let used: BTreeSet<String> = sources
            .chain(outlets)
            .chain(calls)
            .chain(queues)
            .map(|plugin| plugin.staged.display().to_string())
            .collect();
        let own = std::env::current_exe().unwrap_or_default().display().to_string();
        let keep = |path: &str| {
            if used.contains(path) || path.contains("/libc.so") || path == "[vdso]" {
                Some(Keep::Whole)
            } else {
                (path == own).then_some(Keep::AsUsed)
            }
        };
        lock_code(keep, &crate::lane::code::addresses());
    }

    /// Compares what the lanes asked for with what the system granted.
    pub(crate) fn check_grants(&mut self) {
        let mut highest = 0;
        let mut refused = Vec::new();
        let mut unlocked = false;
        for entry in self.lanes.iter().flatten() {
            let wanted = crate::system::scheduling::requested(&entry.lane.spec.scheduler);
            highest = highest.max(crate::system::scheduling::priority_of(&entry.lane.spec.scheduler));
            let is_real_time = !matches!(entry.lane.spec.scheduler, Scheduler::Other { .. });
            let got = entry
                .lane
                .shared
                .thread()
                .map_or_else(|| String::from("gone"), crate::system::scheduling::granted);
            let demoted = entry.lane.is_demoted();
            if is_real_time && got != wanted && !demoted {
                refused.push(format!("level {:?} runs as {got} instead of {wanted}", entry.lane.spec.name));
            }
            let (state, reason) = if got == wanted || demoted {
                ("granted", format!("its queue worker runs as {got}"))
            } else {
                ("degraded", format!("its queue worker runs as {got} instead of {wanted}"))
            };
            self.model.set_condition(tempos_control::Kind::QosLevel, &entry.lane.spec.name, state, &reason);
            unlocked |= self.config.lock_memory && !entry.lane.is_locked;
        }
        let sentence = (!refused.is_empty()).then(|| {
            let (cause, mend) = crate::system::preflight::real_time_cause(highest);
            format!("real-time scheduling is not granted: {}; {cause}; {mend}", refused.join(", "))
        });
        self.degrade("real-time scheduling", sentence);
        let sentence = unlocked.then(|| {
            String::from("locked memory is not granted: RLIMIT_MEMLOCK is too small and CAP_IPC_LOCK is missing; give the service LimitMEMLOCK=infinity")
        });
        self.degrade("locked memory", sentence);
    }

    pub(crate) fn degrade(&self, source: &str, sentence: Option<String>) {
        if let Some(sentence) = &sentence {
            if self.model.degrade(source, Some(sentence.clone())) {
                self.say(LogLevel::WARNING, source, sentence);
                self.herald
                    .tell(Notice::StateChanged { kind: tempos_control::Kind::Node, name: String::new() });
            }
        } else if self.model.degrade(source, None) {
            self.herald.tell(Notice::StateChanged { kind: tempos_control::Kind::Node, name: String::new() });
        }
    }

    pub(crate) fn say(&self, level: LogLevel, target: &str, sentence: &str) {
        (self.config.log)(level, target, sentence);
    }

    fn doctor(&self) -> Vec<tempos_control::Finding> {
        let highest = self
            .lanes
            .iter()
            .flatten()
            .map(|entry| crate::system::scheduling::priority_of(&entry.lane.spec.scheduler))
            .max()
            .unwrap_or(0);
        crate::system::preflight::findings(highest, self.config.lock_memory)
    }

    fn stop_lanes(&mut self) {
        for index in 0..self.lanes.len() {
            if let Some(entry) = self.lanes[index].take() {
                entry.lane.stop();
                self.retire_plan(entry.plan);
            }
        }
        self.close_retired();
    }
}

/// Where private copies of plugins are kept: under the run folder, or, where that is mounted noexec as
/// systemd does it, under the state folder.
fn stage_folder(config: &EngineConfig) -> PathBuf {
    match crate::plugin::stage::runs_code(&config.run_dir) {
        Ok(false) => config.state_dir.join("staged"),
        _ => config.run_dir.join("plugins"),
    }
}

fn report(lines: &[String], nothing: &str) -> String {
    if lines.is_empty() { nothing.to_owned() } else { lines.join("\n") }
}
