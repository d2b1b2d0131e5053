//! A workflow on one lane: the function, who runs it, and where its output goes.

use std::collections::VecDeque;
use std::sync::Arc;

use tempos_abi::invoker::{FunctionBox, Outcome};

use super::canary::Canary;
use super::retry::{Again, Retry};
use crate::lane::pool::Handle;
use crate::stats::{Tally, WorkflowStats};

/// Events that may wait for one workflow beside the lane's queue and its worker.
pub const PENDING_MAX: usize = 64;

/// What a lane holds of a workflow.
pub struct Call {
    /// The function. Shared with the worker that runs it, and with the cell before this one where it is the
    /// same.
    pub function: Arc<FunctionBox>,
    /// Other code for a share of the events.
    pub canary: Option<Canary>,
    /// Its id on this lane.
    pub id: u32,
    /// The name of the topic that its events come from: workers may read it when the tables that they were
    /// handed over under have gone.
    pub topic: Arc<str>,
    /// The topic that its output goes to, on this lane; with branches, where it names none.
    pub to: Option<u32>,
    /// Topics by the names of branches.
    pub branches: Vec<(Box<str>, u32)>,
    /// Its output goes to the topic that an event names in `reply-to`.
    pub replies: bool,
    /// Runs on the queue worker.
    pub inline: bool,
    /// How many events the function may work on at once.
    pub concurrency: u32,
    /// The first of the workers that run it, as many as events are worked on at once; where that is one, their
    /// order is kept.
    pub worker: u32,
    /// The longest that an invocation may take; 0: no bound.
    pub deadline_ns: u64,
    /// What the functions that its output comes to have declared to take, on the longest way; 0: nothing.
    pub downstream_ns: u64,
    /// The largest output.
    pub output_bytes_max: u32,
    /// Events handed to workers and not done with.
    pub in_flight: u32,
    /// Jobs of this very cell that are with workers: it must live until there is none.
    pub outstanding: Arc<Tally>,
    /// Events waiting.
    pub pending: VecDeque<Handle>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Events that wait to be tried again.
    pub retrying: VecDeque<Again>,
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
    /// Events that may be with workers at once: one more than run, so that a worker finds the next. Where an
    /// event may have to be tried again before the next one, that one is not with a worker yet.
    pub fn in_flight_max(&self) -> u32 {
        self.concurrency + u32::from(self.retry.is_none() || !self.keeps_order())
    }

    /// Whether one event is worked on at a time, in their order.
    pub fn keeps_order(&self) -> bool {
        self.concurrency <= 1
    }

    /// Events that wait for a worker, or to be tried again.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.retrying.len()
    }

    /// An event that was with a worker and was not begun comes back to the front.
    pub fn put_back(&mut self, handle: Handle, attempt: u8) {
        if attempt > 0 && self.retrying.len() < self.retrying.capacity() {
            self.retrying.push_front(Again { handle, due_ns: 0, attempt, outcome: Outcome::NOT_STARTED });
        } else {
            self.pending.push_front(handle);
        }
    }

    /// The topic that an output goes to where it goes by that branch; `Err` where the function names one that
    /// is not there, or none although one is needed.
    pub(super) fn branch(&self, name: &[u8]) -> Result<Option<u32>, ()> {
        if self.branches.is_empty() {
            return Ok(self.to);
        }
        if name.is_empty() {
            return self.to.map(Some).ok_or(());
        }
        let found = self.branches.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, topic)| Some(*topic)).ok_or(())
    }
}
