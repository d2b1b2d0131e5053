//! A lane on the bench: its state is driven turn by turn, its workers move when they are told to, and its
//! successor takes over where a call did not come back.

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use rtrb::{Consumer, Producer, RingBuffer};
use tempos_abi::Options;
use tempos_abi::event::Output;
use tempos_abi::level::QosLevel;
use tempos_abi::queue::{QueueBox, QueueSpec, WhenFull};

use super::draft::Draft;
use super::plan::{CallPlan, ChannelPlan, Plan};
use super::world::{note, with};
use super::{fakes, policies};
use crate::lane::order::{EXPLANATION_BYTES, INJECTED, Injected, LaneNotice, NOTICES};
use crate::lane::ownership::{Disowned, Doing, Owner};
use crate::lane::pool::{Pool, PoolSize, handles_of};
use crate::lane::shared::LaneShared;
use crate::lane::state::{InCall, LaneParts, LaneRings, LaneState, Scratch};
use crate::lane::tables::{Handover, LaneTables, token};
use crate::processing::function_worker::{FunctionRings, FunctionShared, settle};
use crate::processing::invoker::FunctionPort;
use crate::stats::LOST;
use crate::system::clock::virtual_time;

/// Room for topics in every queue.
const TOPICS: u32 = 64;

/// What a level may say.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub size: PoolSize,
    pub batch: u32,
    pub workers: usize,
    pub policy: usize,
    pub when_full: WhenFull,
    pub block: bool,
}

impl Level {
    /// Whatever the seed gives.
    pub fn any() -> Self {
        with(|world| {
            let random = &mut world.random;
            let full = random.below(3);
            Level {
                size: PoolSize {
                    events: *random.pick(&[4, 16, 50, 200]),
                    bytes: *random.pick(&[16_384, 65_536, 262_144]),
                    event_bytes_max: *random.pick(&[600, 4096]),
                    lock: false,
                },
                batch: *random.pick(&[1, 2, 7, 32, 64]),
                workers: random.between(1, 3),
                policy: random.below(policies::COUNT),
                when_full: if full == 0 { WhenFull::EVICT } else { WhenFull::REFUSE },
                block: full == 1,
            }
        })
    }

    fn queue(&self, lane: usize) -> QueueBox {
        let spec = QueueSpec {
            handles: handles_of(self.size),
            topics: TOPICS,
            capacity_events: self.size.events,
            when_full: self.when_full,
            capacity_bytes: self.size.bytes,
            options: Options::new(),
            reserved: [0; 4],
        };
        fakes::watched(policies::open(self.policy, &spec), lane, self.size.events, self.size.bytes)
    }
}

/// A function worker's side.
pub struct Worker {
    pub shared: Arc<FunctionShared>,
    jobs: Consumer<u8>,
    done: Producer<u8>,
    owner: Owner,
    /// The job that it is at.
    pub running: Option<u8>,
}

/// A lane on the bench.
pub struct Rig {
    pub number: usize,
    pub level: Level,
    pub lane: Box<LaneState>,
    pub shared: Arc<LaneShared>,
    pub plan: Plan,
    pub workers: Vec<Worker>,
    tables: Arc<LaneTables>,
    injected: Producer<Box<Injected>>,
    emptied: Consumer<Box<Injected>>,
    notices: Consumer<LaneNotice>,
    /// Calls that went and may have jobs under way.
    pub retired: Vec<CallPlan>,
    /// What lost threads may still touch.
    lost: Vec<ManuallyDrop<Worker>>,
    /// How often the lane was taken away.
    pub taken_away: u32,
    /// Its queue has blocked its senders from the first event on, and nothing else came in.
    pub lossless: bool,
}

impl Rig {
    /// A lane with whatever first wiring the seed gives it.
    pub fn new(number: usize) -> Self {
        let level = Level::any();
        let mut draft = Draft::of(number, &Plan::default());
        for _ in 0..with(|world| world.random.between(1, 4)) {
            draft.add_topic();
        }
        Rig::of(number, level, draft)
    }

    /// A lane with this first wiring.
    pub fn of(number: usize, level: Level, draft: Draft) -> Self {
        let shared = Arc::new(LaneShared::new(format!("level{number}").into()).expect("descriptors"));
        with(|world| world.lanes.push(Arc::clone(&shared)));
        let tables = draft.plan.tables(level.batch, level.block, Handover::default());
        let (injected, from_control) = RingBuffer::new(INJECTED);
        let (to_control, emptied) = RingBuffer::new(INJECTED);
        let (tell, notices) = RingBuffer::new(NOTICES);
        let (workers, ports) = (0..level.workers).map(|_| worker()).unzip();
        let lane = Box::new(LaneState::new(LaneParts {
            shared: Arc::clone(&shared),
            level: QosLevel(number as u8),
            first_event_id: (number as u64) << 56,
            pool: Pool::new(level.size).expect("memory"),
            queue: level.queue(number),
            scratch: scratch(&level),
            rings: LaneRings { injected: from_control, emptied: to_control, notices: tell },
            ports,
            tables: &raw const *tables,
            ids: 64,
        }));
        let rig = Rig {
            number,
            level,
            lane,
            shared,
            plan: draft.plan.clone(),
            workers,
            tables,
            injected,
            emptied,
            notices,
            retired: Vec::new(),
            lost: Vec::new(),
            taken_away: 0,
            // The policy `newest` gives events up whatever the queue does.
            lossless: level.block && level.policy != policies::NEWEST,
        };
        rig.watch(&draft.new_sources);
        rig
    }

