//! The trigger: a received frame becomes an event and asks for admission.

use tempos_abi::envelope::Envelope;
use tempos_abi::error::{AGAIN, PANICKED};
use tempos_abi::event::RxSlot;
use tempos_control::EventFormat;

use super::endpoint::Source;
use crate::lane::order::LaneNotice;
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::state::{Arrived, InCall, LaneState};
use crate::lane::tables::{TopicEntry, token};
use crate::stats::{self, Reason};
use crate::system::clock::{monotonic_ns, realtime_ns};

/// Calls in a row that may bring nothing although the descriptor was ready.
const BARREN_MAX: u32 = 1000;
/// How long a channel rests that brought nothing so often.
const REST_NS: u64 = 10_000_000;

/// A frame taken apart, still in the receive buffer.
struct Arrival<'a> {
    id: u64,
    source_time_ns: u64,
    /// From the source time on; 0: the sender says none.
    deadline_ns: u64,
    key_hash: u64,
    payload: &'a [u8],
    attributes: &'a [u8],
}

impl LaneState {
    /// Takes what a source has, one call into its channel, and asks admission for each event.
    pub(crate) fn receive(&mut self, id: u32) -> Result<(), Disowned> {
        // A descriptor that was ready may be of a channel that has gone since: the controller takes it
        // out of the set.
        let Some(source) = self.source(id) else { return Ok(()) };
        if source.failed {
            // It stays ready, and the controller may not have heard of it.
            self.shared.place.forget_raw(source.descriptor);
            return Ok(());
        }
        if self.queue_failed {
            return Ok(());
        }
        let mut wanted = source.batch.min(self.batch).max(1) as usize;
        if self.block {
            match self.room_to_receive() as usize {
                // What is ready stays ready: the lane looks again once there is room.
                0 => return Ok(()),
                room => wanted = wanted.min(room),
            }
        }
        self.in_call = InCall::Receive { source: id };
        self.enter(Doing::Receive, id);
        let answer = source.channel.recv_batch(self.scratch.slots(wanted).into());
        self.leave(Doing::Receive)?;
        self.now = monotonic_ns();
        match answer {
            AGAIN | 0 => {
                source.batch = 1;
                source.barren = source.barren.saturating_add(1);
                if source.barren >= BARREN_MAX {
                    self.rest(source);
                }
            }
            PANICKED => self.fail_source(source, stats::PANICKED),
            error if error < 0 => {
                source.stats.errors.add(1);
                source.barren = source.barren.saturating_add(1);
                if source.barren >= BARREN_MAX {
                    self.fail_source(source, stats::PANICKED);
                }
            }
            count => {
                source.barren = 0;
                let count = (count as usize).min(wanted);
                adapt(source, count, wanted, self.batch);
                self.arrived = Arrived { source: id, next: 0, count };
                self.make_events()?;
            }
        }
        Ok(())
    }

    /// Makes events of what the last call brought.
    pub(crate) fn make_events(&mut self) -> Result<(), Disowned> {
        let Some(source) = self.source(self.arrived.source) else { return Ok(()) };
        while self.arrived.next < self.arrived.count {
            let at = self.arrived.next;
            self.arrived.next += 1;
            self.trigger(source, at)?;
        }
        Ok(())
    }

    /// Makes an event of the frame in slot `at`.
    fn trigger(&mut self, source: &Source, at: usize) -> Result<(), Disowned> {
        let Some(entry) = self.topic(source.topic) else { return Ok(()) };
        let slot: *const RxSlot<'static> = &raw const self.scratch.slots_filled()[at];
        // SAFETY: the slot is not lent again, and so does not change, before this event has been copied.
        let slot = unsafe { &*slot };
        source.stats.frames_received.add(1);
        entry.stats.events_in.add(1);
        match self.take_apart(source, entry, slot) {
            Ok(arrival) => {
                source.stats.bytes_received.add(arrival.payload.len() as u64);
                if arrival.source_time_ns != 0 {
                    self.shared.stats.arrival.record(realtime_ns().saturating_sub(arrival.source_time_ns));
                }
                let deadline_ns = self.deadline(entry, &arrival);
                let (payload, attributes) = (arrival.payload, arrival.attributes);
                match self.make(source.topic, entry, payload, attributes) {
                    Some(handle) => {
                        let id = if arrival.id == 0 { self.new_event_id() } else { arrival.id };
                        let now = self.now;
                        let record = self.pool.record_mut(handle);
                        record.id = id;
                        record.origin_ns = now;
                        record.source_time_ns = arrival.source_time_ns;
                        record.key_hash = arrival.key_hash;
                        record.deadline_ns = deadline_ns;
                        self.admit(handle)
                    }
                    None => {
                        entry.stats.dropped.count(Reason::NoBuffer);
                        Ok(())
                    }
                }
            }
            Err(reason) => {
                entry.stats.dropped.count(reason);
                Ok(())
            }
        }
    }

