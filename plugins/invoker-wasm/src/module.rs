//! Core modules: the contract of the plugin's README, checked once and then relied upon.

use std::sync::Arc;

use tempos_abi::event::EventView;
use tempos_abi::invoker::Outcome;
use wasmtime::{ExternType, Instance, InstancePre, Memory, Module, ModuleExport, Store, TypedFunc, ValType};

use crate::engine::Machine;
use crate::fault::{Fault, cause};
use crate::guest::{Guest, Shared};
use crate::imports::{MODULE, SIGNATURES};
use crate::program::Program;

const WASI: &str = "wasi_snapshot_preview1";
/// Exports that a sentence names at most.
const NAMED_MAX: usize = 8;

/// A core module that fits the contract.
pub struct ModuleProgram {
    ready: InstancePre<Guest>,
    memory: ModuleExport,
    alloc: ModuleExport,
    handle: ModuleExport,
    free: Option<ModuleExport>,
    initialize: Option<ModuleExport>,
    /// `handle` answers an output's place and length.
    packed: bool,
    waits: bool,
    /// Instances serve several events: what was used for one is given back.
    reused: bool,
}

/// What is called in an instance.
pub struct ModuleExports {
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    handle: Handle,
    free: Option<TypedFunc<(u32, u32), ()>>,
}

#[derive(Clone)]
enum Handle {
    /// Answers a code.
    Code(TypedFunc<(u32, u32), i32>),
    /// Answers an output, nothing, or a code.
    Packed(TypedFunc<(u32, u32), i64>),
}

impl ModuleProgram {
    /// Checks a module against the contract.
    ///
    /// # Errors
    /// Half a sentence: what does not fit, and what would.
    pub fn new(
        machine: &Machine,
        module: &Module,
        shared: &Arc<Shared>,
        reused: bool,
    ) -> Result<Self, String> {
        let mut waits = false;
        // What is there is asked in a store that is never used.
        let guest = Guest::new(Arc::clone(shared), 0);
        let mut store = machine.store(guest, 0).map_err(|error| cause(&error))?;
        for import in module.imports() {
            waits |= import.module() == WASI;
            if machine.modules.get_by_import(&mut store, &import).is_none() {
                return Err(unknown(import.module(), import.name()));
            }
        }
        let Some(ExternType::Memory(memory)) = module.get_export("memory") else {
            return Err(missing(module, "memory", "its memory"));
        };
        if memory.is_64() || memory.is_shared() {
            return Err(String::from(
                "its memory is of 64 bits or shared; build it for wasm32 without threads",
            ));
        }
        use ValType::{I32, I64};
        check_function(module, "alloc", &[I32], &[I32], "alloc(i32) -> i32")?;
        let either = "handle(i32, i32) -> i32 or -> i64";
        let packed = match check_function(module, "handle", &[I32, I32], &[I32], either) {
            Ok(()) => false,
            Err(_) => {
                check_function(module, "handle", &[I32, I32], &[I64], either)?;
                true
            }
        };
        if module.get_export("free").is_some() {
            check_function(module, "free", &[I32, I32], &[], "free(i32, i32) without a result")?;
        }
        if module.get_export("_initialize").is_some() {
            check_function(module, "_initialize", &[], &[], "_initialize() without a result")?;
        }
        let ready = machine
            .modules
            .instantiate_pre(module)
            .map_err(|error| format!("an import of it has another type than it should: {}", cause(&error)))?;
        let found = |name: &str| module.get_export_index(name);
        let sure = |name: &str| found(name).ok_or_else(|| missing(module, name, "it"));
        Ok(ModuleProgram {
            memory: sure("memory")?,
            alloc: sure("alloc")?,
            handle: sure("handle")?,
            free: found("free"),
            initialize: found("_initialize"),
            ready,
            packed,
            waits,
            reused,
        })
    }

    fn initialize(
        &self,
        store: &mut Store<Guest>,
        instance: &Instance,
    ) -> Result<Option<TypedFunc<(), ()>>, Fault> {
        let Some(export) = &self.initialize else { return Ok(None) };
        Ok(Some(function(store, instance, export)?))
    }

