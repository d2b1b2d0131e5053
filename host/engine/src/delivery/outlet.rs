//! An egress channel of a lane: what waits for it, and how it is sent.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tempos_abi::adapter::{ChannelBox, ChannelTraits, Receipt};
use tempos_abi::counters::ChannelCounters;
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use tempos_abi::error::{AGAIN, PANICKED};
use tempos_abi::event::TxFrame;
use tempos_abi::level::QosLevel;
use tempos_abi::std_types::RArc;
use tempos_control::EventFormat;

use super::group::{Load, Member};
use super::health::Health;
use crate::lane::order::LaneNotice;
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::pool::Handle;
use crate::lane::state::{InCall, LaneState};
use crate::lane::tables::token;
use crate::stats::{self, ChannelStats, Reason};
use crate::system::clock::monotonic_ns;
use crate::system::memory;

/// Events that may wait for one channel beside the lane's queue.
pub const PENDING_MAX: usize = 128;
/// The most frames of one call.
pub const BATCH_MAX: usize = 128;
/// Events that may be with one receiver before it has acknowledged them.
pub const UNSETTLED_MAX: usize = 1024;
/// Calls for receipts in one turn.
const RECEIPT_CALLS: usize = 16;

/// What a lane holds of an egress channel.
pub struct Outlet {
    /// The channel.
    pub channel: ChannelBox,
    /// Its id on this lane.
    pub id: u32,
    /// The descriptor to wait on; -1: none.
    pub descriptor: i32,
    /// The layout of its frames.
    pub format: EventFormat,
    /// Events waiting, oldest first. Made with room for all that it may hold.
    pub pending: VecDeque<Handle>,
    /// Events that the channel took and whose receipts are still to come, oldest first: id and handle.
    pub unsettled: VecDeque<(u64, Handle)>,
    /// How the channel works, where that is not the plain way.
    pub traits: ChannelTraits,
    /// When the first of the waiting events came, where the level lets them linger.
    pub since_ns: u64,
    /// Whether it takes its share of its group's events.
    pub health: Health,
    /// What the channel counts itself.
    pub counters: RArc<ChannelCounters>,
    /// How many frames it had given up when that was looked at last.
    pub given_up: u64,
    /// It is in the lane's list of members that are looked after.
    pub watched: bool,
    /// The channel took nothing when asked last: the lane waits for its descriptor.
    pub blocked: bool,
    /// It is in the lane's list of outlets to be flushed.
    pub dirty: bool,
    /// It panicked, or did not come back.
    pub failed: bool,
    /// What is counted.
    pub stats: Arc<ChannelStats>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet")
            .field("id", &self.id)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Outlet {
    /// An outlet with nothing waiting.
    pub fn new(
        channel: ChannelBox,
        id: u32,
        format: EventFormat,
        stats: Arc<ChannelStats>,
        counters: RArc<ChannelCounters>,
    ) -> Self {
        let descriptor = channel.readiness();
        let traits = channel.traits();
        let unsettled = if traits.has(ChannelTraits::RECEIPTS) { UNSETTLED_MAX + BATCH_MAX } else { 0 };
        Outlet {
            channel,
            id,
            descriptor,
            format,
            pending: VecDeque::from(memory::room(PENDING_MAX + BATCH_MAX)),
            unsettled: VecDeque::from(memory::room(unsettled)),
            traits,
            since_ns: 0,
            health: Health::default(),
            given_up: counters.send_errors.get(),
            counters,
            watched: false,
            blocked: false,
            dirty: false,
            failed: false,
            stats,
        }
    }

    /// A duplicate of the channel's descriptor, or -1.
    pub fn take_over(&mut self) -> i32 {
        if self.failed { -1 } else { self.channel.take_over() }
    }

    /// What the choice of a member needs to know.
    pub fn load(&self) -> Load {
        let waiting = self.pending.len() + self.unsettled.len();
        Load {
            has_room: !self.failed
                && self.pending.len() < PENDING_MAX
                && self.unsettled.len() < UNSETTLED_MAX
                && self.health.takes(waiting),
            waiting: waiting as u32,
        }
    }

    /// Whether its descriptor, once readable, asks for a call (see `ChannelTraits`).
    pub fn calls_back(&self) -> bool {
        self.traits.0 & (ChannelTraits::RECEIPTS | ChannelTraits::FLUSHES) != 0
    }
}

impl LaneState {
    /// Lets an event wait for an outlet; it is sent at once where the lane's batch is full.
    pub(crate) fn push_to_outlet(&mut self, id: u32, handle: Handle) -> Result<(), Disowned> {
        let full = self.enqueue(id, handle);
        match self.outlet(id) {
            Some(outlet) if full && !outlet.blocked => self.flush_outlet(id),
            _ => Ok(()),
        }
    }

