//! Stand-ins for plugins: channels, functions, and a queue that watches the policy inside it.

use std::collections::HashMap;
use std::os::fd::AsRawFd;

use tempos_abi::adapter::{ChannelBox, ChannelTraits, RawChannel, RawChannel_TO, Receipt};
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use tempos_abi::error::{AGAIN, PANICKED, PluginError};
use tempos_abi::event::{EventView, Output, RxSlot, TxFrame};
use tempos_abi::invoker::{FunctionBox, InvokeContext, Outcome, RawFunction, RawFunction_TO};
use tempos_abi::private::abi_stable::sabi_trait::TD_Opaque;
use tempos_abi::queue::{Admission, NextItem, QueueBox, QueueItem, RawQueue, RawQueue_TO, TopicShare};
use tempos_abi::std_types::{RResult, RSlice, RSliceMut, RString};
use tempos_abi::{LaneQos, QosGrant, QosLevel};

use super::world::{Fault, Mode, Taken, World, note, with};
use crate::lane::ownership::Doing;
use crate::system::clock::virtual_time;

/// An errno that means nothing special.
const EIO: i32 = -5;

/// The lane's side of channel `id` of the world.
pub fn channel(id: usize) -> ChannelBox {
    RawChannel_TO::from_value(FakeChannel(id), TD_Opaque)
}

/// Function `id` of the world.
pub fn function(id: usize) -> FunctionBox {
    RawFunction_TO::from_value(FakeFunction(id), TD_Opaque)
}

/// A policy's queue, watched.
pub fn watched(inner: QueueBox, lane: usize, capacity_events: u32, capacity_bytes: u64) -> QueueBox {
    let queue = Watched {
        inner,
        lane,
        capacity_events,
        capacity_bytes,
        items: HashMap::new(),
        bytes: 0,
        held: HashMap::new(),
    };
    RawQueue_TO::from_value(queue, TD_Opaque)
}

struct FakeChannel(usize);

impl RawChannel for FakeChannel {
    fn readiness(&self) -> i32 {
        with(|world| world.channels[self.0].descriptor.as_ref().map_or(-1, |fd| fd.as_raw_fd()))
    }

    fn recv_batch(&mut self, mut slots: RSliceMut<'_, RxSlot<'_>>) -> i32 {
        with(|world| {
            let lane = world.channels[self.0].lane;
            if world.hangs(lane, Doing::Receive) {
                return 1;
            }
            let some = world.random.between(1, slots.len());
            let channel = &mut world.channels[self.0];
            match channel.next_fault.take() {
                Some(Fault::Error) => return EIO,
                Some(Fault::Panic) => return PANICKED,
                None => {}
            }
            let count = some.min(channel.waiting.len());
            for slot in &mut slots[..count] {
                let Some(frame) = channel.waiting.pop_front() else { break };
                let room = slot.buffer_mut();
                let len = frame.bytes.len().min(room.len());
                room[..len].copy_from_slice(&frame.bytes[..len]);
                slot.set_len(if frame.truncated { usize::MAX } else { frame.bytes.len() });
                slot.key_hash = frame.key_hash;
            }
            if channel.waiting.is_empty()
                && let Some(descriptor) = &channel.descriptor
            {
                let _ = rustix::io::read(descriptor, &mut [0; 8]);
            }
            world.topics[world.channels[self.0].topic].given += count as u64;
            if count == 0 { AGAIN } else { count as i32 }
        })
    }

    fn send_batch(&mut self, frames: RSlice<'_, TxFrame<'_>>) -> i32 {
        let answer = with(|world| {
            let (lane, topic) = (world.channels[self.0].lane, world.channels[self.0].topic);
            if world.channels[self.0].closed {
                world.broken.push(format!("channel {} was closed and got something to send", self.0));
            }
            if world.hangs(lane, Doing::Send) {
                return frames.len() as i32;
            }
            match world.channels[self.0].next_fault.take().filter(|_| !world.calm) {
                Some(Fault::Error) => return EIO,
                Some(Fault::Panic) => return PANICKED,
                None => {}
            }
            let room = world.channels[self.0].room().min(frames.len());
            let some = match world.channels[self.0].mode {
                Mode::Open => room,
                Mode::Trickle => world.random.below(room + 1),
                Mode::Full => 0,
            };
            if some == 0 {
                world.channels[self.0].fill();
                return AGAIN;
            }
            let group = world.channels[self.0].group.unwrap_or(0);
            for frame in &frames[..some] {
                if world.channels[self.0].window.is_some() {
                    world.channels[self.0].unacknowledged.push_back(Taken {
                        event_id: frame.event_id,
                        at_ns: virtual_time::now(),
                        payload: frame.payload.as_slice().to_vec(),
                        given_up: false,
                    });
                    continue;
                }
                world.got(frame.payload.as_slice(), topic, group, self.0, true);
                if world.channels[self.0].with_header && !has_header(frame, topic) {
                    world.broken.push(format!("channel {} got a frame with another event's header", self.0));
                }
            }
            some as i32
        });
        note(|| format!("channel {} was asked to send {}: {answer}", self.0, frames.len()));
        answer
    }

