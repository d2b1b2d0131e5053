//! A process for each event, as in [`crate::each`], but started ahead: the launcher has done all of its work and waits
//! for a word to become the function. What it costs to enter a container is no event's business then.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_abi::std_types::RArc;

use crate::each::{Pipes, Run, Slot, do_not_block, in_memory, not_started, pipe};
use crate::instance::Instance;
use crate::pool::Pool;
use crate::program::Stdio;
use crate::running::Running;
use crate::source::{Source, Workers};
use crate::spawner::locked;
use crate::verdict::Memory;

/// The most bytes of a word: the variables of an event, and the number of their bytes.
const WORD_BYTES_MAX: usize = 4096 + 4;

/// Launchers that wait: each for one event.
pub struct Waiting<S>(pub S);

impl<S: Source> Workers for Waiting<S> {
    fn start(&self) -> io::Result<Instance> {
        let input = in_memory()?;
        let (of_launcher, word) = io::pipe()?;
        let ((output, to_output), (errors, to_errors)) = (pipe()?, pipe()?);
        do_not_block(word.as_raw_fd())?;
        let stdio = Stdio::Waiting {
            input: input.as_raw_fd(),
            output: to_output.as_raw_fd(),
            errors: to_errors.as_raw_fd(),
            word: of_launcher.as_raw_fd(),
        };
        let process = self.0.start(None, &stdio)?;
        let mut instance = Instance::new(process, word.into(), output, errors);
        instance.input = Some(input);
        Ok(instance)
    }
}

/// A function whose processes are started ahead.
pub struct Ahead {
    pool: Pool,
    slots: Vec<Mutex<Slot>>,
    running: Vec<Running>,
    memory: Memory,
    counters: RArc<FunctionCounters>,
}

impl Ahead {
    /// For so many invocations at once. The pool's workers are [`Waiting`].
    pub fn new(pool: Pool, workers: usize, memory: Memory, counters: RArc<FunctionCounters>) -> Self {
        Ahead {
            pool,
            slots: (0..workers).map(|_| Mutex::new(Slot::new())).collect(),
            running: (0..workers).map(|_| Running::default()).collect(),
            memory,
            counters,
        }
    }

    /// Runs a process on the event.
    pub fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        let worker = context.worker as usize;
        let (Some(slot), Some(running)) = (self.slots.get(worker), self.running.get(worker)) else {
            output.explain("it was called by more workers than its concurrency allows");
            return Outcome::NOT_STARTED;
        };
        let slot = &mut *locked(slot);
        running.begin();
        slot.tail.clear();
        slot.variables.fill(event, context.deadline_ns);
        let mut instance = match self.pool.take_at_rest(context.deadline_ns) {
            Ok(instance) => instance,
            Err(deadline) => return self.pool.none(deadline, output),
        };
        let input = instance.input.take();
        let (process, word, answers, errors) = instance.apart();
        let outcome = match give(input, word, event.payload.as_slice(), slot.variables.block()) {
            Ok(()) => {
                let pipes = Pipes { output: answers, errors };
                let (memory, counters) = (self.memory, &self.counters);
                Run { process, pipes, running, slot, memory, counters }
                    .follow_through(output, context.deadline_ns)
            }
            Err(error) => not_started(output, &error),
        };
        // It was there for this event alone: the next one is started now.
        self.pool.lost(true);
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

    /// Ends all processes.
    pub fn retire(&self, until_ns: u64) {
        self.running.iter().for_each(Running::cancel);
        self.pool.stop(until_ns);
    }
}

/// Fills the launcher's input, and tells it the event's variables: the word that it waits for.
fn give(input: Option<File>, word: OwnedFd, payload: &[u8], variables: &[u8]) -> io::Result<()> {
    let input = input.ok_or(io::ErrorKind::Unsupported)?;
    // At a place of its own, so that the process reads from the start.
    input.write_all_at(payload, 0)?;
    let mut bytes = [0; WORD_BYTES_MAX];
    let length = variables.len().min(WORD_BYTES_MAX - 4);
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[4..4 + length].copy_from_slice(&variables[..length]);
    // An empty pipe has room for it.
    File::from(word).write_all(&bytes[..4 + length])
}
