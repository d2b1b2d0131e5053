//! What surrounds the lanes, and what is true of it: every event that was ever made, who got it, and what
//! the plugins' stand-ins will do next. One world for each thread.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use tempos_control::EventFormat;

use super::random::Random;
use crate::lane::ownership::Doing;
use crate::lane::shared::LaneShared;
use crate::system::clock::virtual_time;

/// A turn may take this long on the virtual clock: who came in before and expired meanwhile may still go.
pub const TURN_NS: u64 = 100_000;

/// An event that was made.
#[derive(Clone, Debug)]
pub struct Event {
    /// The topic's serial number.
    pub topic: usize,
    /// Who made it; `None`: whoever minds no order.
    pub producer: Option<usize>,
    /// Its number among those of its producer.
    pub number: u64,
    /// It must never be delivered: its frame was not well formed.
    pub bad: bool,
    /// When it expires, once a lane was seen to hold it; 0: never.
    pub expires_ns: u64,
    /// Groups that got it.
    pub groups: Vec<usize>,
    /// It was given to another member than the one before, or handed over by one that works on several at once: it
    /// may come after later ones.
    pub rerouted: bool,
}

/// What is true of a topic.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    /// Frames that a channel handed out, and events that were injected.
    pub given: u64,
    /// Its events that functions have put out.
    pub put_out: u64,
    /// Its groups have been the same since it was made.
    pub groups: Option<usize>,
    /// Its groups changed.
    pub changed: bool,
}

/// What an egress channel does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Takes everything.
    Open,
    /// Takes some, then nothing for a while.
    Trickle,
    /// Takes nothing.
    Full,
}

/// A frame on its way in.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub key_hash: u64,
    pub truncated: bool,
}

/// A channel.
#[derive(Debug)]
pub struct Channel {
    pub lane: usize,
    pub topic: usize,
    /// The group that it is a member of; none for ingress.
    pub group: Option<usize>,
    pub mode: Mode,
    pub waiting: VecDeque<Frame>,
    /// Readable where frames wait; writable where it takes some. None: the lane asks again.
    pub descriptor: Option<OwnedFd>,
    /// Its frames carry the event header.
    pub with_header: bool,
    /// The next call errs or panics.
    pub next_fault: Option<Fault>,
    pub closed: bool,
    /// How many events it takes without having acknowledged them; none: it acknowledges nothing.
    pub window: Option<usize>,
    /// What it took and has not answered for.
    pub unacknowledged: VecDeque<Taken>,
    /// Answers that were not asked for yet, in their order; whether each was delivered.
    pub answers: VecDeque<(Taken, bool)>,
}

/// What a channel took that acknowledges later.
#[derive(Clone, Debug)]
pub struct Taken {
    pub event_id: u64,
    pub at_ns: u64,
    pub payload: Vec<u8>,
    /// The lane has found no room for it since, and counted it as lost: it hears the answer in vain.
    pub given_up: bool,
}

/// What may go wrong in a channel or a policy, beside hanging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error,
    Panic,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    pub lane: usize,
    pub topic: usize,
    pub group: usize,
    pub to: Option<usize>,
    pub inline: bool,
    pub in_order: bool,
    /// The function as whose events its own are ordered: itself, or the one that it is a canary beside.
    pub beside: Option<usize>,
    pub next_fault: Option<Fault>,
}

