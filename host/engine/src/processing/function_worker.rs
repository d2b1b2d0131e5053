//! A function worker: a thread of a lane that runs functions, one job at a time, in the order given.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::Thread;

use rtrb::{Consumer, Producer, RingBuffer};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, InvokeContext, Outcome};

use super::workflow::Call;
use crate::lane::order::EXPLANATION_BYTES;
use crate::lane::ownership::{Doing, Ownership};
use crate::lane::pool::Handle;
use crate::lane::shared::LaneShared;
use crate::stats::{Latency, Tally, WorkflowStats};
use crate::system::clock::monotonic_ns;
use crate::system::memory::Region;
use crate::system::scheduling::ThreadId;

/// Jobs that a worker may hold.
pub const JOBS: usize = 8;

/// One invocation: filled by the queue worker, carried out by the function worker, read by the queue worker.
pub struct Job {
    /// The event.
    pub handle: Handle,
    /// The call's id.
    pub call: u32,
    /// The event as the function sees it.
    pub event: EventView<'static>,
    /// The function.
    pub function: *const FunctionBox,
    /// Jobs of its call's cell; null for an inline run.
    pub outstanding: *const Tally,
    /// What is counted for its workflow: another workflow may have its call's id by now.
    pub stats: *const WorkflowStats,
    /// What is counted for the canary that the event was given to; null for the workflow's own function.
    pub canary: *const WorkflowStats,
    /// The how manieth attempt after the first it is.
    pub attempt: u8,
    /// What surrounds the invocation.
    pub context: InvokeContext,
    /// When the function loses its thread: its workflow's own deadline, not that of the event (CLOCK_MONOTONIC,
    /// ns); 0: never.
    pub own_deadline_ns: u64,
    /// When it was handed over.
    pub handed_ns: u64,
    /// The largest output.
    pub output_bytes_max: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The output's length, where there is one.
    pub output_bytes: Option<u32>,
    /// The function's sentence.
    pub explanation: [u8; EXPLANATION_BYTES],
    /// Its length.
    pub explanation_len: u8,
}

/// What the two threads, the controller and the supervisor share.
pub struct FunctionShared {
    /// Who runs it.
    pub ownership: Ownership,
    /// The workflow's own deadline of the invocation under way (CLOCK_MONOTONIC, ns); 0: none.
    pub deadline_ns: AtomicU64,
    /// The thread.
    thread: AtomicI32,
    stop: AtomicBool,
    jobs: [UnsafeCell<Option<Job>>; JOBS],
    outputs: Region,
    output_bytes: usize,
}

// SAFETY: a job is touched by the thread that holds its index, and the index travels over the rings.
unsafe impl Sync for FunctionShared {}
// SAFETY: what jobs point at stays alive until they are done with (see `FunctionPort`).
unsafe impl Send for FunctionShared {}

impl std::fmt::Debug for FunctionShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionShared").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl FunctionShared {
    /// The shared side of a worker that does not run yet.
    ///
    /// # Errors
    /// What the system says (ENOMEM).
    pub fn new(output_bytes: u32, lock: bool) -> std::io::Result<Self> {
        let output_bytes = (output_bytes as usize).max(64).next_multiple_of(64);
        Ok(FunctionShared {
            ownership: Ownership::default(),
            deadline_ns: AtomicU64::new(0),
            thread: AtomicI32::new(0),
            stop: AtomicBool::new(false),
            jobs: std::array::from_fn(|_| UnsafeCell::new(None)),
            outputs: Region::new(output_bytes * JOBS, lock)?,
            output_bytes,
        })
    }

    /// The worker's thread, once it runs.
    pub fn thread(&self) -> Option<ThreadId> {
        let id = self.thread.load(Ordering::Acquire);
        (id > 0).then_some(ThreadId(id))
    }

    /// The largest output that it can hold.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// A job.
    ///
    /// # Safety
    /// The caller holds the index: it came over the ring that leads to the caller's thread, or the worker
    /// has been disowned.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn job(&self, index: u8) -> &mut Option<Job> {
        // SAFETY: see above.
        unsafe { &mut *self.jobs[index as usize % JOBS].get() }
    }

    /// The output buffer of a job.
    ///
    /// # Safety
    /// As for [`FunctionShared::job`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn output(&self, index: u8) -> &mut [u8] {
        // SAFETY: each job has its own part of the region; see above.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.outputs.start().add(index as usize % JOBS * self.output_bytes),
                self.output_bytes,
            )
        }
    }

    /// Asks the worker to end once it is idle.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// The rings of a worker: the lane's ends and the worker's ends.
