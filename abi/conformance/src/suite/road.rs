//! Two channels of an adapter, one sending to the other, and the host's side of both.

use std::time::{Duration, Instant};

use tempos_abi::adapter::{AdapterBox, ChannelBox, ChannelSpec, ChannelTraits, Direction, Receipt};
use tempos_abi::counters::ChannelCounters;
use tempos_abi::error::AGAIN;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::{RArc, RResult, RSlice, RSliceMut};
use tempos_abi::{Descriptor, LaneQos, Options, PluginError, QosLevel};

use crate::options;
use crate::resources::{self, Folder};

/// The most slots or frames of one call.
pub const BATCH: usize = 16;
const ATTRIBUTES_BYTES: usize = 1024;
/// How long a frame may take; only what never comes costs this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the two channels of a case are opened.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the report calls it.
    pub name: String,
    /// `key=value`, with places to fill in.
    pub ingress: Vec<String>,
    /// `key=value`, with places to fill in.
    pub egress: Vec<String>,
}

/// A received frame.
pub struct Frame {
    /// Its bytes, as far as they fit.
    pub bytes: Vec<u8>,
    /// Its attributes.
    pub attributes: Vec<u8>,
    /// The slot's flags.
    pub flags: u32,
}

/// Opens channels of one case.
pub struct Opener<'a> {
    adapter: &'a AdapterBox,
    descriptor: &'a Descriptor,
    case: &'a Case,
    folder: Folder,
    number: u64,
    /// The largest event of the channels that it opens.
    pub event_bytes_max: u32,
}

impl<'a> Opener<'a> {
    pub fn new(
        adapter: &'a AdapterBox,
        descriptor: &'a Descriptor,
        case: &'a Case,
        event_bytes_max: u32,
    ) -> Result<Self, String> {
        let folder = Folder::new().map_err(|error| format!("no folder can be made: {error}"))?;
        Ok(Opener { adapter, descriptor, case, folder, number: resources::number(), event_bytes_max })
    }

    /// The options of one direction, with the places filled in.
    pub fn options(&self, direction: Direction, address: &str) -> Result<Options, String> {
        let written = if direction == Direction::INGRESS { &self.case.ingress } else { &self.case.egress };
        let folder = self.folder.0.display().to_string();
        let number = format!("{}-{}", std::process::id(), self.number);
        let fill = |text: &String| {
            text.replace("{folder}", &folder).replace("{number}", &number).replace("{address}", address)
        };
        options::read(self.descriptor, &written.iter().map(fill).collect::<Vec<_>>())
    }

    pub fn open(
        &self,
        direction: Direction,
        options: Options,
        inherited: i32,
    ) -> Result<(ChannelBox, RArc<ChannelCounters>), PluginError> {
        let counters = RArc::new(ChannelCounters::default());
        let spec = ChannelSpec {
            name: "conformance".into(),
            direction,
            qos: LaneQos::unmarked(QosLevel::STRICT),
            event_bytes_max: self.event_bytes_max,
            batch_max: BATCH as u32,
            options,
            inherited_descriptor: inherited,
            counters: counters.clone(),
            reserved: [0; 4],
        };
        match self.adapter.open(&spec) {
            RResult::ROk(channel) => Ok((channel, counters)),
            RResult::RErr(error) => Err(error),
        }
    }
}

/// Both ends of a case, open.
pub struct Road {
    pub ingress: ChannelBox,
    pub egress: ChannelBox,
    pub sent: RArc<ChannelCounters>,
    /// How many events the receiver has acknowledged.
    pub delivered: usize,
    /// How many it has refused, or were lost.
    pub refused: usize,
    slot_bytes: usize,
}

impl Road {
    pub fn open(opener: &Opener<'_>) -> Result<Self, String> {
        let refused = |error: PluginError| error.message.into_string();
        let options = opener.options(Direction::INGRESS, "")?;
        let (ingress, _) = opener.open(Direction::INGRESS, options, -1).map_err(refused)?;
        let address = ingress.address();
        let address = address.split_once("://").map_or(address.as_str(), |(_, rest)| rest).to_owned();
        let options = opener.options(Direction::EGRESS, &address)?;
        let (egress, sent) = opener.open(Direction::EGRESS, options, -1).map_err(refused)?;
        Ok(Road {
            ingress,
            egress,
            sent,
            delivered: 0,
            refused: 0,
            slot_bytes: opener.event_bytes_max as usize,
        })
    }