impl Function {
    /// How many events it may work on at once.
    pub fn concurrency(&self) -> u32 {
        if self.in_order { 1 } else { 2 }
    }
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub random: Random,
    pub events: Vec<Event>,
    pub topics: Vec<Topic>,
    pub channels: Vec<Channel>,
    pub functions: Vec<Function>,
    pub groups: usize,
    pub lanes: Vec<Arc<LaneShared>>,
    /// The next call of this kind does not come back in time.
    pub hang: Option<Doing>,
    /// The next call into a policy panics.
    pub policy_panics: bool,
    /// From now on everybody behaves.
    pub calm: bool,
    /// What went against an invariant.
    pub broken: Vec<String>,
    pub trace: Option<Vec<String>>,
    numbers: HashMap<usize, u64>,
    /// The number of the last event of a producer and topic that a member got.
    last: HashMap<(usize, usize, usize), u64>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Puts a new world in the place of the last one.
pub fn begin(random: Random, traced: bool) {
    virtual_time::set(Some(1_000_000_000));
    let world = World {
        random,
        events: Vec::new(),
        topics: Vec::new(),
        channels: Vec::new(),
        functions: Vec::new(),
        groups: 0,
        lanes: Vec::new(),
        hang: None,
        policy_panics: false,
        calm: false,
        broken: Vec::new(),
        trace: traced.then(Vec::new),
        numbers: HashMap::new(),
        last: HashMap::new(),
    };
    WORLD.set(Some(world));
}

/// Ends it.
pub fn end() -> Option<World> {
    virtual_time::set(None);
    WORLD.take()
}

/// Looks at it, or changes it. Never across a call into the engine.
pub fn with<R>(look: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| look(world.as_mut().expect("a world has begun")))
}

/// An event goes to another member than the one before, or is worked on beside others: its order is nobody's.
pub fn note_rerouted(payload: &[u8]) {
    let serial = World::event_of(payload);
    WORLD.with_borrow_mut(|world| {
        if let Some(event) = world.as_mut().and_then(|world| world.events.get_mut(serial)) {
            event.rerouted = true;
        }
    });
}

/// Notes what happens, where somebody wants to know.
pub fn note(what: impl FnOnce() -> String) {
    with(|world| {
        if let Some(trace) = &mut world.trace {
            trace.push(format!("{:>12} {}", virtual_time::now() - 1_000_000_000, what()));
        }
    });
}

impl World {
    /// A new group's serial number.
    pub fn new_group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    /// A new topic's serial number.
    pub fn new_topic(&mut self) -> usize {
        self.topics.push(Topic::default());
        self.topics.len() - 1
    }

    /// A new channel.
    pub fn new_channel(&mut self, lane: usize, topic: usize, group: Option<usize>) -> usize {
        // Miri's epoll knows no EPOLLONESHOT.
        let has_descriptor = group.is_none() || self.random.chance(80) && !cfg!(miri);
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        self.channels.push(Channel {
            lane,
            topic,
            group,
            mode: *self.random.pick(&[Mode::Open, Mode::Open, Mode::Trickle, Mode::Full]),
            waiting: VecDeque::new(),
            descriptor: has_descriptor.then(|| eventfd(0, flags).expect("descriptors")),
            with_header: self.random.chance(30),
            next_fault: None,
            closed: false,
            window: (group.is_some() && has_descriptor && self.random.chance(30))
                .then(|| self.random.between(1, 40)),
            unacknowledged: VecDeque::new(),
            answers: VecDeque::new(),
        });
        self.channels.len() - 1
    }

    /// A member answers for some of what it took, or, once everybody behaves, for all of it; whether there was any.
    pub fn answer(&mut self, channel: usize) -> bool {
        let waiting = self.channels[channel].unacknowledged.len();
        if waiting == 0 || self.channels[channel].closed {
            return false;
        }
        let count = if self.calm { waiting } else { self.random.between(1, waiting) };
        for _ in 0..count {
            let delivered = self.calm || self.random.chance(85);
            let Some(taken) = self.channels[channel].unacknowledged.pop_front() else { break };
            self.channels[channel].answers.push_back((taken, delivered));
        }
        self.channels[channel].call();
        true
    }

    /// A lane waits for a channel's answers for these events alone.
    pub fn waits_for(&mut self, channel: usize, events: &[usize]) {
        let channel = &mut self.channels[channel];
        let answered = channel.answers.iter_mut().map(|(taken, _)| taken);
        for taken in channel.unacknowledged.iter_mut().chain(answered) {
            taken.given_up |= !events.contains(&World::event_of(&taken.payload));
        }
    }

