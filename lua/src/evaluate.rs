//! One run: scripts in, commands or mistakes out, within the limits whatever the scripts do.
//!
//! The scripts run on a thread of their own that holds nothing of the node. Where it cannot be stopped,
//! because it is inside one long operation of the Lua library, it is left to itself and counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};
use tempos_control::units::show_ns;
use tempos_control::{Command, Mistake, Origin};

use crate::budget::{self, Pulse};
use crate::draft::Draft;
use crate::hooks::{Hooks, Resident};
use crate::module::{SANDBOX_CHUNK, Shared, locked, natives};
use crate::sentence::Ending;
use crate::silence::Silence;
use crate::source::{Script, read};
use crate::{Limits, Source, check, require};

/// Most threads that may be left to themselves; with so many, no further script is run.
pub const ABANDONED_MAX: usize = 4;
/// Room for the 200 nested C calls that Lua allows (LUAI_MAXCCALLS), callbacks included.
const STACK_BYTES: usize = 8 << 20;
/// How often the waiting thread looks for a sign of life.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Scripts give way to the node's own threads, best-effort lanes included.
const NICE: i32 = 10;

pub(crate) static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// What the scripts may rely on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Names of the adapters that are loaded: each is a constructor, `tempos.udp { … }`.
    /// `tempos.channel("NAME", { … })` is not checked against them; the engine does that.
    pub adapters: Vec<String>,
    /// Folders in which `require` looks after the script's own.
    pub libraries: Vec<PathBuf>,
}

/// The number of script threads that were left to themselves and have not ended since.
pub fn abandoned() -> usize {
    ABANDONED.load(Ordering::Acquire)
}

/// Evaluates scripts into the commands of one whole wiring. What `print` says is let go.
///
/// Blocks until they have ended or were left to themselves. Their thread inherits the scheduling policy of
/// the caller, which must not be a lane's.
///
/// # Errors
/// All mistakes of the run, at most [`Limits::mistakes`] one by one, sorted by file and line.
pub fn evaluate(source: &Source, known: &Known, limits: &Limits) -> Result<Vec<Command>, Vec<Mistake>> {
    evaluate_logged(source, known, limits, |_, _| {})
}

/// The same; `log` gets each line that the scripts printed, with its place, after they have ended.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_logged(
    source: &Source,
    known: &Known,
    limits: &Limits,
    log: impl FnMut(&Origin, &str),
) -> Result<Vec<Command>, Vec<Mistake>> {
    evaluate_wiring(source, known, limits, log).map(|wiring| wiring.commands)
}

/// What scripts have declared.
#[derive(Debug, Default)]
pub struct Wiring {
    /// The commands.
    pub commands: Vec<Command>,
    /// The functions that want to be called when something happens.
    pub hooks: Option<Hooks>,
}