pub struct FunctionRings {
    /// To the worker.
    pub to_worker: Producer<u8>,
    /// From the worker.
    pub from_worker: Consumer<u8>,
    /// The worker's end of `to_worker`.
    pub jobs: Consumer<u8>,
    /// The worker's end of `from_worker`.
    pub done: Producer<u8>,
}

impl FunctionRings {
    /// Empty rings.
    pub fn new() -> Self {
        let (to_worker, jobs) = RingBuffer::new(JOBS);
        let (done, from_worker) = RingBuffer::new(JOBS);
        FunctionRings { to_worker, from_worker, jobs, done }
    }
}

impl Default for FunctionRings {
    fn default() -> Self {
        Self::new()
    }
}

/// The body of a worker's thread: runs jobs until it is asked to stop or loses its place. `prepare` gives
/// the thread its lane's scheduling.
pub fn run(
    shared: &FunctionShared,
    lane: &Arc<LaneShared>,
    mut jobs: Consumer<u8>,
    mut done: Producer<u8>,
    prepare: impl FnOnce(),
) {
    shared.thread.store(ThreadId::current().0, Ordering::Release);
    let mut owner = shared.ownership.owner();
    prepare();
    loop {
        let Ok(index) = jobs.pop() else {
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::park();
            continue;
        };
        // SAFETY: the index just came over the ring that leads here.
        let (Some(job), output) = (unsafe { (shared.job(index).as_mut(), shared.output(index)) }) else {
            continue;
        };
        let mut explanation = [0; EXPLANATION_BYTES];
        let most = (job.output_bytes_max as usize).min(output.len());
        let mut sink = Output::new(&mut output[..most], &mut explanation);
        shared.deadline_ns.store(job.own_deadline_ns, Ordering::Relaxed);
        shared.ownership.enter(&mut owner, Doing::Function, job.call);
        // SAFETY: the lane keeps the function alive while a job of it is under way.
        let outcome = unsafe { &*job.function }.invoke(&job.event, &mut sink, &job.context);
        if shared.ownership.leave(&mut owner, Doing::Function).is_err() {
            // Another thread has this place now, and the job was written off.
            return;
        }
        settle(job, outcome, &sink);
        job.explanation_len = sink.explanation_len().min(EXPLANATION_BYTES) as u8;
        job.explanation = explanation;
        // The ring has room for every job there is.
        let _ = done.push(index);
        lane.place.wake();
    }
}

/// Writes down how an invocation ended.
pub(crate) fn settle(job: &mut Job, outcome: Outcome, sink: &Output<'_>) {
    job.output_bytes = None;
    job.outcome = match outcome {
        Outcome::DONE | Outcome::LATE if sink.overflowed() => Outcome::OUTPUT_TOO_LARGE,
        Outcome::DONE | Outcome::LATE => {
            job.output_bytes = sink.emitted().map(|len| len as u32);
            if job.context.deadline_ns != 0 && monotonic_ns() > job.context.deadline_ns {
                Outcome::LATE
            } else {
                outcome
            }
        }
        other => other,
    };
}

/// A worker's thread, to be woken.
pub type Sleeper = Thread;

impl Job {
    /// Whether it runs the very function of the call, not one that the call's function has replaced.
    pub(crate) fn is_of(&self, call: &Call) -> bool {
        std::ptr::eq(self.function, Arc::as_ptr(&call.function))
    }

    /// Whether the event was given to a canary.
    pub(crate) fn is_of_canary(&self) -> bool {
        !self.canary.is_null()
    }

    /// Counts how it ended for the canary, where it is one's.
    pub(crate) fn count_for_canary(&self, outcome: Outcome) {
        // SAFETY: the cell holds them, and lives until this job has let it go.
        if let Some(stats) = unsafe { self.canary.as_ref() } {
            stats.count(outcome);
        }
    }

    /// Where its duration is recorded: a canary's apart from the others.
    pub(crate) fn latency<'a>(&'a self, call: &'a Call) -> &'a Latency {
        // SAFETY: as above.
        unsafe { self.canary.as_ref() }.map_or(&call.stats.latency, |stats| &stats.latency)
    }

    /// Says that nothing of the call's cell is used any more; only the lane's owner.
    pub(crate) fn let_go(&self) {
        if !self.outstanding.is_null() {
            // SAFETY: the cell lives until this count is zero.
            unsafe { &*self.outstanding }.subtract(1);
        }
    }
}
