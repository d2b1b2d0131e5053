//! The resident workers of a function: how many there are, who is free, and the thread that starts them.
//!
//! At least so many are kept ready, up to so many where more events come at once; one that has had nothing to do
//! for a while is let go, one that ended is replaced, ever more slowly where the next ones end too.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::Output;
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{FunctionSpec, Outcome};
use tempos_abi::std_types::RArc;

use crate::clock::now_ns;
use crate::each::stopped;
use crate::instance::Instance;
use crate::source::Workers;
use crate::spawner::{Nature, locked, thread_for};
use crate::verdict::explain;

const BACK_OFF_FIRST_NS: u64 = 10_000_000;
const BACK_OFF_MOST_NS: u64 = 2_000_000_000;
/// How long a worker that is let go is given to end by itself.
const END_NS: u64 = 50_000_000;
/// The longest pause of the thread where workers may become idle for too long.
const PAUSE_NS: u64 = 1_000_000_000;

/// The most workers of one function.
pub const WORKERS_MAX: u32 = 1024;

/// How many workers, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Kept ready.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// How long one above the least may be idle, in nanoseconds; 0: for good.
    pub idle_ns: u64,
    /// How long a start may take, in nanoseconds.
    pub start_within_ns: u64,
}

impl Size {
    /// What a workflow asks for.
    pub fn of(spec: &FunctionSpec, start_within_ns: u64) -> Size {
        let instances = spec.instances();
        let workers = spec.concurrency.clamp(1, WORKERS_MAX);
        let most = if instances.max == 0 { workers.max(spec.warm) } else { instances.max.max(spec.warm) };
        let most = most.clamp(1, WORKERS_MAX);
        Size { least: spec.warm.min(most), most, idle_ns: instances.idle_ns, start_within_ns }
    }
}

struct State {
    size: Size,
    idle: Vec<Instance>,
    /// Idle, at work, or being started.
    alive: u32,
    being_started: u32,
    /// Workers of the lane that wait for one.
    waiting: u32,
    /// Ends one after the other without an event in between that went well.
    failures: u32,
    not_before_ns: u64,
    /// Why the last start came to nothing.
    reason: String,
    let_go: Vec<Instance>,
}

struct Shared {
    workers: Box<dyn Workers>,
    plugin: &'static str,
    state: Mutex<State>,
    /// For the thread: there is something to do.
    bell: Condvar,
    /// For the lane: a worker is free, or a start came to nothing.
    arrived: Condvar,
    stop: AtomicBool,
    counters: RArc<FunctionCounters>,
}

/// The workers and their thread.
pub struct Pool {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pool {
    /// Starts the thread, which starts the workers.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new(
        name: &str,
        workers: Box<dyn Workers>,
        size: Size,
        nature: Nature,
        counters: RArc<FunctionCounters>,
    ) -> io::Result<Self> {
        let state = State {
            size,
            idle: Vec::with_capacity(size.most as usize),
            alive: 0,
            being_started: 0,
            waiting: 0,
            failures: 0,
            not_before_ns: 0,
            reason: String::new(),
            let_go: Vec::with_capacity(size.most as usize),
        };
        let shared = Arc::new(Shared {
            workers,
            plugin: nature.plugin,
            state: Mutex::new(state),
            bell: Condvar::new(),
            arrived: Condvar::new(),
            stop: AtomicBool::new(false),
            counters,
        });
        let (of_thread, function) = (Arc::clone(&shared), name.to_owned());
        let thread = thread_for(nature.plugin, name).spawn(move || {
            nature.assume(&function);
            of_thread.run(&function);
        })?;
        Ok(Pool { shared, thread: Mutex::new(Some(thread)) })
    }