    /// Lets an event wait for an outlet; whether there is a batch of them now.
    pub(crate) fn enqueue(&mut self, id: u32, handle: Handle) -> bool {
        let Some(outlet) = self.outlet(id) else {
            self.refuse_copy(handle, Reason::Removed);
            return false;
        };
        outlet.pending.push_back(handle);
        outlet.stats.pending.set(outlet.pending.len() as u64);
        if !outlet.dirty {
            outlet.dirty = true;
            outlet.since_ns = self.now;
            self.dirty.push(id);
        }
        outlet.pending.len() >= self.batch as usize
    }

    /// Sends what waits in every outlet that got something, unless it may wait for more.
    pub(crate) fn flush_dirty(&mut self) -> Result<(), Disowned> {
        let linger_ns = self.tables().linger_ns;
        if linger_ns > 0 && !self.dirty.is_empty() {
            return self.flush_due(linger_ns);
        }
        while let Some(id) = self.dirty.pop() {
            if let Some(outlet) = self.outlet(id) {
                outlet.dirty = false;
                if !outlet.blocked {
                    self.flush_outlet(id)?;
                }
            }
        }
        Ok(())
    }

    /// The same where frames may linger: only what is full, or has waited long enough, goes.
    fn flush_due(&mut self, linger_ns: u64) -> Result<(), Disowned> {
        let now = monotonic_ns();
        self.linger_at_ns = 0;
        let mut at = 0;
        while let Some(id) = self.dirty.get(at).copied() {
            let Some(outlet) = self.outlet(id) else {
                self.dirty.swap_remove(at);
                continue;
            };
            let due_ns = outlet.since_ns + linger_ns;
            if !outlet.blocked && outlet.pending.len() < self.batch as usize && now < due_ns {
                let first = self.linger_at_ns == 0;
                self.linger_at_ns = if first { due_ns } else { due_ns.min(self.linger_at_ns) };
                at += 1;
                continue;
            }
            self.dirty.swap_remove(at);
            outlet.dirty = false;
            if !outlet.blocked {
                self.flush_outlet(id)?;
            }
        }
        Ok(())
    }

    /// Sends what waits for one outlet, until nothing does or the channel takes no more.
    pub(crate) fn flush_outlet(&mut self, id: u32) -> Result<(), Disowned> {
        if let Some(outlet) = self.outlet(id) {
            self.drop_expired(outlet);
        }
        // Bounded: each round takes at least one event away, or ends; a member with others beside it is out
        // after a few refusals.
        loop {
            let Some(outlet) = self.outlet(id) else { return Ok(()) };
            if outlet.pending.is_empty() || outlet.failed {
                break;
            }
            let count = outlet.pending.len().min(BATCH_MAX).min(self.batch.max(1) as usize);
            let answer = self.send(outlet, count)?;
            match answer {
                AGAIN | 0 => {
                    self.block_outlet(outlet);
                    break;
                }
                PANICKED => {
                    self.fail_outlet(id, stats::PANICKED);
                    break;
                }
                error if error < 0 => {
                    outlet.stats.errors.add(1);
                    if !self.was_refused(id) {
                        break;
                    }
                }
                sent => {
                    let now = monotonic_ns();
                    self.now = now;
                    let settles = outlet.traits.has(ChannelTraits::RECEIPTS);
                    for _ in 0..(sent as usize).min(count) {
                        let Some(handle) = outlet.pending.pop_front() else { break };
                        if settles {
                            outlet.unsettled.push_back((self.pool.record(handle).id, handle));
                        } else {
                            self.sent(outlet, handle, now);
                        }
                    }
                    // A channel may take a frame and give it up, or hear of an earlier one's fate.
                    let given_up = outlet.counters.send_errors.get();
                    if std::mem::replace(&mut outlet.given_up, given_up) != given_up {
                        self.was_given_up(id);
                    } else if !settles && outlet.health.ails() {
                        self.member_took(outlet);
                    }
                }
            }
        }
        if let Some(outlet) = self.outlet(id) {
            outlet.stats.pending.set(outlet.pending.len() as u64);
            if outlet.calls_back() && !outlet.failed {
                self.call_back(id, false)?;
            }
            // It has room also where what waited for it has expired: topics may go on.
            self.look_again |= !self.held.is_empty() && outlet.load().has_room;
        }
        Ok(())
    }

