//! The node as its doors see it: the engine, and before it the scripts that speak of a wiring.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_control::{
    Command, Kind, Mistake, Node, Notice, ObjectState, Order, Origin, Refusal, RefusalKind, Reply,
};
use tempos_engine::Engine;
use tempos_lua::{Hooks, Known, Limits, Source, Wiring};

use crate::config::NodeFile;
use crate::hooks;
use crate::log::Log;
use crate::turn::Turn;

/// Under this name the daemon's own troubles with the wiring stand among the node's degradations.
const WIRING: &str = "wiring";
/// And the troubles with its hooks under this one.
const HOOKS: &str = "hooks";
/// How long a wiring order waits for the one before it.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// The node: `Apply`, `Plan`, `Reload` go through Lua, everything else straight to the engine.
#[derive(Debug)]
pub struct HostNode {
    engine: Engine,
    wiring: Vec<PathBuf>,
    wiring_named: bool,
    libraries: Vec<PathBuf>,
    limits: Limits,
    log: Log,
    turn: Turn,
    /// Counts the wirings that were applied: hooks are those of one of them.
    epoch: AtomicU64,
    this: Weak<HostNode>,
}

impl HostNode {
    /// Puts the scripts' room in front of an engine.
    pub fn new(engine: Engine, file: &NodeFile, log: Log) -> Arc<HostNode> {
        Arc::new_cyclic(|this| HostNode {
            engine,
            wiring: file.wiring.clone(),
            wiring_named: file.wiring_named,
            libraries: file.wiring_libraries.clone(),
            limits: file.limits.clone(),
            log,
            turn: Turn::default(),
            epoch: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Reads the configured wiring and brings it into force. Where it holds mistakes the old one goes on,
    /// and the node says so until a wiring is applied.
    ///
    /// # Errors
    /// The mistakes.
    pub fn reload(&self) -> Result<Reply, Refusal> {
        let outcome = self.wire(&self.configured(), false);
        match &outcome {
            Ok(_) => self.engine.degrade(WIRING, None),
            Err(refusal) => {
                let mut lines = refusal.message.lines();
                let first = lines.next().unwrap_or_default();
                let more = match lines.count() {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                let sentence = format!("the wiring on disk is not in force: {first}{more}");
                self.engine.degrade(WIRING, Some(sentence));
                self.log.say(LogLevel::ERROR, WIRING, &refusal.message);
            }
        }
        outcome
    }

    /// Checks the configured wiring against the loaded plugins and changes nothing.
    ///
    /// # Errors
    /// The mistakes.
    pub fn check(&self) -> Result<Reply, Refusal> {
        self.wire(&self.configured(), true)
    }

    /// The configured wiring. Its default folder need not exist; what the user named must.
    fn configured(&self) -> Source {
        let there = |path: &&PathBuf| self.wiring_named || path.exists();
        Source::Paths(self.wiring.iter().filter(there).cloned().collect())
    }

    fn wire(&self, source: &Source, dry_run: bool) -> Result<Reply, Refusal> {
        let Some(_held) = self.turn.wait(TURN_WAIT) else {
            return Err(Refusal::new(
                RefusalKind::Overloaded,
                "another wiring is being read; try again when it is in force",
            ));
        };
        let known = Known { adapters: self.engine.adapters(), libraries: self.libraries.clone() };
        let printed = |origin: &Origin, line: &str| {
            self.log.say(LogLevel::INFO, "script", &format!("{origin}: {line}"));
        };
        match tempos_lua::evaluate_wiring(source, &known, &self.limits, printed) {
            Ok(Wiring { commands, hooks }) => {
                let reply = self.engine.carry_out(Order::Apply { commands, whole: true, dry_run })?;
                if !dry_run {
                    self.take_hooks(hooks);
                }
                Ok(reply)
            }
            Err(mistakes) => {
                let refusal = Refusal::of_mistakes(mistakes);
                if !dry_run {
                    self.engine.reject(&refusal.message);
                }
                Err(refusal)
            }
        }
    }

    /// The hooks of the wiring that has just come into force take the place of those before.
    fn take_hooks(&self, hooks: Option<Hooks>) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.engine.degrade(HOOKS, None);
        let (Some(hooks), Some(this)) = (hooks, self.this.upgrade()) else { return };
        if let Err(error) = hooks::start(&this, epoch, hooks, self.log.clone()) {
            let sentence = format!("no hook is called: the system gives no thread: {error}");
            self.log.say(LogLevel::ERROR, HOOKS, &sentence);
            self.engine.degrade(HOOKS, Some(sentence));
        }
    }

    /// How many wirings were applied.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Carries out what a hook of the wiring of that epoch wants to change; `None` where another one is in force by
    /// now, or is being read.
    pub fn change_by_hook(&self, epoch: u64, commands: Vec<Command>) -> Option<Result<Reply, Refusal>> {
        let _held = self.turn.wait(TURN_WAIT)?;
        (self.epoch() == epoch)
            .then(|| self.engine.carry_out(Order::Apply { commands, whole: false, dry_run: false }))
    }
}

impl Node for HostNode {
    fn carry_out(&self, order: Order) -> Result<Reply, Refusal> {
        match order {
            Order::ApplyPath { path, dry_run } => {
                full_path(&path)?;
                self.wire(&Source::Paths(vec![path]), dry_run)
            }
            Order::ApplyText { chunk_name, lua, dry_run } => {
                self.wire(&Source::Text { chunk_name, lua }, dry_run)
            }
            Order::Reload => self.reload(),
            other => self.engine.carry_out(other),
        }
    }

    fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState> {
        self.engine.observe(kind, name)
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.engine.names(kind)
    }

    fn notices(&self) -> Receiver<Notice> {
        self.engine.notices()
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
