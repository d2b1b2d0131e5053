//! The engine that compiles and runs guests: one for the process, and one more for functions whose fuel is
//! metered, since their code is compiled otherwise. Also the executor for guests that wait.

use std::sync::OnceLock;

use tempos_abi::export;
use tempos_abi::host::LogLevel;
use tokio::runtime::Runtime;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig, Store, component,
};

use crate::component::define_host;
use crate::guest::Guest;
use crate::imports;

/// Instances, memories and tables that there may be at once, of all functions together. A component has several.
const INSTANCES_MAX: u32 = 2000;
/// Tables of one module.
const TABLES_MAX: u32 = 4;
/// The address space of the pool is reserved, not used: a memory takes what its guest touches.
const KEPT_BYTES: usize = 64 << 10;
/// A lane's own thread, on which an inline function runs, has 512 KiB of stack.
const STACK_BYTES: usize = 256 << 10;
const FIBER_BYTES: usize = STACK_BYTES + (256 << 10);
/// Threads for file system calls of guests, which may wait for a disk.
const BLOCKING_THREADS_MAX: usize = 4;

/// An engine, and what guests may import from it.
pub struct Machine {
    /// The engine.
    pub engine: Engine,
    /// For core modules.
    pub modules: Linker<Guest>,
    /// For components.
    pub components: component::Linker<Guest>,
    /// Whether fuel is metered.
    pub metered: bool,
}

static PLAIN: OnceLock<Result<Machine, String>> = OnceLock::new();
static METERED: OnceLock<Result<Machine, String>> = OnceLock::new();

/// The engine, made when it is first asked for.
///
/// # Errors
/// What the system refuses.
pub fn machine(metered: bool) -> Result<&'static Machine, String> {
    let place = if metered { &METERED } else { &PLAIN };
    place.get_or_init(|| Machine::new(metered)).as_ref().map_err(Clone::clone)
}

/// Moves the epoch on: running guests ask whether they are to stop.
pub fn tick() {
    for place in [&PLAIN, &METERED] {
        if let Some(Ok(machine)) = place.get() {
            machine.engine.increment_epoch();
        }
    }
}

/// The executor for guests that wait: its own thread keeps the time, guests run on the calling thread.
///
/// # Errors
/// What the system refuses.
pub fn executor() -> Result<&'static Runtime, String> {
    static EXECUTOR: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = EXECUTOR.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("wasm-executor")
            .enable_time()
            .enable_io()
            .build()
            .map_err(|error| error.to_string())
    });
    made.as_ref().map_err(Clone::clone)
}

impl Machine {
    fn new(metered: bool) -> Result<Machine, String> {
        let why = |error: wasmtime::Error| format!("{error:#}");
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.consume_fuel(metered);
        config.max_wasm_stack(STACK_BYTES);
        config.async_stack_size(FIBER_BYTES);
        // Registering frames costs time at every load and serves debuggers alone.
        config.native_unwind_info(false);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        let engine = match Engine::new(&config) {
            Ok(engine) => engine,
            Err(error) => {
                // An address space limit (ulimit -v) may leave no room for the pool.
                let sentence = format!("instances are made one by one, which is slower: {error:#}");
                export::log(LogLevel::WARNING, "wasm", &sentence);
                config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                Engine::new(&config).map_err(why)?
            }
        };
        let mut modules = Linker::new(&engine);
        imports::define(&mut modules).map_err(why)?;
        wasmtime_wasi::p1::add_to_linker_async(&mut modules, Guest::wasi).map_err(why)?;
        let mut components = component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components).map_err(why)?;
        define_host(&mut components).map_err(why)?;
        Ok(Machine { engine, modules, components, metered })
    }

    /// A store for a guest. Its fuel is what one event may cost.
    ///
    /// # Errors
    /// Never, unless fuel is not metered.
    pub fn store(&self, guest: Guest, fuel: u64) -> wasmtime::Result<Store<Guest>> {
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| guest);
        store.epoch_deadline_callback(|store| Ok(store.data().verdict()));
        self.refresh(&mut store, fuel)?;
        Ok(store)
    }

    /// Makes a store ready for the next event.
    ///
    /// # Errors
    /// As [`Machine::store`].
    pub fn refresh(&self, store: &mut Store<Guest>, fuel: u64) -> wasmtime::Result<()> {
        store.set_epoch_deadline(1);
        if self.metered { store.set_fuel(fuel) } else { Ok(()) }
    }
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(INSTANCES_MAX)
        .total_component_instances(INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX)
        .total_stacks(INSTANCES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES);
    pool
}