    /// The channel sends on what it holds itself, and says what became of what it took. One that has `called` is
    /// asked in any case: it may have a receiver that went to see to, though nothing is under way to it.
    fn call_back(&mut self, id: u32, called: bool) -> Result<(), Disowned> {
        let Some(outlet) = self.outlet(id) else { return Ok(()) };
        if outlet.traits.has(ChannelTraits::FLUSHES) {
            self.in_call = InCall::Send { outlet: id, frames: 0 };
            self.enter(Doing::Send, id);
            let answer = outlet.channel.flush();
            self.leave(Doing::Send)?;
            match answer {
                PANICKED => {
                    self.fail_outlet(id, stats::PANICKED);
                    return Ok(());
                }
                // Some is left: the descriptor says when to go on.
                AGAIN | 0.. => {}
                _ => outlet.stats.errors.add(1),
            }
        }
        let owes = outlet.traits.has(ChannelTraits::RECEIPTS) && (called || !outlet.unsettled.is_empty());
        if owes { self.take_receipts(id) } else { Ok(()) }
    }

    /// Settles what the receiver has acknowledged; what it will not acknowledge any more goes to another.
    fn take_receipts(&mut self, id: u32) -> Result<(), Disowned> {
        for _ in 0..RECEIPT_CALLS {
            let Some(outlet) = self.outlet(id) else { return Ok(()) };
            // Taken out for the call: a lane that is taken over meanwhile makes itself another one.
            let mut receipts = std::mem::take(&mut self.receipts);
            self.in_call = InCall::Send { outlet: id, frames: 0 };
            self.enter(Doing::Send, id);
            let count = outlet.channel.receipts((&mut receipts[..]).into()) as usize;
            if let Err(disowned) = self.leave(Doing::Send) {
                std::mem::forget(receipts);
                return Err(disowned);
            }
            let count = count.min(receipts.len());
            self.now = monotonic_ns();
            for receipt in &receipts[..count] {
                let at = outlet.unsettled.iter().position(|(event_id, _)| *event_id == receipt.event_id);
                let Some((_, handle)) = at.and_then(|at| outlet.unsettled.remove(at)) else { continue };
                if receipt.verdict == Receipt::DELIVERED {
                    self.sent(outlet, handle, self.now);
                    if outlet.health.ails() {
                        self.member_took(outlet);
                    }
                } else {
                    self.was_lost(id, handle);
                }
            }
            let full = count == receipts.len();
            self.receipts = receipts;
            if !full || outlet.unsettled.is_empty() {
                break;
            }
        }
        if let Some(outlet) = self.outlet(id) {
            outlet.stats.unsettled.set(outlet.unsettled.len() as u64);
        }
        Ok(())
    }

    /// The descriptor of a channel that calls back is readable.
    pub(crate) fn serve_outlet(&mut self, id: u32) -> Result<(), Disowned> {
        let Some(outlet) = self.outlet(id).filter(|outlet| !outlet.failed) else { return Ok(()) };
        if !outlet.calls_back() {
            return self.unblock_outlet(id, true);
        }
        // The lane may have slept since it looked at the clock: what has expired meanwhile is not sent.
        self.now = monotonic_ns();
        self.call_back(id, true)?;
        outlet.blocked = false;
        self.flush_outlet(id)?;
        self.release_holds()
    }

    /// Takes out what has waited for the channel longer than it may live.
    fn drop_expired(&mut self, outlet: &mut Outlet) {
        let now = self.now;
        if !outlet.pending.iter().any(|handle| self.pool.record(*handle).is_expired(now)) {
            return;
        }
        for _ in 0..outlet.pending.len() {
            match outlet.pending.pop_front() {
                Some(handle) if self.pool.record(handle).is_expired(now) => {
                    self.refuse_copy(handle, Reason::Expired);
                }
                Some(handle) => outlet.pending.push_back(handle),
                None => break,
            }
        }
    }

    /// One call into the channel with the first `count` waiting events.
    fn send(&mut self, outlet: &mut Outlet, count: usize) -> Result<i32, Disowned> {
        self.in_call = InCall::Send { outlet: outlet.id, frames: count as u32 };
        let answer = if count == 1 {
            let frame = [self.frame(outlet.format, outlet.pending[0], 0)];
            self.enter(Doing::Send, outlet.id);
            outlet.channel.send_batch((&frame[..]).into())
        } else {
            // Taken out for the call: a lane that is taken over meanwhile makes itself another one.
            let mut frames = std::mem::take(&mut self.frames);
            frames.clear();
            for at in 0..count {
                frames.push(self.frame(outlet.format, outlet.pending[at], at));
            }
            self.enter(Doing::Send, outlet.id);
            let answer = outlet.channel.send_batch((&frames[..]).into());
            self.leave(Doing::Send)?;
            self.frames = frames;
            return Ok(answer);
        };
        self.leave(Doing::Send)?;
        Ok(answer)
    }

