//! The invocation method `wasm`: a function is a WebAssembly module or component, run in the node and within
//! walls of its own.
//!
//! It knows wasmtime, which lives in this package alone, and the contract of its README; it refuses to know
//! topics and workflows. A guest that crashes, loops or wants too much memory costs one event. `prepare` is
//! called by the controller and compiles; `invoke` is called by a lane's workers, where an instance is started
//! and dropped in microseconds.
//!
//! Three threads of its own: the watchdog stops guests at their deadlines, the keeper does what is not urgent,
//! the executor (only if some function imports WASI) keeps the time for guests that wait.

// Without the compiler nothing is stored.
#[cfg_attr(not(feature = "compiler"), allow(dead_code))]
mod cache;
mod clock;
mod compile;
mod component;
mod config;
mod deadlines;
mod engine;
mod fault;
mod file;
mod guest;
mod imports;
mod journal;
mod keeper;
mod method;
mod module;
mod program;
mod runner;
mod sandbox;
mod shelf;
mod snapshot;
#[cfg(test)]
mod tests;
mod watchdog;

tempos_abi::export_plugin! {
    name: "wasm",
    summary: "Functions as WebAssembly modules and components, within walls of their own.",
    options: config::OPTIONS,
    invocation_method: method::Wasm::new,
}