    fn set_qos(&mut self, _: &LaneQos) -> RResult<QosGrant, PluginError> {
        RResult::ROk(QosGrant::new(QosGrant::SHARED, ""))
    }

    fn address(&self) -> RString {
        RString::new()
    }

    fn take_over(&mut self) -> i32 {
        -1
    }

    fn traits(&self) -> ChannelTraits {
        let window = with(|world| world.channels[self.0].window);
        ChannelTraits(if window.is_some() { ChannelTraits::RECEIPTS } else { 0 })
    }

    fn receipts(&mut self, mut receipts: RSliceMut<'_, Receipt>) -> u32 {
        let told = with(|world| {
            let most = receipts.len().min(world.channels[self.0].answers.len());
            for receipt in &mut receipts[..most] {
                let Some((taken, delivered)) = world.channels[self.0].answers.pop_front() else { break };
                if !delivered {
                    *receipt = Receipt::lost(taken.event_id);
                    continue;
                }
                *receipt = Receipt::delivered(taken.event_id);
                if !taken.given_up {
                    let (topic, group) = (world.channels[self.0].topic, world.channels[self.0].group);
                    world.got_at(taken.at_ns, &taken.payload, topic, group.unwrap_or(0), self.0, true);
                }
            }
            if world.channels[self.0].answers.is_empty()
                && let Some(descriptor) = &world.channels[self.0].descriptor
            {
                let _ = rustix::io::read(descriptor, &mut [0; 8]);
            }
            most as u32
        });
        note(|| format!("channel {} answers for {told}", self.0));
        told
    }

    fn close(&mut self, _: u64) {
        with(|world| {
            world.channels[self.0].closed = true;
            world.channels[self.0].descriptor = None;
        });
    }
}

/// Whether what stands before the payload is the event's own header.
fn has_header(frame: &TxFrame<'_>, topic: usize) -> bool {
    Envelope::decode(frame.head.as_slice())
        .is_ok_and(|head| head.event_id == frame.event_id && head.topic == format!("topic{topic}"))
}

/// A frame with an event header before its payload.
pub fn with_header(payload: &[u8], topic: &str, event_id: u64) -> Vec<u8> {
    let head = Envelope {
        event_id,
        level: QosLevel::STRICT,
        source_time_ns: 0,
        deadline_ns: 0,
        topic,
        attributes: &[],
        payload: &[],
    };
    let mut frame = vec![0; ENVELOPE_BYTES_MAX];
    let len = head.encode_head(&mut frame).expect("it fits");
    frame.truncate(len);
    frame.extend_from_slice(payload);
    frame
}

impl super::world::Channel {
    /// How many more it takes.
    fn room(&self) -> usize {
        let held = self.unacknowledged.len() + self.answers.len();
        self.window.map_or(usize::MAX, |window| window.saturating_sub(held))
    }

    /// A channel that acknowledges wants to be called: its descriptor is readable.
    pub fn call(&mut self) {
        if let Some(descriptor) = &self.descriptor {
            let _ = rustix::io::write(descriptor, &1u64.to_ne_bytes());
        }
    }

    /// An egress channel takes no more: its descriptor cannot be written to.
    fn fill(&mut self) {
        if let Some(descriptor) = self.descriptor.as_ref().filter(|_| self.window.is_none()) {
            let _ = rustix::io::write(descriptor, &(u64::MAX - 1).to_ne_bytes());
        }
    }

    /// It takes some again.
    pub fn drain(&mut self) {
        if self.window.is_some() {
            return self.call();
        }
        if let Some(descriptor) = self.descriptor.as_ref().filter(|_| self.group.is_some()) {
            let _ = rustix::io::read(descriptor, &mut [0; 8]);
        }
    }
}

struct FakeFunction(usize);

