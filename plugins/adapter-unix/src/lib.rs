//! The adapter `unix`: events over unix sockets of this machine, one frame each, datagram or seqpacket,
//! with the sender's process, user and group as attributes.
//!
//! With the option `acknowledge` the receiver of a seqpacket connection sends back one byte for each frame, in
//! their order: 6 (ACK), it is taken, or 21 (NAK), it is refused; one packet may hold several.
//!
//! It knows unix(7); it refuses to know what is in a frame and who may send which event: that is the
//! wiring's business. `open` is called by the controller, the channel by its lane's queue worker.

mod acknowledged;
mod channel;
mod config;
mod datagram;
mod egress;
mod seqpacket;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "unix",
    summary: "Events over unix sockets of this machine, with the sender's credentials.",
    options: config::OPTIONS,
    adapter: channel::Unix::new,
}
