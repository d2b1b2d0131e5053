//! Invocation methods: how a function is made ready and run.
//!
//! Thread contract: `invoke` is called by a lane's function workers, or by its queue worker for a
//! function that was declared inline; several at once where the workflow's concurrency allows it. What a
//! method can do without allocating or blocking, it does so. Everything else runs on ordinary threads.

use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RArc, RBox, RResult, RString};

use crate::counters::FunctionCounters;
use crate::error::PluginError;
use crate::event::{EventView, Output};
use crate::guard::{Guard, Kept};
use crate::level::QosLevel;
use crate::options::Options;

/// A function as a workflow declares it.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct FunctionSpec {
    /// The workflow's name, for sentences.
    pub name: RString,
    /// The function's file, absolute. A method that looks for it elsewhere than on the node, as inside a container,
    /// says so by an option `file` in its table; the host then does not miss it.
    pub file: RString,
    /// The level of the lane that will call it.
    pub level: QosLevel,
    /// Instances to keep ready.
    pub warm: u32,
    /// The most invocations at once; `InvokeContext::worker` is below it.
    pub concurrency: u32,
    /// The largest output in bytes.
    pub output_bytes_max: u32,
    /// The longest that an invocation may take, in nanoseconds; 0: no bound.
    pub deadline_ns: u64,
    /// The most memory of an instance in bytes; 0: no bound.
    pub memory_bytes: u64,
    /// The method's own options, checked against the option table.
    pub options: Options,
    /// The block that the function counts in.
    pub counters: RArc<FunctionCounters>,
    /// Scheduling, CPUs and instances: see [`FunctionSpec::scheduling`], [`FunctionSpec::instances`]. Zero from
    /// hosts before 1.1.
    pub reserved: [u64; 4],
}

/// How the function workers of a level are scheduled, so that what a method starts for it runs likewise (since
/// 1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// The policy's number, as sched(7) has it: SCHED_OTHER 0, SCHED_FIFO 1, SCHED_RR 2.
    pub policy: u8,
    /// The real-time priority, 1 to 99; 0 without one.
    pub priority: u8,
    /// The nice value, -20 to 19.
    pub nice: i8,
    /// The CPUs, a bit for each of the first 64; 0: all.
    pub cpus: u64,
}

impl Scheduling {
    /// One step below, for a process that is ended by whom this is the scheduling of: one that loops must not keep
    /// him off the CPU (sched(7): SCHED_FIFO does not share between equals). Nothing changes without real time.
    #[must_use]
    pub const fn beneath(self) -> Self {
        match self.priority {
            0 => self,
            // There is no step left within real time.
            1 => Scheduling { policy: 0, priority: 0, ..self },
            priority => Scheduling { priority: priority - 1, ..self },
        }
    }
}

/// How many instances a method may have, and for how long (since 1.1). `FunctionSpec::warm` is the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// The most that stay ready; 0: as many as may run at once.
    pub max: u32,
    /// Events after which one is replaced by a fresh one; 0: never.
    pub recycle_after: u32,
    /// How long one above the least may have nothing to do before it is let go, in nanoseconds; 0: for good.
    pub idle_ns: u64,
}

impl FunctionSpec {
    /// How the threads that call it are scheduled (since 1.1).
    pub const fn scheduling(&self) -> Scheduling {
        let bytes = self.reserved[0].to_le_bytes();
        Scheduling { policy: bytes[0], priority: bytes[1], nice: bytes[2] as i8, cpus: self.reserved[1] }
    }

    /// How many instances it may have (since 1.1).
    pub const fn instances(&self) -> Instances {
        Instances {
            max: self.reserved[2] as u32,
            recycle_after: (self.reserved[2] >> 32) as u32,
            idle_ns: self.reserved[3],
        }
    }

    /// What `reserved` holds for these two.
    pub const fn reserved_for(scheduling: Scheduling, instances: Instances) -> [u64; 4] {
        let Scheduling { policy, priority, nice, cpus } = scheduling;
        [
            u64::from_le_bytes([policy, priority, nice as u8, 0, 0, 0, 0, 0]),
            cpus,
            instances.max as u64 | (instances.recycle_after as u64) << 32,
            instances.idle_ns,
        ]
    }
}

/// What surrounds one invocation.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct InvokeContext {
    /// Which of the workflow's concurrent invocations this is, from 0.
    pub worker: u32,
    /// For later minor versions; zero.
    pub flags: u32,
    /// When the invocation must be over (CLOCK_MONOTONIC, ns); 0: no bound.
    pub deadline_ns: u64,
    /// For later minor versions; zero.
    pub reserved: [u64; 2],
}

/// How an invocation ended.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome(pub i32);

