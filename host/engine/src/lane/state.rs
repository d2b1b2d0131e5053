//! The state of a lane: everything that its owner needs, in one place, so that a successor can go on with
//! it where an owner did not come back from a plugin.

use std::cell::UnsafeCell;
use std::sync::Arc;

use rtrb::{Consumer, Producer};
use rustix::event::epoll;
use tempos_abi::adapter::Receipt;
use tempos_abi::attributes::ATTRIBUTES_BYTES_MAX;
use tempos_abi::envelope::ENVELOPE_BYTES_MAX;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::level::QosLevel;
use tempos_abi::queue::QueueBox;
use tempos_control::level::LEVELS_MAX;

use super::crossing::{CrossingIn, CrossingOut};
use super::order::{Injected, LaneNotice};
use super::ownership::{Disowned, Doing, Owner};
use super::pool::{Handle, Pool, Stage};
use super::shared::LaneShared;
use super::tables::{LaneTables, TopicEntry};
use crate::bridging::endpoint::{Source, UNTIL_DONE};
use crate::bridging::shaper::Shaper;
use crate::delivery::outlet::{BATCH_MAX, Outlet};
use crate::processing::invoker::FunctionPort;
use crate::processing::workflow::Call;
use crate::stats::Reason;
use crate::system::memory::{self, Region};

/// The call into a plugin that the owner is in, for the successor of one that does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InCall {
    /// None.
    Nothing,
    /// `recv_batch` of a source.
    Receive {
        /// Its id.
        source: u32,
    },
    /// `send_batch` of an outlet: the first so many waiting events are lent.
    Send {
        /// Its id.
        outlet: u32,
        /// How many.
        frames: u32,
    },
    /// The queue policy.
    Policy,
    /// An inline function on an event.
    Function {
        /// The call's id.
        call: u32,
        /// The event.
        handle: Handle,
    },
}

/// Frames of one call that are being made events: the successor of an owner that did not come back makes
/// events of the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// The source's id.
    pub source: u32,
    /// The slot that is next.
    pub next: usize,
    /// How many were filled.
    pub count: usize,
}

/// A short list without repetitions and without allocation: what does not fit is asked for next time.
#[derive(Debug)]
pub struct OnceList {
    ids: Vec<u32>,
}

impl OnceList {
    fn new(room: usize) -> Self {
        OnceList { ids: memory::room(room) }
    }

