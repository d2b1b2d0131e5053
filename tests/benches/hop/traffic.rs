//! A steady flow through one system: a sender that keeps to absolute times, and a receiver.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{Layout, RECEIVER_PRIORITY, SENDER_PRIORITY, now_ns, sleep_until};

/// Bytes of an event.
pub const EVENT_BYTES: usize = 256;
/// How long the receiver waits for stragglers after the last event was sent.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// Where events come out.
pub enum Sink {
    /// A UDP socket.
    Udp(UdpSocket),
    /// A unix datagram socket.
    Unix(UnixDatagram),
}

impl Sink {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Sink::Udp(socket) => socket.recv(buffer),
            Sink::Unix(socket) => socket.recv(buffer),
        }
    }

    fn limit(&self, limit: Duration) -> io::Result<()> {
        match self {
            Sink::Udp(socket) => socket.set_read_timeout(Some(limit)),
            Sink::Unix(socket) => socket.set_read_timeout(Some(limit)),
        }
    }
}

/// What one round brought.
#[derive(Debug, Default)]
pub struct Round {
    /// Latency from the instant that the event was due, in nanoseconds.
    pub from_due: Vec<u64>,
    /// Latency from the call that sent it.
    pub from_send: Vec<u64>,
    /// Events that did not come.
    pub lost: u64,
    /// Events that came after a later one, or twice.
    pub out_of_order: u64,
}

/// Sends `events` events at `rate` a second to `target` and receives them at `sink`. `number` tells the
/// rounds apart: what comes from an earlier one is passed over.
pub fn flow(target: SocketAddr, sink: &Sink, number: u32, events: u32, rate: u32, layout: &Layout) -> Round {
    sink.limit(STRAGGLERS).expect("a limit can be set");
    let sent_all = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            layout.settle_client(RECEIVER_PRIORITY);
            receive(sink, number, events, &sent_all)
        });
        let sender = scope.spawn(|| {
            layout.settle_client(SENDER_PRIORITY);
            send(target, number, events, rate);
            sent_all.store(true, Ordering::Release);
        });
        sender.join().expect("the sender ends");
        receiver.join().expect("the receiver ends")
    })
}

fn send(target: SocketAddr, number: u32, events: u32, rate: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut event = [0x5a; EVENT_BYTES];
    event[..4].copy_from_slice(&number.to_le_bytes());
    // The receiver is waiting by then.
    let begin = now_ns() + 20_000_000;
    for sequence in 0..events {
        let due = begin + u64::from(sequence) * 1_000_000_000 / u64::from(rate);
        event[4..8].copy_from_slice(&sequence.to_le_bytes());
        event[8..16].copy_from_slice(&due.to_le_bytes());
        sleep_until(due);
        event[16..24].copy_from_slice(&now_ns().to_le_bytes());
        // An event that could not be sent is one that does not come.
        let _ = socket.send_to(&event, target);
    }
}

fn receive(sink: &Sink, number: u32, events: u32, sent_all: &AtomicBool) -> Round {
    let mut round = Round {
        from_due: Vec::with_capacity(events as usize),
        from_send: Vec::with_capacity(events as usize),
        ..Round::default()
    };
    let mut buffer = [0; 2048];
    let mut next = 0;
    let mut came = 0;
    while came < events {
        let received = sink.receive(&mut buffer);
        let now = now_ns();
        match received {
            Ok(EVENT_BYTES) => {
                let u32_at = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().expect("4 bytes"));
                let u64_at = |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().expect("8 bytes"));
                if u32_at(0) != number {
                    continue;
                }
                came += 1;
                round.out_of_order += u64::from(u32_at(4) < next);
                next = u32_at(4) + 1;
                round.from_due.push(now.saturating_sub(u64_at(8)));
                round.from_send.push(now.saturating_sub(u64_at(16)));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if sent_all.load(Ordering::Acquire) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    round.lost = u64::from(events - came);
    round
}