    fn take_apart<'a>(
        &self,
        source: &Source,
        entry: &TopicEntry,
        slot: &'a RxSlot<'static>,
    ) -> Result<Arrival<'a>, Reason> {
        if slot.flags & RxSlot::TRUNCATED != 0 {
            return Err(Reason::TooLarge);
        }
        let frame = slot.frame();
        let arrival = match source.format {
            EventFormat::Raw => Arrival {
                id: 0,
                source_time_ns: slot.source_time_ns,
                deadline_ns: 0,
                key_hash: slot.key_hash,
                payload: frame,
                attributes: slot.attributes(),
            },
            EventFormat::Event => {
                let envelope = Envelope::decode(frame).map_err(|_| Reason::Malformed)?;
                if !envelope.topic.is_empty() && envelope.topic != &*entry.name {
                    return Err(Reason::WrongTopic);
                }
                Arrival {
                    id: envelope.event_id,
                    source_time_ns: envelope.source_time_ns,
                    deadline_ns: envelope.deadline_ns,
                    key_hash: slot.key_hash,
                    payload: envelope.payload,
                    attributes: envelope.attributes,
                }
            }
        };
        let most = self.pool.size().event_bytes_max as usize;
        if arrival.payload.len() + arrival.attributes.len() > most {
            Err(Reason::TooLarge)
        } else {
            Ok(arrival)
        }
    }

    /// The earlier of the topic's deadline and the sender's, on the node's clock; 0: none.
    fn deadline(&self, entry: &TopicEntry, arrival: &Arrival<'_>) -> u64 {
        let own = if entry.deadline_ns == 0 { u64::MAX } else { self.now + entry.deadline_ns };
        let senders = if arrival.deadline_ns == 0 || arrival.source_time_ns == 0 {
            u64::MAX
        } else {
            let used = realtime_ns().saturating_sub(arrival.source_time_ns);
            // One that has passed already is late from the start.
            self.now.saturating_add(arrival.deadline_ns).saturating_sub(used).max(1)
        };
        match own.min(senders) {
            u64::MAX => 0,
            deadline => deadline,
        }
    }

    /// A buffer with the event's bytes and what its topic says of it; `None` where none is free.
    pub(crate) fn make(
        &mut self,
        topic: u32,
        entry: &TopicEntry,
        payload: &[u8],
        attributes: &[u8],
    ) -> Option<u32> {
        let handle = self.pool.take(payload.len() + attributes.len())?;
        self.pool.fill(handle, payload, attributes);
        let now = self.now;
        let record = self.pool.record_mut(handle);
        record.topic = topic;
        record.arrival_ns = now;
        record.expires_ns = if entry.time_to_live_ns == 0 { 0 } else { now + entry.time_to_live_ns };
        self.shared.stats.bytes.add((payload.len() + attributes.len()) as u64);
        entry.stats.live.add(1);
        Some(handle)
    }

    /// A descriptor that stays ready while nothing comes would keep the lane from ever waiting.
    /// A channel that is ready and brings nothing, over and over (strangers who connect and say nothing, or
    /// a fault of its own), is looked at no more for a moment, so that it does not take the lane's CPU.
    fn rest(&mut self, source: &Source) {
        if source.descriptor >= 0 && self.resting.has_room() && !self.resting.holds(source.id) {
            self.shared.place.rest(source.descriptor, token::source(source.id));
            self.resting.push_once(source.id);
            if self.rested_at_ns == 0 {
                self.rested_at_ns = self.now + REST_NS;
            }
        }
    }

    /// Channels that have rested are looked at again.
    pub(crate) fn end_rest(&mut self) {
        if self.rested_at_ns == 0 || monotonic_ns() < self.rested_at_ns {
            return;
        }
        self.rested_at_ns = 0;
        while let Some(id) = self.resting.pop() {
            if let Some(source) = self.source(id).filter(|source| !source.failed) {
                self.shared.place.end_rest(source.descriptor, token::source(id));
            }
        }
    }

    pub(crate) fn fail_source(&mut self, source: &mut Source, mark: u64) {
        if !source.failed {
            source.failed = true;
            source.stats.failed.set(mark);
            self.tell(LaneNotice::SourceFailed { source: source.id });
        }
    }
}

/// A full call doubles the next one, a call that came back less than half full halves it: one event at a
/// time where a wake-up brings one, large batches in a flood.
fn adapt(source: &mut Source, count: usize, wanted: usize, most: u32) {
    if count == wanted {
        source.batch = (source.batch * 2).min(most).max(1);
    } else if count * 2 < wanted {
        source.batch = (source.batch / 2).max(1);
    }
}
