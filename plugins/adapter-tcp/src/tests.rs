//! Real connections: frames, cuts, floods, slow senders and slow readers, senders that speak something else.

mod acknowledge;
mod egress;
mod half_open;
mod ingress;
mod segments;
mod speed;
mod succession;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::Socket;
use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, Direction};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::{RArc, RSlice};
use tempos_abi::{LaneQos, OptionValue, Options, QosLevel};

use crate::channel::{Tcp, TcpChannel};
use crate::handover;

/// How long what must happen may take; only what never happens costs this long.
const PATIENCE: Duration = Duration::from_secs(20);
const MS: i64 = 1_000_000;

fn spec(direction: Direction, key: &str, address: &str, numbers: &[(&str, i64)]) -> ChannelSpec {
    let mut options = Options::new();
    options.set(key, OptionValue::Text(address.into()));
    numbers.iter().for_each(|(key, number)| options.set(key, OptionValue::Integer(*number)));
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 2048,
        batch_max: 16,
        options,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn ingress(numbers: &[(&str, i64)]) -> ChannelSpec {
    spec(Direction::INGRESS, "bind", "127.0.0.1:0", numbers)
}

fn egress(to: SocketAddr, numbers: &[(&str, i64)]) -> ChannelSpec {
    spec(Direction::EGRESS, "to", &to.to_string(), numbers)
}

fn open(spec: &ChannelSpec) -> TcpChannel {
    Tcp.open(spec).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(spec: &ChannelSpec) -> String {
    Tcp.open(spec).map(|_| ()).expect_err("it opened").message.into_string()
}

fn address(channel: &TcpChannel) -> SocketAddr {
    channel.address().strip_prefix("tcp://").and_then(|text| text.parse().ok()).expect("an address")
}

fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// A frame, its attributes and its flags.
type Received = (Vec<u8>, Vec<u8>, u32);

/// One call with that many slots; `None` where nothing waits.
fn receive(channel: &mut TcpChannel, slots: usize) -> Option<Vec<Received>> {
    let mut buffers = vec![([0u8; 2048], [0u8; 96]); slots];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    match channel.recv_batch(&mut slots) {
        Ok(n) => {
            let parts = |s: &RxSlot<'_>| (s.frame().to_vec(), s.attributes().to_vec(), s.flags);
            Some(slots[..n].iter().map(parts).collect())
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            None
        }
    }
}

/// Waits for the descriptor as a host does, and receives, until `enough` says so.
fn until(channel: &mut TcpChannel, slots: usize, enough: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let (mut got, end) = (Vec::new(), Instant::now() + PATIENCE);
    while !enough(&got) {
        assert!(Instant::now() < end, "{} frames came, and no more", got.len());
        if is_ready(channel, libc::POLLIN, 1000) {
            got.extend(receive(channel, slots).unwrap_or_default().into_iter().map(|(frame, _, _)| frame));
        }
    }
    got
}

fn is_ready(channel: &TcpChannel, events: i16, wait_ms: i32) -> bool {
    let mut asked = libc::pollfd { fd: channel.readiness(), events, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, wait_ms) == 1 }
}

fn send(channel: &mut TcpChannel, payloads: &[&[u8]]) -> std::io::Result<usize> {
    let frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(p, QosLevel::STRICT)).collect();
    channel.send_batch(&frames)
}

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let out = |to: &str, numbers| refused(&spec(Direction::EGRESS, "to", to, numbers));
    assert_eq!(
        refused(&ingress(&[("connections", 0)])),
        "tcp channel \"x\": connections = 0 is not within 1 to 4096"
    );
    assert_eq!(
        refused(&ingress(&[("frame_timeout", 1)])),
        "tcp channel \"x\": frame_timeout = 1 ns is not within 10ms to 1h"
    );
    assert_eq!(
        refused(&ingress(&[("send_buffer", 4096)])),
        "tcp channel \"x\": send_buffer is for egress channels only; leave it out"
    );
    assert_eq!(
        out("127.0.0.1:0", &[]),
        "tcp channel \"x\": nothing listens at port 0 (to = \"127.0.0.1:0\"); write 1 to 65535"
    );
    assert_eq!(
        out("localhost", &[]),
        "tcp channel \"x\": to = \"localhost\" is not an address and a port; write for example \
         \"127.0.0.1:5501\" or \"[::1]:5501\""
    );
    assert_eq!(
        out("127.0.0.1:1", &[("segment", 1023)]),
        "tcp channel \"x\": segment = 1023 bytes is not within 1KiB to 1MiB, and not 0"
    );
    assert_eq!(
        out("127.0.0.1:1", &[("window", 1025)]),
        "tcp channel \"x\": window = 1025 is not within 1 to 1024"
    );
    assert_eq!(
        out("127.0.0.1:1", &[("acknowledge_timeout", 1)]),
        "tcp channel \"x\": acknowledge_timeout = 1 ns is not within 10ms to 1h"
    );
    assert_eq!(
        out("127.0.0.1:1", &[("unsent", 1)]),
        "tcp channel \"x\": unsent = 1 is not within 1KiB to 1GiB"
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("listens");
    let bind = taken.local_addr().expect("an address").to_string();
    let sentence = refused(&spec(Direction::INGRESS, "bind", &bind, &[]));
    assert!(sentence.starts_with(&format!("tcp channel \"x\": cannot listen on {bind}: ")), "{sentence}");
}

/// Lets the channel work, as a host would, until something is counted.
fn until_counted(channel: &mut TcpChannel, counted: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !counted() {
        assert!(Instant::now() < end, "it was never counted");
        if is_ready(channel, libc::POLLIN, 100) {
            receive(channel, 4);
        }
    }
}

fn spec_at(address: SocketAddr) -> ChannelSpec {
    spec(Direction::INGRESS, "bind", &address.to_string(), &[])
}
