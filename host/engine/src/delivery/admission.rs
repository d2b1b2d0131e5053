//! Admission: the queue policy takes an event in, refuses it, or removes another one first.

use tempos_abi::queue::{Admission, QueueItem};

use crate::lane::order::LaneNotice;
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::pool::{Handle, Stage};
use crate::lane::state::{InCall, LaneState};
use crate::stats::Reason;

/// Evictions for one event: enough for the largest event to find room among the smallest.
const EVICTIONS_MAX: usize = 4096;

impl LaneState {
    /// Asks admission for an event that `make` made.
    pub(crate) fn admit(&mut self, handle: Handle) -> Result<(), Disowned> {
        if self.queue_failed {
            self.park(handle);
            return Ok(());
        }
        let item = self.item(handle);
        for _ in 0..EVICTIONS_MAX {
            self.in_call = InCall::Policy;
            self.enter(Doing::Policy, 0);
            let admission = self.queue.admit(&item, self.now);
            self.leave(Doing::Policy)?;
            match admission.verdict {
                Admission::ACCEPTED => {
                    self.pool.record_mut(handle).stage = Stage::Queued;
                    self.queued += 1;
                    self.more_queued = true;
                    self.shared.stats.queued.set(u64::from(self.queued));
                    return Ok(());
                }
                Admission::EVICTED if self.is_queued(admission.evicted) => {
                    self.queued -= 1;
                    self.drop_event(admission.evicted, Reason::Evicted);
                }
                Admission::REFUSED => {
                    self.drop_event(handle, Reason::QueueFull);
                    return Ok(());
                }
                // A panic, or an answer that no policy may give.
                _ => {
                    self.park(handle);
                    self.fail_queue();
                    return Ok(());
                }
            }
        }
        self.drop_event(handle, Reason::QueueFull);
        Ok(())
    }

    /// What the policy is shown of an event.
    pub(crate) fn item(&self, handle: Handle) -> QueueItem {
        let record = self.pool.record(handle);
        QueueItem {
            handle,
            topic: record.topic,
            size: record.bytes(),
            rank: self.topic(record.topic).map_or(0, |entry| entry.rank),
            arrival_ns: record.arrival_ns,
            deadline_ns: record.deadline_ns,
            key_hash: record.key_hash,
            reserved: 0,
        }
    }

    pub(crate) fn is_queued(&self, handle: Handle) -> bool {
        handle < self.pool.handles() && self.pool.record(handle).stage == Stage::Queued
    }

    /// An event waits in the pool, as those do that a broken policy holds, until a new one takes it in.
    pub(crate) fn park(&mut self, handle: Handle) {
        self.pool.record_mut(handle).stage = Stage::Queued;
        self.queued += 1;
        self.shared.stats.queued.set(u64::from(self.queued));
    }

    /// The policy broke its contract: nothing more is received, and what is queued stays in the pool until a new one takes it in.
    pub(crate) fn fail_queue(&mut self) {
        if !self.queue_failed {
            self.queue_failed = true;
            self.more_queued = false;
            self.wake_at_ns = 0;
            self.tell(LaneNotice::PolicyFailed);
        }
    }
}
