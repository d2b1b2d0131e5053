//! Adapters and channels: how events get in and out over one technology.
//!
//! An author implements [`Adapter`] and [`Channel`]; the raw traits below are what crosses the border.
//! Thread contract: `recv_batch` and `send_batch` are called by one lane's queue worker, which may run
//! under real-time scheduling: they never block, allocate, lock against ordinary threads or print.
//! Everything else is called from an ordinary thread, never at the same time as those two.

use std::io;
use std::os::fd::RawFd;

use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RArc, RBox, RResult, RSlice, RSliceMut, RString};

use crate::counters::ChannelCounters;
use crate::error::{PANICKED, PluginError};
use crate::event::{RxSlot, TxFrame};
use crate::guard::{Guard, Kept};
use crate::level::{LaneQos, QosGrant};
use crate::options::Options;

/// Which way a channel carries events.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction(pub u8);

impl Direction {
    /// Into the node.
    pub const INGRESS: Direction = Direction(0);
    /// Out of the node.
    pub const EGRESS: Direction = Direction(1);
}

/// What an adapter can do: bits.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// It can keep levels apart on the wire or in the kernel.
    pub const PRIORITY: u64 = 1;
    /// It honours launch times.
    pub const LAUNCH_TIME: u64 = 1 << 1;
    /// It moves several frames with one system call.
    pub const BATCH: u64 = 1 << 2;
    /// A channel can take over the descriptor of its predecessor.
    pub const TAKE_OVER: u64 = 1 << 3;
    /// Frames arrive in the order in which one sender sent them, where they arrive.
    pub const ORDERED: u64 = 1 << 4;
    /// Frames are acknowledged: what was taken is delivered.
    pub const ACKNOWLEDGED: u64 = 1 << 5;
    /// It knows who sent a frame and says so in attributes.
    pub const CREDENTIALS: u64 = 1 << 6;
    /// Its egress channels can be opened so that receivers acknowledge each event, and the host hears of it
    /// (since 1.1; see [`Channel::receipts`]).
    pub const RECEIPTS: u64 = 1 << 7;
    /// Its stream channels cut large frames into segments, so that small ones need not wait for them
    /// (since 1.1; see [`Channel::flush`]).
    pub const SEGMENTS: u64 = 1 << 8;

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// The words for the bits that are set.
    pub fn words(self) -> Vec<&'static str> {
        const WORDS: [&str; 9] = [
            "priority",
            "launch-time",
            "batch",
            "take-over",
            "ordered",
            "acknowledged",
            "credentials",
            "receipts",
            "segments",
        ];
        WORDS.iter().enumerate().filter(|(bit, _)| self.has(1 << bit)).map(|(_, word)| *word).collect()
    }
}

/// What an adapter can give.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct AdapterAbility {
    /// Bits of [`Capabilities`].
    pub capabilities: Capabilities,
    /// The largest frame in bytes.
    pub frame_bytes_max: u32,
    /// The best grade of [`QosGrant`] that a channel can obtain.
    pub grade_max: u8,
    /// For later minor versions; zero.
    pub reserved: [u64; 4],
}

/// How an open channel works, where that is not the plain way: bits (since 1.1).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelTraits(pub u64);

impl ChannelTraits {
    /// What `send_batch` took is not yet delivered: the host keeps each event until [`Channel::receipts`]
    /// has told what became of it.
    pub const RECEIPTS: u64 = 1;
    /// What `send_batch` took may still be in the channel's own buffers: the host calls [`Channel::flush`]
    /// until nothing is left.
    pub const FLUSHES: u64 = 1 << 1;

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

/// What became of an event that an egress channel took (since 1.1).
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event: `TxFrame::event_id`.
    pub event_id: u64,
    /// One of the constants of this type.
    pub verdict: i32,
    /// For later minor versions; zero.
    pub reserved: u32,
}

impl Receipt {
    /// The receiver has acknowledged it.
    pub const DELIVERED: i32 = 0;
    /// The receiver went, or said no, before it acknowledged it: another one may have it.
    pub const LOST: i32 = 1;

    /// No event yet.
    pub const fn empty() -> Self {
        Receipt { event_id: 0, verdict: Self::LOST, reserved: 0 }
    }

    /// The receiver has acknowledged the event.
    pub const fn delivered(event_id: u64) -> Self {
        Receipt { event_id, verdict: Self::DELIVERED, reserved: 0 }
    }

    /// The receiver will not acknowledge the event any more.
    pub const fn lost(event_id: u64) -> Self {
        Receipt { event_id, verdict: Self::LOST, reserved: 0 }
    }
}

