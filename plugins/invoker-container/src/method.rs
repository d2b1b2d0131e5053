//! The invocation method and its functions.

use std::io;
use std::sync::{Arc, Mutex};

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};
use tempos_process::ahead::{Ahead, Waiting};
use tempos_process::pool::{Pool, Size, WORKERS_MAX};
use tempos_process::process::own_resident_bytes;
use tempos_process::runtime::Runtime;
use tempos_process::source::{Piped, Workers};
use tempos_process::spawner::{Nature, locked};
use tempos_process::verdict::Memory;
use tempos_process::warm::Warm;
use tempos_process::{guard, scheduling};

use crate::config::{Config, Mode};
use crate::engine::Engine;
use crate::exec::Exec;
use crate::inside::{Inside, find};
use crate::seat::{Seat, Watcher};

/// Makes functions of programs in containers.
pub struct InContainer;

impl InContainer {
    /// The method.
    pub fn new() -> Result<Self, PluginError> {
        Ok(InContainer)
    }
}

impl InvocationMethod for InContainer {
    type Function = ContainerFunction;

    fn prepare(&self, spec: &FunctionSpec) -> Result<ContainerFunction, PluginError> {
        let config = Config::read(spec)?;
        let subject = format!("function of workflow \"{}\"", spec.name);
        let system = |error: io::Error| {
            PluginError::system(format!("{subject}: cannot start a thread for its processes"), &error)
        };
        let unusable =
            |reason: String| PluginError::new(PluginError::BAD_FUNCTION, format!("{subject}: {reason}"));
        let engine = Engine::at(config.engine.clone());
        let granted = scheduling::granted(spec.scheduling(), "container");
        guard::start();
        let place = find(&engine, spec, &config, granted).map_err(unusable)?;
        tempos_abi::export::log(LogLevel::INFO, "container", &format!("{subject}: {}", place.greeting()));
        let seat = Arc::new(Seat::new(place));
        let workers = spec.concurrency.clamp(1, WORKERS_MAX) as usize;
        // The launcher gives up new privileges by itself, inside.
        let nature = Nature { plugin: "container", scheduling: granted, no_new_privs: false };
        let memory = Memory { limit_bytes: spec.memory_bytes, node_bytes: own_resident_bytes() };
        let counters = spec.counters.clone();
        let aside = config.runtime != Runtime::Native;
        let ahead = config.mode == Mode::Each && !aside;
        let source = Inside(Arc::clone(&seat));
        let residents: Box<dyn Workers> = match config.mode {
            Mode::Exec => Box::new(Exec::new(engine.clone(), Arc::clone(&seat), spec, &config)),
            Mode::Each if ahead => Box::new(Waiting(source)),
            Mode::Each | Mode::Warm => Box::new(Piped { source, aside }),
        };
        let size = Size::of(spec, config.start_within_ns);
        let pool = Pool::new(&spec.name, residents, size, nature, counters.clone()).map_err(system)?;
        let kind = if ahead {
            Kind::Ahead(Ahead::new(pool, workers, memory, counters))
        } else {
            // A source in mode `each` gets a fresh process for each event, too.
            let recycle_after = if config.mode == Mode::Each { 1 } else { spec.instances().recycle_after };
            Kind::Warm(Warm::new(pool, workers, memory, recycle_after, counters))
        };
        kind.begin(size.least)
            .map_err(|reason| unusable(format!("{} cannot be used: {reason}", spec.file)))?;
        let kind = Arc::new(kind);
        let (of_watcher, asked) = (Arc::clone(&kind), spec.clone());
        let find = move || find(&engine, &asked, &config, granted);
        let changed = move || match &*of_watcher {
            Kind::Ahead(ahead) => ahead.look(),
            Kind::Warm(warm) => warm.look(),
        };
        let watcher = Watcher::start(&spec.name, seat, find, changed).map_err(system)?;
        Ok(ContainerFunction { kind, watcher: Mutex::new(watcher) })
    }
}

enum Kind {
    Ahead(Ahead),
    Warm(Warm),
}

impl Kind {
    fn begin(&self, least: u32) -> Result<(), String> {
        match self {
            Kind::Ahead(ahead) => ahead.begin(least),
            Kind::Warm(warm) => warm.begin(least),
        }
    }
}

/// A function that is ready.
pub struct ContainerFunction {
    kind: Arc<Kind>,
    watcher: Mutex<Watcher>,
}

impl Function for ContainerFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match &*self.kind {
            Kind::Ahead(ahead) => ahead.invoke(event, output, context),
            Kind::Warm(warm) => warm.invoke(event, output, context),
        }
    }

    fn cancel(&self, worker: u32) {
        match &*self.kind {
            Kind::Ahead(ahead) => ahead.cancel(worker),
            Kind::Warm(warm) => warm.cancel(worker),
        }
    }

    fn warm(&self, instances: u32) -> u32 {
        match &*self.kind {
            Kind::Ahead(ahead) => ahead.warm(instances),
            Kind::Warm(warm) => warm.warm(instances),
        }
    }

    fn retire(&self, deadline_ns: u64) {
        locked(&self.watcher).stop();
        match &*self.kind {
            Kind::Ahead(ahead) => ahead.retire(deadline_ns),
            Kind::Warm(warm) => warm.retire(deadline_ns),
        }
    }
}
