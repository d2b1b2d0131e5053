//! The node: lanes, plugins, wiring.
//!
//! Three slices in the order in which an event crosses them: `bridging` (an outside signal becomes an
//! event), `delivery` (ingress → queue → egress), `processing` (event → function → outcome). `lane` is the
//! thread that carries it through; `plugin` the life of what it calls; `system` what the operating system
//! is asked for; `wiring`, `plan` and `controller` who is joined to whom.
//!
//! What this room refuses to know: scripts, buses, files of configuration, async. It is handed commands
//! and answers with plain data.

mod attendance;
pub mod bridging;
pub mod calibration;
mod controller;
pub mod delivery;
pub mod engine;
mod grants;
mod heirs;
mod herald;
pub mod lane;
mod model;
mod monitor;
mod opening;
mod plan;
pub mod plugin;
pub mod processing;
mod restart;
mod service;
mod showing;
#[cfg(test)]
mod simulation;
pub mod stats;
pub mod system;
mod transaction;
mod wiring;

pub use engine::{Engine, EngineConfig};
pub use grants::costs::Costs;
pub use plugin::LogFn;
