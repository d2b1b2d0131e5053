//! The adapter and its channels: the two traits that an adapter implements.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use tempos_abi::adapter::{Adapter, AdapterAbility, Capabilities, Channel, ChannelSpec, Direction};
use tempos_abi::counters::ChannelCounters;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, PluginError, QosGrant};

use crate::config::Config;
use crate::queue::Queue;

/// What the system allows without further set-up (fs.mqueue.msgsize_max).
const FRAME_BYTES_MAX: u32 = 8192;

/// The technology.
pub struct Mqueue;

impl Mqueue {
    /// Called once, when the plugin is loaded.
    pub fn new() -> Result<Self, PluginError> {
        Ok(Mqueue)
    }
}

impl Adapter for Mqueue {
    type Channel = MqueueChannel;

    /// What it can give: promise only what the conformance suite can see.
    fn ability(&self) -> AdapterAbility {
        let bits = Capabilities::PRIORITY | Capabilities::TAKE_OVER | Capabilities::ORDERED;
        AdapterAbility {
            capabilities: Capabilities(bits),
            frame_bytes_max: FRAME_BYTES_MAX,
            grade_max: QosGrant::PRIORITISED,
            reserved: [0; 4],
        }
    }

    /// Off the event's road: here you may allocate, and must take all that the channel will ever need.
    fn open(&self, spec: &ChannelSpec) -> Result<MqueueChannel, PluginError> {
        // A descriptor that was handed over is ours, whatever happens next.
        let inherited = (spec.inherited_descriptor >= 0).then(|| Queue::of(spec.inherited_descriptor));
        let config = Config::read(spec)?;
        let queue = match inherited {
            Some(Ok(queue)) => queue,
            _ => {
                let bytes = i64::from(spec.event_bytes_max.min(FRAME_BYTES_MAX));
                let write = spec.direction == Direction::EGRESS;
                Queue::open(&config.name, write, config.messages, bytes).map_err(|error| {
                    let name = config.name.to_string_lossy();
                    PluginError::system(
                        format!("mqueue channel \"{}\": cannot open {name}", spec.name),
                        &error,
                    )
                })?
            }
        };
        let ours = spec.direction == Direction::INGRESS && !config.keep;
        Ok(MqueueChannel {
            scratch: vec![1; queue.message_bytes_max()].into_boxed_slice(),
            address: format!("mqueue://{}", config.name.to_string_lossy()),
            remove_at_end: ours.then_some(config.name),
            queue,
            priority: 0,
            counters: spec.counters.clone(),
        })
    }
}

/// One queue, in one direction.
pub struct MqueueChannel {
    queue: Queue,
    /// mq_receive(3) wants room for the largest message of the queue, which may be more than a slot has.
    scratch: Box<[u8]>,
    address: String,
    remove_at_end: Option<CString>,
    priority: u32,
    counters: RArc<ChannelCounters>,
}

impl Channel for MqueueChannel {
    fn readiness(&self) -> RawFd {
        self.queue.number()
    }

    /// On the event's road: never block, allocate, lock or print.
    fn recv_batch(&mut self, slots: &mut [RxSlot<'_>]) -> io::Result<usize> {
        for (filled, slot) in slots.iter_mut().enumerate() {
            let length = match self.queue.receive(&mut self.scratch) {
                Ok(length) => length,
                Err(_) if filled > 0 => return Ok(filled),
                Err(error) => return Err(error),
            };
            slot.reset();
            let buffer = slot.buffer_mut();
            let fits = length.min(buffer.len());
            buffer[..fits].copy_from_slice(&self.scratch[..fits]);
            // The real length: a frame that is longer than the slot is thereby marked as truncated.
            slot.set_len(length);
        }
        Ok(slots.len())
    }

    /// On the event's road, too. What cannot be sent now stays with the host; what never can is counted.
    fn send_batch(&mut self, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        for (done, frame) in frames.iter().enumerate() {
            let sent = match self.scratch.get_mut(..frame.len()) {
                // A queue takes one piece: head and payload are put together first.
                Some(message) => {
                    message[..frame.head.len()].copy_from_slice(&frame.head);
                    message[frame.head.len()..].copy_from_slice(&frame.payload);
                    self.queue.send(message, self.priority)
                }
                None => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
            };
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(_) => self.counters.send_errors.add(1),
            }
        }
        Ok(frames.len())
    }

    /// A queue hands out messages of a higher priority first: the lane's rank is that priority.
    fn set_qos(&mut self, qos: &LaneQos) -> Result<QosGrant, PluginError> {
        self.priority = u32::from(qos.rank);
        let reason = format!("messages have the priority {} in their queue", self.priority);
        Ok(QosGrant::new(QosGrant::PRIORITISED, reason))
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    /// From here on the queue is the successor's to remove.
    fn take_over(&mut self) -> RawFd {
        self.remove_at_end = None;
        self.queue.duplicate()
    }

    fn close(&mut self, _deadline_ns: u64) {
        if let Some(name) = self.remove_at_end.take() {
            Queue::remove(&name);
        }
    }
}
