//! The invocation method `dlf`: a function is a shared library, called on the lane's own thread.
//!
//! It knows dlopen(3), ELF files and `abi/include/tempos_function.h`; it refuses to know topics and
//! workflows. It is the fastest method and the one without a wall: a function that crashes takes the node
//! with it, unless it is given a process of its own (`isolation`). `prepare` is called by the controller, `invoke` by a lane's workers.

mod call;
mod config;
mod inspect;
mod isolation;
mod library;
mod method;
mod nothing;
mod resident;
mod stage;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "dlf",
    summary: "Functions as shared libraries, called in the node.",
    options: config::OPTIONS,
    invocation_method: method::Dlf::new,
}