/// How a channel is to be opened.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct ChannelSpec {
    /// Its name, for sentences.
    pub name: RString,
    /// Which way it carries events.
    pub direction: Direction,
    /// The lane that it serves.
    pub qos: LaneQos,
    /// The largest event in bytes, header included: larger frames are not worth reading.
    pub event_bytes_max: u32,
    /// The most slots or frames that one call will bring, 1 to 64.
    pub batch_max: u32,
    /// Its options, checked against the option table.
    pub options: Options,
    /// A duplicate of the predecessor's descriptor, which the channel now owns, or -1. An adapter that
    /// cannot use it (another address, another kind) closes it and opens its own.
    pub inherited_descriptor: i32,
    /// The block that the channel counts in.
    pub counters: RArc<ChannelCounters>,
    /// For later minor versions; zero.
    pub reserved: [u64; 4],
}

/// A technology that channels can be opened with.
pub trait Adapter: Send + Sync + 'static {
    /// What its `open` makes.
    type Channel: Channel;

    /// What it can give.
    fn ability(&self) -> AdapterAbility;

    /// Opens a channel. Called from an ordinary thread; bounded to about a second.
    ///
    /// # Errors
    /// One sentence: what was wrong, and what would be right.
    fn open(&self, spec: &ChannelSpec) -> Result<Self::Channel, PluginError>;
}

/// An open connection.
pub trait Channel: Send + 'static {
    /// The descriptor that becomes readable when `recv_batch` has something (ingress), or writable when
    /// `send_batch` can go on (egress): level-triggered, the same for the channel's whole life. -1: none,
    /// the host then asks every 10 ms.
    ///
    /// Of an egress channel with [`ChannelTraits`] readable means "call me", and writable nothing: it becomes
    /// readable when receipts are there or overdue, when something held can leave, and when there is room again
    /// after a `WouldBlock`. The host then calls `receipts`, `flush`, and `send_batch` where it has frames
    /// (since 1.1).
    fn readiness(&self) -> RawFd;

    /// Fills slots from the first on, with one frame each.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is waiting; every other error is counted and the channel is asked again.
    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize>;

    /// Sends frames from the first on; the answer is how many are done with: sent, or given up and
    /// counted in `send_errors`.
    ///
    /// # Errors
    /// `WouldBlock` where not even the first can be sent now; every other error gives up the first frame, which
    /// the host counts.
    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize>;

    /// Asks the network for what the lane needs. The default asks nothing.
    ///
    /// # Errors
    /// One sentence where the system refused something that the user required.
    fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        let _ = qos;
        Ok(QosGrant::new(QosGrant::SHARED, "this adapter does not tell levels apart"))
    }

    /// Where it is open: `udp://127.0.0.1:5501`.
    fn address(&self) -> String;

    /// A duplicate of its descriptor for its successor, or -1. The channel goes on working.
    fn take_over(&mut self) -> RawFd {
        -1
    }

    /// Ends it: nothing is called afterwards. Bounded by `deadline_ns` (CLOCK_MONOTONIC).
    fn close(&mut self, deadline_ns: u64) {
        let _ = deadline_ns;
    }

    /// How it works, where that is not the plain way; the same for the channel's whole life. Asked once,
    /// after `open`. With any of them, [`Channel::readiness`] is watched for readability only (since 1.1).
    fn traits(&self) -> ChannelTraits {
        ChannelTraits::default()
    }

    /// Fills in what became of events that an earlier `send_batch` took, from the first on, in the order in
    /// which it became known; the answer is how many. Called by the queue worker when [`Channel::readiness`]
    /// is readable and after `send_batch`; like that it never blocks or allocates. Only for a channel with
    /// [`ChannelTraits::RECEIPTS`] (since 1.1).
    fn receipts(&mut self, receipts: &mut [Receipt]) -> usize {
        let _ = receipts;
        0
    }

    /// Sends on what the channel holds itself. Called by the queue worker after `send_batch` and whenever
    /// [`Channel::readiness`] is readable afterwards, until it answers `Ok`. Only for a channel with
    /// [`ChannelTraits::FLUSHES`] (since 1.1).
    ///
    /// # Errors
    /// `WouldBlock` where some is left; every other error is counted.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// [`Adapter`] as it crosses the border. Methods are only appended, after the last one.
#[sabi_trait]
pub trait RawAdapter: Send + Sync + 'static {
    /// See [`Adapter::ability`].
    fn ability(&self) -> AdapterAbility;
    /// See [`Adapter::open`].
    #[sabi(last_prefix_field)]
    fn open(&self, spec: &ChannelSpec) -> RResult<ChannelBox, PluginError>;
}

