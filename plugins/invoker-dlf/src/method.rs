//! The invocation method and its functions.

use std::ffi::CString;

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};
use tempos_function::raw::RawHandle;

use crate::call::call;
use crate::config::{Config, Reload};
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
        let opened = Opened::open(copy.path(), &config.symbol).map_err(|what| {
            let sentence =
                format!("function of workflow \"{}\": {} cannot be used: {what}", spec.name, spec.file);
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        })?;
        spec.counters.warm.set(1);
        spec.counters.started.add(1);
        Ok(match config.reload {
            Reload::Keep => DlfFunction::Kept(opened.keep()),
            Reload::Always => DlfFunction::Reloaded { copy, symbol: config.symbol },
        })
    }
}

/// A function that is ready.
pub enum DlfFunction {
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

impl Function for DlfFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        match self {
            DlfFunction::Kept(handle) => call(*handle, event, output, context),
            DlfFunction::Reloaded { copy, symbol } => match Opened::open(copy.path(), symbol) {
                Ok(opened) => call(opened.handle(), event, output, context),
                Err(what) => {
                    output.explain(&what);
                    Outcome::NOT_STARTED
                }
            },
        }
    }
}