impl RawFunction for FakeFunction {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, _: &InvokeContext) -> Outcome {
        let payload = event.payload.as_slice();
        let (outcome, written) = with(|world| {
            let function = world.functions[self.0].clone();
            if event.topic.as_str() != format!("topic{}", function.topic) {
                world.broken.push(format!("function {} was told of topic {:?}", self.0, event.topic));
            }
            if function.inline {
                if world.hangs(function.lane, Doing::Function) {
                    return (Outcome::DONE, None);
                }
                let member = world.member_of(self.0);
                world.got(payload, function.topic, function.group, member, true);
            }
            match world.functions[self.0].next_fault.take().filter(|_| !world.calm) {
                Some(Fault::Error) => {
                    if world.random.chance(40) {
                        world.functions[self.0].next_fault = Some(Fault::Error);
                    }
                    return (Outcome::failed(3), None);
                }
                Some(Fault::Panic) => return (Outcome::PANICKED, None),
                None => {}
            }
            let Some(to) = function.to.filter(|_| world.random.chance(90)) else {
                return (Outcome::DONE, None);
            };
            let most = output.capacity() + usize::from(world.random.chance(2));
            let bytes = world.random.between(4, most.max(4));
            let fits = bytes <= output.capacity();
            // The order of a function that works on several events at once is nobody's.
            let producer = function.in_order.then_some(1_000_000 + function.beside.unwrap_or(self.0));
            let written = world.new_event(to, producer, bytes, !fits);
            if fits {
                world.topics[to].put_out += 1;
            }
            (Outcome::DONE, Some(written))
        });
        if let Some(written) = written {
            output.write(&written);
        }
        outcome
    }

    fn cancel(&self, _: u32) {}

    fn warm(&self, instances: u32) -> u32 {
        instances
    }

    fn retire(&self, _: u64) {}
}

struct Watched {
    inner: QueueBox,
    lane: usize,
    capacity_events: u32,
    capacity_bytes: u64,
    /// Topic and size of what is queued, by handle.
    items: HashMap<u32, (u32, u32)>,
    bytes: u64,
    held: HashMap<u32, bool>,
}

impl Watched {
    fn remove(&mut self, handle: u32) -> Option<u32> {
        let (topic, size) = self.items.remove(&handle)?;
        self.bytes -= u64::from(size);
        Some(topic)
    }

    fn hangs(&self) -> bool {
        with(|world| world.hangs(self.lane, Doing::Policy))
    }

    fn panics(&self) -> bool {
        with(|world| std::mem::take(&mut world.policy_panics) && !world.calm)
    }

    fn broken(&self, what: String) {
        with(|world| world.broken.push(format!("lane {}: {what}", self.lane)));
    }
}

impl RawQueue for Watched {
    fn admit(&mut self, item: &QueueItem, now_ns: u64) -> Admission {
        let hangs = self.hangs();
        if hangs && item.handle.is_multiple_of(2) {
            return Admission::refused();
        }
        if self.panics() {
            return Admission { verdict: Admission::PANICKED, evicted: 0 };
        }
        if self.items.contains_key(&item.handle) {
            self.broken(format!("handle {} was admitted twice", item.handle));
        }
        let admission = self.inner.admit(item, now_ns);
        match admission.verdict {
            Admission::ACCEPTED => {
                self.items.insert(item.handle, (item.topic, item.size));
                self.bytes += u64::from(item.size);
            }
            Admission::EVICTED if self.remove(admission.evicted).is_none() => {
                self.broken(format!("handle {} was evicted and is not queued", admission.evicted));
            }
            _ => {}
        }
        if self.items.len() > self.capacity_events as usize || self.bytes > self.capacity_bytes {
            self.broken(format!("{} events and {} bytes are queued", self.items.len(), self.bytes));
        }
        admission
    }

    fn next(&mut self, now_ns: u64) -> NextItem {
        let hangs = self.hangs();
        if hangs && now_ns.is_multiple_of(2) {
            return NextItem::nothing(0);
        }
        if self.panics() {
            return NextItem { verdict: NextItem::PANICKED, handle: 0, wake_at_ns: 0 };
        }
        let next = self.inner.next(now_ns);
        if matches!(next.verdict, NextItem::GO | NextItem::EXPIRED) {
            match self.remove(next.handle) {
                Some(topic) if next.verdict == NextItem::GO => {
                    if self.held.get(&topic).is_some_and(|held| *held) {
                        self.broken(format!("topic {topic} is on hold and was served"));
                    }
                }
                Some(_) => {}
                None => self.broken(format!("handle {} goes and is not queued", next.handle)),
            }
        } else if self.items.values().any(|(topic, _)| !self.held.get(topic).is_some_and(|held| *held)) {
            self.broken(String::from("events of a topic that is not on hold wait, and nobody goes"));
        }
        next
    }

    fn forget(&mut self, handle: u32) -> bool {
        let forgotten = self.inner.forget(handle);
        if forgotten != self.remove(handle).is_some() {
            self.broken(format!("handle {handle} was forgotten: {forgotten}"));
        }
        forgotten
    }

    fn queued(&self) -> u32 {
        let queued = self.inner.queued();
        if queued as usize != self.items.len() {
            self.broken(format!("the policy counts {queued} events, {} are queued", self.items.len()));
        }
        queued
    }

    fn hold(&mut self, topic: u32, held: bool) {
        self.held.insert(topic, held);
        self.inner.hold(topic, held);
        let _ = self.hangs();
    }

    fn set_topic(&mut self, topic: u32, share: &TopicShare) {
        self.inner.set_topic(topic, share);
    }
}

/// The event that a payload is of, for traces.
pub fn event_of(payload: &[u8]) -> usize {
    World::event_of(payload)
}
