//! The trigger: a received frame becomes an event and asks for admission.

use tempos_abi::attributes::Attributes;
use tempos_abi::envelope::Envelope;
use tempos_abi::error::{AGAIN, PANICKED};
use tempos_abi::event::RxSlot;
use tempos_control::EventFormat;

use super::endpoint::{Source, UNTIL_DONE};
use super::rules;
use super::sequences::Seen;
use crate::lane::crossing::Passage;
use crate::lane::order::LaneNotice;
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::state::{InCall, LaneState};
use crate::lane::tables::{TopicEntry, token};
use crate::stats::{self, Reason};
use crate::system::clock::{monotonic_ns, realtime_ns};

/// Calls in a row that may bring nothing although the descriptor was ready.
const BARREN_MAX: u32 = 1000;
/// How long after its arrival an event waits for the tables that name its topic on the lane it was sent to.
const TABLES_COME_NS: u64 = 5_000_000_000;
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
        if source.failed || self.queue_failed || source.rests_until_ns != 0 {
            return Ok(());
        }
        let mut wanted = source.batch.min(self.batch).max(1) as usize;
        if !self.unshaped {
            match self.shape(source, wanted) {
                0 => return Ok(()),
                allowed => wanted = allowed,
            }
        }
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
                if !source.entrance.drops_over_rate
                    && let Some(shaper) = &mut source.entrance.shaper
                {
                    shaper.take(self.now, count);
                }
                for at in 0..count {
                    self.trigger(source, at)?;
                }
            }
        }
        Ok(())
    }

    /// How many events a source may bring now, at most `wanted`; 0 makes it rest.
    fn shape(&mut self, source: &mut Source, wanted: usize) -> usize {
        let mut allowed = wanted;
        let entrance = &source.entrance;
        if entrance.in_flight_max > 0 {
            allowed = allowed.min(entrance.in_flight_max.saturating_sub(entrance.in_flight) as usize);
            if allowed == 0 {
                self.rest_until(source, UNTIL_DONE);
                return 0;
            }
        }
        if let Some(shaper) = entrance.shaper.as_ref().filter(|_| !entrance.drops_over_rate) {
            allowed = shaper.allows(monotonic_ns(), allowed);
            if allowed == 0 {
                let until_ns = shaper.next_ns();
                self.rest_until(source, until_ns);
            }
        }
        allowed
    }

    /// Whether the endpoint lets an event in, apart from its size.
    fn is_let_in(&self, source: &mut Source, producer: u64, event_id: u64) -> Result<(), Reason> {
        let entrance = &mut source.entrance;
        if entrance.drops_over_rate
            && let Some(shaper) = &mut entrance.shaper
        {
            if shaper.allows(self.now, 1) == 0 {
                return Err(Reason::OverRate);
            }
            shaper.take(self.now, 1);
        }
        if let Some(shapers) = &mut entrance.shapers
            && !shapers.lets_in(producer, self.now)
        {
            return Err(Reason::OverRate);
        }
        if event_id != 0
            && let Some(sequences) = &mut entrance.sequences
        {
            match sequences.note(producer, event_id) {
                Seen::Before => return Err(Reason::Duplicate),
                Seen::Older if entrance.drops_older => return Err(Reason::OutOfOrder),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes an event of the frame in slot `at`.
    fn trigger(&mut self, source: &mut Source, at: usize) -> Result<(), Disowned> {
        let Some(entry) = self.topic(source.topic) else { return Ok(()) };
        let slot: *const RxSlot<'static> = &raw const self.scratch.slots_filled()[at];
        // SAFETY: the slot is not lent again, and so does not change, before this event has been copied.
        let slot = unsafe { &*slot };
        source.stats.frames_received.add(1);
        let arrival = self.take_apart(source, entry, slot).and_then(|arrival| {
            self.is_let_in(source, slot.producer(), arrival.id)?;
            Ok(arrival)
        });
        let arrival = match arrival {
            Ok(arrival) => arrival,
            Err(reason) => {
                entry.stats.events_in.add(1);
                entry.stats.dropped.count(reason);
                return Ok(());
            }
        };
        source.stats.bytes_received.add(arrival.payload.len() as u64);
        if arrival.source_time_ns != 0 {
            self.shared.stats.arrival.record(realtime_ns().saturating_sub(arrival.source_time_ns));
        }
        if source.entrance.open
            && !arrival.attributes.is_empty()
            && let Some(level) = self.other_level(source, entry, arrival.attributes)
        {
            self.cross(entry, level, &arrival);
            return Ok(());
        }
        entry.stats.events_in.add(1);
        let deadline_ns = self.deadline(entry, &arrival);
        let (payload, attributes) = (arrival.payload, arrival.attributes);
        let Some(handle) = self.make(source.topic, entry, payload, attributes) else {
            entry.stats.dropped.count(Reason::NoBuffer);
            return Ok(());
        };
        let id = if arrival.id == 0 { self.new_event_id() } else { arrival.id };
        let now = self.now;
        let record = self.pool.record_mut(handle);
        record.id = id;
        record.origin_ns = now;
        record.source_time_ns = arrival.source_time_ns;
        record.key_hash = arrival.key_hash;
        record.deadline_ns = deadline_ns;
        if source.entrance.in_flight_max > 0 {
            record.source = source.id + 1;
            source.entrance.in_flight += 1;
        }
        self.admit(handle)
    }

    /// The index of the level that an event's attributes give it, where that is another one than this lane's.
    fn other_level(&self, source: &Source, entry: &TopicEntry, attributes: &[u8]) -> Option<u8> {
        let most = source.entrance.qos_max.as_deref();
        let rules = entry.rules.as_ref().map_or(&[][..], |rules| &rules.rules);
        if most.is_none() && rules.is_empty() {
            return None;
        }
        let attributes = Attributes::new(attributes);
        let (level, capped) = rules::level_of(self.level.0, most, rules, &attributes, &self.tables().levels);
        if capped {
            source.stats.capped.add(1);
        }
        // Where a crossing is only just being made, the event goes by its endpoint's own lane.
        let leads_there = self.crossings_out.get(level as usize).is_some_and(Option::is_some)
            && entry.rules.as_ref().is_some_and(|rules| rules.routes[level as usize].is_some());
        (level != self.level.0 && leads_there).then_some(level)
    }

    /// Sends an event to the lane of another level.
    fn cross(&mut self, entry: &TopicEntry, level: u8, arrival: &Arrival<'_>) {
        let route = entry.rules.as_ref().and_then(|rules| *rules.routes.get(level as usize)?);
        let id = if arrival.id == 0 { self.new_event_id() } else { arrival.id };
        let passage = Passage {
            topic: route.map_or(u32::MAX, |(topic, _)| topic),
            number: route.map_or(0, |(_, number)| number),
            payload_bytes: arrival.payload.len() as u32,
            attribute_bytes: arrival.attributes.len() as u32,
            id,
            source_time_ns: arrival.source_time_ns,
            deadline_ns: self.deadline(entry, arrival),
            origin_ns: self.now,
            key_hash: arrival.key_hash,
        };
        let crossing = self.crossings_out.get_mut(level as usize).and_then(Option::as_mut);
        let went = route.is_some()
            && crossing.is_some_and(|crossing| crossing.put(&passage, arrival.payload, arrival.attributes));
        if went {
            entry.stats.crossed_out.add(1);
        } else {
            entry.stats.events_in.add(1);
            entry.stats.dropped.count(Reason::LaneFull);
        }
    }

    /// Takes in what rules of other lanes' endpoints have sent here: a batch from each, so that nobody's own
    /// sources wait long.
    pub(crate) fn take_crossings(&mut self) -> Result<(), Disowned> {
        for from in 0..self.crossings_in.len() {
            for _ in 0..self.batch.max(1) {
                if self.block && self.room_to_receive() == 0 || self.queue_failed {
                    break;
                }
                // Taken out while the event is made, and put back before any plugin is called.
                let Some(mut crossing) = self.crossings_in[from].take() else { break };
                self.now = monotonic_ns();
                if crossing.peek().is_some_and(|passage| self.is_early(&passage)) {
                    self.crossings_wait = true;
                    self.crossings_in[from] = Some(crossing);
                    break;
                }
                let made = crossing.take(|passage, first, second| self.arrive(&passage, first, second));
                self.crossings_in[from] = Some(crossing);
                match made {
                    Some(Some(handle)) => self.admit(handle)?,
                    Some(None) => {}
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Whether something waits that this lane has room for.
    pub(crate) fn has_crossings(&self) -> bool {
        let full = self.block && self.room_to_receive() == 0;
        if self.crossings_wait || self.queue_failed || full {
            return false;
        }
        self.crossings_in.iter().flatten().any(|crossing| !crossing.is_empty())
    }

    /// Whether the tables that name an event's topic are still to come: lanes get them one after the other.
    fn is_early(&self, passage: &Passage) -> bool {
        self.topic(passage.topic).is_none() && self.now.saturating_sub(passage.origin_ns) < TABLES_COME_NS
    }

    /// Makes an event of what came from another lane; `None`, and counted, where that cannot be.
    fn arrive(&mut self, passage: &Passage, first: &[u8], second: &[u8]) -> Option<u32> {
        let Some(entry) = self.topic(passage.topic).filter(|entry| entry.number == passage.number) else {
            self.shared.stats.strays.add(1);
            return None;
        };
        entry.stats.events_in.add(1);
        entry.stats.crossed_in.add(1);
        let bytes = first.len() + second.len();
        if bytes > self.pool.size().event_bytes_max as usize {
            entry.stats.dropped.count(Reason::TooLarge);
            return None;
        }
        let Some(handle) = self.make(passage.topic, entry, first, second) else {
            entry.stats.dropped.count(Reason::NoBuffer);
            return None;
        };
        let record = self.pool.record_mut(handle);
        record.payload_bytes = passage.payload_bytes.min(bytes as u32);
        record.attribute_bytes = bytes as u32 - record.payload_bytes;
        record.id = passage.id;
        record.origin_ns = passage.origin_ns;
        record.source_time_ns = passage.source_time_ns;
        record.key_hash = passage.key_hash;
        record.deadline_ns = passage.deadline_ns;
        Some(handle)
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
        let mut most = self.pool.size().event_bytes_max as usize;
        if source.entrance.event_bytes_max > 0 {
            most = most.min(source.entrance.event_bytes_max as usize);
        }
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

    /// A channel that is ready and brings nothing, over and over (strangers who connect and say nothing, or
    /// a fault of its own), is looked at no more for a moment, so that it does not take the lane's CPU.
    fn rest(&mut self, source: &mut Source) {
        self.rest_until(source, self.now + REST_NS);
    }

    /// A source is not looked at before `until_ns`, or until fewer of its events are in flight.
    fn rest_until(&mut self, source: &mut Source, until_ns: u64) {
        if source.descriptor < 0 || source.rests_until_ns != 0 || !self.resting.has_room() {
            return;
        }
        source.rests_until_ns = until_ns;
        self.shared.place.rest(source.descriptor, token::source(source.id));
        self.resting.push_once(source.id);
        if until_ns != UNTIL_DONE && (self.rested_at_ns == 0 || until_ns < self.rested_at_ns) {
            self.rested_at_ns = until_ns;
        }
    }

    /// Channels that have rested are looked at again.
    pub(crate) fn end_rest(&mut self) {
        if self.rested_at_ns == 0 {
            return;
        }
        let now = monotonic_ns();
        if now < self.rested_at_ns {
            return;
        }
        self.rested_at_ns = 0;
        for _ in 0..self.resting.len() {
            let Some(id) = self.resting.pop() else { break };
            let Some(source) = self.source(id).filter(|source| !source.failed) else { continue };
            if source.rests_until_ns > now {
                if source.rests_until_ns != UNTIL_DONE {
                    let first = self.rested_at_ns == 0;
                    let until_ns = source.rests_until_ns;
                    self.rested_at_ns = if first { until_ns } else { until_ns.min(self.rested_at_ns) };
                }
                self.resting.push_front(id);
            } else {
                source.rests_until_ns = 0;
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