    /// Adds an id that is not in it yet.
    pub fn push_once(&mut self, id: u32) {
        if self.ids.len() < self.ids.capacity() && !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    /// Whether an id is in it.
    pub fn holds(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// Whether it takes one more.
    pub fn has_room(&self) -> bool {
        self.ids.len() < self.ids.capacity()
    }

    /// Puts an id back where it is looked at last.
    pub fn push_front(&mut self, id: u32) {
        if self.ids.len() < self.ids.capacity() {
            self.ids.insert(0, id);
        }
    }

    /// Takes one out.
    pub fn pop(&mut self) -> Option<u32> {
        self.ids.pop()
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Makes room for that many; on an ordinary thread only.
    pub fn reserve(&mut self, room: usize) {
        self.ids.reserve(room.saturating_sub(self.ids.len()));
    }
}

/// Buffers that receiving channels fill: a stride that is no power of two keeps them out of each other's
/// cache sets.
pub struct Scratch {
    region: Region,
    stride: usize,
    slots: Vec<RxSlot<'static>>,
}

// SAFETY: the slots point into the region that the scratch owns.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Slots for events of the given size.
    ///
    /// # Errors
    /// What the system says (ENOMEM).
    pub fn new(event_bytes_max: u32, slots: u32, lock: bool) -> std::io::Result<Self> {
        let largest = event_bytes_max as usize + ENVELOPE_BYTES_MAX;
        let stride = (largest + ATTRIBUTES_BYTES_MAX).next_multiple_of(4096) + 320;
        let region = Region::new(stride * slots as usize, lock)?;
        let mut scratch = Scratch { region, stride, slots: memory::room(slots as usize) };
        for at in 0..slots as usize {
            // SAFETY: each slot has a stride of the region to itself, and the slots go with the region.
            let (buffer, attributes) = unsafe {
                let start = scratch.region.start().add(at * scratch.stride);
                (
                    std::slice::from_raw_parts_mut(start, largest),
                    std::slice::from_raw_parts_mut(start.add(largest), ATTRIBUTES_BYTES_MAX),
                )
            };
            scratch.slots.push(RxSlot::new(buffer, attributes));
        }
        Ok(scratch)
    }

    /// The first `count` slots, emptied.
    pub fn slots(&mut self, count: usize) -> &mut [RxSlot<'static>] {
        let count = count.clamp(1, self.slots.len());
        let slots = &mut self.slots[..count];
        for slot in slots.iter_mut() {
            slot.reset();
        }
        slots
    }

    /// The slots as the last call left them.
    pub fn slots_filled(&self) -> &[RxSlot<'static>] {
        &self.slots
    }
}

/// The rings' ends that the lane holds.
pub struct LaneRings {
    /// Events from calls.
    pub injected: Consumer<Box<Injected>>,
    /// The same, emptied, back to the controller.
    pub emptied: Producer<Box<Injected>>,
    /// What the lane has to tell.
    pub notices: Producer<LaneNotice>,
}

/// What a lane is made of.
pub struct LaneParts {
    /// Its shared side.
    pub shared: Arc<LaneShared>,
    /// Its level's index.
    pub level: QosLevel,
    /// The first event id that it gives; the following ones grow by one.
    pub first_event_id: u64,
    /// Its pool.
    pub pool: Pool,
    /// Its queue.
    pub queue: QueueBox,
    /// Its receive buffers.
    pub scratch: Scratch,
    /// Its rings.
    pub rings: LaneRings,
    /// Its function workers.
    pub ports: Vec<FunctionPort>,
    /// Its first tables, which must stay alive until it has taken the next ones.
    pub tables: *const LaneTables,
    /// Room for ids of topics, outlets and the like in the lane's own lists.
    pub ids: usize,
}

/// The state. One thread at a time owns it.
pub struct LaneState {
    pub(crate) shared: Arc<LaneShared>,
    pub(crate) owner: Owner,
    pub(crate) level: QosLevel,
    pub(crate) now: u64,
    pub(crate) next_event_id: u64,
    pub(crate) pool: Pool,
    pub(crate) queue: QueueBox,
    /// The policy panicked: it is not asked again until it is replaced.
    pub(crate) queue_failed: bool,
    pub(crate) queued: u32,
    /// The policy asked to be asked again then; 0: no.
    pub(crate) wake_at_ns: u64,
    /// The last round ended before the queue was empty.
    pub(crate) more_queued: bool,
    pub(crate) tables: *const LaneTables,
    pub(crate) batch: u32,
    pub(crate) block: bool,
    pub(crate) scratch: Scratch,
    pub(crate) events: Vec<epoll::Event>,
    pub(crate) frames: Vec<TxFrame<'static>>,
    /// Headers of the frames of one call. Earlier ones are lent while a later one is written.
    pub(crate) heads: Box<[UnsafeCell<u8>]>,
    pub(crate) dirty: Vec<u32>,
    pub(crate) ask_again: OnceList,
    /// Sources that brought nothing too often, and when they are looked at again; 0: there is none.
    pub(crate) resting: OnceList,
    pub(crate) rested_at_ns: u64,
    /// Sources that go are read to their end, whatever their rate.
    pub(crate) unshaped: bool,
    /// Topics on hold.
    pub(crate) held: OnceList,
    /// Members that block or are out, and when the next of them is to be looked at; 0: at no time.
    pub(crate) ailing: Vec<u32>,
    pub(crate) ailing_at_ns: u64,
    /// Whether members lost their room since the topics were looked at.
    pub(crate) rooms_gone: bool,
    /// Calls were given what another member did not take.
    pub(crate) calls_wait: bool,
    /// Receipts of one call.
    pub(crate) receipts: Box<[Receipt]>,
    /// When a frame that waits for others has waited long enough; 0: none does.
    pub(crate) linger_at_ns: u64,
    /// When an event is to be tried again; 0: none is.
    pub(crate) retry_at_ns: u64,
    /// The rate of the level, where it has one.
    pub(crate) shaper: Option<Shaper>,
    pub(crate) rate_max: u32,
    /// Crossings by the index of the other lane.
    pub(crate) crossings_out: [Option<CrossingOut>; LEVELS_MAX],
    pub(crate) crossings_in: [Option<CrossingIn>; LEVELS_MAX],
    /// What came is for topics of tables that are still to come.
    pub(crate) crossings_wait: bool,
    pub(crate) rings: LaneRings,
    pub(crate) ports: Vec<FunctionPort>,
    pub(crate) in_call: InCall,
    /// The event that is being handed to its groups, and how many of them have had their turn.
    pub(crate) delivering: Option<(Handle, usize)>,
    /// Frames that came in one call and are being made events.
    pub(crate) arrived: Arrived,
    /// Tables that the lane has begun to take into use.
    pub(crate) changing: Option<*const LaneTables>,
    /// Receivers are not what they were: calls that wait for a worker, and topics on hold, are looked at
    /// again at the end of the turn.
    pub(crate) look_again: bool,
    pub(crate) inline_output: Box<[u8]>,
}

// SAFETY: `tables` points at tables that the controller keeps alive while the lane uses them; everything
// else in it can be sent.
unsafe impl Send for LaneState {}

/// Room for the headers of one call.
pub(crate) fn heads() -> Box<[UnsafeCell<u8>]> {
    (0..BATCH_MAX * ENVELOPE_BYTES_MAX).map(|_| UnsafeCell::new(0)).collect()
}

/// The most sources that one look at the waiting place brings.
pub const READY_MAX: usize = 64;

/// Room for what one look at the waiting place brings.
pub(crate) fn no_events() -> Vec<epoll::Event> {
    let empty = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
    vec![empty; READY_MAX]
}

impl LaneState {
    /// Puts a lane together, on an ordinary thread.
    pub fn new(parts: LaneParts) -> Self {
        let owner = parts.shared.ownership.owner();
        // SAFETY: the caller keeps the first tables alive.
        let (batch, block, rate_max) = unsafe {
            let tables = &*parts.tables;
            (tables.batch, tables.block, tables.rate_max)
        };
        let mut state = LaneState {
            shared: parts.shared,
            owner,
            level: parts.level,
            now: crate::system::clock::monotonic_ns(),
            next_event_id: parts.first_event_id,
            pool: parts.pool,
            queue: parts.queue,
            queue_failed: false,
            queued: 0,
            wake_at_ns: 0,
            more_queued: false,
            tables: parts.tables,
            batch,
            block,
            scratch: parts.scratch,
            events: no_events(),
            frames: memory::room(BATCH_MAX),
            heads: heads(),
            dirty: memory::room(parts.ids),
            ask_again: OnceList::new(parts.ids),
            resting: OnceList::new(parts.ids),
            rested_at_ns: 0,
            unshaped: false,
            held: OnceList::new(parts.ids),
            ailing: memory::room(parts.ids),
            ailing_at_ns: 0,
            rooms_gone: false,
            calls_wait: false,
            receipts: vec![Receipt::empty(); BATCH_MAX].into(),
            linger_at_ns: 0,
            retry_at_ns: 0,
            shaper: (rate_max > 0).then(|| Shaper::new(rate_max, None)),
            rate_max,
            crossings_out: [const { None }; LEVELS_MAX],
            crossings_in: [const { None }; LEVELS_MAX],
            crossings_wait: false,
            rings: parts.rings,
            ports: parts.ports,
            in_call: InCall::Nothing,
            delivering: None,
            arrived: Arrived::default(),
            changing: None,
            look_again: false,
            inline_output: vec![0; 65_536].into(),
        };
        memory::settle(&mut state.heads, false);
        memory::settle(&mut state.inline_output, false);
        for (topic, share) in &state.tables().shares {
            state.queue.set_topic(*topic, share);
        }
        state
    }

    /// Says that a call into a plugin begins; `in_call` must have been set.
    #[inline]
    pub(crate) fn enter(&mut self, doing: Doing, subject: u32) {
        self.shared.ownership.enter(&mut self.owner, doing, subject);
    }

    /// Takes the lane back after a call into a plugin.
    #[inline]
    pub(crate) fn leave(&mut self, doing: Doing) -> Result<(), Disowned> {
        self.shared.ownership.leave(&mut self.owner, doing)
    }

    /// The tables in use.
    pub(crate) fn tables(&self) -> &'static LaneTables {
        // SAFETY: the controller keeps them alive until the lane has taken the next ones; no reference
        // is kept over a turn.
        unsafe { &*self.tables }
    }

    /// A topic of the tables in use.
    pub(crate) fn topic(&self, index: u32) -> Option<&'static TopicEntry> {
        self.tables().topics.get(index as usize)?.as_ref()
    }