    fn exports(&self, store: &mut Store<Guest>, instance: &Instance) -> Result<ModuleExports, Fault> {
        let Some(memory) =
            instance.get_module_export(&mut *store, &self.memory).and_then(wasmtime::Extern::into_memory)
        else {
            return Err(Fault::Contract(String::from("its memory is gone")));
        };
        store.data_mut().memory = Some(memory);
        let handle = match self.packed {
            false => Handle::Code(function(store, instance, &self.handle)?),
            true => Handle::Packed(function(store, instance, &self.handle)?),
        };
        let free = match &self.free {
            Some(export) if self.reused => Some(function(store, instance, export)?),
            _ => None,
        };
        Ok(ModuleExports { memory, alloc: function(store, instance, &self.alloc)?, handle, free })
    }
}

impl Program for ModuleProgram {
    type Exports = ModuleExports;

    fn waits(&self) -> bool {
        self.waits
    }

    fn start(&self, store: &mut Store<Guest>) -> Result<ModuleExports, Fault> {
        let instance = self.ready.instantiate(&mut *store)?;
        if let Some(initialize) = self.initialize(store, &instance)? {
            initialize.call(&mut *store, ())?;
        }
        self.exports(store, &instance)
    }

    async fn start_waiting(&self, store: &mut Store<Guest>) -> Result<ModuleExports, Fault> {
        let instance = self.ready.instantiate_async(&mut *store).await?;
        if let Some(initialize) = self.initialize(store, &instance)? {
            initialize.call_async(&mut *store, ()).await?;
        }
        self.exports(store, &instance)
    }

    fn call(
        &self,
        store: &mut Store<Guest>,
        exports: &ModuleExports,
        event: &EventView<'_>,
    ) -> Result<Outcome, Fault> {
        let bytes = event.payload.len() as u32;
        let at = exports.alloc.call(&mut *store, bytes)?;
        put(store, exports, at, event.payload.as_slice())?;
        let answer = match &exports.handle {
            Handle::Code(handle) => Answer::of_code(handle.call(&mut *store, (at, bytes))?)?,
            Handle::Packed(handle) => Answer::of_packed(handle.call(&mut *store, (at, bytes))?)?,
        };
        let outcome = settle(store, exports, answer)?;
        if let Some(free) = &exports.free {
            free.call(&mut *store, (at, bytes))?;
            if let Answer::Output { at, bytes } = answer {
                free.call(&mut *store, (at, bytes))?;
            }
        }
        Ok(outcome)
    }

    async fn call_waiting(
        &self,
        store: &mut Store<Guest>,
        exports: &ModuleExports,
        event: &EventView<'_>,
    ) -> Result<Outcome, Fault> {
        let bytes = event.payload.len() as u32;
        let at = exports.alloc.call_async(&mut *store, bytes).await?;
        put(store, exports, at, event.payload.as_slice())?;
        let answer = match &exports.handle {
            Handle::Code(handle) => Answer::of_code(handle.call_async(&mut *store, (at, bytes)).await?)?,
            Handle::Packed(handle) => Answer::of_packed(handle.call_async(&mut *store, (at, bytes)).await?)?,
        };
        let outcome = settle(store, exports, answer)?;
        if let Some(free) = &exports.free {
            free.call_async(&mut *store, (at, bytes)).await?;
            if let Answer::Output { at, bytes } = answer {
                free.call_async(&mut *store, (at, bytes)).await?;
            }
        }
        Ok(outcome)
    }
}

/// What `handle` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Code(u8),
    Output { at: u32, bytes: u32 },
}

impl Answer {
    fn of_code(code: i32) -> Result<Answer, Fault> {
        let wrong = || Fault::Contract(format!("it answered {code}, which is not within 0 to 255"));
        u8::try_from(code).map(Answer::Code).map_err(|_| wrong())
    }

    fn of_packed(answer: i64) -> Result<Answer, Fault> {
        match answer {
            0 => Ok(Answer::Code(0)),
            1.. => Ok(Answer::Output { at: answer as u32, bytes: (answer >> 32) as u32 }),
            -255..=-1 => Ok(Answer::Code(-answer as u8)),
            _ => Err(Fault::Contract(format!(
                "it answered {answer}, which is neither an output nor a code of -1 to -255"
            ))),
        }
    }
}

/// Writes the event to where the guest has made room.
fn put(store: &mut Store<Guest>, exports: &ModuleExports, at: u32, payload: &[u8]) -> Result<(), Fault> {
    let data = exports.memory.data_mut(store);
    match data.get_mut(at as usize..).and_then(|rest| rest.get_mut(..payload.len())) {
        Some(room) => {
            room.copy_from_slice(payload);
            Ok(())
        }
        None => Err(Fault::Contract(format!(
            "its alloc answered {at} for {} bytes, which is not within its memory",
            payload.len()
        ))),
    }
}

