//! An endpoint: one ingress channel of a topic at one level.

use std::sync::Arc;

use tempos_abi::adapter::ChannelBox;
use tempos_control::EventFormat;

use crate::stats::ChannelStats;

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
