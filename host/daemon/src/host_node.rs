//! The node as its doors see it: the engine, and before it the scripts that speak of a wiring.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_control::{
    Command, Keeping, Kind, Mistake, Node, Notice, ObjectState, Order, Origin, Refusal, RefusalKind, Reply,
    Who,
};
use tempos_engine::Engine;
use tempos_lua::{Hooks, Limits, Source};

use crate::calibration::Calibrations;
use crate::changes::Standing;
use crate::config::NodeFile;
use crate::generations::Generations;
use crate::hooks;
use crate::log::Log;
use crate::turn::{Held, Turn};
use crate::wanted::Wanted;

/// Under this name the daemon's own troubles with the wiring stand among the node's degradations.
pub(crate) const WIRING: &str = "wiring";
/// The troubles with its hooks under this one.
pub(crate) const HOOKS: &str = "hooks";
/// And those with what it keeps in the state folder under this one.
pub(crate) const STATE: &str = "state";
/// How long a wiring order waits for the one before it.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// The node: what concerns the wiring goes through Lua and is kept account of, everything else goes straight to
/// the engine.
#[derive(Debug)]
pub struct HostNode {
    pub(crate) engine: Engine,
    pub(crate) wiring: Vec<PathBuf>,
    wiring_named: bool,
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) limits: Limits,
    /// The levels of the node file.
    pub(crate) levels: Vec<String>,
    pub(crate) log: Log,
    turn: Turn,
    calibrations: Calibrations,
    /// Counts the wirings that were applied: hooks are those of one of them.
    epoch: AtomicU64,
    standing: Mutex<Standing>,
    /// The clock that is lost now, and why.
    lost_clock: Mutex<Option<(String, String)>>,
    pub(crate) this: Weak<HostNode>,
}