    /// The frame of an event; its header, where the channel wants one, is written into the lane's own
    /// buffer number `at`.
    fn frame(&mut self, format: EventFormat, handle: Handle, at: usize) -> TxFrame<'static> {
        let payload = self.pool.payload(handle);
        let attributes = self.pool.attributes(handle);
        let record = self.pool.record(handle);
        let mut frame = TxFrame::payload(payload, self.level);
        frame.attributes = attributes.into();
        frame.event_id = record.id;
        frame.deadline_ns = record.deadline_ns;
        if format == EventFormat::Event {
            let topic = self.topic(record.topic).map_or("", |entry| &*entry.name);
            let envelope = Envelope {
                event_id: record.id,
                level: QosLevel(self.level.0),
                source_time_ns: record.source_time_ns,
                deadline_ns: 0,
                topic,
                attributes,
                payload: &[],
            };
            let place = &self.heads[at * ENVELOPE_BYTES_MAX..(at + 1) * ENVELOPE_BYTES_MAX];
            // SAFETY: the lane's owner alone writes here, and no frame with this number is lent.
            let head = unsafe {
                std::slice::from_raw_parts_mut(UnsafeCell::raw_get(place.as_ptr()), ENVELOPE_BYTES_MAX)
            };
            let len = envelope.encode_head(head).unwrap_or(0);
            // SAFETY: the buffer lives as long as the lane and is not written again before the call that
            // the frame is made for has returned.
            frame.head = unsafe { std::slice::from_raw_parts(head.as_ptr(), len) }.into();
        }
        frame
    }

    /// Notes that one event was sent.
    fn sent(&mut self, outlet: &Outlet, handle: Handle, now: u64) {
        let record = self.pool.record_mut(handle);
        record.delivered = true;
        let (taken, topic, bytes) = (record.taken_ns, record.topic, record.payload_bytes);
        outlet.stats.frames_sent.add(1);
        outlet.stats.bytes_sent.add(u64::from(bytes));
        let egress = now.saturating_sub(taken);
        self.shared.stats.egress.record(egress);
        if let Some(latency) = self.topic(topic).and_then(|entry| entry.stats.latency.get()) {
            latency.egress.record(egress);
        }
        self.release(handle);
    }

    /// The channel takes no more: waits until its descriptor can be written to (one that calls back says so by
    /// itself), or, where it has none, asks again after a while.
    pub(crate) fn block_outlet(&mut self, outlet: &mut Outlet) {
        outlet.blocked = true;
        outlet.health.blocks(self.now);
        self.look_after(outlet);
        if outlet.descriptor >= 0 {
            if outlet.calls_back() {
                return;
            }
            // SAFETY: the channel owns the descriptor and outlives this borrow.
            let descriptor = unsafe { BorrowedFd::borrow_raw(outlet.descriptor) };
            if self.shared.place.watch_writable_once(descriptor, token::outlet(outlet.id)).is_ok() {
                return;
            }
        }
        self.ask_again.push_once(outlet.id);
    }

    /// The outlet is asked again: because its descriptor can be written to, or (`sure` is false) because some
    /// time has passed.
    pub(crate) fn unblock_outlet(&mut self, id: u32, sure: bool) -> Result<(), Disowned> {
        if let Some(outlet) = self.outlet(id) {
            outlet.blocked = false;
            self.now = monotonic_ns();
            if sure && outlet.health.ails() {
                self.member_can(outlet);
            }
            self.flush_outlet(id)?;
            self.release_holds()?;
        }
        Ok(())
    }

    /// A channel panicked or did not come back: it gets nothing more, and what waits for it goes to others, or
    /// is dropped.
    pub(crate) fn fail_outlet(&mut self, id: u32, mark: u64) {
        let Some(outlet) = self.outlet(id) else { return };
        if outlet.failed {
            return;
        }
        outlet.failed = true;
        // Nobody answers its descriptor any more: it would keep the lane awake.
        self.shared.place.forget_raw(outlet.descriptor);
        outlet.stats.failed.set(mark);
        outlet.stats.pending.set(0);
        outlet.stats.unsettled.set(0);
        self.tell(LaneNotice::OutletFailed { outlet: id });
        // A topic on hold goes on where its last receiver has failed: its events are counted, and do not wait.
        self.look_again = true;
        while let Some(handle) =
            outlet.unsettled.pop_front().map(|(_, handle)| handle).or_else(|| outlet.pending.pop_front())
        {
            if !self.give_to_another(Member::Outlet(id), handle) {
                self.refuse_copy(handle, Reason::ReceiverFailed);
            }
        }
    }
}
