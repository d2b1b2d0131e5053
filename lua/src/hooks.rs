//! Hooks: functions of scripts that are called when something happens, after the wiring is in force.
//!
//! They stay on the thread of their scripts, within the same limits, and see plain data. What they change comes
//! back as commands, checked like those of a script; whether they are carried out is the caller's business.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

use mlua::Table;
use tempos_control::units::show_ns;
use tempos_control::{Command, Mistake, Origin};

use crate::budget::{self, Pulse};
use crate::evaluate::{ABANDONED, LOOK, Machine, sorted};
use crate::module::{Shared, locked};
use crate::silence::Silence;
use crate::{Limits, check};

/// What a hook may wait for.
pub const EVENTS: &[&str] =
    &["deadline-missed", "overload", "channel-down", "clock-lost", "plugin-failed", "grant-changed"];
/// What a function is told.
pub(crate) const FACTS: &[(&str, &str, &str)] = &[
    ("event", "string", "What has happened."),
    (
        "kind",
        "string",
        "The kind of object that it has happened to: topic, channel, plugin, workflow, qos, node.",
    ),
    ("name", "string", "Its name."),
    (
        "state",
        "\"begins\"|\"goes on\"|\"ended\"",
        "Whether it is the first time, again after the hold, or over.",
    ),
    (
        "count",
        "integer",
        "How often since the last call: events that were dropped or late, changes of state.",
    ),
    ("reason", "string", "Why, where that is known."),
];
/// The most hooks of a wiring.
pub const HOOKS_MAX: usize = 256;
/// The hold of a hook that names none, in nanoseconds.
pub const HOLD_NS: u64 = 1_000_000_000;

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// One of [`EVENTS`].
    pub event: &'static str,
    /// The only object that it looks at.
    pub name: Option<String>,
    /// The least time between two calls for one object, in nanoseconds.
    pub hold_ns: u64,
    /// Where it stands.
    pub origin: Origin,
    /// The folder of its script, for relative files.
    pub(crate) folder: Option<PathBuf>,
}

impl Hook {
    /// A hook without a script's folder.
    pub fn new(event: &'static str, name: Option<&str>, hold_ns: u64, origin: Origin) -> Self {
        Hook { event, name: name.map(str::to_owned), hold_ns, origin, folder: None }
    }
}

/// What a function is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happening {
    /// One of [`EVENTS`].
    pub event: &'static str,
    /// The kind of object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// `begins`, `goes on` or `ended`.
    pub state: &'static str,
    /// How often since the last call.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// What a call has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Called {
    /// What is to be changed.
    pub commands: Vec<Command>,
    /// What it printed, with its places.
    pub printed: Vec<(Origin, String)>,
}

pub(crate) enum Ask {
    Call(usize, Happening, SyncSender<Result<Called, Vec<Mistake>>>),
    Settle(bool),
}

/// The hooks of a wiring; their thread ends when this is dropped.
#[derive(Debug)]
pub struct Hooks {
    hooks: Vec<Hook>,
    asks: SyncSender<Ask>,
    pulse: Arc<Pulse>,
    limits: Limits,
}

impl Hooks {
    pub(crate) fn new(hooks: Vec<Hook>, asks: SyncSender<Ask>, pulse: Arc<Pulse>, limits: Limits) -> Self {
        Hooks { hooks, asks, pulse, limits }
    }

    /// All of them; their places are what [`Hooks::call`] takes.
    pub fn list(&self) -> &[Hook] {
        &self.hooks
    }

    /// Calls one, and waits until it has ended or is stuck.
    ///
    /// # Errors
    /// What was wrong with it. One that is stuck in an operation that cannot be interrupted takes the others along.
    pub fn call(&self, hook: usize, happening: Happening) -> Result<Called, Vec<Mistake>> {
        let origin =
            self.hooks.get(hook).map_or_else(|| Origin::new("script", 0), |hook| hook.origin.clone());
        let gone = || vec![Mistake::new(&origin, "the hooks of this wiring have ended")];
        let (answer, answered) = sync_channel(1);
        if self.pulse.abandoned.load(Ordering::Relaxed)
            || self.asks.send(Ask::Call(hook, happening, answer)).is_err()
        {
            return Err(gone());
        }
        let mut silence = Silence::begin(&self.pulse);
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if silence.is_over(&self.pulse, self.limits.silence) {
                ABANDONED.fetch_add(1, Ordering::AcqRel);
                self.pulse.abandoned.store(true, Ordering::Release);
                let silence = show_ns(self.limits.silence.as_nanos() as u64);
                let sentence = format!(
                    "this hook is stuck in one operation that cannot be interrupted; left after {silence}, and all \
                     hooks of the wiring with it"
                );
                return Err(vec![Mistake::new(&origin, sentence)]);
            }
        }
    }

    /// Says whether what the last call wanted to change is in force: further changes build upon it then.
    pub fn settle(&self, applied: bool) {
        let _ = self.asks.send(Ask::Settle(applied));
    }
}

/// The machine of a wiring that has hooks, on its thread.
pub(crate) struct Resident {
    pub machine: Machine,
    pub shared: Shared,
    pub pulse: Arc<Pulse>,
    pub limits: Limits,
    pub asks: Receiver<Ask>,
}

impl Resident {
    /// Answers until nobody asks any more, or it was given up.
    pub fn serve(self) {
        while let Ok(ask) = self.asks.recv() {
            match ask {
                Ask::Call(hook, happening, answer) => {
                    let outcome = self.call(hook, &happening);
                    if self.pulse.abandoned.load(Ordering::Acquire) {
                        break;
                    }
                    let _ = answer.send(outcome);
                }
                Ask::Settle(applied) => self.machine.settle(applied),
            }
        }
        if self.pulse.abandoned.load(Ordering::Acquire) {
            ABANDONED.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn call(&self, index: usize, happening: &Happening) -> Result<Called, Vec<Mistake>> {
        budget::begin_run(self.pulse.clone(), self.limits.time, self.limits.total);
        let hook = {
            let mut draft = locked(&self.shared);
            let Some(hook) = draft.hooks.get(index).cloned() else { return Ok(Called::default()) };
            draft.folder.clone_from(&hook.folder);
            draft.raised_at = None;
            hook
        };
        let event = match self.table(happening) {
            Ok(table) => table,
            Err(error) => return Err(vec![Mistake::new(&hook.origin, crate::sentence::message_of(&error))]),
        };
        // Lua counts from 1.
        let ended_well = self.machine.call_hook(&hook.origin, index + 1, event);
        let mut done = {
            let mut draft = locked(&self.shared);
            let next = draft.for_hooks();
            std::mem::replace(&mut *draft, next)
        };
        let printed = std::mem::take(&mut done.printed);
        // What an unfinished call wanted to change is no whole.
        let (commands, mistakes) = check::commands(done, false);
        let list = sorted(mistakes.list);
        if !ended_well || !list.is_empty() {
            self.machine.settle(false);
            return Err(list);
        }
        Ok(Called { commands, printed })
    }

    fn table(&self, of: &Happening) -> mlua::Result<Table> {
        let table = self.machine.table()?;
        table.set("event", of.event)?;
        table.set("kind", of.kind)?;
        table.set("name", of.name.as_str())?;
        table.set("state", of.state)?;
        table.set("count", i64::try_from(of.count).unwrap_or(i64::MAX))?;
        table.set("reason", of.reason.as_str())?;
        Ok(table)
    }
}
