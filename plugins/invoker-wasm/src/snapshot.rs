//! A module that was started once: its memory and globals as they are then, in a new module. Instances of that
//! one are ready at once.

#[cfg(not(feature = "compiler"))]
use std::sync::Arc;
#[cfg(feature = "compiler")]
use std::{sync::Arc, time::Duration};

#[cfg(feature = "compiler")]
use wasmparser::{Parser, Payload};
#[cfg(feature = "compiler")]
use wasmtime::{Instance, Module, Store, Val};
#[cfg(feature = "compiler")]
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

#[cfg(feature = "compiler")]
use crate::clock::now_ns;
use crate::engine::Machine;
#[cfg(feature = "compiler")]
use crate::fault::cause;
use crate::file::Form;
#[cfg(feature = "compiler")]
use crate::guest::Guest;
use crate::guest::Shared;

/// What starts a module, the first that it exports. The first two are Wizer's names, and are there for this.
#[cfg(feature = "compiler")]
const STARTS: [&str; 3] = ["wizer-initialize", "wizer.initialize", "_initialize"];
/// The longest that it may take.
#[cfg(feature = "compiler")]
const LIMIT: Duration = Duration::from_secs(10);

/// Starts the module and takes its picture.
///
/// # Errors
/// Half a sentence: why that cannot be done.
#[cfg(feature = "compiler")]
pub fn snapshot(
    machine: &Machine,
    form: Form,
    bytes: &[u8],
    shared: &Arc<Shared>,
) -> Result<Vec<u8>, String> {
    if form == Form::Component {
        return Err(String::from("a snapshot can be taken of a core module only; leave `snapshot` out"));
    }
    let exports = exports(bytes).map_err(|error| format!("it is no valid WebAssembly module: {error}"))?;
    let Some(start) = STARTS.into_iter().find(|start| exports.iter().any(|export| export == start)) else {
        let wanted = STARTS.join(", ");
        return Err(format!("there is nothing to take a snapshot after: it exports none of {wanted}"));
    };
    let executor = crate::engine::executor().map_err(|why| format!("the executor does not start: {why}"))?;
    let deadline_ns = now_ns() + LIMIT.as_nanos() as u64;
    let place = shared.deadlines.begin(u32::MAX, deadline_ns).ok_or("too many invocations are under way")?;
    crate::watchdog::WATCHDOG.notice();
    // Metered or not, it may take what it needs within the time.
    let taken = machine.store(Guest::new(Arc::clone(shared), place), u64::MAX).map(|mut store| {
        let taken = take(machine, &mut store, start, bytes);
        executor.block_on(async { tokio::time::timeout(LIMIT, taken).await })
    });
    shared.deadlines.end(place);
    match taken {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(error))) | Err(error) => {
            Err(format!("no snapshot can be taken after {start}: {}", cause(&error)))
        }
        Ok(Err(_)) => {
            Err(format!("no snapshot can be taken: {start} takes longer than {} s", LIMIT.as_secs()))
        }
    }
}

/// Starts the module, with its inner state exported, and writes what it has become.
#[cfg(feature = "compiler")]
async fn take(
    machine: &Machine,
    store: &mut Store<Guest>,
    start: &str,
    bytes: &[u8],
) -> wasmtime::Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(start);
    let (context, open) = wizer.instrument(bytes)?;
    let module = Module::new(&machine.engine, open)?;
    let instance = machine.modules.instantiate_async(&mut *store, &module).await?;
    // A reactor's own start goes before the one that is there for this.
    let own = instance.get_export(&mut *store, "_initialize").is_some().then_some("_initialize");
    for name in own.into_iter().chain((own != Some(start)).then_some(start)) {
        instance.get_typed_func::<(), ()>(&mut *store, name)?.call_async(&mut *store, ()).await?;
    }
    wizer.snapshot(&context, &mut Started { store, instance }).await
}

/// A started instance, read by Wizer: it asks for globals and memories that it has exported itself.
#[cfg(feature = "compiler")]
struct Started<'a> {
    store: &'a mut Store<Guest>,
    instance: Instance,
}

#[cfg(feature = "compiler")]
impl InstanceState for Started<'_> {
    async fn global_get(&mut self, name: &str, ty: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name);
        match (global.map(|global| global.get(&mut *self.store)), ty) {
            (Some(Val::I32(value)), _) => SnapshotVal::I32(value),
            (Some(Val::I64(value)), _) => SnapshotVal::I64(value),
            (Some(Val::F32(bits)), _) => SnapshotVal::F32(bits),
            (Some(Val::F64(bits)), _) => SnapshotVal::F64(bits),
            (Some(Val::V128(value)), _) => SnapshotVal::V128(value.as_u128()),
            // Globals of reference types are refused before: these are never asked for.
            (_, ValType::I64) => SnapshotVal::I64(0),
            (_, ValType::F32) => SnapshotVal::F32(0),
            (_, ValType::F64) => SnapshotVal::F64(0),
            (_, ValType::V128) => SnapshotVal::V128(0),
            _ => SnapshotVal::I32(0),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name);
        contents(memory.map_or(&[], |memory| memory.data(&*self.store)));
    }
}

/// The names of a module's exports.
#[cfg(feature = "compiler")]
fn exports(bytes: &[u8]) -> Result<Vec<String>, wasmparser::BinaryReaderError> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                names.push(export?.name.to_owned());
            }
        }
    }
    Ok(names)
}

/// There is no compiler, and so nothing to start it with.
///
/// # Errors
/// Always.
#[cfg(not(feature = "compiler"))]
pub fn snapshot(
    _machine: &Machine,
    _form: Form,
    _bytes: &[u8],
    _shared: &Arc<Shared>,
) -> Result<Vec<u8>, String> {
    Err(String::from("this node cannot compile, and so takes no snapshots; take it with the tool wizer"))
}