    fn watch(&self, sources: &[usize]) {
        for id in sources {
            let Some(plan) = &self.plan.sources[*id] else { continue };
            // SAFETY: nobody else is at the cell between two turns.
            let descriptor = unsafe { plan.cell.get() }.descriptor;
            // SAFETY: the world keeps it open while the channel is.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            self.shared
                .place
                .watch_readable(descriptor, token::source(*id as u32))
                .expect("it can be watched");
        }
        for (id, plan) in self.plan.outlets.iter().enumerate() {
            let Some(plan) = plan else { continue };
            // SAFETY: nobody else is at the cell between two turns.
            let outlet = unsafe { plan.cell.get() };
            if outlet.calls_back() && !outlet.failed && outlet.descriptor >= 0 {
                // SAFETY: the world keeps it open while the channel is.
                let descriptor = unsafe { BorrowedFd::borrow_raw(outlet.descriptor) };
                // One that is watched already is refused, and stays so.
                let _ = self.shared.place.watch_always(descriptor, token::outlet(id as u32));
            }
        }
    }

    /// One turn, where the lane would not sleep; `false` where it would until something comes.
    /// `pass_time`: a lane that waits for a moment waits until then.
    pub fn turn(&mut self, pass_time: bool) -> bool {
        self.tell();
        let mut awake = true;
        if self.turn_of_owner(pass_time, &mut awake).is_err() {
            self.succeed();
        }
        awake
    }

    fn turn_of_owner(&mut self, pass_time: bool, awake: &mut bool) -> Result<(), Disowned> {
        self.lane.take_orders()?;
        let patience = self.lane.patience();
        let wakes = patience == Some(0) || self.lane.has_orders();
        let wake_at_ns = self.lane.wake_at_ns;
        let more_queued = self.lane.more_queued;
        let ready = self.lane.wait(Some(0));
        if ready == 0 && !wakes {
            match patience.filter(|_| pass_time) {
                Some(ns) => virtual_time::advance(ns),
                None => {
                    // Asleep: as if `wait` had not come back.
                    (self.lane.wake_at_ns, self.lane.more_queued) = (wake_at_ns, more_queued);
                    *awake = false;
                    return Ok(());
                }
            }
        }
        self.lane.work(ready)
    }

    /// What keeps the lane awake.
    pub fn why_awake(&mut self) -> String {
        let patience = self.lane.patience();
        let ready = self.lane.wait(Some(0));
        let tokens: Vec<_> =
            self.lane.events[..ready].iter().map(|event| token::read(event.data.u64())).collect();
        let lane = &self.lane;
        let flags = (lane.more_queued, lane.look_again, lane.calls_wait, lane.dirty.len());
        let times =
            [lane.rested_at_ns, lane.ailing_at_ns, lane.linger_at_ns, lane.retry_at_ns, lane.wake_at_ns];
        let orders = lane.has_orders();
        format!("{patience:?}, {flags:?}, {times:?}, orders: {orders}, ready (Ok: sources): {tokens:?}")
    }

    /// A successor goes on where the owner did not come back: as `Lane::succeed` does it.
    fn succeed(&mut self) {
        self.taken_away += 1;
        self.lossless = false;
        let was_in = self.lane.in_call;
        note(|| format!("lane {} was taken away in {was_in:?}", self.number));
        if matches!(was_in, InCall::Receive { .. }) {
            std::mem::forget(std::mem::replace(&mut self.lane.scratch, scratch(&self.level)));
        }
        self.lane.recover();
    }

    /// Of the notices only that of a failed source is acted upon: as the attendance does it.
    fn tell(&mut self) {
        while let Ok(notice) = self.notices.pop() {
            if let LaneNotice::SourceFailed { source } = notice
                && let Some(Some(plan)) = self.plan.sources.get(source as usize)
            {
                // SAFETY: only a number is read.
                self.shared.place.forget_raw(unsafe { plan.cell.get() }.descriptor);
            }
        }
        while self.emptied.pop().is_ok() {}
    }

