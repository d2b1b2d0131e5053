//! The invocation method and its functions.

use std::ffi::CString;

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};
use tempos_function::raw::RawHandle;

use crate::call::call;
use crate::config::{Config, Isolation, Reload};
use crate::isolation::Isolated;
use crate::library::Opened;
use crate::stage::Copy;

/// Makes functions of shared libraries.
pub struct Dlf;

impl Dlf {
    /// The method; it has nothing to set up.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Dlf)
    }
}

impl InvocationMethod for Dlf {
    type Function = DlfFunction;

    fn prepare(&self, spec: &FunctionSpec) -> Result<DlfFunction, PluginError> {
        let config = Config::read(spec)?;
        let copy = Copy::make(spec)?;
        match config.isolation {
            Isolation::None => InProcess::prepare(spec, config, copy).map(DlfFunction::InProcess),
            Isolation::Process => Isolated::prepare(spec, config, copy).map(DlfFunction::Isolated),
        }
    }
}

/// A function that is ready.
pub enum DlfFunction {
    /// In the node's own process.
    InProcess(InProcess),
    /// In processes of its own.
    Isolated(Isolated),
}

impl Function for DlfFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match self {
            DlfFunction::InProcess(function) => function.invoke(event, output, context),
            DlfFunction::Isolated(function) => function.invoke(event, output, context),
        }
    }

    fn cancel(&self, worker: u32) {
        match self {
            DlfFunction::InProcess(_) => {}
            DlfFunction::Isolated(function) => function.cancel(worker),
        }
    }

    fn warm(&self, instances: u32) -> u32 {
        match self {
            DlfFunction::InProcess(_) => instances,
            DlfFunction::Isolated(function) => function.warm(instances),
        }
    }

    fn retire(&self, deadline_ns: u64) {
        match self {
            DlfFunction::InProcess(_) => {}
            DlfFunction::Isolated(function) => function.retire(deadline_ns),
        }
    }
}

/// A function whose library is open in this process.
pub enum InProcess {
    /// Its library stays open.
    Kept(RawHandle),
    /// Its library is opened for each event.
    Reloaded {
        /// What is opened.
        copy: Copy,
        /// What is called.
        symbol: CString,
    },
}

impl InProcess {
    fn prepare(spec: &FunctionSpec, config: Config, copy: Copy) -> Result<Self, PluginError> {
        let opened = Opened::open(copy.path(), &config.symbol).map_err(|what| {
            let sentence =
                format!("function of workflow \"{}\": {} cannot be used: {what}", spec.name, spec.file);
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        })?;
        spec.counters.warm.set(1);
        spec.counters.started.add(1);
        Ok(match config.reload {
            Reload::Keep => InProcess::Kept(opened.keep()),
            Reload::Always => InProcess::Reloaded { copy, symbol: config.symbol },
        })
    }

    /// Runs it on one event.
    pub fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match self {
            InProcess::Kept(handle) => call(*handle, event, output, context),
            InProcess::Reloaded { copy, symbol } => match Opened::open(copy.path(), symbol) {
                Ok(opened) => call(opened.handle(), event, output, context),
                Err(what) => {
                    output.explain(&what);
                    Outcome::NOT_STARTED
                }
            },
        }
    }
}
