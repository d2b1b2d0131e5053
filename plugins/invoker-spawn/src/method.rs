//! The invocation method and its functions.

use std::ffi::CString;
use std::io;

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome, Scheduling};

use crate::clock::now_ns;
use crate::config::{Config, Mode};
use crate::control_group::ControlGroup;
use crate::each::{Each, pipe};
use crate::guard;
use crate::inspect::inspect;
use crate::launcher::{self, Orders};
use crate::limits::{self, Limits};
use crate::pool::{Pool, Size};
use crate::process::own_resident_bytes;
use crate::program::{Program, Stdio, text_of};
use crate::runtime::{DEFAULT_PATH, Runtime};
use crate::scheduling;
use crate::spawner::{Nature, Spawner};
use crate::tail::Tail;
use crate::verdict::Memory;
use crate::warm::Warm;

/// The most workers of one function.
const WORKERS_MAX: u32 = 1024;
/// How long the launcher may take to show what the system grants.
const CHECK_NS: u64 = 5_000_000_000;

/// Makes functions of programs.
pub struct Spawn;

impl Spawn {
    /// The method.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Spawn)
    }
}

impl InvocationMethod for Spawn {
    type Function = SpawnFunction;

    fn prepare(&self, spec: &FunctionSpec) -> Result<SpawnFunction, PluginError> {
        let config = Config::read(spec)?;
        inspect(spec, config.runtime)?;
        let subject = |what: &str| format!("function of workflow \"{}\": {what}", spec.name);
        let option = |what: String| PluginError::bad_option(subject(&what));
        let system = |what: &str, error: io::Error| PluginError::system(subject(what), &error);
        let limits = limits::of(spec, &config);
        let (file, arguments) = config.runtime.command(&spec.file, &config).map_err(option)?;
        let orders = launcher::orders(&config, &limits).map_err(option)?;
        guard::start();
        let path = if orders.arguments.is_empty() {
            text_of(&file)
        } else {
            let path =
                launcher::path().map_err(|error| system("cannot keep the launcher in memory", error))?;
            check(&path, &orders).map_err(option)?;
            path
        };
        let real_time = granted(spec.scheduling());
        let program = program(path, &file, arguments, &orders, limits, &config).scheduled(real_time);
        let workers = spec.concurrency.clamp(1, WORKERS_MAX);
        let nature = Nature { scheduling: real_time, no_new_privs: config.no_new_privs };
        let memory = Memory { limit_bytes: spec.memory_bytes, node_bytes: own_resident_bytes() };
        let counters = spec.counters.clone();
        let no_thread = |error| system("cannot start the thread for its processes", error);
        if config.mode == Mode::Each && config.runtime == Runtime::Native {
            let spawner = Spawner::new(&spec.name, program, workers as usize, nature).map_err(no_thread)?;
            let each = Each::new(spawner, workers as usize, memory, counters);
            return Ok(SpawnFunction { kind: Kind::Each(each), _group: orders.group });
        }
        let instances = spec.instances();
        let most = if instances.max == 0 { workers.max(spec.warm) } else { instances.max.max(spec.warm) };
        let most = most.clamp(1, WORKERS_MAX);
        // A source in mode `each` gets a fresh process for each event, started ahead.
        let recycle_after = if config.mode == Mode::Each { 1 } else { instances.recycle_after };
        let size = Size {
            least: spec.warm.min(most),
            most,
            idle_ns: instances.idle_ns,
            start_within_ns: config.start_within_ns,
        };
        let aside = config.runtime != Runtime::Native;
        let pool =
            Pool::new(&spec.name, program, aside, size, nature, counters.clone()).map_err(no_thread)?;
        let warm = Warm::new(pool, workers as usize, memory, recycle_after, counters);
        // One at least, so that what cannot work is known now and not with the first event.
        if warm.warm(size.least.max(1)) == 0 {
            let reason = match warm.reason() {
                empty if empty.is_empty() => String::from("no worker was ready in time"),
                reason => reason,
            };
            let sentence = subject(&format!("{} cannot be used: {reason}", spec.file));
            return Err(PluginError::new(PluginError::BAD_FUNCTION, sentence));
        }
        if size.least == 0 {
            warm.warm(0);
        }
        Ok(SpawnFunction { kind: Kind::Warm(warm), _group: orders.group })
    }
}