    /// A new event of a topic, as its payload.
    pub fn new_event(&mut self, topic: usize, producer: Option<usize>, bytes: usize, bad: bool) -> Vec<u8> {
        let number = self.numbers.entry(producer.unwrap_or(usize::MAX)).or_default();
        *number += 1;
        let number = *number;
        let serial = self.events.len() as u32;
        self.events.push(Event {
            topic,
            producer,
            number,
            bad,
            expires_ns: 0,
            groups: Vec::new(),
            rerouted: false,
        });
        let mut payload = serial.to_le_bytes().to_vec();
        payload.resize(bytes.max(4), 0xee);
        payload
    }

    /// The layout of a channel's frames.
    pub fn format_of(&self, channel: usize) -> EventFormat {
        if self.channels[channel].with_header { EventFormat::Event } else { EventFormat::Raw }
    }

    /// The event that a payload is of.
    pub fn event_of(payload: &[u8]) -> usize {
        payload.first_chunk().map_or(usize::MAX, |bytes| u32::from_le_bytes(*bytes) as usize)
    }

    /// A member of a group of a topic has got an event.
    pub fn got(&mut self, payload: &[u8], topic: usize, group: usize, member: usize, in_order: bool) {
        self.got_at(virtual_time::now(), payload, topic, group, member, in_order);
    }

    /// The same for what came then, and is known to have been taken only now.
    pub fn got_at(
        &mut self,
        now: u64,
        payload: &[u8],
        topic: usize,
        group: usize,
        member: usize,
        in_order: bool,
    ) {
        let serial = World::event_of(payload);
        let Some(event) = self.events.get_mut(serial) else {
            self.broken.push(format!("a member of group {group} got what nobody sent"));
            return;
        };
        if event.bad {
            self.broken.push(format!("event {serial} is not well formed and was delivered"));
        }
        if event.topic != topic {
            let of = event.topic;
            self.broken.push(format!("event {serial} of topic {of} came to a member of topic {topic}"));
        }
        if event.groups.contains(&group) {
            self.broken.push(format!("event {serial} came to group {group} twice"));
        }
        if event.expires_ns != 0 && now > event.expires_ns + TURN_NS {
            let late = now - event.expires_ns;
            self.broken.push(format!("event {serial} was delivered {late} ns after it expired"));
        }
        event.groups.push(group);
        let Some(producer) = event.producer.filter(|_| in_order && !event.rerouted) else { return };
        let number = event.number;
        let last = self.last.entry((member, producer, topic)).or_default();
        if number <= *last {
            self.broken.push(format!(
                "event {serial}, number {number} of producer {producer}, came after number {last}"
            ));
        }
        *last = number;
    }

    /// A function is given an event once more: it had it before, and none that came later.
    pub fn got_again(&mut self, payload: &[u8], topic: usize, group: usize, member: usize, in_order: bool) {
        let serial = World::event_of(payload);
        let Some(event) = self.events.get(serial) else {
            self.broken.push(format!("a member of group {group} is to try again what nobody sent"));
            return;
        };
        if !event.groups.contains(&group) {
            self.broken.push(format!("event {serial} is tried again by group {group}, which never had it"));
        }
        let Some(producer) = event.producer.filter(|_| in_order && !event.rerouted) else { return };
        let last = self.last.entry((member, producer, topic)).or_default();
        if event.number < *last {
            self.broken.push(format!(
                "event {serial}, number {} of producer {producer}, is tried again after number {last}",
                event.number
            ));
        }
        *last = event.number;
    }

    /// The number by which the events of a function are told apart from those of others.
    pub fn member_of(&self, function: usize) -> usize {
        usize::MAX - self.functions[function].beside.unwrap_or(function)
    }

    /// Whether the call that a lane is in does not come back in time: the supervisor takes the lane away.
    pub fn hangs(&mut self, lane: usize, doing: Doing) -> bool {
        if self.hang != Some(doing) || self.calm {
            return false;
        }
        let ownership = &self.lanes[lane].ownership;
        let beat = ownership.beat();
        if beat.doing != doing || !ownership.disown(beat) {
            return false;
        }
        self.hang = None;
        true
    }
}
