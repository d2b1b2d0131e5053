//! Runs events on instances of a program: takes one that is ready or starts a fresh one, keeps the deadline, and
//! says how it went. On a lane's thread: nothing here waits, logs, or asks for memory beyond what the engine
//! itself does for an instance, as long as the guest does what it should.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::export;
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{Instances, InvokeContext, Outcome};
use tempos_abi::std_types::RArc;
use tokio::runtime::Runtime;
use wasmtime::Store;

use crate::clock::now_ns;
use crate::engine::Machine;
use crate::fault::{Circumstances, Fault, tell};
use crate::guest::{Guest, Shared};
use crate::keeper::{self, Chore};
use crate::program::Program;
use crate::shelf::Shelf;
use crate::watchdog::WATCHDOG;

/// The longest that an instance may take to start when none waits for it.
const START_LIMIT_NS: u64 = 5_000_000_000;
/// A start that takes longer is made ahead of the event, where instances are to be kept ready.
const HEAVY_NS: u64 = 20_000;
/// A guest that waits is asked so often whether it was cancelled.
const ASK_NS: u64 = 10_000_000;
const TRIALS: usize = 3;

/// An instance.
pub struct Running<E> {
    store: Store<Guest>,
    exports: E,
    served: u32,
}

/// What a workflow wants of its instances.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The same instance for one event after the other.
    pub reuse: bool,
    /// Fuel for an event.
    pub fuel: u64,
    /// How many events at once.
    pub concurrency: u32,
    /// How many are to be ready.
    pub warm: u32,
    /// The most, their age, their idle time.
    pub instances: Instances,
}

/// A program with its instances.
pub struct Runner<P: Program> {
    workflow: String,
    program: P,
    machine: &'static Machine,
    /// Where guests that wait do so.
    executor: Option<&'static Runtime>,
    shared: Arc<Shared>,
    wishes: Wishes,
    /// Instances are made ready ahead of events.
    stocked: bool,
    least: AtomicU32,
    shelf: Shelf<Running<P::Exports>>,
    counters: RArc<FunctionCounters>,
}

impl<P: Program> Runner<P> {
    /// Starts the program a few times, to see that it does and how long that takes.
    ///
    /// # Errors
    /// Half a sentence: why it does not start.
    pub fn new(
        workflow: &str,
        program: P,
        machine: &'static Machine,
        executor: Option<&'static Runtime>,
        shared: Arc<Shared>,
        wishes: Wishes,
        counters: RArc<FunctionCounters>,
    ) -> Result<Self, String> {
        let Instances { max, .. } = wishes.instances;
        let room = if max == 0 { wishes.concurrency.max(wishes.warm) } else { max };
        let mut runner = Runner {
            workflow: workflow.to_owned(),
            program,
            machine,
            executor,
            shared,
            wishes,
            stocked: true,
            least: AtomicU32::new(0),
            shelf: Shelf::new(room.clamp(1, 1024)),
            counters,
        };
        let mut shortest_ns = u64::MAX;
        for _ in 0..TRIALS {
            let begun = now_ns();
            let _trial = runner.start_ahead()?;
            shortest_ns = shortest_ns.min(now_ns().saturating_sub(begun));
        }
        runner.stocked = wishes.reuse || shortest_ns > HEAVY_NS;
        Ok(runner)
    }

