//! The engine, used by hand: what anybody would write who wants a fresh instance for each event.

use wasmtime::component::{self, Component, HasSelf};
use wasmtime::{
    Caller, Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig,
    Store, StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

/// One event after the other.
pub trait ByHand {
    /// Works on an event.
    fn event(&self, payload: &[u8]);
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.epoch_interruption(true);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(64 << 10).table_keep_resident(64 << 10);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).expect("an engine")
}

struct State {
    output: Vec<u8>,
    limits: StoreLimits,
    wasi: Option<WasiP1Ctx>,
}

/// A core module.
pub struct HandModule {
    ready: InstancePre<State>,
    with_wasi: bool,
}

impl HandModule {
    /// Compiles and links it.
    pub fn new(wat: &str, with_wasi: bool) -> Self {
        let engine = engine();
        let module =
            Module::new(&engine, wat::parse_str(wat).expect("it is WebAssembly")).expect("it is valid");
        let mut linker: Linker<State> = Linker::new(&engine);
        if with_wasi {
            wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |state| {
                state.wasi.as_mut().expect("it is there")
            })
            .expect("defined");
        }
        linker
            .func_wrap("tempos", "write", |mut caller: Caller<'_, State>, at: u32, bytes: u32| {
                let memory =
                    caller.get_export("memory").and_then(wasmtime::Extern::into_memory).expect("a memory");
                let (data, state) = memory.data_and_store_mut(&mut caller);
                state.output.extend_from_slice(&data[at as usize..][..bytes as usize]);
                0i32
            })
            .expect("defined");
        // The rest of the contract is linked and not called.
        linker.define_unknown_imports_as_traps(&module).expect("defined");
        HandModule { ready: linker.instantiate_pre(&module).expect("it fits"), with_wasi }
    }
}

impl ByHand for HandModule {
    fn event(&self, payload: &[u8]) {
        let state = State {
            output: Vec::with_capacity(payload.len()),
            limits: StoreLimitsBuilder::new().memory_size(16 << 20).build(),
            wasi: self.with_wasi.then(|| WasiCtxBuilder::new().build_p1()),
        };
        let mut store = Store::new(self.ready.module().engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(10);
        let instance = self.ready.instantiate(&mut store).expect("it starts");
        if self.with_wasi {
            let initialize =
                instance.get_typed_func::<(), ()>(&mut store, "_initialize").expect("it is there");
            initialize.call(&mut store, ()).expect("no trap");
        }
        let memory = instance.get_memory(&mut store, "memory").expect("it is there");
        let alloc = instance.get_typed_func::<u32, u32>(&mut store, "alloc").expect("it is there");
        let handle = instance.get_typed_func::<(u32, u32), i32>(&mut store, "handle").expect("it is there");
        let at = alloc.call(&mut store, payload.len() as u32).expect("no trap");
        memory.write(&mut store, at as usize, payload).expect("there is room");
        assert_eq!(handle.call(&mut store, (at, payload.len() as u32)).expect("no trap"), 0);
        assert_eq!(store.data().output, payload);
    }
}

component::bindgen!({ path: "../plugins/invoker-wasm/wit", world: "function" });

/// The world's host, and the limits.
struct Host(StoreLimits);

impl tempos::function::types::Host for Host {}

impl tempos::function::host::Host for Host {
    fn attribute(&mut self, _key: String) -> Option<tempos::function::types::Value> {
        None
    }

    fn attributes(&mut self) -> Vec<(String, tempos::function::types::Value)> {
        Vec::new()
    }

    fn log(&mut self, _severity: tempos::function::host::Severity, _line: String) {}
}

/// A component.
pub struct HandComponent {
    engine: Engine,
    ready: FunctionPre<Host>,
}

impl HandComponent {
    /// Compiles and links it.
    pub fn new(wat: &str) -> Self {
        let engine = engine();
        let binary = wat::parse_str(wat).expect("it is WebAssembly");
        let component = Component::new(&engine, binary).expect("it is valid");
        let mut linker = component::Linker::new(&engine);
        Function::add_to_linker::<_, HasSelf<_>>(&mut linker, |host: &mut Host| host).expect("defined");
        let ready = linker.instantiate_pre(&component).and_then(FunctionPre::new).expect("it fits");
        HandComponent { engine, ready }
    }
}

impl ByHand for HandComponent {
    fn event(&self, payload: &[u8]) {
        let mut store =
            Store::new(&self.engine, Host(StoreLimitsBuilder::new().memory_size(16 << 20).build()));
        store.limiter(|host| &mut host.0);
        store.set_epoch_deadline(10);
        let function = self.ready.instantiate(&mut store).expect("it starts");
        let event = Event {
            id: 1,
            topic: String::from("bench"),
            level: 0,
            source_time_ns: 0,
            arrival_ns: 0,
            deadline_ns: 0,
            payload: payload.to_vec(),
        };
        let answer = function.call_handle(&mut store, &event).expect("no trap");
        assert_eq!(answer.ok().flatten().as_deref(), Some(payload));
    }
}
