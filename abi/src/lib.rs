//! The words that a TEMPOS plugin and its host share: the floor of the house.
//!
//! A plugin is a `.so` that exports one root module ([`module::PluginModule`]) with a descriptor and
//! one factory: for an *adapter* ([`adapter`]), a *queue policy* ([`queue`]) or an *invocation method*
//! ([`invoker`]). Authors implement the plain Rust traits of those modules and call one export macro;
//! the macro guards every entry, so that a panic becomes an error that names the plugin.
//!
//! What this room refuses to know: async, threads, files, the engine. On an event's road only slices
//! and integers cross the border, on an order's road strings too; nothing that crosses it may block.
//!
//! **How it evolves.** Within 1.x a plugin that was built against an older minor version keeps loading:
//! methods are only appended to the raw traits and fields only to the prefix types, after the last one;
//! plain structs never change (each has reserved fields). What is new is then absent in an old plugin:
//! an appended method answers with its default, an appended field with `None`.

// The macros of abi_stable 0.11 expand to impl blocks inside functions and to names with an
// underscore. They expand in this crate alone, so the two lints are silenced here alone.
#![allow(non_local_definitions, non_camel_case_types)]

pub mod adapter;
pub mod attributes;
pub mod counters;
pub mod descriptor;
pub mod envelope;
pub mod error;
pub mod event;
pub mod export;
pub mod guard;
pub mod host;
pub mod invoker;
pub mod level;
pub mod loader;
pub mod module;
pub mod options;
pub mod queue;
pub mod queue_ledger;

/// The standard types that cross the border: strings, vectors, shared blocks.
pub use abi_stable::std_types;
pub use descriptor::{Descriptor, OptionKind, OptionSpec, PluginKind};
pub use error::PluginError;
pub use level::{LaneQos, QosGrant, QosLevel};
pub use options::{OptionValue, Options};

/// The minor version of this interface: a plugin may be older, and newer only where the host says so.
pub const ABI_MINOR: u32 = 1;

/// What the macros and the host need of abi_stable; not part of the contract.
#[doc(hidden)]
pub mod private {
    pub use abi_stable;
    pub use abi_stable::library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult};
}
