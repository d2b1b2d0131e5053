//! The controller: the one ordinary thread that owns plugins, plans and lanes. Orders come to it one at a
//! time; between them it looks after the lanes.

mod checkup;
mod crossings;
mod enforcement;
mod folders;
mod granting;
mod hearsay;
mod retirement;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tempos_abi::level::QosLevel;
use tempos_control::level::{BEST_EFFORT, LEVELS_MAX, STRICT};
use tempos_control::{Mistake, Notice, Order, Refusal, RefusalKind, Reply, Scheduler};

use self::enforcement::Drafted;
use self::retirement::Retired;
use crate::engine::EngineConfig;
use crate::grants::costs::Costs;
use crate::heirs::Heirs;
use crate::herald::Herald;
use crate::lane::handle::Lane;
use crate::lane::supervisor::Supervisor;
use crate::model::Model;
use crate::plan::{CallPlan, LanePlan, OutletPlan, SourcePlan};
use crate::plugin::{FolderChange, LogLevel, Plugin, PluginEvent, Registry};
use crate::restart::Restarts;
use crate::stats::LOST;
use crate::system::memory::lock_code;
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
    /// Other figures of what hops cost.
    Costs(Costs),
    /// A plugin said something of a channel.
    Heard,
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
    /// Lanes that are joined by a crossing: from, to.
    crossings: BTreeSet<(usize, usize)>,
    retired: Vec<Retired>,
    /// Functions that a thread did not come back from: they are never retired.
    left_alone: Vec<Arc<tempos_abi::invoker::FunctionBox>>,
    pub(crate) failed: BTreeMap<String, String>,
    pub(crate) draining: bool,
    pub(crate) next_publish_id: u64,
    pub(crate) next_tap: u64,
    /// What was told of drops, by level, topic and reason.
    pub(crate) drops_told: BTreeMap<(String, String, String), u64>,
    pub(crate) restarts: Restarts,
    /// Levels that pass fewer events than they are to, with the sentence.
    pub(crate) slow: BTreeMap<String, String>,
    /// Events that each level with a least rate had passed on when it was looked at last.
    pub(crate) passed: BTreeMap<String, u64>,
    /// What each topic and workflow gets for what it asks.
    grants: Arc<crate::grants::Settled>,
    /// What hops cost.
    costs: Costs,
    /// Whether grants are kept.
    watch: watching::Watch,
    /// What plugins said of open channels last: whether they work, and why.
    pub(crate) said: BTreeMap<String, (bool, String)>,
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
        let registry = Registry::new(config.plugin_config(), Arc::clone(&config.log))?;
        let base = Wiring::new(&config.levels);
        let mut controller = Controller {
            registry,
            supervisor,
            model,
            herald,
            wiring: base.clone(),
            base,
            lanes: (0..LEVELS_MAX).map(|_| None).collect(),
            crossings: BTreeSet::new(),
            retired: Vec::new(),
            left_alone: Vec::new(),
            failed: BTreeMap::new(),
            draining: false,
            next_publish_id: 0xff << 56,
            next_tap: 0,
            drops_told: BTreeMap::new(),
            restarts: Restarts::default(),
            slow: BTreeMap::new(),
            passed: BTreeMap::new(),
            grants: granting::none(),
            costs: Costs::stated(),
            watch: watching::Watch::default(),
            said: BTreeMap::new(),
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
                Ok(Call::Costs(costs)) => self.take_costs(costs),
                Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                // Looked after below.
                Ok(Call::Heard) | Err(RecvTimeoutError::Timeout) => {}
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
        let mut next = self.wiring.after(&self.base, commands, whole).map_err(Refusal::of_mistakes)?;
        let granted = self.admit(&mut next)?;
        let mut lines = self.wiring.difference(&next);
        // What can be refused without opening anything is: no channel then hands its descriptor over in vain.
        lines.extend(self.check(&next)?);
        lines.extend(next.tight_deadlines());
        if dry_run {
            let said = std::iter::once(report(&lines, "would change nothing")).chain(granted);
            return Ok(Reply::Report(said.collect::<Vec<_>>().join("\n")));
        }
        let notes = self.bring_into_force(next, Strictness::Whole)?;
        let mut said = report(&lines, "nothing changed");
        for note in granted.into_iter().filter(|_| !lines.is_empty()).chain(notes) {
            said.push('\n');
            said.push_str(&note);
        }
        // The same wiring once more is no other generation.
        let generation = match lines.is_empty() {
            true => self.model.read(|picture| picture.generation),
            false => self.model.count_generation(),
        };
        self.herald.tell(Notice::WiringApplied { generation, report: said.clone() });
        Ok(Reply::Report(said))
    }

    /// Checks everything that can be checked without opening anything. The answer is what changes beside the
    /// declarations.
    fn check(&self, next: &Wiring) -> Result<BTreeSet<String>, Refusal> {
        let Drafted { drafts, mistakes, notes, .. } = self.draft(next, Strictness::Whole, true);
        drop(drafts);
        if mistakes.is_empty() { Ok(notes) } else { Err(Refusal::of_mistakes(mistakes)) }
    }

    /// The index of a level's lane.
    pub(crate) fn index_of(&self, level: &str) -> Option<usize> {
        self.lanes.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.lane.spec.name == level))
    }

    /// What is done between orders.
    fn look_after(&mut self) {
        self.attend_lanes();
        self.hear_plugins();
        self.restart_failed();
        self.close_retired();
        self.finish_removals();
        self.drop_dead_taps();
        self.look_at_grants();
        let elapsed = self.last_told.elapsed();
        if elapsed >= Duration::from_secs(1) {
            self.last_told = Instant::now();
            self.watch_rates(elapsed);
            self.tell_drops();
            self.retire_plugins();
        }
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

fn report(lines: &[String], nothing: &str) -> String {
    if lines.is_empty() { nothing.to_owned() } else { lines.join("\n") }
}
