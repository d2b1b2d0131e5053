//! Mode `each`: a process for each event. The event is its standard input, its standard output is the output,
//! its exit code says how it went, the last line of its standard error why.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_abi::std_types::RArc;

use crate::clock::{now_ns, polled, wait};
use crate::environment::Variables;
use crate::process::{Ended, Process};
use crate::running::Running;
use crate::spawner::{Spawner, Start, Started, locked};
use crate::tail::Tail;
use crate::verdict::{self, Memory, explain};

/// Rounds of reading after the end: what is in the pipe then is all that will come.
const LAST_READS_MAX: usize = 1024;

/// What one of the workflow's concurrent invocations keeps for the next.
pub(crate) struct Slot {
    pub(crate) variables: Variables,
    pub(crate) tail: Tail,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Slot { variables: Variables::new(), tail: Tail::new() }
    }
}

/// A function in mode `each`.
pub struct Each {
    spawner: Spawner,
    slots: Vec<Mutex<Slot>>,
    running: Vec<Running>,
    memory: Memory,
    counters: RArc<FunctionCounters>,
}

/// Why nothing more is waited for.
pub(crate) enum Stop {
    Ended,
    Deadline,
    TooLarge,
}

impl Each {
    /// For so many invocations at once.
    pub fn new(spawner: Spawner, workers: usize, memory: Memory, counters: RArc<FunctionCounters>) -> Self {
        Each {
            spawner,
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
        let (start, pipes) = match prepare(event.payload.as_slice(), &mut slot.variables) {
            Ok(prepared) => prepared,
            Err(error) => return not_started(output, &error),
        };
        let Some(Started { process, variables }) = self.spawner.start(worker, start, context.deadline_ns)
        else {
            slot.variables = Variables::new();
            output.explain("it could not be started before its deadline");
            return Outcome::KILLED;
        };
        slot.variables = variables;
        let process = match process {
            Ok(process) => process,
            Err(error) => return not_started(output, &error),
        };
        self.counters.started.add(1);
        let run = Run { process, pipes, running, slot, memory: self.memory, counters: &self.counters };
        run.follow_through(output, context.deadline_ns)
    }

    /// Ends the invocation of that worker, where there is one.
    pub fn cancel(&self, worker: u32) {
        if let Some(running) = self.running.get(worker as usize) {
            running.cancel();
        }
    }

    /// Ends the thread that starts processes.
    pub fn retire(&self) {
        (0..self.running.len()).for_each(|worker| self.cancel(worker as u32));
        self.spawner.stop();
    }
}

/// It was stopped at its deadline.
pub fn stopped(output: &mut Output<'_>) -> Outcome {
    output.explain("it was stopped at its deadline");
    Outcome::KILLED
}

pub(crate) fn not_started(output: &mut Output<'_>, error: &io::Error) -> Outcome {
    explain(output, format_args!("it could not be started: {error}"));
    Outcome::NOT_STARTED
}

/// The node's ends of a process's output and errors.
pub(crate) struct Pipes {
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
}

/// The event in memory for the process to read, and the pipes that it writes to.
fn prepare(payload: &[u8], variables: &mut Variables) -> io::Result<(Start, Pipes)> {
    let input = in_memory()?;
    // At a place of its own, so that the process reads from the start.
    input.write_all_at(payload, 0)?;
    let (output, to_output) = pipe()?;
    let (errors, to_errors) = pipe()?;
    let variables = std::mem::take(variables);
    Ok((
        Start { variables, input: input.into(), output: to_output, errors: to_errors },
        Pipes { output, errors },
    ))
}

/// An empty file without a name, for an event.
pub(crate) fn in_memory() -> io::Result<File> {
    // SAFETY: the name is a text.
    let file = unsafe { libc::memfd_create(c"event".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(file) }))
}

/// A pipe whose reading end does not block.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    do_not_block(reader.as_raw_fd())?;
    Ok((reader, writer.into()))
}

/// Makes this end of a pipe one that does not block; the other end stays as it is.
pub fn do_not_block(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A process that works on an event.
pub(crate) struct Run<'a> {
    pub(crate) process: Process,
    pub(crate) pipes: Pipes,
    pub(crate) running: &'a Running,
    pub(crate) slot: &'a mut Slot,
    pub(crate) memory: Memory,
    pub(crate) counters: &'a FunctionCounters,
}

