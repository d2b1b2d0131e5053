//! `isolation = "process"`: the same library in a process of its own, so that code which crashes, loops or
//! hungers for memory costs one event and a restart, not the node.
//!
//! Each concurrent invocation has a slot, and each slot a process (`process.rs`), which is the plugin's own
//! file run as a program (`entry.rs`, `child.rs`). An event and its output go through memory that both have
//! mapped (`memory.rs`); who has work to do is told with a futex. A thread for each function, the keeper
//! (`keeper.rs`), starts and reaps the processes; a lane's worker (`exchange.rs`) never does.

mod child;
mod entry;
mod exchange;
mod follow;
mod keeper;
mod memory;
mod output;
mod process;
mod slot;
mod wait;

pub use exchange::Isolated;
pub use wait::now_ns;
