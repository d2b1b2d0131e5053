//! The invoker: the queue worker's side of processing. It hands events to function workers, runs inline
//! functions, and makes events of outputs.

use std::sync::Arc;

use rtrb::{Consumer, Producer};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};

use super::function_worker::{FunctionShared, JOBS, Job, Sleeper, settle};
use super::workflow::{Call, PENDING_MAX};
use crate::delivery::group::{Load, Member};
use crate::lane::order::{EXPLANATION_BYTES, LaneNotice};
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::pool::Handle;
use crate::lane::state::{InCall, LaneState};
use crate::stats::{self, Reason};
use crate::system::clock::monotonic_ns;

/// The attribute by which a sender names the topic of the reply.
pub const REPLY_TO: &str = "reply-to";

/// What a lane holds of a function worker.
pub struct FunctionPort {
    /// The shared side.
    pub shared: Arc<FunctionShared>,
    /// To the worker.
    pub to_worker: Producer<u8>,
    /// From the worker.
    pub from_worker: Consumer<u8>,
    /// The worker's thread.
    pub sleeper: Sleeper,
    /// Jobs that nobody holds.
    pub free: Vec<u8>,
}

impl FunctionPort {
    /// The lane's side of a worker that has just been started.
    pub fn new(
        shared: Arc<FunctionShared>,
        to_worker: Producer<u8>,
        from_worker: Consumer<u8>,
        sleeper: Sleeper,
    ) -> Self {
        FunctionPort { shared, to_worker, from_worker, sleeper, free: (0..JOBS as u8).collect() }
    }
}

impl LaneState {
    /// What the choice of a member needs to know of a workflow.
    pub(crate) fn call_load(&self, call: &Call) -> Load {
        Load {
            has_room: !call.failed && call.pending.len() < PENDING_MAX,
            waiting: call.in_flight + call.pending.len() as u32,
        }
    }

    /// Gives an event to a workflow: runs it, hands it over, or lets it wait.
    pub(crate) fn push_to_call(&mut self, id: u32, handle: Handle) -> Result<(), Disowned> {
        let Some(call) = self.call(id) else {
            self.refuse_copy(handle, Reason::Removed);
            return Ok(());
        };
        call.stats.events_in.add(1);
        call.stats.busy.add(1);
        if call.inline {
            return self.run_inline(call, handle);
        }
        call.pending.push_back(handle);
        self.feed(call);
        Ok(())
    }

    /// Hands waiting events to workers while there is room.
    fn feed(&mut self, call: &mut Call) {
        while call.in_flight < call.in_flight_max() {
            let Some(port) = self.port_for(call) else { return };
            let Some(handle) = call.pending.pop_front() else { return };
            self.hand_over(call, port, handle);
        }
    }

    /// The worker for the next event of a call: always the same where the order is to be kept, else the
    /// one with the fewest jobs. `None` where it has no job free.
    fn port_for(&self, call: &Call) -> Option<usize> {
        let ports = &self.ports;
        if ports.is_empty() {
            return None;
        }
        let port = if call.concurrency <= 1 {
            call.worker as usize % ports.len()
        } else {
            (0..ports.len()).max_by_key(|at| ports[*at].free.len())?
        };
        (!ports[port].free.is_empty()).then_some(port)
    }

    fn hand_over(&mut self, call: &mut Call, port: usize, handle: Handle) {
        let event = self.view(handle);
        let now = monotonic_ns();
        let job = Job {
            handle,
            call: call.id,
            event,
            function: Arc::as_ptr(&call.function),
            outstanding: Arc::as_ptr(&call.outstanding),
            context: context(call, port as u32, now),
            handed_ns: now,
            output_bytes_max: call.output_bytes_max,
            outcome: Outcome::DONE,
            output_bytes: None,
            explanation: [0; EXPLANATION_BYTES],
            explanation_len: 0,
        };
        let port = &mut self.ports[port];
        let Some(index) = port.free.pop() else { return };
        // SAFETY: the index was free, so nobody else holds it.
        unsafe { *port.shared.job(index) = Some(job) };
        call.in_flight += 1;
        call.outstanding.add(1);
        // The ring has room for every job there is.
        let _ = port.to_worker.push(index);
        port.sleeper.unpark();
    }

