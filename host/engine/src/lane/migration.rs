//! Moving a lane that stands still into a new pool and a new queue: everything queued, everything that
//! waits for a receiver, in the same order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tempos_abi::queue::{NextItem, QueueBox};

use super::pool::{Handle, Pool, Stage};
use super::state::{LaneState, Scratch};
use super::tables::LaneTables;
use crate::processing::function_worker::JOBS;
use crate::processing::invoker::FunctionPort;
use crate::stats::Reason;

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
        }
        for entry in tables.calls.iter().flatten() {
            // SAFETY: as above.
            let call = unsafe { entry.cell.get() };
            call.in_flight = 0;
            for _ in 0..call.pending.len() {
                if let Some(handle) = call.pending.pop_front()
                    && let Some(new) = self.move_event(&mut old, handle)
                {
                    call.pending.push_back(new);
                }
            }
        }
        // Workers that hang in a function may still read the former pool and their former ports.
        let lost = self.ports.iter().any(|port| port.free.len() < JOBS);
        let former_ports = std::mem::replace(&mut self.ports, ports);
        if lost {
            std::mem::forget(former_ports);
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
                let (payload_bytes, attribute_bytes) = (record.payload_bytes, record.attribute_bytes);
                *self.pool.record_mut(new) = super::pool::Record { payload_bytes, attribute_bytes, ..record };
            }
            None => {
                self.shared.stats.bytes.subtract(u64::from(record.bytes()));
                if let Some(entry) = self.topic(record.topic) {
                    entry.stats.live.subtract(1);
                    if record.delivered {
                        entry.stats.events_out.add(1);
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
