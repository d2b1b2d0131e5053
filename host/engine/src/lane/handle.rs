//! The controller's side of a lane: its threads, its tables, its rings, and what is done when the
//! supervisor has taken it from an owner.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};
use tempos_abi::level::QosLevel;
use tempos_abi::queue::QueueBox;
use tempos_control::LevelSpec;

use super::order::{INJECTED, Injected, LaneNotice, NOTICES};
use super::pool::{Pool, PoolSize};
use super::shared::LaneShared;
use super::state::{InCall, LaneParts, LaneRings, LaneState, Scratch};
use super::supervisor::{Share, Supervisor, Verdicts, Ward};
use super::tables::LaneTables;
use super::threads::{STACK_BYTES, Worker, prepare_thread, start_worker, thread_name};
use crate::processing::invoker::FunctionPort;
use crate::system::memory;
use crate::system::scheduling::{self, ThreadId};

/// The longest that a lane may take to notice new tables; it notices them at its next turn.
const SWAP_LIMIT: Duration = Duration::from_secs(5);

struct StateCell(UnsafeCell<LaneState>);

// SAFETY: the lane's owner alone touches the content; the controller only after that owner has ended or
// was disowned.
unsafe impl Sync for StateCell {}
// SAFETY: `LaneState` can be sent.
unsafe impl Send for StateCell {}

/// A running lane.
pub struct Lane {
    /// The level as it is in force.
    pub spec: LevelSpec,
    /// Its index.
    pub level: QosLevel,
    /// Its shared side.
    pub shared: Arc<LaneShared>,
    state: Arc<StateCell>,
    tables: Arc<LaneTables>,
    thread: Option<JoinHandle<()>>,
    workers: Vec<Worker>,
    /// Workers in the place of lost ones that the lane could not take yet.
    waiting_ports: Vec<(u32, FunctionPort)>,
    verdicts: Arc<Verdicts>,
    supervisor: Arc<Supervisor>,
    injected: Producer<Box<Injected>>,
    emptied: Consumer<Box<Injected>>,
    notices: Consumer<LaneNotice>,
    lock_memory: bool,
    /// Threads that did not come back from a plugin.
    pub abandoned: u64,
    /// Whether the pool's memory is locked.
    pub is_locked: bool,
    /// Ids of topics and channels that the lane has room for: beyond them it must be rebuilt.
    pub ids: usize,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("level", &self.spec.name).finish_non_exhaustive()
    }
}

/// The pool that a level asks for.
pub fn pool_size(spec: &LevelSpec, lock: bool) -> PoolSize {
    PoolSize {
        events: spec.queue.capacity_events,
        bytes: spec.queue.capacity_bytes,
        event_bytes_max: spec.event_bytes_max,
        lock,
    }
}

impl Lane {
    /// Starts a lane with its first tables.
    ///
    /// # Errors
    /// What the system says (ENOMEM, EMFILE, EAGAIN).
    pub fn start(
        spec: LevelSpec,
        level: QosLevel,
        queue: QueueBox,
        tables: Arc<LaneTables>,
        supervisor: &Arc<Supervisor>,
        lock_memory: bool,
    ) -> io::Result<Lane> {
        let shared = Arc::new(LaneShared::new(spec.name.as_str().into())?);
        let pool = Pool::new(pool_size(&spec, lock_memory))?;
        let is_locked = pool.is_locked();
        let (mut injected, from_control) = RingBuffer::new(INJECTED);
        let (mut to_control, emptied) = RingBuffer::new(INJECTED);
        let (mut tell, notices) = RingBuffer::new(NOTICES);
        settle_ring(&mut injected, lock_memory);
        settle_ring(&mut to_control, lock_memory);
        settle_ring(&mut tell, lock_memory);
        let mut workers = Vec::new();
        let mut ports = Vec::new();
        for number in 0..spec.workers.max(1) {
            let (worker, port) = start_worker(&spec, number, &shared, supervisor, lock_memory)?;
            workers.push(worker);
            ports.push(port);
        }
        let state = LaneState::new(LaneParts {
            shared: Arc::clone(&shared),
            level,
            first_event_id: u64::from(level.0) << 56,
            pool,
            queue,
            scratch: Scratch::new(spec.event_bytes_max, spec.batch, lock_memory)?,
            rings: LaneRings { injected: from_control, emptied: to_control, notices: tell },
            ports,
            tables: &raw const *tables,
            ids: room_for_ids(&tables),
        });
        let state = Arc::new(StateCell(UnsafeCell::new(state)));
        let verdicts = supervisor.watch(Ward::Lane(Arc::clone(&shared)), Share::of(&spec, false));
        let mut lane = Lane {
            spec,
            level,
            shared,
            state,
            tables,
            thread: None,
            workers,
            waiting_ports: Vec::new(),
            verdicts,
            supervisor: Arc::clone(supervisor),
            injected,
            emptied,
            notices,
            lock_memory,
            abandoned: 0,
            is_locked,
            ids: 0,
        };
        lane.ids = room_for_ids(&lane.tables);
        lane.spawn()?;
        Ok(lane)
    }