    /// A call publishes an event.
    pub fn inject(&mut self, topic: usize, payload: Vec<u8>) {
        self.lossless = false;
        // A node gives each an id of its own.
        let id = (1 << 48) + fakes::event_of(&payload) as u64;
        let event = Injected { id, topic: topic as u32, source_time_ns: 0, payload, attributes: Vec::new() };
        self.injected.push(Box::new(event)).expect("the lane has emptied the ring");
        self.shared.announce_injected();
        // What waits in the ring when its topic goes is nobody's: it is taken in at once.
        let _ = self.turn(false);
    }

    /// A worker begins with its next job, if it has one.
    pub fn start_job(&mut self, number: usize) -> bool {
        let worker = &mut self.workers[number];
        if worker.running.is_some() {
            return false;
        }
        let Ok(index) = worker.jobs.pop() else { return false };
        worker.running = Some(index);
        // SAFETY: the index came over the ring that leads here.
        let Some(job) = (unsafe { worker.shared.job(index) }) else { return true };
        worker.shared.ownership.enter(&mut worker.owner, Doing::Function, job.call);
        let (slot, of) = (job.context.worker, job.function);
        let (payload, handed_ns, attempt) = (job.event.payload.as_slice(), job.handed_ns, job.attempt);
        // SAFETY: the lane keeps it alive while a job of it is under way.
        let at = std::ptr::from_ref(unsafe { &*job.function });
        let function = self.function_at(at);
        let others: Vec<_> = (0..self.workers.len())
            .filter(|other| *other != number)
            .filter_map(|other| {
                let worker = &self.workers[other];
                // SAFETY: its thread stands still.
                let job = unsafe { worker.shared.job(worker.running?) }.as_ref()?;
                Some((job.function, job.context.worker))
            })
            .collect();
        let event = fakes::event_of(payload);
        note(|| {
            format!(
                "worker {number} begins job {index}: function {function:?}, event {event}, attempt {attempt}"
            )
        });
        with(|world| {
            let Some(function) = function else {
                world.broken.push(String::from("a job's function is in no call"));
                return;
            };
            let known = world.functions[function].clone();
            if slot >= known.concurrency() {
                world.broken.push(format!("function {function} runs in the place {slot}, which it has not"));
            }
            if others.contains(&(of, slot)) {
                world.broken.push(format!("function {function} runs twice in the place {slot}"));
            }
            if let Some(event) = world.events.get(event)
                && event.expires_ns != 0
                && handed_ns > event.expires_ns + super::world::TURN_NS
            {
                world.broken.push(String::from("an event was handed to a function after it expired"));
            }
            let expires_ns = world.events.get_mut(event).map(|event| std::mem::take(&mut event.expires_ns));
            let member = world.member_of(function);
            if attempt == 0 {
                world.got(payload, known.topic, known.group, member, known.in_order);
            } else {
                world.got_again(payload, known.topic, known.group, member, known.in_order);
            }
            if let (Some(event), Some(expires_ns)) = (world.events.get_mut(event), expires_ns) {
                event.expires_ns = expires_ns;
            }
        });
        true
    }

    fn function_at(&self, at: *const tempos_abi::invoker::FunctionBox) -> Option<usize> {
        let calls = self.plan.calls.iter().flatten().chain(&self.retired);
        calls.into_iter().find_map(|plan| {
            // SAFETY: nobody else is at the cells between two turns.
            let call = unsafe { plan.cell.get() };
            let canary = call.canary.as_ref().is_some_and(|canary| Arc::as_ptr(&canary.function) == at);
            match plan.canary.filter(|_| canary) {
                Some(canary) => Some(canary),
                None => (Arc::as_ptr(&call.function) == at).then_some(plan.function),
            }
        })
    }

    /// A worker is done with its job.
    pub fn end_job(&mut self, number: usize) -> bool {
        let worker = &mut self.workers[number];
        let Some(index) = worker.running.take() else { return false };
        // SAFETY: the index came over the ring that leads here.
        let (Some(job), output) =
            (unsafe { (worker.shared.job(index).as_mut(), worker.shared.output(index)) })
        else {
            return false;
        };
        let mut explanation = [0; EXPLANATION_BYTES];
        let most = (job.output_bytes_max as usize).min(output.len());
        let mut sink = Output::new(&mut output[..most], &mut explanation);
        // SAFETY: the lane keeps the function alive while a job of it is under way.
        let outcome = unsafe { &*job.function }.invoke(&job.event, &mut sink, &job.context);
        worker.shared.ownership.leave(&mut worker.owner, Doing::Function).expect("nobody took it away");
        note(|| format!("worker {number} ends job {index}: {outcome:?}"));
        settle(job, outcome, &sink);
        worker.done.push(index).expect("the ring has room for every job");
        self.shared.place.wake();
        true
    }

