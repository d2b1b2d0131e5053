//! What is counted on an event's road, and read from anywhere: single-writer tallies and histograms.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use histogram::{AtomicHistogram, Histogram, Quantile};

/// A count that one thread writes at a time (a lane's owner) and any may read: no locked instruction.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds to it; only from the thread that owns it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes from it; only from the thread that owns it.
    pub fn subtract(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Values of up to 68 s are told apart to 3 %.
const GROUPING_POWER: u8 = 5;
const MAX_VALUE_POWER: u8 = 36;

/// A histogram of durations in nanoseconds: 8 KiB, faulted in when it is made.
#[derive(Debug)]
pub struct Latency(Option<AtomicHistogram>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = AtomicHistogram::new(GROUPING_POWER, MAX_VALUE_POWER).ok();
        if let Some(histogram) = &histogram {
            // Draining writes every bucket, so that no page of it is left to fault in later.
            let _ = histogram.drain();
        }
        Latency(histogram)
    }
}

impl Latency {
    /// Records one duration; longer ones than 68 s count as 68 s.
    pub fn record(&self, ns: u64) {
        if let Some(histogram) = &self.0 {
            let _ = histogram.increment(ns.min((1 << MAX_VALUE_POWER) - 1));
        }
    }

    /// What was recorded so far.
    pub fn load(&self) -> Option<Histogram> {
        self.0.as_ref().map(AtomicHistogram::load)
    }
}

/// p50, p99, p99.9 and max over several histograms; `None` where nothing was recorded.
pub fn percentiles<'a>(parts: impl Iterator<Item = &'a Latency>) -> Option<[u64; 4]> {
    let mut sum: Option<Histogram> = None;
    for part in parts.filter_map(Latency::load) {
        sum = Some(match sum {
            Some(sum) => sum.wrapping_add(&part).ok()?,
            None => part,
        });
    }
    let result = sum?.quantiles(&[0.5, 0.99, 0.999, 1.0]).ok()??;
    let at = |q: f64| Quantile::new(q).ok().and_then(|q| result.get(&q)).map_or(0, histogram::Bucket::end);
    Some([at(0.5), at(0.99), at(0.999), result.max().end()])
}

/// Why an event was dropped. Every drop has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The queue was full and does not evict.
    QueueFull,
    /// A full queue made room for a newer event.
    Evicted,
    /// No buffer of its size was free.
    NoBuffer,
    /// It was older than its time to live, or the policy gave it up as late.
    Expired,
    /// It is larger than the level allows.
    TooLarge,
    /// Its header is not well formed.
    Malformed,
    /// Its header names another topic than its endpoint's.
    WrongTopic,
    /// The topic has no receiver.
    NoSubscriber,
    /// A receiver could not keep up, and others were not to wait for it.
    SlowConsumer,
    /// The channel or function that held it failed.
    ReceiverFailed,
    /// The channel could not send it.
    SendError,
    /// Its topic or receiver was removed before it could go.
    Removed,
    /// The node stopped before it could go.
    Stopped,
    /// Its source was over its rate.
    OverRate,
    /// Its id was seen before from the same producer.
    Duplicate,
    /// It is not newer than the last one from the same producer.
    OutOfOrder,
    /// The lane of the level that a rule gave it has no room for what comes from others.
    LaneFull,
}

/// How many reasons there are.
pub const REASONS: usize = 17;

impl Reason {
    /// All of them.
    pub const ALL: [Reason; REASONS] = [
        Reason::QueueFull,
        Reason::Evicted,
        Reason::NoBuffer,
        Reason::Expired,
        Reason::TooLarge,
        Reason::Malformed,
        Reason::WrongTopic,
        Reason::NoSubscriber,
        Reason::SlowConsumer,
        Reason::ReceiverFailed,
        Reason::SendError,
        Reason::Removed,
        Reason::Stopped,
        Reason::OverRate,
        Reason::Duplicate,
        Reason::OutOfOrder,
        Reason::LaneFull,
    ];

    /// The word for it, as counters and signals use it.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue-full",
            Reason::Evicted => "evicted",
            Reason::NoBuffer => "no-buffer",
            Reason::Expired => "expired",
            Reason::TooLarge => "too-large",
            Reason::Malformed => "malformed",
            Reason::WrongTopic => "wrong-topic",
            Reason::NoSubscriber => "no-subscriber",
            Reason::SlowConsumer => "slow-consumer",
            Reason::ReceiverFailed => "receiver-failed",
            Reason::SendError => "send-error",
            Reason::Removed => "removed",
            Reason::Stopped => "stopped",
            Reason::OverRate => "over-rate",
            Reason::Duplicate => "duplicate",
            Reason::OutOfOrder => "out-of-order",
            Reason::LaneFull => "lane-full",
        }
    }
}

/// Drops by reason.
#[derive(Debug, Default)]
pub struct Drops([Tally; REASONS]);

