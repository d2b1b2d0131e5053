//! An egress channel of a lane: what waits for it, and how it is sent.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tempos_abi::adapter::ChannelBox;
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use tempos_abi::error::{AGAIN, PANICKED};
use tempos_abi::event::TxFrame;
use tempos_abi::level::QosLevel;
use tempos_control::EventFormat;

use super::group::Load;
use crate::lane::order::LaneNotice;
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::pool::Handle;
use crate::lane::state::{InCall, LaneState};
use crate::lane::tables::token;
use crate::stats::{self, ChannelStats, Reason};
use crate::system::clock::monotonic_ns;

/// Events that may wait for one channel beside the lane's queue.
pub const PENDING_MAX: usize = 64;
/// The most frames of one call.
pub const BATCH_MAX: usize = 64;

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
    pub fn new(channel: ChannelBox, id: u32, format: EventFormat, stats: Arc<ChannelStats>) -> Self {
        let descriptor = channel.readiness();
        Outlet {
            channel,
            id,
            descriptor,
            format,
            pending: VecDeque::with_capacity(PENDING_MAX + BATCH_MAX),
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
        Load {
            has_room: !self.failed && self.pending.len() < PENDING_MAX,
            waiting: self.pending.len() as u32,
        }
    }
}

impl LaneState {
    /// Lets an event wait for an outlet; it is sent at once where the lane's batch is full.
    pub(crate) fn push_to_outlet(&mut self, id: u32, handle: Handle) -> Result<(), Disowned> {
        let Some(outlet) = self.outlet(id) else {
            self.refuse_copy(handle, Reason::Removed);
            return Ok(());
        };
        outlet.pending.push_back(handle);
        outlet.stats.pending.set(outlet.pending.len() as u64);
        let full = outlet.pending.len() >= self.batch as usize;
        if !outlet.dirty {
            outlet.dirty = true;
            self.dirty.push(id);
        }
        if full && !outlet.blocked { self.flush_outlet(id) } else { Ok(()) }
    }

    /// Sends what waits in every outlet that got something this turn.
    pub(crate) fn flush_dirty(&mut self) -> Result<(), Disowned> {
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

    /// Sends what waits for one outlet, until nothing does or the channel takes no more.
    pub(crate) fn flush_outlet(&mut self, id: u32) -> Result<(), Disowned> {
        if let Some(outlet) = self.outlet(id) {
            self.drop_expired(outlet);
        }
        // Bounded: each round takes at least one event away or ends.
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
                    if let Some(handle) = outlet.pending.pop_front() {
                        self.refuse_copy(handle, Reason::SendError);
                    }
                }
                sent => {
                    let now = monotonic_ns();
                    self.now = now;
                    for _ in 0..(sent as usize).min(count) {
                        if let Some(handle) = outlet.pending.pop_front() {
                            self.sent(outlet, handle, now);
                        }
                    }
                }
            }
        }
        if let Some(outlet) = self.outlet(id) {
            outlet.stats.pending.set(outlet.pending.len() as u64);
        }
        Ok(())
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

    /// The channel takes no more: waits until its descriptor can be written to, or, where it has none,
    /// asks again after a while.
    pub(crate) fn block_outlet(&mut self, outlet: &mut Outlet) {
        outlet.blocked = true;
        if outlet.descriptor >= 0 {
            // SAFETY: the channel owns the descriptor and outlives this borrow.
            let descriptor = unsafe { BorrowedFd::borrow_raw(outlet.descriptor) };
            if self.shared.place.watch_writable_once(descriptor, token::outlet(outlet.id)).is_ok() {
                return;
            }
        }
        self.ask_again.push_once(outlet.id);
    }

    /// The descriptor can be written to again.
    pub(crate) fn unblock_outlet(&mut self, id: u32) -> Result<(), Disowned> {
        if let Some(outlet) = self.outlet(id) {
            outlet.blocked = false;
            self.now = monotonic_ns();
            self.flush_outlet(id)?;
            self.release_holds()?;
        }
        Ok(())
    }

    /// A channel panicked or did not come back: what waits for it is dropped, it gets nothing more.
    pub(crate) fn fail_outlet(&mut self, id: u32, mark: u64) {
        let Some(outlet) = self.outlet(id) else { return };
        if outlet.failed {
            return;
        }
        outlet.failed = true;
        outlet.stats.failed.set(mark);
        while let Some(handle) = outlet.pending.pop_front() {
            self.refuse_copy(handle, Reason::ReceiverFailed);
        }
        outlet.stats.pending.set(0);
        self.tell(LaneNotice::OutletFailed { outlet: id });
    }
}