    /// A free worker, waited for until the deadline (CLOCK_MONOTONIC, ns; 0: as long as a start may take).
    ///
    /// # Errors
    /// Whether the deadline has come (`true`), or there is none to be had (`false`).
    pub fn take(&self, deadline_ns: u64) -> Result<Instance, bool> {
        let shared = &self.shared;
        let mut state = locked(&shared.state);
        let until = if deadline_ns == 0 { now_ns() + state.size.start_within_ns } else { deadline_ns };
        let mut asked = false;
        loop {
            if let Some(instance) = state.idle.pop() {
                shared.counters.warm.set(state.idle.len() as u64);
                state.waiting -= u32::from(asked);
                return Ok(instance);
            }
            let now = now_ns();
            if shared.stop.load(Ordering::Relaxed) || now >= until {
                state.waiting -= u32::from(asked);
                return Err(deadline_ns != 0 && now >= until);
            }
            if !asked {
                asked = true;
                state.waiting += 1;
                shared.bell.notify_one();
            }
            let time = Duration::from_nanos(until - now);
            state = shared.arrived.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same, but one that has ended meanwhile, or spoke without being asked, is given no event. The pause between
    /// starts bounds how often that can be.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn take_at_rest(&self, deadline_ns: u64) -> Result<Instance, bool> {
        loop {
            let instance = self.take(deadline_ns)?;
            if instance.is_at_rest() {
                return Ok(instance);
            }
            self.shared.counters.crashed.add(1);
            self.lost(false);
        }
    }

    /// There was no worker to be had.
    pub(crate) fn none(&self, deadline: bool, output: &mut Output<'_>) -> Outcome {
        let reason = self.reason();
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

    /// Gives a worker back that has answered well enough to take the next event.
    pub fn put(&self, mut instance: Instance, recycle: bool) {
        let mut state = locked(&self.shared.state);
        state.failures = 0;
        state.not_before_ns = 0;
        if recycle {
            state.alive -= 1;
            state.let_go.push(instance);
            self.shared.bell.notify_one();
            return;
        }
        instance.idle_since_ns = now_ns();
        state.idle.push(instance);
        self.shared.counters.warm.set(state.idle.len() as u64);
        if state.waiting > 0 {
            self.shared.arrived.notify_one();
        }
    }

    /// A worker has ended in the middle of an event. `well`: it was ended for its own event's sake.
    pub fn lost(&self, well: bool) {
        let mut state = locked(&self.shared.state);
        state.alive -= 1;
        if !well {
            state.fail();
        }
        self.shared.bell.notify_one();
    }

    /// Keeps so many ready from now on; waits until they are, or one cannot be. The answer is how many are.
    pub fn warm(&self, instances: u32) -> u32 {
        let shared = &self.shared;
        let mut state = locked(&shared.state);
        state.size.least = instances.min(state.size.most);
        // A start that takes too long is given up there, and is a failure here then.
        let until = now_ns() + 2 * state.size.start_within_ns;
        let failures = state.failures;
        shared.bell.notify_one();
        while state.alive - state.being_started < state.size.least && state.failures <= failures {
            let now = now_ns();
            if now >= until || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let time = Duration::from_nanos(until - now);
            state = shared.arrived.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.alive - state.being_started
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

    /// Something has befallen what workers run in: those that have ended with it are replaced now instead of at the
    /// next event, and without the pause that is for workers which end by themselves. Not on the event's road.
    pub fn look(&self) {
        let mut ended = Vec::new();
        let mut state = locked(&self.shared.state);
        // In place: on the event's road the list must not grow.
        for at in (0..state.idle.len()).rev() {
            if !state.idle[at].is_at_rest() {
                ended.push(state.idle.remove(at));
            }
        }
        state.alive -= ended.len() as u32;
        (state.failures, state.not_before_ns) = (0, 0);
        self.shared.counters.warm.set(state.idle.len() as u64);
        self.shared.bell.notify_one();
        drop(state);
        drop(ended);
    }

    /// Why the last start came to nothing; empty where none did.
    pub fn reason(&self) -> String {
        locked(&self.shared.state).reason.clone()
    }

    /// Ends the thread and all workers.
    pub fn stop(&self, until_ns: u64) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            let _state = locked(&self.shared.state);
            self.shared.bell.notify_all();
            self.shared.arrived.notify_all();
        }
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        }
        let mut state = locked(&self.shared.state);
        let State { idle, let_go, .. } = &mut *state;
        let until = until_ns.min(now_ns() + END_NS);
        idle.drain(..).chain(let_go.drain(..)).for_each(|instance| instance.end(until));
        self.shared.counters.warm.set(0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop(0);
    }
}

impl State {
    fn fail(&mut self) {
        // The first replacement comes at once.
        let pause = match self.failures {
            0 => 0,
            many => (BACK_OFF_FIRST_NS << many.min(8)).min(BACK_OFF_MOST_NS),
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before_ns = now_ns() + pause;
    }

    /// Whether one more is wanted.
    fn wants_more(&self) -> bool {
        let ready = self.idle.len() as u32 + self.being_started;
        self.alive < self.size.least || (self.waiting > ready && self.alive < self.size.most)
    }

    /// Takes those out that have been idle for too long; the answer is when the next one will be.
    fn expire(&mut self, now: u64) -> u64 {
        let Size { least, idle_ns, .. } = self.size;
        if idle_ns == 0 {
            return u64::MAX;
        }
        // The last is used first, so the first has been idle for longest.
        while self.alive > least
            && self.idle.first().is_some_and(|first| first.idle_since_ns + idle_ns <= now)
        {
            let instance = self.idle.remove(0);
            self.alive -= 1;
            self.let_go.push(instance);
        }
        match self.idle.first() {
            Some(first) if self.alive > least => first.idle_since_ns + idle_ns,
            _ => u64::MAX,
        }
    }
}

impl Shared {
    fn run(&self, function: &str) {
        let mut state = locked(&self.state);
        while !self.stop.load(Ordering::Relaxed) {
            let now = now_ns();
            let next = state.expire(now);
            self.counters.warm.set(state.idle.len() as u64);
            if !state.let_go.is_empty() {
                let instance = state.let_go.pop();
                drop(state);
                if let Some(instance) = instance {
                    instance.end(now + END_NS);
                }
                state = locked(&self.state);
                continue;
            }
            let wanted = state.wants_more();
            if wanted && state.not_before_ns <= now {
                state.alive += 1;
                state.being_started += 1;
                drop(state);
                let started = self.start_one(function);
                state = locked(&self.state);
                state.being_started -= 1;
                match started {
                    Ok(mut instance) => {
                        instance.idle_since_ns = now_ns();
                        state.idle.push(instance);
                        state.reason.clear();
                    }
                    Err(reason) => {
                        state.alive -= 1;
                        // Even the first that does not start is waited after: it was no event's doing.
                        state.failures = state.failures.max(1);
                        state.fail();
                        state.reason = reason;
                    }
                }
                self.counters.warm.set(state.idle.len() as u64);
                self.arrived.notify_all();
                continue;
            }
            let until = if wanted { next.min(state.not_before_ns) } else { next };
            state = if until == u64::MAX && state.size.idle_ns == 0 {
                self.bell.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                // A worker that comes back does not ring: it is found idle when the pause is over.
                let time = Duration::from_nanos(until.saturating_sub(now).min(PAUSE_NS));
                self.bell.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn start_one(&self, function: &str) -> Result<Instance, String> {
        let until = now_ns() + locked(&self.state).size.start_within_ns;
        let started = match self.workers.start() {
            Ok(instance) => instance.wait_until_ready(until, &self.stop),
            // What it runs in is not there for now; that was said when it went.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Err(error.to_string()),
            Err(error) => Err(format!("it could not be started: {error}")),
        };
        match &started {
            Ok(_) => self.counters.started.add(1),
            Err(reason) if !self.stop.load(Ordering::Relaxed) => {
                self.counters.crashed.add(1);
                let sentence = format!("function of workflow \"{function}\": no worker more: {reason}");
                tempos_abi::export::log(LogLevel::WARNING, self.plugin, &sentence);
            }
            Err(_) => {}
        }
        started
    }
}