impl HostNode {
    /// Puts the scripts' room in front of an engine.
    pub fn new(engine: Engine, file: &NodeFile, log: Log) -> Arc<HostNode> {
        let (generations, troubles) = Generations::open(&file.state_dir, &file.run_dir);
        for sentence in &troubles {
            log.say(LogLevel::ERROR, STATE, sentence);
        }
        if let Some(first) = troubles.first() {
            engine.degrade(STATE, Some(first.clone()));
        }
        engine.set_next_generation(generations.highest() + 1);
        let calibrations = Calibrations::new(&file.state_dir, &file.run_dir);
        calibrations.read(&file.state_dir, true, &engine, &log);
        Arc::new_cyclic(|this| HostNode {
            calibrations,
            engine,
            wiring: file.wiring.clone(),
            wiring_named: file.wiring_named,
            libraries: file.wiring_libraries.clone(),
            limits: file.limits.clone(),
            levels: file.levels.iter().map(|level| level.name.clone()).collect(),
            log,
            turn: Turn::default(),
            epoch: AtomicU64::new(0),
            standing: Mutex::new(Standing::new(generations)),
            lost_clock: Mutex::default(),
            this: this.clone(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the wiring in force is, and those before. Held for a short time only.
    pub(crate) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to change the wiring.
    pub(crate) fn turn(&self) -> Result<Held<'_>, Refusal> {
        let another = "another wiring is being read; try again when it is in force";
        self.turn.wait(TURN_WAIT).ok_or_else(|| Refusal::new(RefusalKind::Overloaded, another))
    }

    /// Checks the configured wiring against the loaded plugins and changes nothing.
    ///
    /// # Errors
    /// The mistakes.
    pub fn check(&self) -> Result<Reply, Refusal> {
        self.plan(Wanted::Files)
    }

    /// The configured wiring. Its default folder need not exist; what the user named must.
    pub(crate) fn configured(&self) -> Source {
        let there = |path: &&PathBuf| self.wiring_named || path.exists();
        Source::Paths(self.wiring.iter().filter(there).cloned().collect())
    }

    /// The hooks of the wiring that has just come into force take the place of those before.
    pub(crate) fn take_hooks(&self, hooks: Option<Hooks>) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.engine.degrade(HOOKS, None);
        let (Some(hooks), Some(this)) = (hooks, self.this.upgrade()) else { return };
        if let Err(error) = hooks::start(&this, epoch, hooks, self.log.clone()) {
            let sentence = format!("no hook is called: the system gives no thread: {error}");
            self.log.say(LogLevel::ERROR, HOOKS, &sentence);
            self.engine.degrade(HOOKS, Some(sentence));
        }
        // New hooks hear of a clock that was lost before them.
        let lost = self.lost_clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((clock, reason)) = &*lost {
            self.engine.tell_clock(clock, false, reason);
        }
    }

    /// Tells doors and hooks of the machine's clock.
    pub fn tell_clock(&self, clock: &str, granted: bool, reason: &str) {
        let mut lost = self.lost_clock.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = (!granted).then(|| (clock.to_owned(), reason.to_owned()));
        self.engine.tell_clock(clock, granted, reason);
    }

    /// Has grants rest on the calibration of another state folder, which is only looked at.
    pub fn rest_on_calibration_of(&self, folder: &Path) {
        self.calibrations.read(folder, false, &self.engine, &self.log);
    }

    /// Begins to measure; it goes on behind the answer.
    fn calibrate(&self, time_ms: u32) -> Result<Reply, Refusal> {
        let time = self.calibrations.begin(time_ms)?;
        let this = self.this.upgrade();
        let body = move || {
            if let Some(node) = this {
                node.calibrations.take(time, &node.engine, &node.log);
            }
        };
        match std::thread::Builder::new().name("calibration".into()).spawn(body) {
            Ok(_) => Ok(Reply::Done),
            Err(error) => {
                let sentence = format!("the system gives no thread: {error}");
                self.calibrations.abandon(&sentence);
                Err(Refusal::new(RefusalKind::System, sentence))
            }
        }
    }

    /// How many wirings were applied.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Carries out what a hook of the wiring of that epoch wants to change; `None` where another one is in force by
    /// now, or is being read. It does not outlive a restart: what the hook saw is over then.
    pub fn change_by_hook(&self, epoch: u64, commands: Vec<Command>) -> Option<Result<Reply, Refusal>> {
        let _held = self.turn.wait(TURN_WAIT)?;
        if self.epoch() != epoch {
            return None;
        }
        let before = self.engine.generation();
        let order = Order::Apply { commands, whole: false, dry_run: false };
        let what = order.change().unwrap_or_default();
        let who = Who::at("hook");
        let answer = self.engine.carry_out(order);
        let number = self.engine.generation();
        if let (Ok(Reply::Report(report)), true) = (&answer, number != before) {
            let head = Generations::new_head(number, &who, &what, report);
            // Without a body there is nothing that could not be written.
            let _ = self.standing().generations.add(head, None, Keeping::UntilRestart);
        }
        self.account(&who, &what, answer.as_ref().map(|_| number));
        Some(answer)
    }

    /// The audit line of a change: who, what, from where, and the generation.
    pub(crate) fn account(&self, who: &Who, what: &str, outcome: Result<u64, &Refusal>) {
        match outcome {
            Ok(number) => {
                self.log.say(LogLevel::INFO, "audit", &format!("{who}: {what}: done, generation {number}"));
            }
            Err(refusal) => {
                let said = format!("{who}: {what}: refused: {}", first_line(&refusal.message));
                self.log.say(LogLevel::WARNING, "audit", &said);
            }
        }
    }
}

impl Node for HostNode {
    fn carry_out(&self, order: Order) -> Result<Reply, Refusal> {
        self.carry_out_for(&Who::at("node"), order)
    }

    fn carry_out_for(&self, who: &Who, order: Order) -> Result<Reply, Refusal> {
        let what = order.change();
        let (order, terms) = match order {
            Order::Change { order, terms } => (*order, Some(terms)),
            order => (order, None),
        };
        let (wanted, dry_run) = match order {
            Order::ApplyPath { path, dry_run } => {
                full_path(&path)?;
                (Wanted::Path(path), dry_run)
            }
            Order::ApplyText { chunk_name, lua, dry_run } => (Wanted::Text { chunk_name, lua }, dry_run),
            Order::Apply { commands, whole: true, dry_run } => (Wanted::Commands(commands), dry_run),
            Order::Apply { commands, whole: false, dry_run } => (Wanted::Part(commands), dry_run),
            Order::Reload => (Wanted::Files, false),
            Order::Rollback { to } => (Wanted::Generation(to), false),
            _ if terms.is_some() => {
                return Err(Refusal::new(
                    RefusalKind::System,
                    "only a change of the wiring is made on terms",
                ));
            }
            Order::Confirm { generation } => {
                let answer = self.confirm(generation);
                self.account(who, &what.unwrap_or_default(), answer.as_ref().copied());
                return answer.map(|_| Reply::Done);
            }
            Order::Generations => {
                let in_force = self.engine.generation();
                return Ok(Reply::Generations(self.standing().generations.list(in_force)));
            }
            Order::Calibrate { time_ms } => {
                let answer = self.calibrate(time_ms);
                self.account(
                    who,
                    &what.unwrap_or_default(),
                    answer.as_ref().map(|_| self.engine.generation()),
                );
                return answer;
            }
            other => {
                let answer = self.engine.carry_out(other);
                if let Some(what) = what {
                    self.account(who, &what, answer.as_ref().map(|_| self.engine.generation()));
                }
                return answer;
            }
        };
        if dry_run {
            return self.plan(wanted);
        }
        let with_number = terms.is_some();
        let applied = self.change(who, &what.unwrap_or_default(), wanted, &terms.unwrap_or_default())?;
        Ok(match with_number {
            true => Reply::Applied { generation: applied.generation, report: applied.report },
            false => Reply::Report(applied.report),
        })
    }

    fn turned_away(&self, who: &Who, what: &str, why: &str) {
        self.log.say(LogLevel::WARNING, "access", &format!("{who}: {what}: refused: {}", first_line(why)));
    }

    fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState> {
        let mut object = self.engine.observe(kind, name)?;
        if kind == Kind::Node {
            self.calibrations.show(&mut object.figures);
        }
        Some(object)
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.engine.names(kind)
    }

    fn notices(&self) -> Receiver<Notice> {
        self.engine.notices()
    }
}

/// The first line of a sentence, and how many more there are.
pub(crate) fn first_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    match lines.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

/// A caller's working folder is not the daemon's: a relative path would mean something else here.
fn full_path(path: &Path) -> Result<(), Refusal> {
    if path.is_absolute() {
        return Ok(());
    }
    let origin = Origin::new(path.display().to_string(), 0);
    Err(Refusal::of_mistakes(vec![Mistake::new(&origin, "a full path is needed, it must begin with \"/\"")]))
}
