//! The adapter `tcp`: events as frames of TCP connections.
//!
//! A frame is its length word, 32 bits in network byte order, and then its bytes; an empty frame is a length of
//! 0. The bits of the word:
//!
//! | bits     | whole frame             | segment                                          |
//! |----------|-------------------------|--------------------------------------------------|
//! | 31       | 0                       | 1                                                |
//! | 30       | 0                       | 1: more of the frame follows; 0: this is its end |
//! | 29, 28   | 0                       | the stream, 0 to 3                               |
//! | 27 to 25 | 0                       | 0                                                |
//! | 24 to 0  | bytes, at most 16777216 | bytes, at most 1048576                           |
//!
//! Frames that are not larger than a segment (option `segment`) always go whole, so a receiver that knows no
//! segments reads them. The segments of one stream, in their order, make one frame; those of several streams,
//! and whole frames, may stand between them. Frames that go whole keep their order, and so do those in segments,
//! but one that goes whole may overtake one in segments; with `segment = 0` all keep their order.
//!
//! Nothing flows back but, with the option `acknowledge`, one byte for each frame in the order in which the
//! frames ended: 6 (ACK), it is taken, or 21 (NAK), it is refused.
//!
//! Ingress listens and takes in many connections; egress keeps one, and looks for its receiver again where it
//! went. With `tls = true` both speak TLS on a thread of their own. It refuses to know what events mean, and
//! topics. Called by one lane's queue worker.

mod arena;
mod channel;
mod config;
mod connection;
mod egress;
mod ferries;
mod ferry;
mod frames;
mod handover;
mod ingress;
mod large;
mod link;
mod listener;
mod sockets;
mod streams;
mod tls;
mod unsent;

tempos_abi::export_plugin! {
    name: "tcp",
    summary: "Events as frames of TCP connections.",
    options: config::OPTIONS,
    adapter: channel::Tcp::new,
}

#[cfg(test)]
mod tests;