    /// The event as a function sees it.
    fn view(&self, handle: Handle) -> EventView<'static> {
        let record = self.pool.record(handle);
        EventView {
            id: record.id,
            topic: self.topic(record.topic).map_or("", |entry| &*entry.name).into(),
            level: self.level,
            source_time_ns: record.source_time_ns,
            arrival_ns: record.arrival_ns,
            deadline_ns: record.deadline_ns,
            payload: self.pool.payload(handle).into(),
            attribute_block: self.pool.attributes(handle).into(),
            reserved: [0; 4],
        }
    }

    fn run_inline(&mut self, call: &mut Call, handle: Handle) -> Result<(), Disowned> {
        let event = self.view(handle);
        let now = monotonic_ns();
        let mut explanation = [0; EXPLANATION_BYTES];
        // Taken out for the call: a lane that is taken over meanwhile makes itself another one.
        let mut buffer = std::mem::take(&mut self.inline_output);
        let most = (call.output_bytes_max as usize).min(buffer.len());
        let mut job = Job {
            handle,
            call: call.id,
            event,
            function: Arc::as_ptr(&call.function),
            outstanding: std::ptr::null(),
            context: context(call, 0, now),
            handed_ns: now,
            output_bytes_max: call.output_bytes_max,
            outcome: Outcome::DONE,
            output_bytes: None,
            explanation,
            explanation_len: 0,
        };
        let mut sink = Output::new(&mut buffer[..most], &mut explanation);
        self.in_call = InCall::Function { call: call.id, handle };
        self.enter(Doing::Function, call.id);
        let outcome = call.function.invoke(&job.event, &mut sink, &job.context);
        if let Err(disowned) = self.leave(Doing::Function) {
            // The successor does not know this buffer.
            std::mem::forget(buffer);
            return Err(disowned);
        }
        settle(&mut job, outcome, &sink);
        job.explanation_len = sink.explanation_len().min(EXPLANATION_BYTES) as u8;
        job.explanation = explanation;
        let answer = self.complete(&job, &buffer);
        self.inline_output = buffer;
        answer
    }

    /// Takes back the jobs that workers are done with, and hands them the next ones.
    pub(crate) fn collect(&mut self) -> Result<(), Disowned> {
        if self.collect_finished()? {
            self.feed_waiting();
            self.release_holds()?;
        }
        Ok(())
    }

    /// Takes back the jobs that workers are done with; whether there were any.
    pub(crate) fn collect_finished(&mut self) -> Result<bool, Disowned> {
        let mut some = false;
        for at in 0..self.ports.len() {
            while let Ok(index) = self.ports[at].from_worker.pop() {
                some = true;
                let shared = Arc::as_ptr(&self.ports[at].shared);
                // SAFETY: the port holds the shared side; the index just came over the ring that leads
                // here, so that job and output belong to this thread until the index is handed out again.
                let (job, output) = unsafe { ((*shared).job(index).take(), (*shared).output(index)) };
                if let Some(job) = job {
                    if let Some(call) = self.call(job.call) {
                        call.in_flight = call.in_flight.saturating_sub(1);
                    }
                    job.let_go();
                    self.complete(&job, output)?;
                }
                self.ports[at].free.push(index);
            }
        }
        Ok(some)
    }

    /// Puts a new function worker in the place of one that did not come back: the job that it hangs in is
    /// written off as late, the others go on with the new one.
    pub(crate) fn replace_port(&mut self, number: usize, port: &mut FunctionPort) -> Result<(), Disowned> {
        self.collect()?;
        let Some(own) = self.ports.get_mut(number) else { return Ok(()) };
        std::mem::swap(own, port);
        // `port` is the lost one now; it is never freed, since its thread may still come back to it.
        let mut left: [Option<(u64, u8)>; JOBS] = [None; JOBS];
        for index in 0..JOBS as u8 {
            // SAFETY: the worker was disowned, and what it had finished has just been collected.
            if let Some(job) = unsafe { port.shared.job(index) } {
                left[index as usize] = Some((job.handed_ns, index));
            }
        }
        left.sort_unstable_by_key(|entry| entry.map_or(u64::MAX, |(handed, _)| handed));
        // Backwards, so that what goes back to the front of its list keeps its order.
        for (at, entry) in left.into_iter().enumerate().rev() {
            let Some((_, index)) = entry else { continue };
            // SAFETY: as above.
            let Some(job) = (unsafe { port.shared.job(index) }) else { continue };
            let Some(call) = self.call(job.call) else { continue };
            call.in_flight = call.in_flight.saturating_sub(1);
            if at > 0 {
                call.pending.push_front(job.handle);
                continue;
            }
            call.stats.busy.subtract(1);
            call.stats.count(Outcome::LATE);
            let event_id = self.pool.record(job.handle).id;
            self.pool.record_mut(job.handle).delivered = true;
            self.write_off(job.handle);
            self.tell(LaneNotice::FunctionFailed {
                call: job.call,
                event_id,
                outcome: Outcome::LATE,
                explanation: [0; EXPLANATION_BYTES],
                explanation_len: 0,
            });
            self.fail_call(call, stats::LOST)?;
        }
        self.feed_waiting();
        self.release_holds()
    }

    /// A worker's job that came free may be what another call on hold was waiting for.
    pub(crate) fn feed_waiting(&mut self) {
        for entry in self.tables().calls.iter().flatten() {
            // SAFETY: this is the lane's owner.
            let call = unsafe { entry.cell.get() };
            if !call.pending.is_empty() {
                self.feed(call);
            }
        }
    }

    /// Settles one invocation: counts it, tells of a failure, makes an event of the output.
    fn complete(&mut self, job: &Job, output: &[u8]) -> Result<(), Disowned> {
        let now = monotonic_ns();
        self.now = now;
        self.pool.record_mut(job.handle).delivered = true;
        let took = now.saturating_sub(job.handed_ns);
        self.shared.stats.function.record(took);
        let Some(call) = self.call(job.call) else {
            self.release(job.handle);
            return Ok(());
        };
        call.stats.latency.record(took);
        call.stats.busy.subtract(1);
        call.stats.count(job.outcome);
        if job.outcome != Outcome::DONE {
            self.tell(LaneNotice::FunctionFailed {
                call: job.call,
                event_id: self.pool.record(job.handle).id,
                outcome: job.outcome,
                explanation: job.explanation,
                explanation_len: job.explanation_len,
            });
        }
        if job.outcome == Outcome::PANICKED {
            self.fail_call(call, stats::PANICKED)?;
        }
        let to = if call.replies { self.reply_topic(job.handle).or(call.to) } else { call.to };
        let admitted = match (job.output_bytes, to) {
            (Some(len), Some(to)) => self.emit(job.handle, to, &output[..len as usize]),
            _ => Ok(()),
        };
        self.release(job.handle);
        admitted
    }

    /// The topic that an event wants its reply to go to, where there is one of that name that takes replies.
    fn reply_topic(&self, handle: Handle) -> Option<u32> {
        let attributes = Attributes::new(self.pool.attributes(handle));
        let AttributeValue::Text(name) = attributes.get(REPLY_TO)? else { return None };
        let topics = &self.tables().reply_topics;
        let at = topics.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(topics[at].1)
    }

    /// An output becomes an event on the next topic, with its parent's times.
    fn emit(&mut self, parent: Handle, to: u32, payload: &[u8]) -> Result<(), Disowned> {
        let Some(entry) = self.topic(to) else { return Ok(()) };
        entry.stats.events_in.add(1);
        let attributes = self.pool.attributes(parent);
        let Some(handle) = self.make(to, entry, payload, attributes) else {
            entry.stats.dropped.count(Reason::NoBuffer);
            return Ok(());
        };
        let id = self.new_event_id();
        let parent = *self.pool.record(parent);
        let own = if entry.deadline_ns == 0 { u64::MAX } else { self.now + entry.deadline_ns };
        let inherited = if parent.deadline_ns == 0 { u64::MAX } else { parent.deadline_ns };
        let record = self.pool.record_mut(handle);
        record.id = id;
        record.origin_ns = parent.origin_ns;
        record.source_time_ns = parent.source_time_ns;
        record.key_hash = parent.key_hash;
        record.deadline_ns = match own.min(inherited) {
            u64::MAX => 0,
            deadline => deadline,
        };
        self.admit(handle)
    }

    /// A function panicked or did not come back: it gets nothing more.
    pub(crate) fn fail_call(&mut self, call: &mut Call, mark: u64) -> Result<(), Disowned> {
        call.failed = true;
        call.stats.failed.set(mark);
        let (id, stats) = (call.id, Arc::clone(&call.stats));
        while let Some(handle) = call.pending.pop_front() {
            stats.busy.subtract(1);
            if !self.give_to_another(Member::Call(id), handle)? {
                self.refuse_copy(handle, Reason::ReceiverFailed);
            }
        }
        Ok(())
    }
}

fn context(call: &Call, worker: u32, now: u64) -> InvokeContext {
    let deadline_ns = if call.deadline_ns == 0 { 0 } else { now + call.deadline_ns };
    InvokeContext { worker, flags: 0, deadline_ns, reserved: [0; 2] }
}
