//! Producers and consumers: what every system gives its clients, and the threads that use it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::event::{EVENT_BYTES, Stamp};
use crate::machine::{self, Layout, RECEIVER_PRIORITY, SENDER_PRIORITY, now_ns, sleep_until};

/// The flow of an event through a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// 1000 events a second that must be in time.
    Strict,
    /// What takes what is left.
    Bulk,
    /// As many as go through, none lost.
    Rate,
}

impl Flow {
    /// The name of its topic.
    pub fn topic(self) -> &'static str {
        match self {
            Flow::Strict => "strict",
            Flow::Bulk => "bulk",
            Flow::Rate => "rate",
        }
    }
}

/// Sends events of a flow.
pub trait Producer: Send {
    /// Sends one event now. A full system blocks, or refuses with `WouldBlock`.
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()>;

    /// Sends events in whatever batches the system has; how many went.
    fn send_many(&mut self, events: &[[u8; EVENT_BYTES]]) -> io::Result<usize> {
        for event in events {
            self.send(event)?;
        }
        Ok(events.len())
    }
}

/// Receives events of one flow or several.
pub trait Consumer: Send {
    /// Waits for events, `limit_ms` at the most, and hands each of them over; how many there were.
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize>;
}

/// What came of a strict flow.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Latency from the instant that the event was due.
    pub from_due: Vec<u64>,
    /// Latency from the call that sent it.
    pub from_send: Vec<u64>,
    /// Events that came after a later one, or twice.
    pub out_of_order: u64,
    next: u64,
}

impl Arrivals {
    fn note(&mut self, stamp: Stamp, now: u64) {
        self.from_due.push(now.saturating_sub(stamp.due_ns));
        self.from_send.push(now.saturating_sub(stamp.sent_ns));
        self.out_of_order += u64::from(stamp.sequence < self.next);
        self.next = self.next.max(stamp.sequence + 1);
    }
}

/// Sends a flow at a rate, keeping to absolute times. `stop` ends it early.
pub fn pace(
    producer: &mut dyn Producer,
    round: u32,
    flow: u32,
    events: u64,
    rate: u64,
    stop: &AtomicBool,
) -> u64 {
    let mut event = [0x5a; EVENT_BYTES];
    // The consumers are waiting by then.
    let begin = now_ns() + 50_000_000;
    for sequence in 0..events {
        let due_ns = begin + sequence * 1_000_000_000 / rate;
        sleep_until(due_ns);
        if stop.load(Ordering::Relaxed) {
            return sequence;
        }
        Stamp { round, flow, sequence, due_ns, sent_ns: now_ns() }.write(&mut event);
        // An event that could not be sent is one that does not come.
        let _ = producer.send(&event);
    }
    events
}

/// Sends a best-effort flow as fast as it goes, until it is stopped; how many events.
pub fn flood(producer: &mut dyn Producer, round: u32, stop: &AtomicBool) -> u64 {
    let mut event = [0x5a; EVENT_BYTES];
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        Stamp { round, flow: 1, sequence, due_ns: 0, sent_ns: 0 }.write(&mut event);
        match producer.send(&event) {
            Ok(()) => sequence += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    sequence
}

/// How long is waited for stragglers of a strict flow.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// Receives until all strict events are here, or for a while after the last was sent. Best-effort ones are
/// counted.
pub fn consume(
    consumer: &mut dyn Consumer,
    round: u32,
    events: u64,
    sent_all: &AtomicBool,
    bulk: &AtomicU64,
) -> Arrivals {
    let mut arrivals = Arrivals {
        from_due: Vec::with_capacity(events as usize),
        from_send: Vec::with_capacity(events as usize),
        ..Arrivals::default()
    };
    let mut ended = None;
    while (arrivals.from_due.len() as u64) < events {
        let _ = consumer.receive(20, &mut |event| {
            let now = now_ns();
            match Stamp::read(event).filter(|stamp| stamp.round == round) {
                Some(stamp) if stamp.flow == 0 => arrivals.note(stamp, now),
                Some(_) => {
                    bulk.fetch_add(1, Ordering::Relaxed);
                }
                None => {}
            }
        });
        if sent_all.load(Ordering::Acquire) {
            let since = *ended.get_or_insert_with(now_ns);
            if now_ns() - since > STRAGGLERS.as_nanos() as u64 {
                break;
            }
        }
    }
    arrivals
}

/// Receives and counts events of a round until it is stopped.
pub fn count(consumer: &mut dyn Consumer, round: u32, stop: &AtomicBool, came: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let mut some = 0;
        let _ = consumer.receive(20, &mut |event| {
            some += u64::from(Stamp::read(event).is_some_and(|stamp| stamp.round == round));
        });
        came.fetch_add(some, Ordering::Relaxed);
    }
}

/// Prepares the calling thread as the strict flow's sender.
pub fn as_sender(layout: &Layout) {
    layout.settle_client(SENDER_PRIORITY);
}

/// Prepares the calling thread as the strict flow's receiver.
pub fn as_receiver(layout: &Layout) {
    layout.settle_client(RECEIVER_PRIORITY);
}

/// Prepares the calling thread as a client of best-effort flows.
pub fn as_bulk(layout: &Layout) {
    let _ = machine::pin(layout.client_cpu);
}
