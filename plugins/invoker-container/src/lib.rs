//! The invocation method `container`: a function is a program inside a container that is already started.
//!
//! It knows the HTTP interface of container engines on their Unix socket, namespaces(7), and how a process becomes one
//! of a container; it refuses to know topics and workflows, and neither makes nor starts containers. The container is
//! looked up when the function is made ready, and again after it has stopped, by a thread of the function's own; on
//! the event's road nobody speaks to the engine. How processes are started, followed and ended is
//! `tempos-process`'s business, as for the method `spawn`.

mod config;
mod container;
mod engine;
mod exec;
mod files;
mod groups;
mod inside;
mod limits;
mod method;
mod seat;
mod stream;
mod user;

tempos_abi::export_plugin! {
    name: "container",
    summary: "Functions inside containers that are already started: resident, or started for each event.",
    options: config::OPTIONS,
    invocation_method: method::InContainer::new,
}