/// What the system grants of a level's scheduling: a process that asks for more than that is not started at all.
fn granted(wanted: Scheduling) -> Scheduling {
    if wanted.policy == 0 {
        return wanted;
    }
    // A thread of its own asks for it, and ends.
    let asked = std::thread::Builder::new().spawn(move || scheduling::apply(&wanted));
    match asked.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => wanted,
        refused => {
            let what = refused.ok().and_then(Result::ok).and_then(Result::err).unwrap_or_default();
            let sentence = format!("processes are scheduled as all others, since the system refuses {what}");
            tempos_abi::export::log(LogLevel::WARNING, "spawn", &sentence);
            Scheduling { policy: 0, priority: 0, nice: 0, cpus: wanted.cpus }
        }
    }
}

/// The program with what goes before it, and its environment.
fn program(
    path: CString,
    file: &str,
    arguments: Vec<String>,
    orders: &Orders,
    limits: Limits,
    config: &Config,
) -> Program {
    let own_path = std::env::var("PATH").unwrap_or_else(|_| String::from(DEFAULT_PATH));
    let mut environment = vec![format!("PATH={own_path}")];
    for text in &config.env {
        let name = text.split_inclusive('=').next().unwrap_or("");
        environment.retain(|known| !known.starts_with(name));
        environment.push(text.clone());
    }
    if orders.arguments.is_empty() {
        return Program::new(path, &arguments, &environment, limits);
    }
    // The launcher starts the file under its own name; the limits are its business too.
    let tail = std::iter::once(file.to_owned()).chain(arguments.into_iter().skip(1));
    let before = std::iter::once("tempos-exec".to_owned()).chain(orders.arguments.iter().cloned());
    let all: Vec<String> = before.chain(std::iter::once("--".to_owned())).chain(tail).collect();
    Program::new(path, &all, &environment, Limits::new())
}

/// Has the launcher do everything but start the function.
fn check(path: &CString, orders: &Orders) -> Result<(), String> {
    let before = ["tempos-exec", "--check", "1"].map(String::from).into_iter();
    let arguments: Vec<String> =
        before.chain(orders.arguments.iter().cloned()).chain(["--", "/"].map(String::from)).collect();
    let refused = |error: io::Error| format!("the launcher cannot be started: {error}");
    let nothing = std::fs::File::open("/dev/null").map_err(refused)?;
    let (errors, to_errors) = pipe().map_err(refused)?;
    use std::os::fd::AsRawFd;
    let (input, output) = (nothing.as_raw_fd(), to_errors.as_raw_fd());
    let stdio = Stdio::Plain { input, output, errors: output };
    let process = Program::new(path.clone(), &arguments, &[], Limits::new()).start(None, &stdio);
    let process = process.map_err(refused)?;
    let in_time = process.has_ended(now_ns() + CHECK_NS);
    let mut tail = Tail::new();
    tail.drain(errors.as_raw_fd());
    match process.reap() {
        Some(ended) if ended.code == Some(0) => Ok(()),
        _ if !in_time => Err("the launcher does not come back".into()),
        _ => {
            let line = tail.last_line();
            Err(format!(
                "the system {}",
                line.strip_prefix(launcher::SAYS).map_or_else(
                    || String::from("ended the launcher"),
                    |what| format!("does not grant what was asked for: the function {what}"),
                )
            ))
        }
    }
}

enum Kind {
    Each(Each),
    Warm(Warm),
}

/// A function that is ready.
pub struct SpawnFunction {
    kind: Kind,
    /// Ends after everything that was started in it.
    _group: Option<ControlGroup>,
}

impl Function for SpawnFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match &self.kind {
            Kind::Each(each) => each.invoke(event, output, context),
            Kind::Warm(warm) => warm.invoke(event, output, context),
        }
    }

    fn cancel(&self, worker: u32) {
        match &self.kind {
            Kind::Each(each) => each.cancel(worker),
            Kind::Warm(warm) => warm.cancel(worker),
        }
    }

    fn warm(&self, instances: u32) -> u32 {
        match &self.kind {
            Kind::Each(_) => 0,
            Kind::Warm(warm) => warm.warm(instances),
        }
    }

    fn retire(&self, deadline_ns: u64) {
        match &self.kind {
            Kind::Each(each) => each.retire(),
            Kind::Warm(warm) => warm.retire(deadline_ns),
        }
    }
}
