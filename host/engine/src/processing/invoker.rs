//! The invoker: the queue worker's side of processing. It hands events to function workers, runs inline
//! functions, and makes events of outputs.

use std::sync::Arc;

use rtrb::{Consumer, Producer};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};

use super::deadline;
use super::function_worker::{FunctionShared, JOBS, Job, Sleeper, settle};
use super::retry::Again;
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
            has_room: !call.failed && call.waiting() < PENDING_MAX,
            waiting: call.in_flight + call.waiting() as u32,
        }
    }

    /// Gives an event to a workflow: runs it, hands it over, or lets it wait.
    pub(crate) fn push_to_call(&mut self, id: u32, handle: Handle) -> Result<(), Disowned> {
        match self.call(id) {
            Some(call) if call.inline => {
                call.stats.events_in.add(1);
                call.stats.busy.add(1);
                self.run_inline(call, handle)
            }
            Some(call) => {
                self.wait_for_call(id, handle);
                self.feed(call);
                Ok(())
            }
            None => {
                self.refuse_copy(handle, Reason::Removed);
                Ok(())
            }
        }
    }

    /// Lets an event wait for a workflow whose function runs on a worker; nothing is handed over yet.
    pub(crate) fn wait_for_call(&mut self, id: u32, handle: Handle) {
        let Some(call) = self.call(id) else {
            self.refuse_copy(handle, Reason::Removed);
            return;
        };
        call.stats.events_in.add(1);
        call.stats.busy.add(1);
        call.pending.push_back(handle);
    }

    /// Hands waiting events to workers while there is room.
    fn feed(&mut self, call: &mut Call) {
        while call.in_flight < call.in_flight_max() {
            let Some(port) = self.port_for(call) else { return };
            let Some(next) = self.next_for(call) else { return };
            let record = self.pool.record(next.handle);
            if next.attempt > 0 && (record.is_expired(self.now) || record.is_late(self.now)) {
                self.give_up(call, &next);
                continue;
            }
            if record.is_expired(self.now) {
                call.stats.busy.subtract(1);
                self.refuse_copy(next.handle, Reason::Expired);
                continue;
            }
            self.hand_over(call, port, &next);
        }
    }

    /// The worker for the next event of a call, and which of its concurrent invocations that is: as many workers
    /// in a row as it may run at once, of them the one with the fewest jobs. Only one, so that the order is kept,
    /// where it runs one at a time. `None` where none has a job free.
    fn port_for(&self, call: &Call) -> Option<(usize, u32)> {
        let ports = self.ports.len();
        let place = |slot: u32| (call.worker as usize + slot as usize) % ports;
        let slots = call.concurrency.max(1).min(ports as u32);
        let slot = (0..slots).max_by_key(|slot| self.ports[place(*slot)].free.len())?;
        (!self.ports[place(slot)].free.is_empty()).then(|| (place(slot), slot))
    }

    fn hand_over(&mut self, call: &mut Call, (port, slot): (usize, u32), next: &Again) {
        // A successor that keeps their order may get them from one that does not.
        #[cfg(test)]
        if !call.keeps_order() {
            crate::simulation::world::note_rerouted(self.pool.payload(next.handle));
        }
        let mut job = self.job(call, next.handle, slot);
        job.outstanding = Arc::as_ptr(&call.outstanding);
        job.attempt = next.attempt;
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

    /// A job of a call, for the function that the event's id chooses.
    #[inline]
    fn job(&self, call: &Call, handle: Handle, worker: u32) -> Job {
        let now = monotonic_ns();
        let record = self.pool.record(handle);
        let canary = call.canary.as_ref().filter(|canary| canary.takes(record.id));
        Job {
            handle,
            call: call.id,
            event: self.view(call, handle),
            function: Arc::as_ptr(canary.map_or(&call.function, |canary| &canary.function)),
            outstanding: std::ptr::null(),
            stats: Arc::as_ptr(&call.stats),
            canary: canary.map_or(std::ptr::null(), |canary| Arc::as_ptr(&canary.stats)),
            attempt: 0,
            context: InvokeContext {
                worker,
                flags: 0,
                deadline_ns: deadline::of(call.deadline_ns, call.downstream_ns, record.deadline_ns, now),
                reserved: [0; 2],
            },
            own_deadline_ns: if call.deadline_ns == 0 { 0 } else { now.saturating_add(call.deadline_ns) },
            handed_ns: now,
            output_bytes_max: call.output_bytes_max,
            outcome: Outcome::DONE,
            output_bytes: None,
            explanation: [0; EXPLANATION_BYTES],
            explanation_len: 0,
        }
    }

    /// The event as a function sees it.
    fn view(&self, call: &Call, handle: Handle) -> EventView<'static> {
        let record = self.pool.record(handle);
        // SAFETY: the call's cell lives until no job of it is under way.
        let topic: &'static str = unsafe { &*Arc::as_ptr(&call.topic) };
        EventView {
            id: record.id,
            topic: topic.into(),
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
        let mut explanation = [0; EXPLANATION_BYTES];
        // Taken out for the call: a lane that is taken over meanwhile makes itself another one.
        let mut buffer = std::mem::take(&mut self.inline_output);
        let most = (call.output_bytes_max as usize).min(buffer.len());
        let mut job = self.job(call, handle, 0);
        let mut sink = Output::new(&mut buffer[..most], &mut explanation);
        self.in_call = InCall::Function { call: call.id, handle };
        self.enter(Doing::Function, call.id);
        // SAFETY: the call's cell holds the function, and stays while its own lane is in it.
        let outcome = unsafe { &*job.function }.invoke(&job.event, &mut sink, &job.context);
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

    /// The call that a job is of, or the one that has taken its place; `None` where its workflow has gone,
    /// though another one may have its id by now.
    pub(crate) fn call_of(&self, job: &Job) -> Option<&'static mut Call> {
        self.call(job.call).filter(|call| std::ptr::eq(Arc::as_ptr(&call.stats), job.stats))
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
                // Nothing is handed over before the output was read.
                self.ports[at].free.push(index);
                if let Some(job) = job {
                    if let Some(call) = self.call_of(&job) {
                        call.in_flight = call.in_flight.saturating_sub(1);
                    }
                    self.complete(&job, output)?;
                }
            }
        }
        Ok(some)
    }

    /// Puts a new function worker in the place of one that did not come back, and whose finished jobs have
    /// been collected: the job that it hangs in is written off as late, the others go on with the new one.
    pub(crate) fn replace_port(&mut self, number: usize, port: &mut FunctionPort) -> Result<(), Disowned> {
        self.now = monotonic_ns();
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
            let call = self.call_of(job);
            if at > 0 {
                // It was never begun.
                job.let_go();
                match call {
                    Some(call) => {
                        call.in_flight = call.in_flight.saturating_sub(1);
                        call.put_back(job.handle, job.attempt);
                    }
                    None if job.attempt > 0 => self.release(job.handle),
                    None => self.refuse_copy(job.handle, Reason::Removed),
                }
                continue;
            }
            let event_id = self.pool.record(job.handle).id;
            self.pool.record_mut(job.handle).delivered = true;
            self.write_off(job.handle);
            self.release(job.handle);
            let Some(call) = call else { continue };
            call.in_flight = call.in_flight.saturating_sub(1);
            call.stats.busy.subtract(1);
            call.stats.count(Outcome::LATE);
            job.count_for_canary(Outcome::LATE);
            self.tell(LaneNotice::FunctionFailed {
                call: job.call,
                canary: job.is_of_canary(),
                no_branch: false,
                event_id,
                outcome: Outcome::LATE,
                explanation: [0; EXPLANATION_BYTES],
                explanation_len: 0,
            });
            self.fail_function(call, job, stats::LOST);
        }
        self.feed_waiting();
        self.release_holds()
    }

    /// A worker's job that came free may be what another call on hold was waiting for.
    pub(crate) fn feed_waiting(&mut self) {
        for entry in self.tables().calls.iter().flatten() {
            // SAFETY: this is the lane's owner.
            let call = unsafe { entry.cell.get() };
            if call.waiting() > 0 {
                self.feed(call);
            }
        }
    }

    /// Settles one invocation: counts it, tells of a failure, makes an event of the output, or lets the event
    /// wait to be tried again.
    fn complete(&mut self, job: &Job, output: &[u8]) -> Result<(), Disowned> {
        let now = monotonic_ns();
        self.now = now;
        self.pool.record_mut(job.handle).delivered = true;
        let took = now.saturating_sub(job.handed_ns);
        self.shared.stats.function.record(took);
        let Some(call) = self.call_of(job) else {
            job.let_go();
            self.release(job.handle);
            return Ok(());
        };
        job.latency(call).record(took);
        if job.outcome != Outcome::DONE && self.try_again(call, job) {
            job.let_go();
            return Ok(());
        }
        let chosen = job.output_bytes.map_or(Ok(None), |_| self.target(call, job));
        let outcome = if chosen.is_err() { Outcome::BAD_OUTPUT } else { job.outcome };
        call.stats.busy.subtract(1);
        call.stats.count(outcome);
        job.count_for_canary(outcome);
        // Nothing of the cell that it was handed over from is used any more.
        job.let_go();
        if outcome != Outcome::DONE {
            self.tell(LaneNotice::FunctionFailed {
                call: job.call,
                canary: job.is_of_canary(),
                no_branch: chosen.is_err(),
                event_id: self.pool.record(job.handle).id,
                outcome,
                explanation: job.explanation,
                explanation_len: job.explanation_len,
            });
        }
        if outcome == Outcome::PANICKED {
            self.fail_function(call, job, stats::PANICKED);
        }
        let made = match (job.output_bytes, chosen) {
            (Some(len), Ok(Some(to))) => self.emit(job.handle, to, &output[..len as usize]),
            _ => None,
        };
        // Before the policy is asked: the lane may be lost in it.
        self.release(job.handle);
        made.map_or(Ok(()), |handle| self.admit(handle))
    }

    /// The topic that an output goes to; `Err` where it goes by a branch that is not there.
    fn target(&self, call: &Call, job: &Job) -> Result<Option<u32>, ()> {
        if call.replies
            && let Some(topic) = self.reply_topic(job.handle)
        {
            return Ok(Some(topic));
        }
        call.branch(&job.explanation[..job.explanation_len as usize])
    }

    /// The topic that an event wants its reply to go to, where there is one of that name that takes replies.
    fn reply_topic(&self, handle: Handle) -> Option<u32> {
        let attributes = Attributes::new(self.pool.attributes(handle));
        let AttributeValue::Text(name) = attributes.get(REPLY_TO)? else { return None };
        let topics = &self.tables().reply_topics;
        let at = topics.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(topics[at].1)
    }

    /// An output becomes an event on the next topic, with its parent's times; it is to be admitted.
    fn emit(&mut self, parent: Handle, to: u32, payload: &[u8]) -> Option<Handle> {
        let entry = self.topic(to)?;
        entry.stats.events_in.add(1);
        let attributes = self.pool.attributes(parent);
        let Some(handle) = self.make(to, entry, payload, attributes) else {
            entry.stats.dropped.count(Reason::NoBuffer);
            return None;
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
        Some(handle)
    }

    /// The function of a job panicked or did not come back: it gets nothing more. Where it was a canary, the
    /// workflow goes on with its own.
    fn fail_function(&mut self, call: &mut Call, job: &Job, mark: u64) {
        if let Some(canary) = &mut call.canary
            && std::ptr::eq(job.function, Arc::as_ptr(&canary.function))
        {
            canary.failed = true;
            canary.stats.failed.set(mark);
        } else if job.is_of(call) {
            self.fail_call(call, mark);
        }
    }

    /// The queue worker did not come back from an inline function; whether it was a canary.
    pub(crate) fn lose_inline(&mut self, call: u32, event_id: u64) -> bool {
        let Some(call) = self.call(call) else { return false };
        call.stats.busy.subtract(1);
        call.stats.count(Outcome::LATE);
        if let Some(canary) = call.canary.as_mut().filter(|canary| canary.takes(event_id)) {
            canary.failed = true;
            canary.stats.count(Outcome::LATE);
            canary.stats.failed.set(stats::LOST);
            return true;
        }
        self.fail_call(call, stats::LOST);
        false
    }

    /// A call's own function gets nothing more.
    pub(crate) fn fail_call(&mut self, call: &mut Call, mark: u64) {
        call.failed = true;
        call.stats.failed.set(mark);
        while let Some(again) = call.retrying.pop_front() {
            self.settle_retry(call, &again);
        }
        let (id, stats) = (call.id, Arc::clone(&call.stats));
        while let Some(handle) = call.pending.pop_front() {
            stats.busy.subtract(1);
            if !self.give_to_another(Member::Call(id), handle) {
                self.refuse_copy(handle, Reason::ReceiverFailed);
            }
        }
    }
}