    /// Works on an event.
    pub fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        let deadlines = &*self.shared.deadlines;
        let Some(place) = deadlines.begin(context.worker, context.deadline_ns) else {
            output.explain("too many of its invocations are under way already");
            return Outcome::NOT_STARTED;
        };
        let _place = Place { shared: &self.shared, place };
        if context.deadline_ns != 0 {
            WATCHDOG.notice();
        }
        let mut running = match self.ready(context, place) {
            Ok(running) => running,
            Err((fault, circumstances)) => return self.failed(output, &fault, circumstances),
        };
        // SAFETY: the event and the output outlive this call, and the loan ends within it: the instance is
        // either taken back below or dropped with the stack.
        unsafe { running.store.data_mut().lend(event, output) };
        let answer = match self.executor {
            None => self.program.call(&mut running.store, &running.exports, event),
            Some(executor) => self.wait(executor, context.deadline_ns, place, async {
                self.program.call_waiting(&mut running.store, &running.exports, event).await
            }),
        };
        running.store.data_mut().take_back();
        match answer {
            Ok(outcome) => {
                self.put_back(running, context.worker);
                // Whatever it made of that.
                if output.overflowed() {
                    return Outcome::OUTPUT_TOO_LARGE;
                }
                let late = context.deadline_ns != 0 && now_ns() > context.deadline_ns;
                if late && outcome == Outcome::DONE { Outcome::LATE } else { outcome }
            }
            Err(Fault::Contract(_)) if output.overflowed() => Outcome::OUTPUT_TOO_LARGE,
            Err(fault) => {
                let circumstances = self.circumstances(running.store.data(), false);
                drop(running);
                self.failed(output, &fault, circumstances)
            }
        }
    }

    /// Asks the invocation of that worker to end.
    pub fn cancel(&self, worker: u32) {
        if self.shared.deadlines.cancel(worker) {
            crate::engine::tick();
            WATCHDOG.wake();
        }
    }

    /// Makes instances ready; how many are.
    pub fn warm(&self, wanted: u32) -> u32 {
        let wanted = wanted.min(self.shelf.capacity());
        let ready = if self.stocked {
            self.least.store(wanted, Ordering::Relaxed);
            self.fill(wanted)
        } else {
            // They are let go again: what stays ready are their places in the engine's pool.
            let made: Vec<_> = (0..wanted).map_while(|_| self.start_ahead().ok()).collect();
            made.len() as u32
        };
        self.counters.warm.set(ready.into());
        ready
    }

    /// Lets go of every instance.
    pub fn retire(&self) {
        self.least.store(0, Ordering::Relaxed);
        while self.shelf.take(0).is_some() {}
        self.counters.warm.set(0);
        self.say();
    }

    /// How many invocations are under way.
    pub fn under_way(&self) -> usize {
        self.shared.deadlines.under_way()
    }

    /// An instance for an event: one from the shelf, or a fresh one.
    fn ready(
        &self,
        context: &InvokeContext,
        place: usize,
    ) -> Result<Running<P::Exports>, (Fault, Circumstances)> {
        if self.stocked
            && let Some(mut running) = self.shelf.take(context.worker)
        {
            let guest = running.store.data_mut();
            guest.place = place;
            guest.over_memory = false;
            match self.machine.refresh(&mut running.store, self.wishes.fuel) {
                Ok(()) => return Ok(running),
                Err(error) => return Err((error.into(), self.circumstances(running.store.data(), true))),
            }
        }
        self.start(context.deadline_ns, place)
    }

    fn start(&self, deadline_ns: u64, place: usize) -> Result<Running<P::Exports>, (Fault, Circumstances)> {
        let guest = Guest::new(Arc::clone(&self.shared), place);
        let unstarted = Circumstances {
            over_memory: false,
            memory_bytes: self.shared.memory_bytes,
            fuel: self.wishes.fuel,
            starting: true,
            cancelled: false,
        };
        let mut store =
            self.machine.store(guest, self.wishes.fuel).map_err(|error| (error.into(), unstarted))?;
        let started = match self.executor {
            None => self.program.start(&mut store),
            Some(executor) => self
                .wait(executor, deadline_ns, place, async { self.program.start_waiting(&mut store).await }),
        };
        match started {
            Ok(exports) => {
                self.counters.started.add(1);
                Ok(Running { store, exports, served: 0 })
            }
            Err(fault) => Err((fault, self.circumstances(store.data(), true))),
        }
    }

    /// Starts one that no event waits for.
    fn start_ahead(&self) -> Result<Running<P::Exports>, String> {
        let deadline_ns = now_ns() + START_LIMIT_NS;
        let deadlines = &self.shared.deadlines;
        let place = deadlines.begin(u32::MAX, deadline_ns).ok_or("too many invocations are under way")?;
        let _place = Place { shared: &self.shared, place };
        WATCHDOG.notice();
        self.start(deadline_ns, place).map_err(|(fault, circumstances)| fault.judge(circumstances).1)
    }

    fn put_back(&self, mut running: Running<P::Exports>, worker: u32) {
        if !self.wishes.reuse {
            drop(running);
            if self.stocked && self.shelf.len() < self.least.load(Ordering::Relaxed) {
                keeper::wake();
            }
            return;
        }
        running.served = running.served.saturating_add(1);
        let most = self.wishes.instances.recycle_after;
        if most == 0 || running.served < most {
            drop(self.shelf.put(worker, running, now_ns()));
        }
    }

    fn circumstances(&self, guest: &Guest, starting: bool) -> Circumstances {
        Circumstances {
            over_memory: guest.over_memory,
            memory_bytes: self.shared.memory_bytes,
            fuel: self.wishes.fuel,
            starting,
            cancelled: self.shared.deadlines.is_cancelled(guest.place),
        }
    }

    fn failed(&self, output: &mut Output<'_>, fault: &Fault, circumstances: Circumstances) -> Outcome {
        self.counters.crashed.add(1);
        tell(output, fault, circumstances)
    }

    /// Runs a guest that may wait, until it ends, its deadline is past, or it was cancelled. The calling thread
    /// sleeps by itself meanwhile, so that the deadline is kept by a thread of the level's own priority.
    fn wait<T>(
        &self,
        executor: &Runtime,
        deadline_ns: u64,
        place: usize,
        guest: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let _entered = executor.enter();
        let mut guest = pin!(guest);
        WAKER.with(|waker| {
            let mut context = Context::from_waker(waker);
            loop {
                if let Poll::Ready(answer) = guest.as_mut().poll(&mut context) {
                    return answer;
                }
                let now = now_ns();
                if self.shared.deadlines.is_over(place, now) {
                    return Err(Fault::Late);
                }
                let left_ns = if deadline_ns == 0 { ASK_NS } else { deadline_ns.saturating_sub(now) };
                std::thread::park_timeout(Duration::from_nanos(left_ns.min(ASK_NS)));
            }
        })
    }

    /// Starts instances until so many are ready; how many are.
    fn fill(&self, wanted: u32) -> u32 {
        // One that works on an event comes back, where instances are used again.
        let away = || if self.wishes.reuse { self.under_way() as u32 } else { 0 };
        while self.shelf.len() + away() < wanted {
            let Ok(running) = self.start_ahead() else { break };
            let at = self.shelf.len();
            if self.shelf.put(at, running, now_ns()).is_some() {
                break;
            }
        }
        self.shelf.len()
    }

    /// Carries guests' lines to the node's log.
    fn say(&self) {
        let workflow = &self.workflow;
        self.shared.journal.carry_on(
            |level, line| export::log(level, "wasm", &format!("workflow \"{workflow}\" says: {line}")),
            |count| {
                let sentence =
                    format!("workflow \"{workflow}\" said {count} lines more than are let through");
                export::log(LogLevel::WARNING, "wasm", &sentence);
            },
        );
    }
}

impl<P: Program> Chore for Runner<P> {
    fn attend(&self) {
        self.say();
        if !self.stocked {
            return;
        }
        let least = self.least.load(Ordering::Relaxed);
        let idle_ns = self.wishes.instances.idle_ns;
        if idle_ns != 0 {
            let since_ns = now_ns().saturating_sub(idle_ns);
            while self.shelf.take_idle(least, since_ns).is_some() {}
        }
        self.fill(least);
        self.counters.warm.set(self.shelf.len().into());
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
}

/// A thread that sleeps while its guest waits.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A place among the invocations under way, given up when dropped.
struct Place<'a> {
    shared: &'a Shared,
    place: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.deadlines.end(self.place);
    }
}