    /// A worker does not come back: the supervisor takes its place away, and the controller starts another.
    pub fn lose_worker(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if worker.running.is_none() || self.shared.has_next_port() {
            return;
        }
        note(|| format!("function worker {number} of lane {} does not come back", self.number));
        let beat = worker.shared.ownership.beat();
        assert!(worker.shared.ownership.disown(beat), "it is in a function");
        let (new, port) = self::worker();
        let lost = std::mem::replace(worker, new);
        self.lost.push(ManuallyDrop::new(lost));
        assert!(self.shared.offer_port(number as u32, port).is_ok(), "no other is waiting");
    }

    /// Brings another wiring into force.
    pub fn swap(&mut self, mut draft: Draft) {
        for source in &draft.gone_sources {
            // SAFETY: only a number is read.
            self.shared.place.forget_raw(unsafe { source.cell.get() }.descriptor);
        }
        let mut handover = std::mem::take(&mut draft.handover);
        let gone = |plan: &ChannelPlan<_>| {
            // SAFETY: only a number is read.
            let source: &mut crate::bridging::endpoint::Source = unsafe { plan.cell.get() };
            source.id
        };
        handover.sources = draft.gone_sources.iter().map(gone).collect();
        let tables = draft.plan.tables(self.level.batch, self.level.block, handover);
        let before = self.shared.taken();
        self.shared.publish(&tables);
        for _ in 0..4 {
            if self.shared.taken() == before {
                self.turn(false);
            }
        }
        if self.shared.taken() == before {
            with(|world| world.broken.push(String::from("the lane never took its new tables")));
        }
        self.tables = tables;
        self.plan = std::mem::take(&mut draft.plan);
        self.watch(&draft.new_sources);
        for plan in draft.gone_sources {
            // SAFETY: the lane has left the tables that held this cell.
            unsafe { plan.cell.get() }.channel.close(0);
        }
        for plan in draft.gone_outlets {
            // SAFETY: as above.
            unsafe { plan.cell.get() }.channel.close(0);
        }
        self.retired.extend(draft.gone_calls);
        self.close_retired();
    }

    /// Lets calls go of which nothing is under way.
    pub fn close_retired(&mut self) {
        self.retired.retain(|plan| plan.outstanding.get() > 0 || plan.stats.failed.get() == LOST);
    }

    /// Rebuilds the lane: as `Lane::rebuild` does it. Workers finish what they have, but those that hang.
    pub fn rebuild(&mut self, level: Level, hanging: Option<usize>) {
        note(|| format!("lane {} is rebuilt: {level:?}", self.number));
        self.lossless = false;
        // A policy that hangs now holds up the controller, and nobody can help it.
        with(|world| world.hang = None);
        for number in (0..self.workers.len()).filter(|number| hanging != Some(*number)) {
            while self.start_job(number) || self.end_job(number) {}
        }
        if let Some(number) = hanging {
            self.start_job(number);
        }
        // It waits for nobody here: what workers are done with is there already.
        self.lane.settle_functions(Instant::now());
        let _ = self.lane.collect_finished();
        let tables = self.plan.tables(level.batch, level.block, Handover::default());
        let (workers, ports) = (0..level.workers).map(|_| worker()).unzip();
        let pool = Pool::new(level.size).expect("memory");
        self.lane.move_into(pool, level.queue(self.number), scratch(&level), ports, &tables, 64);
        self.note_what_is_awaited();
        self.level = level;
        self.tables = tables;
        let former: Vec<Worker> = std::mem::replace(&mut self.workers, workers);
        self.lost.extend(former.into_iter().filter(|w| w.running.is_some()).map(ManuallyDrop::new));
    }

    /// Of what channels have taken and not acknowledged, some may have found no room in the new pool.
    fn note_what_is_awaited(&self) {
        for plan in self.plan.outlets.iter().flatten() {
            // SAFETY: nobody else is at the cells between two turns.
            let unsettled = unsafe { plan.cell.get() }.unsettled.iter();
            let event_of = |(_, handle): &(u64, _)| fakes::event_of(self.lane.pool.payload(*handle));
            let awaited: Vec<usize> = unsettled.map(event_of).collect();
            with(|world| world.waits_for(plan.channel, &awaited));
        }
    }

    /// Workers that a job is with, or that have been lost with one.
    pub fn lost_workers(&self) -> usize {
        self.lost.len()
    }
}

fn worker() -> (Worker, FunctionPort) {
    let shared = Arc::new(FunctionShared::new(4096, false).expect("memory"));
    let rings = FunctionRings::new();
    let port =
        FunctionPort::new(Arc::clone(&shared), rings.to_worker, rings.from_worker, std::thread::current());
    let owner = shared.ownership.owner();
    (Worker { shared, jobs: rings.jobs, done: rings.done, owner, running: None }, port)
}

fn scratch(level: &Level) -> Scratch {
    Scratch::new(level.size.event_bytes_max, level.batch, false).expect("memory")
}
