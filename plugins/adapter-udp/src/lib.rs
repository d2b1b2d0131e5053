//! The adapter `udp`: each event is one datagram.
//!
//! It knows sockets (udp(7), ip(7), ipv6(7)); it refuses to know what is in a datagram and which topic it
//! belongs to. `open` is called by the controller, the channel by its lane's queue worker.

mod channel;
mod config;
mod socket;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "udp",
    summary: "Events as UDP datagrams over IPv4 and IPv6, unicast and multicast.",
    options: config::OPTIONS,
    adapter: channel::Udp::new,
}
