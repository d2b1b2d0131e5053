//! Moving a lane that stands still into a new pool and a new queue: everything queued, everything that
//! waits for a receiver, in the same order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tempos_abi::invoker::Outcome;
use tempos_abi::queue::{NextItem, QueueBox};

use super::pool::{Handle, Pool, Record, Stage};
use super::state::{LaneState, Scratch};
use super::tables::LaneTables;
use crate::processing::function_worker::JOBS;
use crate::processing::invoker::FunctionPort;
use crate::stats::Reason;
use crate::system::clock::monotonic_ns;

impl LaneState {
    /// Waits until the function workers have given back their jobs, or the time is up. Only while no queue
    /// worker runs.
    pub(crate) fn settle_functions(&mut self, until: Instant) {
        self.owner = self.shared.ownership.owner();
        while self.ports.iter().any(|port| port.free.len() < JOBS) && Instant::now() < until {
            // Handing over the next ones would never end: what waits, waits for the new workers.
            let _ = self.collect_finished();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Takes the new parts into use. Only while no queue worker runs, on an ordinary thread.
    pub(crate) fn move_into(
        &mut self,
        pool: Pool,
        queue: QueueBox,
        scratch: Scratch,
        ports: Vec<FunctionPort>,
        tables: &LaneTables,
        ids: usize,
    ) {
        self.now = monotonic_ns();
        // A worker that was to take a lost one's place belongs to the former ones.
        let _ = self.shared.take_next_port();
        let lost = self.write_off_jobs();
        let order = self.empty_queue();
        let old = std::mem::replace(&mut self.pool, pool);
        let mut old = Former { pool: old, moved: HashMap::new() };
        self.queue = queue;
        self.queue_failed = false;
        self.scratch = scratch;
        self.tables = std::ptr::from_ref(tables);
        self.take_settings(tables);
        let held: Vec<u32> = std::iter::from_fn(|| self.held.pop()).collect();
        self.held.reserve(ids);
        self.ask_again.reserve(ids);
        self.resting.reserve(ids);
        self.dirty.reserve(ids.saturating_sub(self.dirty.len()));
        self.ailing.reserve(ids.saturating_sub(self.ailing.len()));
        for (topic, share) in &tables.shares {
            self.queue.set_topic(*topic, share);
        }
        self.queued = 0;
        for handle in order {
            if let Some(new) = self.move_event(&mut old, handle) {
                self.pool.record_mut(new).references = 1;
                self.pool.record_mut(new).stage = Stage::Arriving;
                let _ = self.admit(new);
            }
        }
        self.move_all_retries(&mut old, tables);
        for entry in tables.outlets.iter().flatten() {
            // SAFETY: no queue worker runs, so this thread is the lane's owner.
            let outlet = unsafe { entry.cell.get() };
            for _ in 0..outlet.unsettled.len() {
                if let Some((id, handle)) = outlet.unsettled.pop_front()
                    && let Some(new) = self.move_event(&mut old, handle)
                {
                    outlet.unsettled.push_back((id, new));
                }
            }
            for _ in 0..outlet.pending.len() {
                if let Some(handle) = outlet.pending.pop_front()
                    && let Some(new) = self.move_event(&mut old, handle)
                {
                    outlet.pending.push_back(new);
                }
            }
            outlet.stats.pending.set(outlet.pending.len() as u64);
        }
        for entry in tables.calls.iter().flatten() {
            // SAFETY: as above.
            let call = unsafe { entry.cell.get() };
            call.in_flight = 0;
            for _ in 0..call.pending.len() {
                let Some(handle) = call.pending.pop_front() else { break };
                match self.move_event(&mut old, handle) {
                    Some(new) => call.pending.push_back(new),
                    None => call.stats.busy.subtract(1),
                }
            }
        }
        // Workers that hang in a function may still come back to their former ports; they, and threads that
        // were lost in a channel, may still read the former pool.
        let former_ports = std::mem::replace(&mut self.ports, ports);
        if lost {
            std::mem::forget(former_ports);
        }
        if lost || old.pool.has_lost() {
            std::mem::forget(old.pool);
        }
        self.feed_waiting();
        // The new queue knows nothing of receivers that were full and still are.
        for topic in held.into_iter().rev() {
            if self.is_stuck(topic) {
                let _ = self.hold(topic);
            }
        }
        self.more_queued = self.queued > 0;
        self.look_again = true;
    }

    /// Moves the events that wait to be tried again. A function had them already: where the new pool has no
    /// buffer for one, its last outcome stands.
    fn move_all_retries(&mut self, old: &mut Former, tables: &LaneTables) {
        // SAFETY: no queue worker runs, so this thread is the lane's owner.
        let calls = || tables.calls.iter().flatten().map(|entry| unsafe { entry.cell.get() });
        for again in calls().flat_map(|call| &call.retrying) {
            let record = old.pool.record_mut(again.handle);
            record.references = record.references.saturating_sub(1);
        }
        for call in calls() {
            for _ in 0..call.retrying.len() {
                let Some(mut again) = call.retrying.pop_front() else { break };
                if let Some(new) = self.move_event(old, again.handle) {
                    again.handle = new;
                    self.retain(new);
                    call.retrying.push_back(again);
                } else {
                    call.stats.busy.subtract(1);
                    call.stats.count(again.outcome);
                }
            }
        }
    }

    /// Settles what workers hold that hang in a function: nobody waits for it any more. Whether there are any.
    fn write_off_jobs(&mut self) -> bool {
        let mut jobs = Vec::new();
        let mut lost = false;
        for port in self.ports.iter().filter(|port| port.free.len() < JOBS) {
            lost = true;
            let mut held = Vec::new();
            for index in (0..JOBS as u8).filter(|index| !port.free.contains(index)) {
                // SAFETY: the worker may be at the job this very moment, but what is read here it leaves as
                // it was handed over.
                if let Some(job) = unsafe { port.shared.job(index) } {
                    job.count_for_canary(Outcome::LATE);
                    held.push((job.handed_ns, job.handle, self.call_of(job), job.attempt > 0));
                }
            }
            // The one that was handed over first is the one that it hangs in; the others it never begins.
            held.sort_by_key(|(handed_ns, ..)| *handed_ns);
            let held = held.into_iter().enumerate();
            jobs.extend(held.map(|(at, (_, handle, call, again))| (at == 0 || again, handle, call)));
        }
        for (was_taken, handle, call) in jobs {
            if let Some(call) = call {
                call.stats.busy.subtract(1);
                call.stats.count(Outcome::LATE);
            }
            self.write_off(handle);
            if was_taken {
                self.pool.record_mut(handle).delivered = true;
                self.release(handle);
            } else {
                self.refuse_copy(handle, Reason::ReceiverFailed);
            }
        }
        lost
    }

    /// Takes everything out of the queue, in the order in which it would go; what a broken queue holds, in
    /// the order of arrival.
    fn empty_queue(&mut self) -> Vec<Handle> {
        let mut order = Vec::new();
        if !self.queue_failed {
            for topic in 0..self.tables().topics.len() {
                self.queue.hold(topic as u32, false);
            }
            // The latest time there is: a policy that waits gives up what it has.
            for _ in 0..self.pool.handles() {
                let next = self.queue.next(self.now);
                match next.verdict {
                    NextItem::GO if self.is_queued(next.handle) => {
                        self.pool.record_mut(next.handle).stage = Stage::Arriving;
                        order.push(next.handle);
                    }
                    NextItem::EXPIRED if self.is_queued(next.handle) => {
                        self.drop_event(next.handle, Reason::Expired)
                    }
                    _ => break,
                }
            }
        }
        order.extend(self.pool.handles_at(Stage::Queued));
        order
    }

    /// The event in the new pool; the same answer for each of its receivers. `None`, and counted, where
    /// the new pool has no buffer for it.
    fn move_event(&mut self, old: &mut Former, handle: Handle) -> Option<Handle> {
        if let Some(known) = old.moved.get(&handle) {
            return *known;
        }
        let record = *old.pool.record(handle);
        let (payload, attributes) = (old.pool.payload(handle), old.pool.attributes(handle));
        let moved = self.pool.take(payload.len() + attributes.len());
        match moved {
            Some(new) => {
                self.pool.fill(new, payload, attributes);
                let known = self.pool.record_mut(new);
                *known = Record {
                    number: known.number,
                    payload_bytes: known.payload_bytes,
                    attribute_bytes: known.attribute_bytes,
                    lost: false,
                    ..record
                };
            }
            None => {
                self.shared.stats.bytes.subtract(u64::from(record.bytes()));
                if let Some(entry) = self.topic(record.topic) {
                    entry.stats.live.subtract(1);
                    if record.delivered {
                        entry.stats.events_out.add(1);
                        let copies = u64::from(record.references) + u64::from(record.copies_lost);
                        entry.stats.copies_lost.count_many(Reason::NoBuffer, copies);
                    } else {
                        entry.stats.dropped.count(Reason::NoBuffer);
                    }
                }
            }
        }
        old.moved.insert(handle, moved);
        moved
    }
}

struct Former {
    pool: Pool,
    moved: HashMap<Handle, Option<Handle>>,
}