impl Outcome {
    /// It ended well; the output, where it made one, goes on.
    pub const DONE: Outcome = Outcome(0);
    /// The function answered that it failed. Its own code, where it is 1 to 255, is kept: see [`Outcome::failed`].
    pub const FAILED: Outcome = Outcome(1);
    /// It ended well, but after its deadline.
    pub const LATE: Outcome = Outcome(-1);
    /// It was stopped at its deadline.
    pub const KILLED: Outcome = Outcome(-2);
    /// It crashed.
    pub const CRASHED: Outcome = Outcome(-3);
    /// It asked for more memory than it may have.
    pub const OVER_MEMORY: Outcome = Outcome(-4);
    /// Its output is not what the method's contract says.
    pub const BAD_OUTPUT: Outcome = Outcome(-5);
    /// Its output is larger than the workflow allows.
    pub const OUTPUT_TOO_LARGE: Outcome = Outcome(-6);
    /// The method could not start it.
    pub const NOT_STARTED: Outcome = Outcome(-7);
    /// The plugin panicked.
    pub const PANICKED: Outcome = Outcome(-8);

    /// A failure with the function's own code.
    pub const fn failed(code: u8) -> Outcome {
        Outcome(if code == 0 { 1 } else { code as i32 })
    }

    /// The word for it, as counters and signals use it.
    pub const fn word(self) -> &'static str {
        match self.0 {
            0 => "done",
            -1 => "late",
            -2 => "killed",
            -3 => "crashed",
            -4 => "over-memory",
            -5 => "bad-output",
            -6 => "output-too-large",
            -7 => "not-started",
            -8 => "panicked",
            _ => "failed",
        }
    }
}

/// A way to run functions.
pub trait InvocationMethod: Send + Sync + 'static {
    /// What its `prepare` makes.
    type Function: Function;

    /// Makes a function ready, off the event's road.
    ///
    /// # Errors
    /// One sentence: what was wrong, and what would be right.
    fn prepare(&self, spec: &FunctionSpec) -> Result<Self::Function, PluginError>;
}

/// A function that is ready.
pub trait Function: Send + Sync + 'static {
    /// Runs it on one event.
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome;

    /// Asks the invocation of that worker to end early. Called from another thread.
    fn cancel(&self, worker: u32) {
        let _ = worker;
    }

    /// Makes instances ready; the answer is how many are.
    fn warm(&self, instances: u32) -> u32 {
        instances
    }

    /// Lets go of everything: no invocation runs or follows. Bounded by `deadline_ns` (CLOCK_MONOTONIC).
    fn retire(&self, deadline_ns: u64) {
        let _ = deadline_ns;
    }
}

/// [`InvocationMethod`] as it crosses the border. Methods are only appended, after the last one.
#[sabi_trait]
pub trait RawInvocationMethod: Send + Sync + 'static {
    /// See [`InvocationMethod::prepare`].
    #[sabi(last_prefix_field)]
    fn prepare(&self, spec: &FunctionSpec) -> RResult<FunctionBox, PluginError>;
}

/// [`Function`] as it crosses the border. Methods are only appended, after the last one.
#[sabi_trait]
pub trait RawFunction: Send + Sync + 'static {
    /// See [`Function::invoke`].
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome;
    /// See [`Function::cancel`].
    fn cancel(&self, worker: u32);
    /// See [`Function::warm`].
    fn warm(&self, instances: u32) -> u32;
    /// See [`Function::retire`].
    #[sabi(last_prefix_field)]
    fn retire(&self, deadline_ns: u64);
}

/// An invocation method on the host's side.
pub type InvocationMethodBox = RawInvocationMethod_TO<RBox<()>>;
/// A function on the host's side.
pub type FunctionBox = RawFunction_TO<RBox<()>>;

struct GuardedMethod<M> {
    plugin: &'static str,
    inner: Kept<M>,
}

impl<M: InvocationMethod> RawInvocationMethod for GuardedMethod<M> {
    fn prepare(&self, spec: &FunctionSpec) -> RResult<FunctionBox, PluginError> {
        Guard::default()
            .run_cold(self.plugin, "prepare", || {
                let inner = Kept::new(self.inner.prepare(spec)?);
                Ok(RawFunction_TO::from_value(GuardedFunction { inner, guard: Guard::default() }, TD_Opaque))
            })
            .into()
    }
}

struct GuardedFunction<F> {
    inner: Kept<F>,
    guard: Guard,
}

impl<F: Function> RawFunction for GuardedFunction<F> {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        self.guard.run(Outcome::PANICKED, || self.inner.invoke(event, output, context))
    }

    fn cancel(&self, worker: u32) {
        self.guard.run((), || self.inner.cancel(worker));
    }

    fn warm(&self, instances: u32) -> u32 {
        self.guard.run(0, || self.inner.warm(instances))
    }

    fn retire(&self, deadline_ns: u64) {
        self.guard.run((), || self.inner.retire(deadline_ns));
    }
}

/// Puts an invocation method behind its guard. Called by the export macro.
pub fn guarded<M: InvocationMethod>(plugin: &'static str, inner: M) -> InvocationMethodBox {
    RawInvocationMethod_TO::from_value(GuardedMethod { plugin, inner: Kept::new(inner) }, TD_Opaque)
}
