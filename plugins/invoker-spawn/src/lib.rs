//! The invocation method `spawn`: a function is a program, started for each event or resident.
//!
//! It knows posix_spawn(3), process groups, pidfds, limits, and a small framed protocol for resident workers
//! (`README.md`); it refuses to know topics and workflows. A function that crashes, loops or floods costs its
//! event and nothing else. `prepare` is called by the controller, `invoke` by a lane's workers. The daemon never
//! forks: a thread of the function's own, scheduled as its level, starts its processes.

mod config;
mod inspect;
mod limits;
mod method;
mod orders;
mod runtime;
#[cfg(test)]
mod tests;
mod user;

tempos_abi::export_plugin! {
    name: "spawn",
    summary: "Functions as processes: started for each event, or resident.",
    options: config::OPTIONS,
    invocation_method: method::Spawn::new,
}
