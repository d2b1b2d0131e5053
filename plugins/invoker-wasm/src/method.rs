//! The invocation method and its functions.

use std::sync::{Arc, Weak};

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};

use crate::compile::Compiled;
use crate::component::ComponentProgram;
use crate::config::{Config, Instances};
use crate::deadlines::Deadlines;
use crate::engine::{self, Machine, executor};
use crate::file;
use crate::guest::Shared;
use crate::journal::Journal;
use crate::keeper::{self, Chore};
use crate::module::ModuleProgram;
use crate::program::Program;
use crate::runner::{Runner, Wishes};
use crate::sandbox::Sandbox;
use crate::snapshot::snapshot;
use crate::watchdog::{WATCHDOG, Watched};

/// Makes functions of WebAssembly modules and components.
pub struct Wasm;

impl Wasm {
    /// The method. The engine is made for the first function.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Wasm)
    }
}

impl InvocationMethod for Wasm {
    type Function = WasmFunction;

    fn prepare(&self, spec: &FunctionSpec) -> Result<WasmFunction, PluginError> {
        let config = Config::read(spec)?;
        let machine = engine::machine(config.fuel > 0).map_err(|why| {
            let sentence =
                format!("function of workflow \"{}\": the engine does not start: {why}", spec.name);
            PluginError::new(PluginError::SYSTEM, sentence)
        })?;
        make(spec, &config, machine).map_err(|what| {
            let sentence =
                format!("function of workflow \"{}\": {} cannot be used: {what}", spec.name, spec.file);
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        })
    }
}

fn make(spec: &FunctionSpec, config: &Config, machine: &'static Machine) -> Result<WasmFunction, String> {
    let mut bytes = file::read(&spec.file)?;
    let form = file::form(&bytes)?;
    let deadlines = Arc::new(Deadlines::new(spec.concurrency));
    let shared = Arc::new(Shared {
        deadlines: Arc::clone(&deadlines),
        journal: Arc::new(Journal::default()),
        sandbox: Sandbox { env: config.env.clone(), dirs: config.dirs.clone() },
        memory_bytes: config.memory_bytes,
    });
    let watched = WATCHDOG
        .watch(deadlines, spec.deadline_ns, spec.scheduling(), engine::tick)
        .map_err(|error| format!("the thread that keeps its deadline does not start: {error}"))?;
    if config.snapshot {
        bytes = snapshot(machine, form, &bytes, &shared)?;
    }
    let compiled = Compiled::make(&machine.engine, form, &bytes, config)?;
    drop(bytes);
    let kind = match &compiled {
        Compiled::Module(module) => {
            let program = ModuleProgram::new(machine, module, &shared, config.instances == Instances::Reuse)?;
            Kind::Module(run(spec, config, machine, program, shared)?)
        }
        Compiled::Component(component) => {
            let program = ComponentProgram::new(machine, component)?;
            Kind::Component(run(spec, config, machine, program, shared)?)
        }
    };
    Ok(WasmFunction { kind, _watched: watched })
}

fn run<P: Program>(
    spec: &FunctionSpec,
    config: &Config,
    machine: &'static Machine,
    program: P,
    shared: Arc<Shared>,
) -> Result<Arc<Runner<P>>, String> {
    let executor = match program.waits() {
        true => Some(
            executor()
                .map_err(|why| format!("the executor for functions that wait does not start: {why}"))?,
        ),
        false => None,
    };
    let wishes = Wishes {
        reuse: config.instances == Instances::Reuse,
        fuel: config.fuel,
        concurrency: spec.concurrency,
        warm: spec.warm,
        instances: spec.instances(),
    };
    let runner =
        Arc::new(Runner::new(&spec.name, program, machine, executor, shared, wishes, spec.counters.clone())?);
    runner.warm(spec.warm);
    let chore: Weak<dyn Chore> = Arc::downgrade(&runner) as Weak<dyn Chore>;
    keeper::keep(chore)
        .map_err(|error| format!("the thread that keeps instances ready does not start: {error}"))?;
    Ok(runner)
}

/// A function that is ready.
pub struct WasmFunction {
    kind: Kind,
    _watched: Watched,
}

enum Kind {
    Module(Arc<Runner<ModuleProgram>>),
    Component(Arc<Runner<ComponentProgram>>),
}

impl Function for WasmFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match &self.kind {
            Kind::Module(runner) => runner.invoke(event, output, context),
            Kind::Component(runner) => runner.invoke(event, output, context),
        }
    }

    fn cancel(&self, worker: u32) {
        match &self.kind {
            Kind::Module(runner) => runner.cancel(worker),
            Kind::Component(runner) => runner.cancel(worker),
        }
    }

    fn warm(&self, instances: u32) -> u32 {
        match &self.kind {
            Kind::Module(runner) => runner.warm(instances),
            Kind::Component(runner) => runner.warm(instances),
        }
    }

    fn retire(&self, _deadline_ns: u64) {
        match &self.kind {
            Kind::Module(runner) => runner.retire(),
            Kind::Component(runner) => runner.retire(),
        }
    }
}

impl Drop for WasmFunction {
    /// Once it is gone nothing of it is left: neither memory nor a descriptor.
    fn drop(&mut self) {
        match &self.kind {
            Kind::Module(runner) => keeper::forget(runner),
            Kind::Component(runner) => keeper::forget(runner),
        }
    }
}