/// Takes an output over, where the answer is one.
fn settle(store: &mut Store<Guest>, exports: &ModuleExports, answer: Answer) -> Result<Outcome, Fault> {
    let (at, bytes) = match answer {
        Answer::Code(0) => return Ok(Outcome::DONE),
        Answer::Code(code) => return Ok(Outcome::failed(code)),
        Answer::Output { at, bytes } => (at as usize, bytes as usize),
    };
    let (data, guest) = exports.memory.data_and_store_mut(store);
    let Some(bytes) = data.get(at..).and_then(|rest| rest.get(..bytes)) else {
        return Err(Fault::Contract(format!("its output of {bytes} bytes at {at} is not within its memory")));
    };
    if let Some(output) = guest.output() {
        output.write(bytes);
    }
    Ok(Outcome::DONE)
}

fn function<P, R>(
    store: &mut Store<Guest>,
    instance: &Instance,
    export: &ModuleExport,
) -> Result<TypedFunc<P, R>, Fault>
where
    P: wasmtime::WasmParams,
    R: wasmtime::WasmResults,
{
    let Some(function) =
        instance.get_module_export(&mut *store, export).and_then(wasmtime::Extern::into_func)
    else {
        return Err(Fault::Contract(String::from("one of its functions is gone")));
    };
    Ok(function.typed(&*store)?)
}

fn unknown(module: &str, name: &str) -> String {
    let hint = match module {
        MODULE => {
            let names: Vec<&str> = SIGNATURES.iter().map(|(name, _)| *name).collect();
            format!("{MODULE} has {}", names.join(", "))
        }
        WASI | "wasi_unstable" => format!("build it for WASI preview 1, which is {WASI}"),
        "env" if name == "abort" => String::from("build it with `asc --use abort=`"),
        _ => format!("it may import from {MODULE} and {WASI}, and nothing else"),
    };
    format!("it imports {module}.{name}, which is not there; {hint}")
}

fn check_function(
    module: &Module,
    name: &str,
    params: &[ValType],
    results: &[ValType],
    right: &str,
) -> Result<(), String> {
    let ty = match module.get_export(name) {
        Some(ExternType::Func(ty)) => ty,
        Some(_) => return Err(format!("its export {name} is not a function; it should be {right}")),
        None => return Err(missing(module, name, right)),
    };
    let same = |have: &mut dyn ExactSizeIterator<Item = ValType>, want: &[ValType]| {
        have.len() == want.len() && have.zip(want).all(|(have, want)| ValType::eq(&have, want))
    };
    match same(&mut ty.params(), params) && same(&mut ty.results(), results) {
        true => Ok(()),
        false => Err(format!("its function {name} has another type than it should: {right}")),
    }
}

fn missing(module: &Module, name: &str, right: &str) -> String {
    if module.get_export("_start").is_some() {
        return format!(
            "it is a program (it exports _start), not a function; build it with -mexec-model=reactor or as a library, with {right}"
        );
    }
    let mut names: Vec<String> = module.exports().map(|export| export.name().to_owned()).collect();
    let more = if names.len() > NAMED_MAX { ", …" } else { "" };
    names.truncate(NAMED_MAX);
    let have = if names.is_empty() { String::from("nothing") } else { names.join(", ") + more };
    format!("it exports no {name}; it exports {have}, and should export memory, alloc and handle: {right}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_code_or_an_output() {
        assert!(matches!(Answer::of_code(0), Ok(Answer::Code(0))));
        assert!(matches!(Answer::of_code(255), Ok(Answer::Code(255))));
        assert!(Answer::of_code(256).is_err() && Answer::of_code(-1).is_err());
        assert!(matches!(Answer::of_packed(0), Ok(Answer::Code(0))));
        assert!(matches!(Answer::of_packed(-7), Ok(Answer::Code(7))));
        assert!(Answer::of_packed(-256).is_err() && Answer::of_packed(i64::MIN).is_err());
        let output = Answer::of_packed(5 << 32 | 0xffff_fff0);
        assert!(matches!(output, Ok(Answer::Output { at: 0xffff_fff0, bytes: 5 })));
    }
}
