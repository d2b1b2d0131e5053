//! The adapter `unix`: events over unix sockets of this machine, one frame each, datagram or seqpacket,
//! with the sender's process, user and group as attributes.
//!
//! It knows unix(7); it refuses to know what is in a frame and who may send which event: that is the
//! wiring's business. `open` is called by the controller, the channel by its lane's queue worker.

mod channel;
mod config;
mod datagram;
mod egress;
mod handover;
mod place;
mod seqpacket;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "unix",
    summary: "Events over unix sockets of this machine, with the sender's credentials.",
    options: config::OPTIONS,
    adapter: channel::Unix::new,
}
