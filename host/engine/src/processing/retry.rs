//! Trying again: an event on which a function failed waits for a moment and is given to it once more.
//!
//! Where the workflow works on one event at a time, the others wait meanwhile, so that none overtakes it. It ends
//! with the event's deadline and its time to live; the list of those that wait is bounded.

use tempos_abi::invoker::Outcome;
use tempos_control::RetrySpec;

use super::function_worker::Job;
use super::workflow::{Call, PENDING_MAX};
use crate::lane::order::{EXPLANATION_BYTES, LaneNotice};
use crate::lane::pool::{Handle, NO_TOPIC};
use crate::lane::state::LaneState;
use crate::system::clock::monotonic_ns;

/// The longest pause.
const PAUSE_NS_MAX: u64 = 600_000_000_000;

/// What is tried again, made for asking quickly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    times: u8,
    backoff_ns: u64,
    /// Bit n: the outcome -n. Bit 0: any code of the function's own.
    outcomes: u16,
    /// The function's own codes.
    codes: [u64; 4],
}

/// An event that waits to be tried again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// The event.
    pub handle: Handle,
    /// Not before this.
    pub due_ns: u64,
    /// The how manieth attempt after the first it will be.
    pub attempt: u8,
    /// How the last one ended.
    pub outcome: Outcome,
}

impl Retry {
    /// What a workflow asks for.
    pub fn of(spec: &RetrySpec) -> Self {
        let mut retry = Retry { times: spec.times, backoff_ns: spec.backoff_ns, outcomes: 0, codes: [0; 4] };
        for word in &spec.outcomes {
            match (2..=7).find(|code| Outcome(-code).word() == word) {
                Some(code) => retry.outcomes |= 1 << code,
                None => retry.outcomes |= 1,
            }
        }
        for code in &spec.codes {
            retry.codes[*code as usize / 64] |= 1 << (code % 64);
        }
        retry
    }

    /// Whether an outcome is tried again.
    fn covers(&self, outcome: Outcome) -> bool {
        match outcome.0 {
            code @ -7..=-2 => self.outcomes & 1 << -code != 0,
            code @ 1..=255 => {
                self.outcomes & 1 != 0 || self.codes[code as usize / 64] & 1 << (code % 64) != 0
            }
            _ => false,
        }
    }

    /// The pause after so many attempts beside the first.
    fn pause_ns(&self, attempts: u8) -> u64 {
        self.backoff_ns.checked_shl(attempts.into()).unwrap_or(PAUSE_NS_MAX).min(PAUSE_NS_MAX)
    }
}

impl LaneState {
    /// Lets an event wait to be tried again; `false` where it is not, and is done with. Its call's count of jobs
    /// no longer holds this one.
    pub(super) fn try_again(&mut self, call: &mut Call, job: &Job) -> bool {
        let Some(retry) = &call.retry else { return false };
        if call.inline || call.failed || job.attempt >= retry.times || !retry.covers(job.outcome) {
            return false;
        }
        // A later one is with the worker already: it was handed over before the workflow began to try again.
        let overtaken = call.keeps_order() && call.in_flight > 0;
        if overtaken || call.retrying.len() >= PENDING_MAX {
            return false;
        }
        let due_ns = self.now + retry.pause_ns(job.attempt);
        let record = self.pool.record(job.handle);
        let is_over = |end_ns: u64| end_ns != 0 && due_ns >= end_ns;
        if is_over(record.deadline_ns) || is_over(record.expires_ns) || record.topic == NO_TOPIC {
            return false;
        }
        let (handle, outcome) = (job.handle, job.outcome);
        call.retrying.push_back(Again { handle, due_ns, attempt: job.attempt + 1, outcome });
        call.stats.retries.add(1);
        self.wake_for_retry(due_ns);
        true
    }

    /// The next event for a worker; `None` where there is none yet.
    pub(super) fn next_for(&mut self, call: &mut Call) -> Option<Again> {
        let of_pending = |handle| Again { handle, due_ns: 0, attempt: 0, outcome: Outcome::DONE };
        if call.retrying.is_empty() {
            return call.pending.pop_front().map(of_pending);
        }
        let due = call.retrying.iter().map(|again| again.due_ns).enumerate();
        let (at, due_ns) = due.min_by_key(|(_, due_ns)| *due_ns)?;
        if due_ns <= self.now {
            return call.retrying.remove(at);
        }
        self.wake_for_retry(due_ns);
        if call.keeps_order() {
            return None;
        }
        call.pending.pop_front().map(of_pending)
    }

