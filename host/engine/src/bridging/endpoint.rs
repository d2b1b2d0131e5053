//! An endpoint: one ingress channel of a topic at one level.

use std::sync::Arc;

use tempos_abi::adapter::ChannelBox;
use tempos_control::{ChannelSpec, EventFormat, OverRate};

use super::sequences::Sequences;
use super::shaper::{Shaper, Shapers};
use crate::stats::ChannelStats;

/// It rests until fewer of its events are in flight.
pub const UNTIL_DONE: u64 = u64::MAX;

/// What an endpoint lets in.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Whether senders and rules may give its events another level.
    pub open: bool,
    /// The highest level that its senders may ask for.
    pub qos_max: Option<String>,
    /// Its rate.
    pub shaper: Option<Shaper>,
    /// What is over the rate is dropped, not left for later.
    pub drops_over_rate: bool,
    /// The rate of each of its producers.
    pub shapers: Option<Shapers>,
    /// Most of its events in flight; 0: no bound.
    pub in_flight_max: u32,
    /// Its events in flight, where that is bounded.
    pub in_flight: u32,
    /// Its largest event; 0: the level's.
    pub event_bytes_max: u32,
    /// The ids that were seen, where somebody minds.
    pub sequences: Option<Sequences>,
    /// An event that is not the newest is dropped, even where its id is new.
    pub drops_older: bool,
}

impl Entrance {
    /// What a channel was declared to let in.
    pub fn of(spec: &ChannelSpec) -> Self {
        let endpoint = &spec.endpoint;
        Entrance {
            open: spec.qos.is_none() || endpoint.qos_max.is_some(),
            qos_max: endpoint.qos_max.clone(),
            shaper: endpoint.rate.map(|rate| Shaper::new(rate, endpoint.burst)),
            shapers: endpoint.producer_rate.map(|rate| Shapers::new(Shaper::new(rate, endpoint.burst))),
            drops_over_rate: endpoint.over_rate == OverRate::Drop,
            in_flight_max: endpoint.in_flight.unwrap_or(0),
            in_flight: 0,
            event_bytes_max: endpoint.event_bytes_max.unwrap_or(0),
            sequences: (endpoint.drops_duplicates || endpoint.drops_older).then(Sequences::default),
            drops_older: endpoint.drops_older,
        }
    }
}

/// What a lane holds of an ingress channel.
pub struct Source {
    /// The channel.
    pub channel: ChannelBox,
    /// Its id on this lane.
    pub id: u32,
    /// The descriptor that says when it has something.
    pub descriptor: i32,
    /// The topic's index.
    pub topic: u32,
    /// The layout of its frames.
    pub format: EventFormat,
    /// How many slots the next call brings: grows while calls come back full, shrinks when they do not.
    pub batch: u32,
    /// Calls in a row that brought nothing although the descriptor was ready, or an error.
    pub barren: u32,
    /// It is not looked at before then (CLOCK_MONOTONIC), [`UNTIL_DONE`], or 0: it is.
    pub rests_until_ns: u64,
    /// What it lets in.
    pub entrance: Entrance,
    /// It panicked, or did not come back.
    pub failed: bool,
    /// What is counted.
    pub stats: Arc<ChannelStats>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("id", &self.id).field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Source {
    /// A duplicate of the channel's descriptor, or -1.
    pub fn take_over(&mut self) -> i32 {
        if self.failed { -1 } else { self.channel.take_over() }
    }
}
