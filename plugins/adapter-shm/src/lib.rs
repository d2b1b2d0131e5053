//! The adapter `shm`: events through shared memory, for producers and consumers on the same machine.
//!
//! A channel listens at a unix socket; each connection gets sealed memory with a ring of its own (crate
//! `tempos-shm`). What the other side writes there is copied, checked and never believed. It refuses to know
//! what is in a frame. `open` is called by the controller, the channel by its lane's queue worker.
//!
//! It is not built on iceoryx2 0.10: after kill -9 of both ends that left six files in /dev/shm and fourteen in
//! /tmp until somebody cleans up, it locks and takes what peers write into shared tables at their word, and its
//! notifications are datagrams beside the data.

mod channel;
mod config;
mod egress;
mod ingress;
mod listener;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "shm",
    summary: "Events through shared memory, to and from programs of this machine.",
    options: config::OPTIONS,
    adapter: channel::Shm::new,
}