/// The same, with the hooks.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_wiring(
    source: &Source,
    known: &Known,
    limits: &Limits,
    mut log: impl FnMut(&Origin, &str),
) -> Result<Wiring, Vec<Mistake>> {
    let broken = |sentence: String| Err(vec![Mistake::new(&Origin::new(name_of(source), 0), sentence)]);
    if abandoned() >= ABANDONED_MAX {
        return broken(format!(
            "no script is run, because {ABANDONED_MAX} earlier ones are stuck and still use the CPU; restart the node"
        ));
    }
    let pulse = Arc::new(Pulse::default());
    let progress = Arc::new(Mutex::new(Progress::default()));
    let state = Arc::new(AtomicU8::new(RUNNING));
    let (sender, receiver) = sync_channel(1);
    let run = Run {
        source: source.clone(),
        known: known.clone(),
        limits: limits.clone(),
        pulse: pulse.clone(),
        progress: progress.clone(),
    };
    let ended = state.clone();
    let spawned = thread::Builder::new()
        .name("tempos-script".into())
        .stack_size(STACK_BYTES)
        .spawn(move || run.on_thread(&ended, &sender));
    let handle = match spawned {
        Ok(handle) => handle,
        Err(error) => return broken(format!("no thread for the script could be had: {error}")),
    };
    let mut silence = Silence::begin(&pulse);
    let outcome = loop {
        match receiver.recv_timeout(LOOK) {
            Ok(outcome) => break outcome,
            // Without an outcome the thread has panicked, which `on_thread` turns into an outcome.
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if silence.is_over(&pulse, limits.silence) {
            pulse.abandoned.store(true, Ordering::Relaxed);
            ABANDONED.fetch_add(1, Ordering::AcqRel);
            if state.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // It ended at this very moment after all.
                ABANDONED.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let mut mistakes = progress.mistakes.clone();
            let stuck = Origin::new(progress.current.as_deref().unwrap_or(&name_of(source)), 0);
            let silence = show_ns(limits.silence.as_nanos() as u64);
            mistakes.push(Mistake::new(
                &stuck,
                format!(
                    "the script is stuck in one operation that cannot be interrupted; left after {silence}"
                ),
            ));
            return Err(sorted(mistakes));
        }
    };
    // Where there are hooks the thread goes on.
    let goes_on = outcome.as_ref().is_some_and(|outcome| outcome.hooks.is_some());
    let failed = !goes_on && handle.join().is_err();
    let Some(outcome) = outcome.filter(|_| !failed) else {
        return broken("the machine that runs scripts has failed; this is a fault of TEMPOS".into());
    };
    for (origin, line) in &outcome.printed {
        log(origin, line);
    }
    let mut mistakes = sorted(outcome.mistakes);
    if outcome.uncounted > 0 {
        let origin = Origin::new(name_of(source), 0);
        mistakes.push(Mistake::new(&origin, format!("and {} more mistakes", outcome.uncounted)));
    }
    if mistakes.is_empty() {
        Ok(Wiring { commands: outcome.commands, hooks: outcome.hooks })
    } else {
        Err(mistakes)
    }
}

const RUNNING: u8 = 0;
const LEFT: u8 = 1;
const ENDED: u8 = 2;

pub(crate) fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

fn name_of(source: &Source) -> String {
    match source {
        Source::Text { chunk_name, .. } => crate::sentence::one_line(chunk_name),
        Source::Scripts(scripts) => scripts.first().map(|script| script.name.clone()).unwrap_or_default(),
        Source::Paths(paths) => {
            let path = paths.first().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            crate::sentence::one_line(&path)
        }
    }
}

/// What is known of a run that may never end.
#[derive(Debug, Default)]
struct Progress {
    current: Option<String>,
    mistakes: Vec<Mistake>,
}

struct Outcome {
    commands: Vec<Command>,
    mistakes: Vec<Mistake>,
    uncounted: usize,
    printed: Vec<(Origin, String)>,
    hooks: Option<Hooks>,
}

struct Run {
    source: Source,
    known: Known,
    limits: Limits,
    pulse: Arc<Pulse>,
    progress: Arc<Mutex<Progress>>,
}

impl Run {
    fn on_thread(self, state: &AtomicU8, sender: &SyncSender<Option<Outcome>>) {
        // Refused where the node already runs at a lower priority: then that is how it stays.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let (outcome, resident) = match catch_unwind(AssertUnwindSafe(|| self.run())) {
            Ok((outcome, resident)) => (Some(outcome), resident),
            Err(_) => (None, None),
        };
        if state.swap(ENDED, Ordering::AcqRel) == LEFT {
            ABANDONED.fetch_sub(1, Ordering::AcqRel);
        }
        // Nobody waits any more where the thread was left to itself.
        let _ = sender.send(outcome);
        // Without anybody who holds the hooks it ends at once.
        if let Some(resident) = resident {
            let _ = catch_unwind(AssertUnwindSafe(|| resident.serve()));
        }
    }

    fn run(&self) -> (Outcome, Option<Resident>) {
        budget::begin_run(self.pulse.clone(), self.limits.time, self.limits.total);
        let draft =
            Draft::new(self.limits.clone(), self.known.adapters.clone(), self.known.libraries.clone());
        let shared: Shared = Arc::new(Mutex::new(draft));
        let (scripts, unread) = {
            let mut draft = locked(&shared);
            read(&self.source, &self.limits, &mut draft.tally)
        };
        let mut whole = unread.is_empty();
        for mistake in unread {
            locked(&shared).mistakes.add(mistake);
        }
        let mut resident = None;
        match Machine::new(&shared, &self.limits) {
            Ok(machine) => {
                for script in &scripts {
                    self.report(&shared, &script.name);
                    if budget::run_is_over() {
                        whole = false;
                        let total = show_ns(self.limits.total.as_nanos() as u64);
                        let sentence = format!("not run: the scripts together have used their {total}");
                        locked(&shared).mistakes.note(&Origin::new(&*script.name, 0), sentence);
                        break;
                    }
                    whole &= machine.run(script);
                }
                if whole && !locked(&shared).hooks.is_empty() {
                    resident = Some(machine);
                }
            }
            Err(error) => {
                let sentence = format!("Lua cannot start: {}", crate::sentence::message_of(&error));
                locked(&shared).mistakes.note(&Origin::new(name_of(&self.source), 0), sentence);
            }
        }
        budget::begin_script();
        let mut draft = {
            let mut draft = locked(&shared);
            let next = draft.for_hooks();
            std::mem::replace(&mut *draft, next)
        };
        let printed = std::mem::take(&mut draft.printed);
        let hooks = std::mem::take(&mut draft.hooks);
        let (commands, mistakes) = check::commands(draft, whole);
        let (asks, asked) = sync_channel(1);
        let resident = resident.filter(|_| mistakes.list.is_empty()).map(|machine| Resident {
            machine,
            shared,
            pulse: self.pulse.clone(),
            limits: self.limits.clone(),
            asks: asked,
        });
        let hooks =
            resident.as_ref().map(|_| Hooks::new(hooks, asks, self.pulse.clone(), self.limits.clone()));
        let outcome =
            Outcome { commands, mistakes: mistakes.list, uncounted: mistakes.uncounted, printed, hooks };
        (outcome, resident)
    }

    fn report(&self, shared: &Shared, script: &str) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.current = Some(script.to_owned());
        let draft = locked(shared);
        let from = progress.mistakes.len();
        progress.mistakes.extend(draft.mistakes.list.iter().skip(from).cloned());
    }
}