impl Run<'_> {
    /// Follows it, ends what is left of it, and says how it went.
    pub(crate) fn follow_through(self, output: &mut Output<'_>, deadline_ns: u64) -> Outcome {
        let Run { process, pipes, running, slot, memory, counters } = self;
        running.enter(process.pid());
        let mut written = 0;
        let stop = follow(&process, &pipes, running, slot, output, &mut written, deadline_ns);
        process.kill_group();
        // Nobody signals the group once its number may be another's.
        running.leave();
        let ended = process.reap();
        let stop = match stop {
            Stop::Ended if !last_words(&pipes, slot, output, &mut written) => Stop::TooLarge,
            other => other,
        };
        let late = deadline_ns != 0 && now_ns() > deadline_ns;
        let killed = ended.is_some_and(|ended| ended.signal == libc::SIGKILL);
        if running.is_cancelled() && killed {
            output.explain("it was told to end early");
            return Outcome::KILLED;
        }
        match (stop, ended) {
            (Stop::TooLarge, _) => {
                let _ = output.commit(output.capacity() + 1);
                Outcome::OUTPUT_TOO_LARGE
            }
            // The kernel ends a real-time process by itself soon after its deadline.
            (Stop::Ended, Some(_)) if late && killed => stopped(output),
            (Stop::Deadline, _) | (_, None) => stopped(output),
            (Stop::Ended, Some(Ended { code: Some(0), .. })) => {
                if written > 0 {
                    let _ = output.commit(written);
                }
                if late { Outcome::LATE } else { Outcome::DONE }
            }
            (Stop::Ended, Some(ended)) => {
                let outcome = verdict::of_bad_end(&ended, &slot.tail, memory, output);
                if outcome == Outcome::CRASHED || outcome == Outcome::OVER_MEMORY {
                    counters.crashed.add(1);
                }
                outcome
            }
        }
    }
}

/// Reads what the process writes until it ends, its deadline comes, or it writes too much.
fn follow(
    process: &Process,
    pipes: &Pipes,
    running: &Running,
    slot: &mut Slot,
    output: &mut Output<'_>,
    written: &mut usize,
    deadline_ns: u64,
) -> Stop {
    let mut descriptors = [
        polled(process.handle(), libc::POLLIN),
        polled(pipes.output.as_raw_fd(), libc::POLLIN),
        polled(pipes.errors.as_raw_fd(), libc::POLLIN),
    ];
    loop {
        let ready = wait(&mut descriptors, deadline_ns);
        if descriptors[0].revents != 0 {
            return Stop::Ended;
        }
        if !ready && deadline_ns != 0 && now_ns() >= deadline_ns {
            return Stop::Deadline;
        }
        if descriptors[1].revents != 0 {
            match take(pipes.output.as_raw_fd(), output, written) {
                Taken::All => {}
                Taken::End => descriptors[1].fd = -1,
                Taken::TooMuch => return Stop::TooLarge,
            }
        }
        if descriptors[2].revents != 0 && !slot.tail.drain(pipes.errors.as_raw_fd()) {
            descriptors[2].fd = -1;
        }
        // A flood of errors keeps the wait above from ever timing out.
        if deadline_ns != 0 && now_ns() >= deadline_ns {
            return Stop::Deadline;
        }
        if running.is_cancelled() {
            process.kill_group();
        }
    }
}

enum Taken {
    All,
    End,
    TooMuch,
}

/// Reads once, straight into the output's buffer.
fn take(descriptor: RawFd, output: &mut Output<'_>, written: &mut usize) -> Taken {
    let room = &mut output.buffer_mut()[*written..];
    let mut beyond = [0u8; 1];
    let (start, length) =
        if room.is_empty() { (beyond.as_mut_ptr(), 1) } else { (room.as_mut_ptr(), room.len()) };
    // SAFETY: the room is live and of that length.
    let read = unsafe { libc::read(descriptor, start.cast(), length) };
    match read {
        0 => Taken::End,
        1.. if room.is_empty() => Taken::TooMuch,
        1.. => {
            *written += read as usize;
            Taken::All
        }
        _ => Taken::All,
    }
}

/// Reads what is left in the pipes after the end; `false` where that is too much. A descendant that left the
/// group may hold the other end: its end is not waited for.
fn last_words(pipes: &Pipes, slot: &mut Slot, output: &mut Output<'_>, written: &mut usize) -> bool {
    slot.tail.drain(pipes.errors.as_raw_fd());
    for _ in 0..LAST_READS_MAX {
        let before = *written;
        match take(pipes.output.as_raw_fd(), output, written) {
            Taken::All if *written > before => {}
            Taken::All | Taken::End => return true,
            Taken::TooMuch => return false,
        }
    }
    true
}
