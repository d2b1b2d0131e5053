//! The adapter `mqueue`: events as messages of POSIX message queues (mq_overview(7)).
//!
//! It is small, useful, and made to be copied. `config.rs` holds the options, `queue.rs` the system calls,
//! `channel.rs` the two traits that make it an adapter. This file makes the `.so` a plugin.

mod channel;
mod config;
mod queue;

tempos_abi::export_plugin! {
    name: "mqueue",
    summary: "Events as messages of POSIX message queues.",
    options: config::OPTIONS,
    adapter: channel::Mqueue::new,
}