/// The Lua machine of one run, with the sandbox in it.
pub(crate) struct Machine {
    lua: Lua,
    shared: Shared,
    environment: Function,
    /// The library's own `xpcall`.
    call: Function,
    /// Its handler: keeps the line at which an error was raised.
    handler: Function,
    globals: Vec<String>,
    /// Calls the function of a hook.
    hook: Function,
    /// Is told what has become of its changes.
    settle: Function,
    limits: Limits,
}

impl Machine {
    fn new(shared: &Shared, limits: &Limits) -> mlua::Result<Machine> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8;
        // With this option off mlua puts in a pcall of its own, through which coroutines cannot yield.
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(true))?;
        lua.set_memory_limit(limits.memory_bytes)?;
        let natives = natives(&lua, shared)?;
        let chunk = lua.load(include_str!("sandbox.lua")).set_name(SANDBOX_CHUNK).into_function()?;
        let (environment, call, handler, globals, hook, settle) = chunk.call(natives)?;
        Ok(Machine {
            lua,
            shared: shared.clone(),
            environment,
            call,
            handler,
            globals,
            hook,
            settle,
            limits: limits.clone(),
        })
    }

    /// An empty table.
    pub(crate) fn table(&self) -> mlua::Result<Table> {
        self.lua.create_table()
    }

    /// Calls the function of a hook; what was wrong is noted, and the answer is whether it came to its end.
    pub(crate) fn call_hook(&self, origin: &Origin, number: usize, event: Table) -> bool {
        let called: mlua::Result<(bool, Value)> =
            budget::arm(&self.lua).and_then(|()| self.call.call((&self.hook, &self.handler, number, event)));
        let raised = match called {
            Ok((true, _)) => return true,
            Ok((false, raised)) => raised,
            Err(error) => Value::Error(Box::new(error)),
        };
        self.note(&origin.file, &raised);
        false
    }

    /// Says whether the changes of the last hook are in force.
    pub(crate) fn settle(&self, applied: bool) {
        let _ = self.settle.call::<()>(applied);
    }

    /// Runs one script; the answer is whether it came to its end.
    fn run(&self, script: &Script) -> bool {
        let alias = {
            let mut draft = locked(&self.shared);
            draft.folder.clone_from(&script.folder);
            draft.raised_at = None;
            draft.chunks.alias(&script.name)
        };
        budget::begin_script();
        let raised = match self.call(script, &alias) {
            Ok((true, _)) => return true,
            Ok((false, raised)) => raised,
            Err(error) => Value::Error(Box::new(error)),
        };
        self.note(&script.name, &raised);
        false
    }

    fn note(&self, script: &str, raised: &Value) {
        let mut draft = locked(&self.shared);
        let mistake = if budget::was_over() {
            self.too_long(&draft, script)
        } else {
            self.failed(&draft, script, raised)
        };
        draft.mistakes.add(mistake);
    }

    fn call(&self, script: &Script, alias: &str) -> mlua::Result<(bool, Value)> {
        let folder = script.folder.as_ref().map(|folder| folder.to_string_lossy().into_owned());
        let environment: Table = self.environment.call(folder)?;
        let chunk = require::load_text(&self.lua, &script.text, alias, environment)?;
        budget::arm(&self.lua)?;
        self.call.call((chunk, &self.handler))
    }

    fn failed(&self, draft: &Draft, script: &str, raised: &Value) -> Mistake {
        let ending = Ending {
            script,
            raised_at: draft.raised_at.clone(),
            memory_bytes: self.limits.memory_bytes,
            globals: &self.globals,
        };
        ending.mistake(&draft.chunks, raised)
    }

    fn too_long(&self, draft: &Draft, script: &str) -> Mistake {
        let place = budget::stopped_at().and_then(|(alias, line)| draft.chunks.origin(&alias, line));
        let origin = place.or(draft.raised_at.clone()).unwrap_or_else(|| Origin::new(script, 0));
        if budget::run_is_over() {
            let total = show_ns(self.limits.total.as_nanos() as u64);
            return Mistake::new(&origin, format!("stopped: the scripts together have used their {total}"));
        }
        let time = show_ns(self.limits.time.as_nanos() as u64);
        Mistake::new(&origin, format!("stopped: the script ran for {time} without declaring anything"))
    }
}
