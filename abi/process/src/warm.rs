//! Modes `warm` and `zygote`: an event goes to a resident worker and its answer comes back.

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_abi::std_types::RArc;

use crate::each::stopped;
use crate::pool::Pool;
use crate::running::Running;
use crate::verdict::{Memory, explain};

/// A function whose workers are resident.
pub struct Warm {
    pool: Pool,
    running: Vec<Running>,
    memory: Memory,
    recycle_after: u32,
    counters: RArc<FunctionCounters>,
}

impl Warm {
    /// For so many invocations at once; a worker is replaced after so many events (0: never).
    pub fn new(
        pool: Pool,
        workers: usize,
        memory: Memory,
        recycle_after: u32,
        counters: RArc<FunctionCounters>,
    ) -> Self {
        let running = (0..workers).map(|_| Running::default()).collect();
        Warm { pool, running, memory, recycle_after, counters }
    }

    /// Has a worker work on the event.
    pub fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        let Some(running) = self.running.get(context.worker as usize) else {
            output.explain("it was called by more workers than its concurrency allows");
            return Outcome::NOT_STARTED;
        };
        running.begin();
        let instance = loop {
            match self.pool.take(context.deadline_ns) {
                Ok(instance) if instance.is_at_rest() => break instance,
                // It ended, or spoke without being asked: no event is given to it. The pause between starts
                // bounds how often that can be.
                Ok(_) => {
                    self.counters.crashed.add(1);
                    self.pool.lost(false);
                }
                Err(deadline) => return self.none(deadline, output),
            }
        };
        let (outcome, instance) = instance.exchange(event, output, context.deadline_ns, running, self.memory);
        match instance {
            Some(instance) => {
                let recycle = self.recycle_after != 0 && instance.served >= self.recycle_after;
                self.pool.put(instance, recycle);
            }
            None => {
                // One that was stopped is replaced at once: it did not end by itself.
                let stopped = outcome == Outcome::KILLED;
                if !stopped {
                    self.counters.crashed.add(1);
                }
                self.pool.lost(stopped);
            }
        }
        outcome
    }

    /// There was no worker to be had.
    fn none(&self, deadline: bool, output: &mut Output<'_>) -> Outcome {
        let reason = self.pool.reason();
        if !reason.is_empty() {
            explain(output, format_args!("it has no worker: {reason}"));
            return Outcome::NOT_STARTED;
        }
        if deadline {
            return stopped(output);
        }
        output.explain("it has no worker that is free");
        Outcome::NOT_STARTED
    }

    /// Keeps at least so many ready; one at least is started, so that what cannot work is known now and not with the
    /// first event.
    ///
    /// # Errors
    /// One sentence without its subject: why there is none.
    pub fn begin(&self, least: u32) -> Result<(), String> {
        if self.warm(least.max(1)) == 0 {
            return Err(match self.reason() {
                empty if empty.is_empty() => String::from("no worker was ready in time"),
                reason => reason,
            });
        }
        if least == 0 {
            self.warm(0);
        }
        Ok(())
    }

    /// See [`Pool::look`].
    pub fn look(&self) {
        self.pool.look();
    }

    /// See [`Pool::warm`].
    pub fn warm(&self, instances: u32) -> u32 {
        self.pool.warm(instances)
    }

    /// Why no worker can be started; empty where one could.
    pub fn reason(&self) -> String {
        self.pool.reason()
    }

    /// Ends the invocation of that worker, where there is one.
    pub fn cancel(&self, worker: u32) {
        if let Some(running) = self.running.get(worker as usize) {
            running.cancel();
        }
    }

    /// Ends all workers.
    pub fn retire(&self, until_ns: u64) {
        self.running.iter().for_each(Running::cancel);
        self.pool.stop(until_ns);
    }
}
