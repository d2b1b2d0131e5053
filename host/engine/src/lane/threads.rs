//! The threads of a lane: how one is named, scheduled and given its stack, and how a function worker starts.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempos_control::LevelSpec;

use super::shared::LaneShared;
use super::supervisor::{Share, Supervisor, Verdicts, Ward};
use crate::processing::function_worker::{self, FunctionRings, FunctionShared};
use crate::processing::invoker::FunctionPort;
use crate::system::memory;
use crate::system::scheduling::{self, ThreadId};

/// The stack of a queue worker; a function worker has twice that.
pub const STACK_BYTES: usize = 512 * 1024;
/// The longest that a thread may take to begin.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A function worker that runs.
pub struct Worker {
    /// What it shares with its lane.
    pub shared: Arc<FunctionShared>,
    /// What the supervisor says of it.
    pub verdicts: Arc<Verdicts>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// Starts a function worker of a lane, and has it supervised.
///
/// # Errors
/// What the system says (EAGAIN, ENOMEM).
pub fn start_worker(
    spec: &LevelSpec,
    number: u32,
    lane: &Arc<LaneShared>,
    supervisor: &Arc<Supervisor>,
    lock: bool,
) -> io::Result<(Worker, FunctionPort)> {
    let shared = Arc::new(FunctionShared::new(spec.event_bytes_max, lock)?);
    let rings = FunctionRings::new();
    let scheduler = scheduling::for_functions(&spec.scheduler, spec.function_priority);
    let cpus = spec.cpus.clone();
    let (of_thread, of_lane) = (Arc::clone(&shared), Arc::clone(lane));
    let (jobs, done) = (rings.jobs, rings.done);
    let thread = std::thread::Builder::new()
        .name(thread_name(&format!("fn{number}"), &spec.name))
        .stack_size(2 * STACK_BYTES)
        .spawn(move || {
            function_worker::run(&of_thread, &of_lane, jobs, done, || prepare_thread(&scheduler, &cpus, lock))
        })?;
    // Whoever asks next is to see how it is scheduled.
    let patience = Instant::now() + START_LIMIT;
    while shared.thread().is_none() && Instant::now() < patience {
        std::thread::sleep(Duration::from_micros(50));
    }
    let port =
        FunctionPort::new(Arc::clone(&shared), rings.to_worker, rings.from_worker, thread.thread().clone());
    let verdicts = supervisor.watch(Ward::Function(Arc::clone(&shared)), Share::of(spec, true));
    Ok((Worker { shared, verdicts, thread }, port))
}

/// Gives the calling thread its lane's CPUs, stack and scheduling. What the system refuses is seen by
/// whoever reads back what was granted.
pub fn prepare_thread(scheduler: &tempos_control::Scheduler, cpus: &[u32], lock: bool) {
    memory::settle_stack(lock);
    let thread = ThreadId::current();
    let _ = scheduling::pin(thread, cpus);
    let _ = scheduling::apply_best(thread, scheduler);
}

/// A thread's name: at most 15 bytes (pthread_setname_np(3)).
pub fn thread_name(role: &str, level: &str) -> String {
    let mut name = format!("{role}-{level}");
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}
