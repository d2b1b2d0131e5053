//! The queue worker: the one thread of a lane that moves events.
//!
//! Each turn: take new tables if there are any, look which channels have something, receive, take back
//! finished jobs, dispatch, send. It waits only where nothing is queued, and without a timer where nothing
//! needs one: an idle lane does not wake up.

use tempos_abi::adapter::Receipt;
use tempos_abi::invoker::Outcome;
use tempos_control::level::LEVELS_MAX;

use super::order::{EXPLANATION_BYTES, Injected, LaneNotice};
use super::ownership::Disowned;
use super::pool::{NO_TOPIC, Stage};
use super::state::{InCall, LaneState, READY_MAX, heads};
use super::tables::{LaneTables, TopicEntry, token};
use crate::bridging::shaper::Shaper;
use crate::stats::{LOST, Reason};
use crate::system::clock::monotonic_ns;
use crate::system::wake::WAKE_TOKEN;

/// How often a channel without a descriptor is asked again.
const ASK_AGAIN_NS: u64 = 10_000_000;

/// The body of a queue worker's thread: runs until it is asked to stop, or loses the lane.
///
/// # Safety
/// The caller's thread is the lane's owner: it was started by the controller for the present epoch, and
/// `state` stays alive until the controller has seen it end or disowned it.
pub unsafe fn run(state: *mut LaneState) {
    // SAFETY: see above; a thread that lost the lane leaves without touching the state again.
    let lane = unsafe { &mut *state };
    let shared = std::sync::Arc::clone(&lane.shared);
    while !shared.is_stopping() {
        if lane.turn().is_err() {
            return;
        }
    }
}

impl LaneState {
    fn turn(&mut self) -> Result<(), Disowned> {
        self.take_orders()?;
        let ready = self.wait(self.patience());
        self.work(ready)
    }

    /// The first part of a turn: what the controller wants.
    pub(crate) fn take_orders(&mut self) -> Result<(), Disowned> {
        self.shared.stats.turns.add(1);
        if let Some(tables) = self.shared.take_next_tables() {
            self.changing = Some(tables);
        }
        if let Some(tables) = self.changing {
            self.change_tables(tables)?;
        }
        if self.shared.has_injected() {
            self.take_injected()?;
        }
        if self.shared.has_errand() {
            self.shared.do_errand();
        }
        if self.shared.has_next_port() {
            // Before the worker is taken: where the lane is lost in here, its successor still finds it.
            self.collect()?;
            if let Some((number, port)) = self.shared.take_next_port() {
                self.replace_port(*number as usize, port)?;
            }
        }
        self.end_rest();
        Ok(())
    }

    /// The last part of a turn: what the first `ready` of `events` bring, and what can go out.
    pub(crate) fn work(&mut self, ready: usize) -> Result<(), Disowned> {
        let mut looked = 0;
        while looked < ready {
            let event = self.events[looked].data.u64();
            looked += 1;
            match event {
                WAKE_TOKEN => self.shared.place.acknowledge(),
                other => match token::read(other) {
                    Ok(source) => self.receive(source)?,
                    Err(outlet) => self.serve_outlet(outlet)?,
                },
            }
        }
        if self.crossings_in.iter().any(Option::is_some) {
            self.take_crossings()?;
        }
        self.collect()?;
        self.dispatch()?;
        self.tend_members()?;
        if std::mem::take(&mut self.calls_wait) {
            self.feed_waiting();
        }
        if !self.ask_again.is_empty() {
            self.ask_blocked_again()?;
        }
        self.end_pauses();
        if self.look_again {
            self.look_again = false;
            self.now = monotonic_ns();
            self.feed_waiting();
            self.release_holds()?;
        }
        Ok(())
    }

    /// How long the lane may wait, in nanoseconds; `None`: until something comes.
    pub(crate) fn patience(&self) -> Option<u64> {
        // What may linger in an outlet has a time of its own.
        let unsent = !self.dirty.is_empty() && self.linger_at_ns == 0;
        if self.more_queued || self.look_again || self.calls_wait || unsent {
            return Some(0);
        }
        let mut at = self.wake_at_ns;
        if !self.ask_again.is_empty() {
            let again = monotonic_ns() + ASK_AGAIN_NS;
            at = if at == 0 { again } else { at.min(again) };
        }
        for other in [self.rested_at_ns, self.ailing_at_ns, self.linger_at_ns, self.retry_at_ns] {
            if other != 0 {
                at = if at == 0 { other } else { at.min(other) };
            }
        }
        (at != 0).then(|| at.saturating_sub(monotonic_ns()))
    }