impl Drops {
    /// Counts one.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].add(1);
    }

    /// Counts several.
    pub fn count_many(&self, reason: Reason, n: u64) {
        self.0[reason as usize].add(n);
    }

    /// Reads one.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].get()
    }

    /// All that is not zero, added to `sum`.
    pub fn add_to(&self, sum: &mut BTreeMap<String, u64>) {
        for reason in Reason::ALL {
            let count = self.get(reason);
            if count > 0 {
                *sum.entry(reason.word().to_owned()).or_default() += count;
            }
        }
    }
}

/// What is counted for one topic on one lane.
///
/// `events_in = events_out + dropped + live`, at every instant at which the lane is at rest. What crosses to
/// the lane of another level is counted in there, once it is.
#[derive(Debug, Default)]
pub struct TopicStats {
    /// Events that reached the trigger, or came out of a workflow or a call.
    pub events_in: Tally,
    /// Events that every receiver is done with, and at least one took.
    pub events_out: Tally,
    /// Events that nobody took.
    pub dropped: Drops,
    /// Copies that one group lost while another took the event.
    pub copies_lost: Drops,
    /// Events that were done with after their deadline.
    pub late: Tally,
    /// Events that the lane holds now, queued or in flight.
    pub live: Tally,
    /// Events sent to this topic on other lanes, by rules.
    pub crossed_out: Tally,
    /// Events that came to this topic from other lanes.
    pub crossed_in: Tally,
    /// Events that one member did not take and another one was given.
    pub rerouted: Tally,
    /// Histograms, made by the controller once the topic has seen an event: an idle topic has none.
    pub latency: OnceLock<Box<TopicLatency>>,
}

/// The hops of one topic.
#[derive(Debug, Default)]
pub struct TopicLatency {
    /// Arrival to the queue worker's taking it.
    pub queue: Latency,
    /// From there to its being sent.
    pub egress: Latency,
    /// First arrival in this node to its being done with.
    pub total: Latency,
}

/// What is counted for one lane.
#[derive(Debug, Default)]
pub struct LaneStats {
    /// Source time to arrival, where the source says it.
    pub arrival: Latency,
    /// Arrival to the queue worker's taking it.
    pub queue: Latency,
    /// A function's run, with the way to its worker and back.
    pub function: Latency,
    /// The queue worker's taking it to its being sent.
    pub egress: Latency,
    /// First arrival in this node to its being done with.
    pub total: Latency,
    /// Events queued now.
    pub queued: Tally,
    /// Bytes of events held now.
    pub bytes: Tally,
    /// Events from other lanes for a topic that is gone.
    pub strays: Tally,
    /// Turns of the queue worker's loop: for benches.
    pub turns: Tally,
}

/// A `failed` mark: it panicked, or broke its contract; its code is not running.
pub const PANICKED: u64 = 1;
/// A `failed` mark: a thread did not come back from it, and may still be in it.
pub const LOST: u64 = 2;

/// What is counted for one channel on one lane. What only the adapter knows is in its own block.
#[derive(Debug, Default)]
pub struct ChannelStats {
    /// Frames received.
    pub frames_received: Tally,
    /// Frames sent.
    pub frames_sent: Tally,
    /// Payload bytes received.
    pub bytes_received: Tally,
    /// Payload bytes sent.
    pub bytes_sent: Tally,
    /// Errors of the channel, of receiving and sending.
    pub errors: Tally,
    /// Events waiting for it now.
    pub pending: Tally,
    /// Events that it took and whose receipts are still to come.
    pub unsettled: Tally,
    /// 1 while it is out of its group.
    pub out: Tally,
    /// Events whose senders asked for a higher level than this endpoint allows.
    pub capped: Tally,
    /// Set by the lane when the channel has panicked or did not come back.
    pub failed: Tally,
}

/// How many outcomes of functions are told apart.
pub const OUTCOMES: usize = 10;

/// What is counted for one workflow on one lane.
#[derive(Debug, Default)]
pub struct WorkflowStats {
    /// Events handed to the function.
    pub events_in: Tally,
    /// Events that the function is done with, well or not.
    pub events_done: Tally,
    /// Outcomes other than done, by `-code`, with `failed` at 9.
    pub failures: [Tally; OUTCOMES],
    /// Attempts after the first.
    pub retries: Tally,
    /// Invocations under way now.
    pub busy: Tally,
    /// Hand-over to completion.
    pub latency: Latency,
    /// Set by the lane when the function has panicked or did not come back.
    pub failed: Tally,
}

impl WorkflowStats {
    /// Counts an outcome.
    pub fn count(&self, outcome: tempos_abi::invoker::Outcome) {
        self.events_done.add(1);
        match outcome.0 {
            0 => {}
            code @ -8..=-1 => self.failures[(-code) as usize].add(1),
            _ => self.failures[9].add(1),
        }
    }

    /// Failures by word, added to `sum`.
    pub fn add_to(&self, sum: &mut BTreeMap<String, u64>) {
        for (index, tally) in self.failures.iter().enumerate().skip(1) {
            if tally.get() > 0 {
                let outcome = if index == 9 {
                    tempos_abi::invoker::Outcome::FAILED
                } else {
                    tempos_abi::invoker::Outcome(-(index as i32))
                };
                *sum.entry(outcome.word().to_owned()).or_default() += tally.get();
            }
        }
    }
}