    fn spawn(&mut self) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let shared = Arc::clone(&self.shared);
        let (scheduler, cpus, lock) = (self.spec.scheduler.clone(), self.spec.cpus.clone(), self.lock_memory);
        // Whoever asks next is to see the successor's scheduling, not that of the thread that was lost.
        shared.forget_thread();
        let thread = std::thread::Builder::new()
            .name(thread_name("lane", &self.spec.name))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                prepare_thread(&scheduler, &cpus, lock);
                shared.set_thread(ThreadId::current());
                // SAFETY: this thread was started as the owner of the present epoch; the state goes with it.
                unsafe { super::worker::run(state.0.get()) };
            })?;
        self.thread = Some(thread);
        let patience = Instant::now() + SWAP_LIMIT;
        while self.shared.thread().is_none() && Instant::now() < patience {
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// The tables in force.
    pub fn tables(&self) -> &LaneTables {
        &self.tables
    }

    /// Puts new tables into force; the old ones come back once the lane has left them.
    ///
    /// # Errors
    /// The new tables, where the lane did not take them in time: it goes on with the old ones.
    pub fn swap(&mut self, tables: Arc<LaneTables>) -> Result<Arc<LaneTables>, Arc<LaneTables>> {
        let before = self.shared.taken();
        self.shared.publish(&tables);
        let patience = Instant::now() + SWAP_LIMIT;
        let mut pause = Duration::from_micros(20);
        while self.shared.taken() == before {
            if Instant::now() > patience && self.shared.take_next_tables().is_some() {
                return Err(tables);
            }
            self.attend();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        Ok(std::mem::replace(&mut self.tables, tables))
    }

    /// Puts an event into the lane; `false` where too many are on their way already.
    pub fn inject(&mut self, event: Injected) -> bool {
        while self.emptied.pop().is_ok() {}
        if self.injected.push(Box::new(event)).is_err() {
            return false;
        }
        self.shared.announce_injected();
        true
    }

    /// What the lane has told since the last call.
    pub fn notices(&mut self) -> impl Iterator<Item = LaneNotice> {
        std::iter::from_fn(|| self.notices.pop().ok())
    }

    /// Starts successors of owners that the supervisor has disowned, and promotes again whoever came back
    /// after it was demoted. One sentence for each.
    pub fn attend(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        if self.verdicts.disowned.swap(false, Ordering::AcqRel) {
            self.verdicts.demoted.store(false, Ordering::Release);
            said.push(self.succeed());
        } else if self.verdicts.demoted.load(Ordering::Acquire)
            && self.shared.ownership.beat().doing == super::ownership::Doing::Own
            && let Some(thread) = self.shared.thread()
        {
            self.verdicts.demoted.store(false, Ordering::Release);
            let _ = scheduling::apply(thread, &self.spec.scheduler);
            said.push(format!("the queue worker of level {} came back late from a plugin", self.spec.name));
        }
        for number in 0..self.workers.len() {
            said.extend(self.attend_worker(number));
        }
        // The lane takes one at a time: the others wait for the next look.
        if let Some((number, port)) = self.waiting_ports.pop()
            && let Err(port) = self.shared.offer_port(number, port)
        {
            self.waiting_ports.push((number, port));
        }
        said
    }

    /// Starts a new queue worker in the place of one that did not come back.
    fn succeed(&mut self) -> String {
        self.abandoned += 1;
        // SAFETY: the former owner was disowned: it leaves without touching the state, whenever it may
        // come back; no other thread has been started.
        let state = unsafe { &mut *self.state.0.get() };
        let what = match state.in_call {
            InCall::Nothing => "between two calls",
            InCall::Receive { .. } => "receiving from a channel",
            InCall::Send { .. } => "sending to a channel",
            InCall::Policy => "in its queue policy",
            InCall::Function { .. } => "in an inline function",
        };
        if matches!(state.in_call, InCall::Receive { .. })
            && let Ok(scratch) = Scratch::new(self.spec.event_bytes_max, self.spec.batch, self.lock_memory)
        {
            // The lost thread may still write into the former one.
            std::mem::forget(std::mem::replace(&mut state.scratch, scratch));
        }
        state.recover();
        let sentence = format!(
            "the queue worker of level {} did not come back while {what} and was replaced",
            self.spec.name
        );
        // The lost thread is never joined.
        drop(self.thread.take());
        match self.spawn() {
            Ok(()) => sentence,
            Err(error) => format!("{sentence}, but no thread could be started: {error}"),
        }
    }

    fn attend_worker(&mut self, number: usize) -> Option<String> {
        let worker = &self.workers[number];
        if worker.verdicts.disowned.swap(false, Ordering::AcqRel) {
            return Some(self.succeed_worker(number));
        }
        if worker.verdicts.demoted.load(Ordering::Acquire)
            && worker.shared.ownership.beat().doing == super::ownership::Doing::Own
            && let Some(thread) = worker.shared.thread()
        {
            worker.verdicts.demoted.store(false, Ordering::Release);
            let scheduler = scheduling::for_functions(&self.spec.scheduler, self.spec.function_priority);
            let _ = scheduling::apply(thread, &scheduler);
        }
        None
    }

    /// Starts a new function worker in the place of one that did not come back. The lane itself takes the
    /// lost jobs over: see [`LaneState::replace_port`].
    fn succeed_worker(&mut self, number: usize) -> String {
        self.abandoned += 1;
        let sentence = format!(
            "a function worker of level {} did not come back at its deadline and was replaced",
            self.spec.name
        );
        match start_worker(&self.spec, number as u32, &self.shared, &self.supervisor, self.lock_memory) {
            Ok((worker, port)) => {
                let lost = std::mem::replace(&mut self.workers[number], worker);
                self.supervisor.forget(&lost.verdicts);
                // Never joined; what it may still touch stays alive with it.
                std::mem::forget(lost.shared);
                self.waiting_ports.push((number as u32, port));
                sentence
            }
            Err(error) => format!("{sentence}, but no thread could be started: {error}"),
        }
    }

    /// Moves the lane's threads to other scheduling. What the level holds is not touched.
    ///
    /// # Errors
    /// What the system says; some threads may have been moved.
    pub fn reschedule(&mut self, spec: &LevelSpec) -> io::Result<()> {
        if let Some(thread) = self.shared.thread() {
            // A deadline thread cannot be pinned: the CPUs come first.
            scheduling::pin(thread, &spec.cpus)?;
            scheduling::apply_best(thread, &spec.scheduler)?;
        }
        let scheduler = scheduling::for_functions(&spec.scheduler, spec.function_priority);
        for worker in &self.workers {
            if let Some(thread) = worker.shared.thread() {
                scheduling::pin(thread, &spec.cpus)?;
                scheduling::apply_best(thread, &scheduler)?;
            }
        }
        Ok(())
    }

    /// The level says something else of the lane's rank or share.
    pub fn set_share(&self, spec: &LevelSpec) {
        self.supervisor.set_share(&self.verdicts, &Share::of(spec, false));
        for worker in &self.workers {
            self.supervisor.set_share(&worker.verdicts, &Share::of(spec, true));
        }
    }

    /// Whether the supervisor has taken the queue worker's scheduling for the moment.
    pub fn is_demoted(&self) -> bool {
        self.verdicts.demoted.load(Ordering::Acquire) || self.verdicts.disowned.load(Ordering::Acquire)
    }

    /// What a function worker runs as, where that is not what its level asked for.
    pub fn functions_instead(&self) -> Option<String> {
        let spec = &self.spec;
        let wanted =
            scheduling::requested(&scheduling::for_functions(&spec.scheduler, spec.function_priority));
        let threads = self.workers.iter().filter_map(|worker| worker.shared.thread());
        threads.map(scheduling::granted).find(|got| *got != wanted)
    }

    /// The threads of the lane: name, policy in force.
    pub fn threads(&self) -> Vec<(String, ThreadId)> {
        let mut threads = Vec::new();
        if let Some(thread) = self.shared.thread() {
            threads.push((String::from("queue worker"), thread));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if let Some(thread) = worker.shared.thread() {
                threads.push((format!("function worker {}", number + 1), thread));
            }
        }
        threads
    }

    /// Brings a changed level into force: stops the queue worker between two turns, moves everything that
    /// the lane holds into a new pool and a new queue, and starts it again. Sockets hold what arrives
    /// meanwhile. `tables` are the present ones with what the new level says.
    ///
    /// # Errors
    /// What the system says; the lane then goes on as it was.
    pub fn rebuild(
        &mut self,
        spec: LevelSpec,
        queue: QueueBox,
        tables: Arc<LaneTables>,
    ) -> io::Result<Arc<LaneTables>> {
        let pool = Pool::new(pool_size(&spec, self.lock_memory))?;
        let scratch = Scratch::new(spec.event_bytes_max, spec.batch, self.lock_memory)?;
        let mut workers = Vec::new();
        let mut ports = Vec::new();
        for number in 0..spec.workers.max(1) {
            let (worker, port) =
                start_worker(&spec, number, &self.shared, &self.supervisor, self.lock_memory)?;
            workers.push(worker);
            ports.push(port);
        }
        if !self.pause() {
            for worker in workers {
                self.end_worker(worker);
            }
            return Err(io::Error::other("the queue worker did not stop in time"));
        }
        self.waiting_ports.clear();
        self.is_locked = pool.is_locked();
        // SAFETY: the queue worker has ended, and no other was started.
        let state = unsafe { &mut *self.state.0.get() };
        state.settle_functions(Instant::now() + SWAP_LIMIT);
        let ids = room_for_ids(&tables);
        state.move_into(pool, queue, scratch, ports, &tables, ids);
        self.ids = ids;
        for worker in std::mem::replace(&mut self.workers, workers) {
            self.end_worker(worker);
        }
        self.spec = spec;
        let old = std::mem::replace(&mut self.tables, tables);
        self.shared.resume();
        self.spawn()?;
        Ok(old)
    }

    /// Ends the queue worker between two turns; `false` where it does not come.
    fn pause(&mut self) -> bool {
        self.shared.ask_to_stop();
        let patience = Instant::now() + SWAP_LIMIT;
        while Instant::now() < patience {
            self.attend();
            match &self.thread {
                Some(thread) if thread.is_finished() => {
                    if let Some(thread) = self.thread.take() {
                        let _ = thread.join();
                    }
                    return true;
                }
                _ => std::thread::sleep(Duration::from_micros(100)),
            }
        }
        self.shared.cancel_stop();
        std::thread::sleep(Duration::from_millis(20));
        // It may have seen the wish at the last moment.
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn end_worker(&self, worker: Worker) {
        self.supervisor.forget(&worker.verdicts);
        worker.shared.ask_to_stop();
        worker.thread.thread().unpark();
        if worker.shared.ownership.beat().doing == super::ownership::Doing::Own {
            let _ = worker.thread.join();
        } else {
            // It hangs in a function: should it come back, it leaves. What it may touch stays.
            worker.shared.ownership.disown(worker.shared.ownership.beat());
            std::mem::forget(worker.shared);
            std::mem::forget(Arc::clone(&self.state));
        }
    }

    /// Ends the lane's threads; what it still holds is let go with it.
    pub fn stop(mut self) {
        self.shared.ask_to_stop();
        self.supervisor.forget(&self.verdicts);
        if let Some(thread) = self.thread.take() {
            let patience = Instant::now() + Duration::from_secs(1);
            while !thread.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(200));
            }
            if !thread.is_finished() {
                // It hangs in a plugin: everything that it may touch stays.
                std::mem::forget(Arc::clone(&self.state));
                std::mem::forget(self);
                return;
            }
        }
        for worker in std::mem::take(&mut self.workers) {
            self.end_worker(worker);
        }
    }
}

/// Touches all of an empty ring, so that its first round faults nothing in.
fn settle_ring<T>(ring: &mut Producer<T>, lock: bool) {
    let slots = ring.slots();
    if let Ok(mut chunk) = ring.write_chunk_uninit(slots) {
        let (first, second) = chunk.as_mut_slices();
        for part in [first, second] {
            part.iter_mut().for_each(|slot| *slot = MaybeUninit::zeroed());
            memory::settle(part, lock);
        }
    }
}

/// Room for twice as many topics and channels as there are.
pub fn room_for_ids(tables: &LaneTables) -> usize {
    (tables.topics.len().max(tables.outlets.len()) * 2).next_power_of_two().max(1024)
}
