//! Queue policies: who is admitted to a lane and who goes next.
//!
//! A policy sees small fixed metadata, never a payload, and is handed the time: it decides, it does not
//! look. Thread contract: everything but `open` is called by one lane's queue worker, which may run
//! under real-time scheduling: no call blocks, allocates, locks or prints. All memory is taken in `open`;
//! handles are below `QueueSpec::handles`, topics below `QueueSpec::topics`, so plain arrays do.

use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, RResult};

use crate::error::PluginError;
use crate::guard::{Guard, Kept};
use crate::options::Options;

/// No handle.
pub const NO_HANDLE: u32 = u32::MAX;

/// What a policy knows of an event.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// The host's handle of the event, below `QueueSpec::handles`; unique while it is queued.
    pub handle: u32,
    /// The topic's index, below `QueueSpec::topics`.
    pub topic: u32,
    /// Bytes that it takes of the lane's capacity.
    pub size: u32,
    /// The topic's rank, 0 to 255: a higher rank goes first where the policy heeds ranks.
    pub rank: u32,
    /// When it arrived (CLOCK_MONOTONIC, ns).
    pub arrival_ns: u64,
    /// When it is late (CLOCK_MONOTONIC, ns); 0: never.
    pub deadline_ns: u64,
    /// A hash of its key; 0: it has none.
    pub key_hash: u64,
    /// For later minor versions; zero.
    pub reserved: u64,
}

/// The answer to an admission.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// One of the constants of this type.
    pub verdict: i32,
    /// With [`Admission::EVICTED`]: the handle that made room, no longer queued.
    pub evicted: u32,
}

impl Admission {
    /// The item is queued.
    pub const ACCEPTED: i32 = 0;
    /// The queue is full, or the policy does not want the item: it is not queued.
    pub const REFUSED: i32 = 1;
    /// Another item was removed, to make room or because this one supersedes it (same topic and key); this
    /// one is not queued yet: ask again.
    pub const EVICTED: i32 = 2;
    /// The policy panicked.
    pub const PANICKED: i32 = 3;

    /// Queued.
    pub const fn accepted() -> Self {
        Admission { verdict: Self::ACCEPTED, evicted: NO_HANDLE }
    }

    /// Not queued.
    pub const fn refused() -> Self {
        Admission { verdict: Self::REFUSED, evicted: NO_HANDLE }
    }

    /// `handle` made room; ask again.
    pub const fn evicted(handle: u32) -> Self {
        Admission { verdict: Self::EVICTED, evicted: handle }
    }
}

/// The answer to "who goes next".
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextItem {
    /// One of the constants of this type.
    pub verdict: i32,
    /// With [`NextItem::GO`] and [`NextItem::EXPIRED`]: the item, no longer queued.
    pub handle: u32,
    /// With [`NextItem::NOTHING`]: when to ask again (CLOCK_MONOTONIC, ns); 0: when something changes.
    pub wake_at_ns: u64,
}

impl NextItem {
    /// Nothing may go now.
    pub const NOTHING: i32 = 0;
    /// This one goes.
    pub const GO: i32 = 1;
    /// This one is to be dropped: its time has passed.
    pub const EXPIRED: i32 = 2;
    /// The policy panicked.
    pub const PANICKED: i32 = 3;

    /// Nothing may go before `wake_at_ns`.
    pub const fn nothing(wake_at_ns: u64) -> Self {
        NextItem { verdict: Self::NOTHING, handle: NO_HANDLE, wake_at_ns }
    }

    /// `handle` goes.
    pub const fn go(handle: u32) -> Self {
        NextItem { verdict: Self::GO, handle, wake_at_ns: 0 }
    }

    /// `handle` is to be dropped.
    pub const fn expired(handle: u32) -> Self {
        NextItem { verdict: Self::EXPIRED, handle, wake_at_ns: 0 }
    }
}

/// What a full queue does, where it is the policy's to decide.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhenFull(pub u8);

impl WhenFull {
    /// Refuse the new item.
    pub const REFUSE: WhenFull = WhenFull(0);
    /// Evict what matters least (for most policies the oldest) until the new item fits.
    pub const EVICT: WhenFull = WhenFull(1);
}

/// How a queue is to be made.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct QueueSpec {
    /// Handles are below this.
    pub handles: u32,
    /// Topics are below this.
    pub topics: u32,
    /// The most items queued.
    pub capacity_events: u32,
    /// What a full queue does.
    pub when_full: WhenFull,
    /// The most bytes queued.
    pub capacity_bytes: u64,
    /// Its options, checked against the option table.
    pub options: Options,
    /// For later minor versions; zero.
    pub reserved: [u64; 4],
}

/// What a topic is to the queue of its lane.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShare {
    /// 0 to 255.
    pub rank: u32,
    /// 1 to 1000.
    pub weight: u32,
    /// The first is [`TopicShare::minimum_permille`], the second for later minor versions; zero.
    pub reserved: [u64; 2],
}

impl TopicShare {
    /// The least share of what the lane serves that the topic is to get while it waits, in thousandths: 0
    /// (none) to 1000. Kept in `reserved[0]`, which hosts before 1.1 leave at 0.
    pub const fn minimum_permille(&self) -> u32 {
        if self.reserved[0] < 1000 { self.reserved[0] as u32 } else { 1000 }
    }

