//! The invocation method and its functions.

use std::io;

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};
use tempos_process::control_group::ControlGroup;
use tempos_process::each::Each;
use tempos_process::limits::Limits;
use tempos_process::pool::{Pool, Size, WORKERS_MAX};
use tempos_process::process::own_resident_bytes;
use tempos_process::program::{Program, text_of};
use tempos_process::runtime::{DEFAULT_PATH, Runtime};
use tempos_process::source::Piped;
use tempos_process::spawner::{Nature, Spawner};
use tempos_process::verdict::Memory;
use tempos_process::warm::Warm;
use tempos_process::{guard, launcher, scheduling};

use crate::config::{Config, Mode};
use crate::inspect::inspect;
use crate::orders::{self, Orders};
use crate::{limits, runtime};

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
        let (file, arguments) = runtime::command(&spec.file, &config).map_err(option)?;
        let orders = orders::orders(&config, &limits).map_err(option)?;
        guard::start();
        if !orders.arguments.is_empty() {
            launcher::path().map_err(|error| system("cannot keep the launcher in memory", error))?;
            launcher::check(&orders.arguments, None).map_err(option)?;
        }
        let real_time = scheduling::granted(spec.scheduling(), "spawn");
        let program = program(&file, arguments, &orders, limits, &config)
            .map_err(|error| system("cannot keep the launcher in memory", error))?
            .scheduled(real_time);
        let workers = spec.concurrency.clamp(1, WORKERS_MAX);
        let nature = Nature { plugin: "spawn", scheduling: real_time, no_new_privs: config.no_new_privs };
        let memory = Memory { limit_bytes: spec.memory_bytes, node_bytes: own_resident_bytes() };
        let counters = spec.counters.clone();
        let no_thread = |error| system("cannot start the thread for its processes", error);
        if config.mode == Mode::Each && config.runtime == Runtime::Native {
            let spawner =
                Spawner::new(&spec.name, Box::new(program), workers as usize, nature).map_err(no_thread)?;
            let each = Each::new(spawner, workers as usize, memory, counters);
            return Ok(SpawnFunction { kind: Kind::Each(each), _group: orders.group });
        }
        // A source in mode `each` gets a fresh process for each event, started ahead.
        let recycle_after = if config.mode == Mode::Each { 1 } else { spec.instances().recycle_after };
        let size = Size::of(spec, config.start_within_ns);
        let aside = config.runtime != Runtime::Native;
        let residents = Box::new(Piped { source: program, aside });
        let pool = Pool::new(&spec.name, residents, size, nature, counters.clone()).map_err(no_thread)?;
        let warm = Warm::new(pool, workers as usize, memory, recycle_after, counters);
        warm.begin(size.least).map_err(|reason| {
            let sentence = subject(&format!("{} cannot be used: {reason}", spec.file));
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        })?;
        Ok(SpawnFunction { kind: Kind::Warm(warm), _group: orders.group })
    }
}

/// The program with what goes before it, and its environment.
fn program(
    file: &str,
    arguments: Vec<String>,
    orders: &Orders,
    limits: Limits,
    config: &Config,
) -> io::Result<Program> {
    let own_path = std::env::var("PATH").unwrap_or_else(|_| String::from(DEFAULT_PATH));
    let mut environment = vec![format!("PATH={own_path}")];
    for text in &config.env {
        let name = text.split_inclusive('=').next().unwrap_or("");
        environment.retain(|known| !known.starts_with(name));
        environment.push(text.clone());
    }
    if orders.arguments.is_empty() {
        return Ok(Program::new(text_of(file), &arguments, &environment, limits));
    }
    // The launcher starts the file under its own name.
    let command: Vec<String> =
        std::iter::once(file.to_owned()).chain(arguments.into_iter().skip(1)).collect();
    launcher::program(&orders.arguments, &command, &environment)
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