/// [`Channel`] as it crosses the border: errors are negative errnos. Methods are only appended.
#[sabi_trait]
pub trait RawChannel: Send + 'static {
    /// See [`Channel::readiness`].
    fn readiness(&self) -> i32;
    /// See [`Channel::recv_batch`].
    fn recv_batch(&mut self, slots: RSliceMut<'_, RxSlot<'_>>) -> i32;
    /// See [`Channel::send_batch`].
    fn send_batch(&mut self, frames: RSlice<'_, TxFrame<'_>>) -> i32;
    /// See [`Channel::set_qos`].
    fn set_qos(&mut self, qos: &LaneQos) -> RResult<QosGrant, PluginError>;
    /// See [`Channel::address`].
    fn address(&self) -> RString;
    /// See [`Channel::take_over`].
    fn take_over(&mut self) -> i32;
    /// See [`Channel::close`].
    #[sabi(last_prefix_field)]
    fn close(&mut self, deadline_ns: u64);
    /// See [`Channel::traits`].
    fn traits(&self) -> ChannelTraits {
        ChannelTraits(0)
    }
    /// See [`Channel::receipts`].
    fn receipts(&mut self, receipts: RSliceMut<'_, Receipt>) -> u32 {
        let _ = receipts;
        0
    }
    /// See [`Channel::flush`].
    fn flush(&mut self) -> i32 {
        0
    }
}

/// An adapter on the host's side.
pub type AdapterBox = RawAdapter_TO<RBox<()>>;
/// A channel on the host's side.
pub type ChannelBox = RawChannel_TO<RBox<()>>;

struct GuardedAdapter<A> {
    plugin: &'static str,
    inner: Kept<A>,
    guard: Guard,
}

impl<A: Adapter> RawAdapter for GuardedAdapter<A> {
    fn ability(&self) -> AdapterAbility {
        let nothing = AdapterAbility {
            capabilities: Capabilities(0),
            frame_bytes_max: 0,
            grade_max: QosGrant::SHARED,
            reserved: [0; 4],
        };
        self.guard.run(nothing, || self.inner.ability())
    }

    fn open(&self, spec: &ChannelSpec) -> RResult<ChannelBox, PluginError> {
        // A panic in one `open` says nothing about the next: each has a guard of its own.
        Guard::default()
            .run_cold(self.plugin, "open", || {
                let inner = Kept::new(self.inner.open(spec)?);
                Ok(RawChannel_TO::from_value(
                    GuardedChannel { plugin: self.plugin, inner, guard: Guard::default() },
                    TD_Opaque,
                ))
            })
            .into()
    }
}

struct GuardedChannel<C> {
    plugin: &'static str,
    inner: Kept<C>,
    guard: Guard,
}

impl<C: Channel> RawChannel for GuardedChannel<C> {
    fn readiness(&self) -> i32 {
        self.guard.run(-1, || self.inner.readiness())
    }

    fn recv_batch(&mut self, mut slots: RSliceMut<'_, RxSlot<'_>>) -> i32 {
        let most = slots.len();
        self.guard.run(PANICKED, || errno_or(self.inner.recv_batch(slots.as_mut_slice()), most))
    }

    fn send_batch(&mut self, frames: RSlice<'_, TxFrame<'_>>) -> i32 {
        self.guard.run(PANICKED, || errno_or(self.inner.send_batch(frames.as_slice()), frames.len()))
    }

    fn set_qos(&mut self, qos: &LaneQos) -> RResult<QosGrant, PluginError> {
        let GuardedChannel { plugin, inner, guard } = self;
        guard.run_cold(plugin, "set_qos", || inner.set_qos(qos)).into()
    }

    fn address(&self) -> RString {
        self.guard.run(RString::new(), || RString::from(self.inner.address()))
    }

    fn take_over(&mut self) -> i32 {
        self.guard.run(-1, || self.inner.take_over())
    }

    fn close(&mut self, deadline_ns: u64) {
        self.guard.run((), || self.inner.close(deadline_ns));
    }

    fn traits(&self) -> ChannelTraits {
        self.guard.run(ChannelTraits::default(), || self.inner.traits())
    }

    fn receipts(&mut self, mut receipts: RSliceMut<'_, Receipt>) -> u32 {
        let most = receipts.len();
        self.guard.run(0, || self.inner.receipts(receipts.as_mut_slice()).min(most) as u32)
    }

    fn flush(&mut self) -> i32 {
        self.guard.run(PANICKED, || errno_or(self.inner.flush().map(|()| 0), 0))
    }
}

/// A count, never more than was lent, or a negative errno (EIO where the error has none).
fn errno_or(result: io::Result<usize>, most: usize) -> i32 {
    match result {
        Ok(n) => n.min(most) as i32,
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => crate::error::AGAIN,
            _ => -error.raw_os_error().filter(|code| *code > 0).unwrap_or(5),
        },
    }
}

/// Puts an adapter behind its guard. Called by the export macro.
pub fn guarded<A: Adapter>(plugin: &'static str, inner: A) -> AdapterBox {
    RawAdapter_TO::from_value(
        GuardedAdapter { plugin, inner: Kept::new(inner), guard: Guard::default() },
        TD_Opaque,
    )
}