    /// The same with another least share; more than 1000 counts as 1000.
    #[must_use]
    pub const fn with_minimum_permille(mut self, permille: u32) -> Self {
        self.reserved[0] = if permille < 1000 { permille as u64 } else { 1000 };
        self
    }
}

/// A kind of queue.
pub trait QueuePolicy: Send + Sync + 'static {
    /// What its `open` makes.
    type Queue: Queue;

    /// Makes a queue; takes all memory that it will ever need. Called from an ordinary thread.
    ///
    /// # Errors
    /// One sentence: what was wrong, and what would be right.
    fn open(&self, spec: &QueueSpec) -> Result<Self::Queue, PluginError>;
}

/// The queue of one lane.
pub trait Queue: Send + 'static {
    /// Takes an item in, refuses it, or removes another one first. A queue whose bounds allow it never
    /// refuses, and after at most `capacity_events` evictions an item is either queued or refused.
    fn admit(&mut self, item: &QueueItem, now_ns: u64) -> Admission;

    /// Removes the item that goes next. Items of topics on hold are passed over.
    fn next(&mut self, now_ns: u64) -> NextItem;

    /// Removes an item without serving it; `false` where it is not queued.
    fn forget(&mut self, handle: u32) -> bool;

    /// How many items are queued.
    fn queued(&self) -> u32;

    /// Puts a topic on hold (its receivers cannot take more now) or releases it.
    fn hold(&mut self, topic: u32, held: bool);

    /// Says what a topic is to the queue. Heeded for items admitted from then on.
    fn set_topic(&mut self, topic: u32, share: &TopicShare) {
        let _ = (topic, share);
    }
}

/// [`QueuePolicy`] as it crosses the border. Methods are only appended, after the last one.
#[sabi_trait]
pub trait RawQueuePolicy: Send + Sync + 'static {
    /// See [`QueuePolicy::open`].
    #[sabi(last_prefix_field)]
    fn open(&self, spec: &QueueSpec) -> RResult<QueueBox, PluginError>;
}

/// [`Queue`] as it crosses the border. Methods are only appended, after the last one.
#[sabi_trait]
pub trait RawQueue: Send + 'static {
    /// See [`Queue::admit`].
    fn admit(&mut self, item: &QueueItem, now_ns: u64) -> Admission;
    /// See [`Queue::next`].
    fn next(&mut self, now_ns: u64) -> NextItem;
    /// See [`Queue::forget`].
    fn forget(&mut self, handle: u32) -> bool;
    /// See [`Queue::queued`].
    fn queued(&self) -> u32;
    /// See [`Queue::hold`].
    fn hold(&mut self, topic: u32, held: bool);
    /// See [`Queue::set_topic`].
    #[sabi(last_prefix_field)]
    fn set_topic(&mut self, topic: u32, share: &TopicShare);
}

/// A queue policy on the host's side.
pub type QueuePolicyBox = RawQueuePolicy_TO<RBox<()>>;
/// A queue on the host's side.
pub type QueueBox = RawQueue_TO<RBox<()>>;

struct GuardedPolicy<P> {
    plugin: &'static str,
    inner: Kept<P>,
}

impl<P: QueuePolicy> RawQueuePolicy for GuardedPolicy<P> {
    fn open(&self, spec: &QueueSpec) -> RResult<QueueBox, PluginError> {
        Guard::default()
            .run_cold(self.plugin, "open", || {
                let inner = Kept::new(self.inner.open(spec)?);
                Ok(RawQueue_TO::from_value(GuardedQueue { inner, guard: Guard::default() }, TD_Opaque))
            })
            .into()
    }
}

struct GuardedQueue<Q> {
    inner: Kept<Q>,
    guard: Guard,
}

impl<Q: Queue> RawQueue for GuardedQueue<Q> {
    fn admit(&mut self, item: &QueueItem, now_ns: u64) -> Admission {
        let panicked = Admission { verdict: Admission::PANICKED, evicted: NO_HANDLE };
        self.guard.run(panicked, || self.inner.admit(item, now_ns))
    }

    fn next(&mut self, now_ns: u64) -> NextItem {
        let panicked = NextItem { verdict: NextItem::PANICKED, handle: NO_HANDLE, wake_at_ns: 0 };
        self.guard.run(panicked, || self.inner.next(now_ns))
    }

    fn forget(&mut self, handle: u32) -> bool {
        self.guard.run(false, || self.inner.forget(handle))
    }

    fn queued(&self) -> u32 {
        self.guard.run(0, || self.inner.queued())
    }

    fn hold(&mut self, topic: u32, held: bool) {
        self.guard.run((), || self.inner.hold(topic, held));
    }

    fn set_topic(&mut self, topic: u32, share: &TopicShare) {
        self.guard.run((), || self.inner.set_topic(topic, share));
    }
}

/// Puts a queue policy behind its guard. Called by the export macro.
pub fn guarded<P: QueuePolicy>(plugin: &'static str, inner: P) -> QueuePolicyBox {
    RawQueuePolicy_TO::from_value(GuardedPolicy { plugin, inner: Kept::new(inner) }, TD_Opaque)
}