    /// Whether somebody has left work for the lane that no descriptor tells of.
    pub(crate) fn has_orders(&self) -> bool {
        let shared = &self.shared;
        self.has_crossings()
            || shared.has_next_tables()
            || shared.has_next_port()
            || shared.has_errand()
            || shared.is_stopping()
            || shared.has_injected()
            || self.ports.iter().any(|port| !port.from_worker.is_empty())
    }

    /// Waits, `limit` nanoseconds at the most; how many of `events` are ready.
    pub(crate) fn wait(&mut self, limit: Option<u64>) -> usize {
        let quiet = self.queue_failed || self.block && self.room_to_receive() == 0;
        // Taken out for the wait, so that the rest of the lane can be looked at meanwhile.
        let mut events = std::mem::take(&mut self.events);
        let ready = self.shared.place.wait(&mut events, limit, quiet, || self.has_orders());
        self.events = events;
        if self.wake_at_ns != 0 && self.queued > 0 {
            // The policy's time may have come: it is asked, and says when to ask again.
            self.more_queued = true;
            self.wake_at_ns = 0;
        }
        ready.min(READY_MAX)
    }

    /// How many events the lane can take in without losing one, whatever their size and whatever the
    /// functions under way may yet put out.
    pub(crate) fn room_to_receive(&self) -> u32 {
        let size = self.pool.size();
        let largest = u64::from(size.event_bytes_max.max(1));
        let bytes = size.bytes.saturating_sub(self.shared.stats.bytes.get()) / largest;
        // An empty lane takes one event of any size that is allowed.
        let bytes = if self.pool.used() == 0 { bytes.max(1) } else { bytes };
        let events = size.events.saturating_sub(self.pool.used());
        events.min(self.pool.room_for_largest()).min(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    fn ask_blocked_again(&mut self) -> Result<(), Disowned> {
        for _ in 0..self.ask_again.len() {
            let Some(id) = self.ask_again.pop() else { break };
            self.unblock_outlet(id, false)?;
        }
        Ok(())
    }

    /// Takes in what calls have published.
    fn take_injected(&mut self) -> Result<(), Disowned> {
        self.shared.note_injected();
        self.now = monotonic_ns();
        while let Ok(mut injected) = self.rings.injected.pop() {
            // A lane that was lost in here touches its rings no more.
            self.inject(&injected)?;
            injected.payload.clear();
            // The controller empties this ring before it fills the other, which has the same room.
            if let Err(rtrb::PushError::Full(injected)) = self.rings.emptied.push(injected) {
                std::mem::forget(injected);
            }
        }
        Ok(())
    }

    fn inject(&mut self, injected: &Injected) -> Result<(), Disowned> {
        let Some(entry) = self.topic(injected.topic) else { return Ok(()) };
        entry.stats.events_in.add(1);
        let Some(handle) = self.make(injected.topic, entry, &injected.payload, &injected.attributes) else {
            entry.stats.dropped.count(Reason::NoBuffer);
            return Ok(());
        };
        let now = self.now;
        let record = self.pool.record_mut(handle);
        record.id = injected.id;
        record.origin_ns = now;
        record.source_time_ns = injected.source_time_ns;
        record.deadline_ns = if entry.deadline_ns == 0 { 0 } else { now + entry.deadline_ns };
        self.admit(handle)
    }

    /// Takes new tables into use: what is queued and what waits moves along.
    fn change_tables(&mut self, tables: *const super::tables::LaneTables) -> Result<(), Disowned> {
        self.now = monotonic_ns();
        // SAFETY: the controller keeps them alive until they are acknowledged.
        for source in unsafe { &(*tables).handover.get().sources } {
            if let Some(source) = self.source(*source) {
                source.rests_until_ns = 0;
            }
            self.unshaped = true;
            let answer = self.receive_the_rest(*source);
            self.unshaped = false;
            answer?;
        }
        self.flush_dirty()?;
        // SAFETY: as above.
        let next = unsafe { &*tables };
        for (index, topic) in self.tables().topics.iter().enumerate() {
            if let Some(entry) = topic
                && next.topics.get(index).is_none_or(Option::is_none)
            {
                self.drop_topic(index as u32, entry);
            }
        }
        self.tables = tables;
        let new = self.tables();
        self.take_settings(new);
        // SAFETY: this is the lane's owner, and the controller does not look before it is told.
        let handover = unsafe { new.handover.get() };
        for (outlet, successor) in &handover.outlets {
            // SAFETY: as above.
            let outlet = unsafe { outlet.get() };
            self.shared.place.forget_raw(outlet.descriptor);
            self.move_outlet(outlet, *successor);
        }
        for (call, successor) in &handover.calls {
            // SAFETY: as above.
            let call = unsafe { call.get() };
            self.move_retries(call, successor.and_then(|id| self.call(id)));
            while let Some(handle) = call.pending.pop_front() {
                match successor.and_then(|id| self.call(id)) {
                    Some(next) if next.pending.len() < next.pending.capacity() => {
                        next.pending.push_back(handle)
                    }
                    _ => {
                        call.stats.busy.subtract(1);
                        self.refuse_copy(handle, Reason::Removed);
                    }
                }
            }
            if let Some(next) = successor.and_then(|id| self.call(id)) {
                next.in_flight += call.in_flight;
            }
        }
        // What they replace goes back with the handover: it is not freed here.
        for (lane, crossing) in &mut handover.crossings_out {
            std::mem::swap(crossing, &mut self.crossings_out[*lane as usize % LEVELS_MAX]);
        }
        for (lane, crossing) in &mut handover.crossings_in {
            std::mem::swap(crossing, &mut self.crossings_in[*lane as usize % LEVELS_MAX]);
        }
        self.crossings_wait = false;
        for (topic, share) in &new.shares {
            self.queue.set_topic(*topic, share);
        }
        self.changing = None;
        self.shared.acknowledge_tables();
        self.more_queued = self.queued > 0;
        // What has moved to a successor is handed on; what has found a receiver is no longer held.
        self.look_again = true;
        Ok(())
    }

    /// What the tables say of the lane itself.
    pub(crate) fn take_settings(&mut self, tables: &LaneTables) {
        self.batch = tables.batch;
        self.block = tables.block;
        if tables.rate_max != self.rate_max {
            self.rate_max = tables.rate_max;
            self.shaper = (tables.rate_max > 0).then(|| Shaper::new(tables.rate_max, None));
            self.more_queued = self.queued > 0;
        }
    }

    /// Takes in what the socket of a source that goes holds already. Bounded by what a socket may hold.
    fn receive_the_rest(&mut self, id: u32) -> Result<(), Disowned> {
        const CALLS_MAX: usize = 65_536;
        for _ in 0..CALLS_MAX {
            let Some(source) = self.source(id).filter(|source| !source.failed) else { break };
            let before = source.stats.frames_received.get();
            self.receive(id)?;
            if source.stats.frames_received.get() == before {
                break;
            }
            // What came in goes on, so that the queue does not overflow with what it could have delivered.
            self.collect()?;
            self.dispatch()?;
        }
        Ok(())
    }

    fn move_outlet(&mut self, outlet: &mut crate::delivery::outlet::Outlet, successor: Option<u32>) {
        // What was not acknowledged goes once more, before what was not sent.
        while let Some(handle) =
            outlet.unsettled.pop_front().map(|(_, handle)| handle).or_else(|| outlet.pending.pop_front())
        {
            match successor.and_then(|id| self.outlet(id)) {
                Some(next) if next.pending.len() < next.pending.capacity() => {
                    next.pending.push_back(handle);
                    if !next.dirty {
                        next.dirty = true;
                        self.dirty.push(next.id);
                    }
                }
                _ => self.refuse_copy(handle, Reason::Removed),
            }
        }
        outlet.stats.pending.set(0);
        if let Some(next) = successor.and_then(|id| self.outlet(id)) {
            next.stats.pending.set(next.pending.len() as u64);
        }
    }

    /// A topic goes: its account is settled, what is queued for it is dropped, and what receivers still hold
    /// is of no topic any more. Another topic may get its index.
    fn drop_topic(&mut self, topic: u32, entry: &TopicEntry) {
        for handle in 0..self.pool.handles() {
            let record = self.pool.record_mut(handle);
            if record.topic != topic || matches!(record.stage, Stage::Free | Stage::Lost) {
                continue;
            }
            record.topic = NO_TOPIC;
            entry.stats.live.subtract(1);
            if record.delivered {
                entry.stats.events_out.add(1);
            } else {
                entry.stats.dropped.count(Reason::Removed);
            }
            if record.stage == Stage::Queued && (self.queue_failed || self.queue.forget(handle)) {
                self.queued -= 1;
                self.drop_event(handle, Reason::Removed);
            }
        }
        self.shared.stats.queued.set(u64::from(self.queued));
    }

    /// A successor's first step: settles what the former owner was in the middle of.
    pub fn recover(&mut self) {
        self.owner = self.shared.ownership.owner();
        self.now = monotonic_ns();
        let was_in = std::mem::replace(&mut self.in_call, InCall::Nothing);
        match was_in {
            InCall::Nothing => {}
            InCall::Receive { source } => {
                if let Some(source) = self.source(source) {
                    self.fail_source(source, LOST);
                }
            }
            InCall::Send { outlet, frames } => {
                if let Some(entry) = self.outlet(outlet) {
                    // The plugin may still read these: they are never given back.
                    for _ in 0..frames {
                        if let Some(handle) = entry.pending.pop_front() {
                            self.write_off(handle);
                            self.refuse_copy(handle, Reason::ReceiverFailed);
                        }
                    }
                    self.fail_outlet(outlet, LOST);
                }
                // Nor are the headers that it may still read.
                std::mem::forget(std::mem::replace(&mut self.heads, heads()));
            }
            InCall::Policy => self.fail_queue(),
            InCall::Function { call, handle } => {
                let event_id = self.pool.record(handle).id;
                self.write_off(handle);
                self.refuse_copy(handle, Reason::ReceiverFailed);
                let canary = self.lose_inline(call, event_id);
                self.tell(LaneNotice::FunctionFailed {
                    call,
                    canary,
                    no_branch: false,
                    event_id,
                    outcome: Outcome::LATE,
                    explanation: [0; EXPLANATION_BYTES],
                    explanation_len: 0,
                });
            }
        }
        if self.receipts.is_empty() {
            self.receipts = vec![Receipt::empty(); crate::delivery::outlet::BATCH_MAX].into();
        }
        if self.frames.capacity() == 0 {
            self.frames = crate::system::memory::room(crate::delivery::outlet::BATCH_MAX);
        }
        if self.inline_output.is_empty() {
            self.inline_output = vec![0; 65_536].into();
        }
        // Groups that have not had their turn do not get the event any more.
        if let Some((handle, served)) = self.delivering.take() {
            let groups = self.topic(self.pool.record(handle).topic).map_or(0, |entry| entry.groups.len());
            for _ in served..groups {
                self.retain(handle);
                self.refuse_copy(handle, Reason::ReceiverFailed);
            }
            self.release(handle);
        }
        // An event that was between two places when its owner left belongs to nobody else.
        for handle in self.pool.handles_at(Stage::Arriving) {
            if was_in == InCall::Policy {
                self.park(handle);
            } else {
                self.drop_event(handle, Reason::ReceiverFailed);
            }
        }
        // The policy that the rest would have to ask has just failed: nothing leaves the lane here.
        let _ = self.make_events();
        self.look_again = true;
        // What the waiting place has reported once went with the owner that it was reported to.
        for entry in self.tables().outlets.iter().flatten() {
            // SAFETY: this is the lane's owner.
            let outlet = unsafe { entry.cell.get() };
            outlet.stats.pending.set(outlet.pending.len() as u64);
            outlet.stats.unsettled.set(outlet.unsettled.len() as u64);
            if outlet.blocked && !outlet.failed {
                self.block_outlet(outlet);
            }
        }
    }
}