    fn wake_for_retry(&mut self, due_ns: u64) {
        let first = self.retry_at_ns == 0;
        self.retry_at_ns = if first { due_ns } else { due_ns.min(self.retry_at_ns) };
    }

    /// Gives workers the events whose pause is over.
    pub(crate) fn end_pauses(&mut self) {
        if self.retry_at_ns == 0 {
            return;
        }
        let now = monotonic_ns();
        if now >= self.retry_at_ns {
            self.now = now;
            self.retry_at_ns = 0;
            self.look_again = true;
        }
    }

    /// Another call takes over the events that wait to be tried again; where there is none they are done with.
    pub(crate) fn move_retries(&mut self, call: &mut Call, mut next: Option<&mut Call>) {
        while let Some(again) = call.retrying.pop_front() {
            match &mut next {
                Some(next) if next.retrying.len() < next.retrying.capacity() => {
                    next.retrying.push_back(again);
                }
                _ => self.settle_retry(call, &again),
            }
        }
    }

    /// An event is not tried again after all: its last outcome stands.
    pub(super) fn settle_retry(&mut self, call: &Call, again: &Again) {
        call.stats.busy.subtract(1);
        call.stats.count(again.outcome);
        let event_id = self.pool.record(again.handle).id;
        if let Some(canary) = call.canary.as_ref().filter(|canary| canary.takes(event_id)) {
            canary.stats.count(again.outcome);
        }
        self.release(again.handle);
    }

    /// The same for one whose turn has come too late, with a word to the controller.
    pub(super) fn give_up(&mut self, call: &Call, again: &Again) {
        let event_id = self.pool.record(again.handle).id;
        self.tell(LaneNotice::FunctionFailed {
            call: call.id,
            canary: call.canary.as_ref().is_some_and(|canary| canary.takes(event_id)),
            no_branch: false,
            event_id,
            outcome: again.outcome,
            explanation: [0; EXPLANATION_BYTES],
            explanation_len: 0,
        });
        self.settle_retry(call, again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(outcomes: &[&str], codes: &[u8]) -> Retry {
        let outcomes = outcomes.iter().map(|word| (*word).to_owned()).collect();
        Retry::of(&RetrySpec { times: 3, backoff_ns: 10, outcomes, codes: codes.to_vec() })
    }

    #[test]
    fn only_what_was_asked_for_is_tried_again() {
        let some = retry(&["crashed", "not-started"], &[7, 255]);
        for outcome in [Outcome::CRASHED, Outcome::NOT_STARTED, Outcome(7), Outcome(255)] {
            assert!(some.covers(outcome), "{outcome:?}");
        }
        let others =
            [Outcome::DONE, Outcome::LATE, Outcome::KILLED, Outcome::PANICKED, Outcome(1), Outcome(8)];
        for outcome in others {
            assert!(!some.covers(outcome), "{outcome:?}");
        }
        let any = retry(&["failed"], &[]);
        assert!(any.covers(Outcome(1)) && any.covers(Outcome(200)) && !any.covers(Outcome::CRASHED));
        for word in tempos_control::workflow::RETRY_OUTCOMES {
            let one = retry(&[word], &[]);
            let covered: Vec<i32> = (-8..=2).filter(|code| one.covers(Outcome(*code))).collect();
            assert!(
                !covered.is_empty() && covered.iter().all(|code| Outcome(*code).word() == *word),
                "{word}"
            );
        }
    }

    #[test]
    fn each_pause_is_twice_the_one_before_and_none_is_endless() {
        let some = retry(&["failed"], &[]);
        assert_eq!([0, 1, 2].map(|attempts| some.pause_ns(attempts)), [10, 20, 40]);
        let long = Retry { backoff_ns: 60_000_000_000, ..some };
        assert_eq!(long.pause_ns(15), PAUSE_NS_MAX);
    }
}
