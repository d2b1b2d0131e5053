//! The adapter `tsn`: events as Ethernet frames of an EtherType of their own, or as UDP datagrams, with the priority
//! and the launch time that a schedule of gates (IEEE 802.1Qbv) gives them.
//!
//! It knows packet(7), udp(7) and socket(7); it refuses to know what is in a frame, how gates are computed
//! (`tempos-tsn` does) and how they and the clock are kept (`tempos-gates` does). `open` is called by the controller,
//! the channel by its lane's queue worker.

mod channel;
mod config;
mod gates;
mod late;
mod launch;
mod link;
mod pause;
mod ptp;
mod socket;
#[cfg(test)]
mod tests;

tempos_abi::export_plugin! {
    name: "tsn",
    summary: "Events as Ethernet frames or UDP datagrams, in the windows of a schedule (IEEE 802.1Qbv).",
    options: config::OPTIONS,
    adapter: channel::Tsn::new,
}