    /// A source of the tables in use.
    pub(crate) fn source(&self, id: u32) -> Option<&'static mut Source> {
        let cell = self.tables().sources.get(id as usize)?.as_ref()?;
        // SAFETY: this is the lane's owner.
        Some(unsafe { cell.get() })
    }

    /// An outlet of the tables in use.
    pub(crate) fn outlet(&self, id: u32) -> Option<&'static mut Outlet> {
        let entry = self.tables().outlets.get(id as usize)?.as_ref()?;
        // SAFETY: this is the lane's owner.
        Some(unsafe { entry.cell.get() })
    }

    /// A call of the tables in use.
    pub(crate) fn call(&self, id: u32) -> Option<&'static mut Call> {
        let entry = self.tables().calls.get(id as usize)?.as_ref()?;
        // SAFETY: this is the lane's owner.
        Some(unsafe { entry.cell.get() })
    }

    /// Tells the controller; what finds the ring full is counted.
    pub(crate) fn tell(&mut self, notice: LaneNotice) {
        if self.rings.notices.push(notice).is_err() {
            self.shared.notices_lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// An id for an event that starts here.
    pub(crate) fn new_event_id(&mut self) -> u64 {
        self.next_event_id += 1;
        self.next_event_id
    }

    /// One more receiver holds the event.
    pub(crate) fn retain(&mut self, handle: Handle) {
        let record = self.pool.record_mut(handle);
        record.references = record.references.saturating_add(1);
    }

    /// A receiver will not get its copy.
    pub(crate) fn refuse_copy(&mut self, handle: Handle, reason: Reason) {
        let record = self.pool.record_mut(handle);
        record.reason = Some(reason);
        record.copies_lost = record.copies_lost.saturating_add(1);
        self.release(handle);
    }

    /// A lost thread may still read the event: its buffer is never used again.
    pub(crate) fn write_off(&mut self, handle: Handle) {
        self.pool.record_mut(handle).lost = true;
    }

    /// An event is dropped before any receiver got it.
    pub(crate) fn drop_event(&mut self, handle: Handle, reason: Reason) {
        let record = self.pool.record_mut(handle);
        record.reason = Some(reason);
        record.references = 1;
        self.release(handle);
    }

    /// One event less of a source is in flight.
    fn let_go_of(&mut self, source: u32) {
        let Some(source) = self.source(source) else { return };
        source.entrance.in_flight = source.entrance.in_flight.saturating_sub(1);
        if source.rests_until_ns == UNTIL_DONE && source.entrance.in_flight < source.entrance.in_flight_max {
            source.rests_until_ns = self.now.max(1);
            self.rested_at_ns = self.now.max(1);
        }
    }

    /// A receiver is done with the event; the last one gives the buffer back and settles the account.
    pub(crate) fn release(&mut self, handle: Handle) {
        let record = self.pool.record_mut(handle);
        if record.stage == Stage::Lost {
            return;
        }
        record.references = record.references.saturating_sub(1);
        if record.references > 0 {
            return;
        }
        let record = *record;
        self.pool.give_back(handle);
        self.shared.stats.bytes.subtract(u64::from(record.bytes()));
        if record.source != 0 {
            self.let_go_of(record.source - 1);
        }
        let Some(entry) = self.topic(record.topic) else { return };
        entry.stats.live.subtract(1);
        if !record.delivered {
            entry.stats.dropped.count(record.reason.unwrap_or(Reason::NoSubscriber));
            return;
        }
        if let Some(reason) = record.reason {
            entry.stats.copies_lost.count_many(reason, u64::from(record.copies_lost));
        }
        entry.stats.events_out.add(1);
        let total = self.now.saturating_sub(record.origin_ns);
        self.shared.stats.total.record(total);
        if let Some(latency) = entry.stats.latency.get() {
            latency.total.record(total);
        }
        if record.deadline_ns != 0 && self.now > record.deadline_ns {
            entry.stats.late.add(1);
            let late_ns = self.now - record.deadline_ns;
            self.tell(LaneNotice::Late { topic: record.topic, event_id: record.id, late_ns });
        }
    }
}
