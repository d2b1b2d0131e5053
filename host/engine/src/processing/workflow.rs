//! A workflow on one lane: the function, who runs it, and where its output goes.

use std::collections::VecDeque;
use std::sync::Arc;

use tempos_abi::invoker::FunctionBox;

use crate::lane::pool::Handle;
use crate::stats::{Tally, WorkflowStats};

/// Events that may wait for one workflow beside the lane's queue and its worker.
pub const PENDING_MAX: usize = 64;

/// What a lane holds of a workflow.
pub struct Call {
    /// The function. Shared with the worker that runs it.
    pub function: Arc<FunctionBox>,
    /// Its id on this lane.
    pub id: u32,
    /// The topic that its output goes to, on this lane.
    pub to: Option<u32>,
    /// Its output goes to the topic that an event names in `reply-to`.
    pub replies: bool,
    /// Runs on the queue worker.
    pub inline: bool,
    /// How many events the function may work on at once.
    pub concurrency: u32,
    /// The worker that runs it where only one event is worked on at once, so that their order is kept.
    pub worker: u32,
    /// The longest that an invocation may take; 0: no bound.
    pub deadline_ns: u64,
    /// The largest output.
    pub output_bytes_max: u32,
    /// Events handed to workers and not done with.
    pub in_flight: u32,
    /// Jobs of this very cell that are with workers: it must live until there is none.
    pub outstanding: Arc<Tally>,
    /// Events waiting.
    pub pending: VecDeque<Handle>,
    /// It panicked, or did not come back.
    pub failed: bool,
    /// What is counted.
    pub stats: Arc<WorkflowStats>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("id", &self.id)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Events that may be with workers at once: one more than run, so that a worker finds the next.
    pub fn in_flight_max(&self) -> u32 {
        self.concurrency + 1
    }
}
