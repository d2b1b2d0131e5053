//! Components of the world `tempos:function/function@0.1.0`: see `wit/function.wit`, which these types mirror.

use tempos_abi::attributes::AttributeValue;
use tempos_abi::event::EventView;
use tempos_abi::invoker::Outcome;
use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, Func, InstancePre, Lift, Linker, Lower, TypedFunc,
    WasmStr,
};

use crate::engine::Machine;
use crate::fault::{Fault, cause, whole};
use crate::guest::Guest;
use crate::journal::{LINE_BYTES_MAX, severity};
use crate::program::Program;

const HOST: &str = "tempos:function/host@0.1.0";
const WORLD: &str = "tempos:function/function@0.1.0";

/// A component that fits the world.
pub struct ComponentProgram {
    ready: InstancePre<Guest>,
    handle: ComponentExportIndex,
    waits: bool,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
struct Event<'a> {
    id: u64,
    topic: &'a str,
    level: u32,
    #[component(name = "source-time-ns")]
    source_time_ns: u64,
    #[component(name = "arrival-ns")]
    arrival_ns: u64,
    #[component(name = "deadline-ns")]
    deadline_ns: u64,
    payload: &'a [u8],
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Failure {
    code: u8,
    sentence: String,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Value {
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
    #[component(name = "text")]
    Text(String),
    #[component(name = "unsigned")]
    Unsigned(u64),
    #[component(name = "signed")]
    Signed(i64),
    #[component(name = "address")]
    Address(Vec<u8>),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[allow(dead_code)] // Guests make them.
#[component(enum)]
#[repr(u8)]
enum Severity {
    #[component(name = "error")]
    Error,
    #[component(name = "warning")]
    Warning,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
}

type Answer = (Result<Option<Vec<u8>>, Failure>,);

/// Defines what the world imports.
///
/// # Errors
/// One is defined twice.
pub fn define_host(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut host = linker.instance(HOST)?;
    host.func_wrap("attribute", |store, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        let value = store.data().event().and_then(|event| event.attributes().get(&key).map(value));
        Ok((value,))
    })?;
    host.func_wrap("attributes", |store, (): ()| {
        let list: Vec<(String, Value)> = match store.data().event() {
            Some(event) => event.attributes().map(|(key, v)| (key.to_owned(), value(v))).collect(),
            None => Vec::new(),
        };
        Ok((list,))
    })?;
    host.func_wrap("log", |store, (level, line): (Severity, WasmStr)| {
        let line = line.to_str(&store)?;
        let line = line.as_bytes();
        let level = severity(level as i32);
        store.data().shared.journal.write(level, &line[..line.len().min(LINE_BYTES_MAX)]);
        Ok(())
    })
}

fn value(value: AttributeValue<'_>) -> Value {
    match value {
        AttributeValue::Text(text) => Value::Text(text.to_owned()),
        AttributeValue::Unsigned(number) => Value::Unsigned(number),
        AttributeValue::Signed(number) => Value::Signed(number),
        AttributeValue::Address(bytes) => Value::Address(bytes.to_vec()),
        AttributeValue::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        _ => Value::Bytes(Vec::new()),
    }
}

impl ComponentProgram {
    /// Checks a component against the world; the type of its export is checked when it is first started.
    ///
    /// # Errors
    /// Half a sentence: what does not fit, and what would.
    pub fn new(machine: &Machine, component: &Component) -> Result<Self, String> {
        let ty = component.component_type();
        let waits = ty.imports(&machine.engine).any(|(name, _)| name.starts_with("wasi:"));
        let Some(handle) = component.get_export_index(None, "handle") else {
            let names: Vec<String> = ty.exports(&machine.engine).map(|(name, _)| name.to_owned()).collect();
            let have = if names.is_empty() { String::from("nothing") } else { names.join(", ") };
            return Err(format!(
                "it exports no handle; it exports {have}, and should be of the world {WORLD}"
            ));
        };
        let ready = machine.components.instantiate_pre(component).map_err(|error| {
            format!("an import of it is not there: {}; it may import {HOST} and WASI 0.2", whole(&error))
        })?;
        Ok(ComponentProgram { ready, handle, waits })
    }

    fn handle(
        &self,
        store: &mut Store<Guest>,
        instance: &wasmtime::component::Instance,
    ) -> Result<Func, Fault> {
        let wrong = |why: String| {
            Fault::Contract(format!("its handle has another type than in the world {WORLD}: {why}"))
        };
        let func = instance
            .get_func(&mut *store, self.handle)
            .ok_or_else(|| wrong(String::from("it is not a function")))?;
        func.typed::<(Event<'_>,), Answer>(&*store).map_err(|error| wrong(cause(&error)))?;
        Ok(func)
    }
}

/// The function with its type.
fn typed<'a>(handle: &Func) -> TypedFunc<(Event<'a>,), Answer> {
    // SAFETY: `ComponentProgram::handle` has checked the type of this very function.
    unsafe { TypedFunc::new_unchecked(*handle) }
}

impl Program for ComponentProgram {
    type Exports = Func;

    fn waits(&self) -> bool {
        self.waits
    }

    fn start(&self, store: &mut Store<Guest>) -> Result<Func, Fault> {
        let instance = self.ready.instantiate(&mut *store)?;
        self.handle(store, &instance)
    }

    async fn start_waiting(&self, store: &mut Store<Guest>) -> Result<Func, Fault> {
        let instance = self.ready.instantiate_async(&mut *store).await?;
        self.handle(store, &instance)
    }

    fn call(&self, store: &mut Store<Guest>, handle: &Func, event: &EventView<'_>) -> Result<Outcome, Fault> {
        let (answer,) = typed(handle).call(&mut *store, (lower(event),))?;
        settle(store, answer)
    }

    async fn call_waiting(
        &self,
        store: &mut Store<Guest>,
        handle: &Func,
        event: &EventView<'_>,
    ) -> Result<Outcome, Fault> {
        let (answer,) = typed(handle).call_async(&mut *store, (lower(event),)).await?;
        settle(store, answer)
    }
}

fn lower<'a>(event: &EventView<'a>) -> Event<'a> {
    Event {
        id: event.id,
        topic: event.topic.as_str(),
        level: u32::from(event.level.0),
        source_time_ns: event.source_time_ns,
        arrival_ns: event.arrival_ns,
        deadline_ns: event.deadline_ns,
        payload: event.payload.as_slice(),
    }
}

fn settle(store: &mut Store<Guest>, answer: Result<Option<Vec<u8>>, Failure>) -> Result<Outcome, Fault> {
    let output = store.data_mut().output();
    match (answer, output) {
        (Ok(Some(bytes)), Some(output)) => {
            output.write(&bytes);
            Ok(Outcome::DONE)
        }
        (Ok(_), _) => Ok(Outcome::DONE),
        (Err(Failure { code, sentence }), output) => {
            if let Some(output) = output {
                output.explain(&sentence);
            }
            Ok(Outcome::failed(code))
        }
    }
}
