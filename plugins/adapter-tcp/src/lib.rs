//! The adapter `tcp`: events as frames of TCP connections.
//!
//! A frame is its length in bytes, as 32 bits in network byte order, and then that many bytes; an empty frame
//! is a length of 0. Nothing else crosses a connection, and nothing flows back. Ingress listens and takes in
//! many connections; egress keeps one, and looks for its receiver again where it went. It refuses to know
//! what events mean, and topics; it speaks no TLS. Called by one lane's queue worker.

mod arena;
mod channel;
mod config;
mod egress;
mod frames;
mod handover;
mod ingress;
mod poller;
mod sockets;

tempos_abi::export_plugin! {
    name: "tcp",
    summary: "Events as frames of TCP connections.",
    options: config::OPTIONS,
    adapter: channel::Tcp::new,
}

#[cfg(test)]
mod tests;