    /// Sends frames, receiving meanwhile, as a full channel makes the sender wait.
    pub fn carry(&mut self, frames: &[TxFrame<'_>], slots: usize) -> Result<Vec<Frame>, String> {
        let mut received = Vec::new();
        let (mut done, delivered_before) = (0, self.delivered);
        let lost_before = self.sent.send_errors.get();
        let until = Instant::now() + PATIENCE;
        while done < frames.len() {
            let part = &frames[done..frames.len().min(done + BATCH)];
            match self.egress.send_batch(RSlice::from_slice(part)) {
                AGAIN if Instant::now() < until => {
                    self.attend()?;
                    self.receive(slots, &mut received)?;
                }
                AGAIN => return Err(format!("frame {done} could not be sent in {PATIENCE:?}")),
                sent @ 1.. => done += sent as usize,
                other => return Err(format!("sending frame {done} was answered with {other}")),
            }
        }
        let lost = (self.sent.send_errors.get() - lost_before) as usize;
        while received.len() + lost < frames.len() && Instant::now() < until {
            self.attend()?;
            if !self.receive(slots, &mut received)? {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let delivered = |road: &Self| road.delivered - delivered_before + lost;
        while self.has(ChannelTraits::RECEIPTS) && delivered(self) < frames.len() {
            self.attend()?;
            if Instant::now() >= until {
                return Err(format!("of {} frames {} were acknowledged", frames.len(), delivered(self)));
            }
        }
        Ok(received)
    }

    fn has(&self, traits: u64) -> bool {
        self.egress.traits().has(traits)
    }

    /// What a host does for an egress channel that holds frames or waits for answers.
    pub fn attend(&mut self) -> Result<(), String> {
        if self.has(ChannelTraits::RECEIPTS) {
            let mut receipts = [Receipt::empty(); BATCH];
            let told = self.egress.receipts(RSliceMut::from_mut_slice(&mut receipts)) as usize;
            let delivered = receipts[..told].iter().filter(|one| one.verdict == Receipt::DELIVERED).count();
            self.delivered += delivered;
            self.refused += told - delivered;
        }
        match self.egress.flush() {
            0 | AGAIN => Ok(()),
            other => Err(format!("flushing was answered with {other}")),
        }
    }

    /// Receives once; whether anything was there.
    pub fn receive(&mut self, slots: usize, received: &mut Vec<Frame>) -> Result<bool, String> {
        receive(&mut self.ingress, slots, self.slot_bytes, received)
    }

    /// Whether the ingress channel says that it has something; `None` where it has no descriptor.
    pub fn is_readable(&self, wait_ms: i32) -> Option<bool> {
        let descriptor = self.ingress.readiness();
        let mut asked = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry.
        (descriptor >= 0).then(|| unsafe { libc::poll(&raw mut asked, 1, wait_ms) } > 0)
    }
}

/// A host closes every channel before it lets go of it.
impl Drop for Road {
    fn drop(&mut self) {
        self.egress.close(0);
        self.ingress.close(0);
    }
}

/// Receives once from a channel; whether anything was there.
pub fn receive(
    channel: &mut ChannelBox,
    slots: usize,
    slot_bytes: usize,
    received: &mut Vec<Frame>,
) -> Result<bool, String> {
    let mut buffers = vec![(vec![0xa5; slot_bytes], [0u8; ATTRIBUTES_BYTES]); slots];
    let mut lent: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    match channel.recv_batch(RSliceMut::from_mut_slice(&mut lent)) {
        AGAIN => Ok(false),
        count @ 1.. if count as usize <= slots => {
            received.extend(lent[..count as usize].iter().map(|slot| Frame {
                bytes: slot.frame().to_vec(),
                attributes: slot.attributes().to_vec(),
                flags: slot.flags,
            }));
            Ok(true)
        }
        other => Err(format!("receiving into {slots} slots was answered with {other}")),
    }
}
