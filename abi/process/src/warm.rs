//! Modes `warm` and `zygote`: an event goes to a resident worker and its answer comes back.

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_abi::std_types::RArc;

use crate::pool::Pool;
use crate::running::Running;
use crate::verdict::Memory;

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
        let instance = match self.pool.take_at_rest(context.deadline_ns) {
            Ok(instance) => instance,
            Err(deadline) => return self.pool.none(deadline, output),
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

    /// See [`Pool::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn begin(&self, least: u32) -> Result<(), String> {
        self.pool.begin(least)
    }

    /// See [`Pool::look`].
    pub fn look(&self) {
        self.pool.look();
    }

    /// See [`Pool::warm`].
    pub fn warm(&self, instances: u32) -> u32 {
        self.pool.warm(instances)
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
