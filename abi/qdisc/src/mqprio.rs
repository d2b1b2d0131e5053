//! mqprio: classes of traffic on queues of the card, without gates (tc-mqprio(8)).

use crate::taprio::PRIORITIES;
use crate::wire::{Request, u16_at};

/// Classes that the structure has room for (TC_QOPT_MAX_QUEUE).
const CLASSES_ROOM: usize = 16;
/// Bytes of struct tc_mqprio_qopt (linux/pkt_sched.h), and where its parts start.
const BYTES: usize = 82;
const MAP: usize = 1;
const HARDWARE: usize = 17;
const COUNTS: usize = 18;
const OFFSETS: usize = 50;

/// The transmit queues of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// How many.
    pub count: u16,
    /// The first, from 0.
    pub offset: u16,
}

/// Which class a priority has, and which queues a class has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqprio {
    /// The class of each priority (SO_PRIORITY, socket(7)).
    pub map: [u8; PRIORITIES],
    /// The queues of each class: as many classes as entries, 1 to 16.
    pub queues: Vec<Queues>,
    /// Whether the card chooses among its queues itself.
    pub hardware: bool,
}

impl Mqprio {
    /// What the kernel would refuse without saying where, or what would not fit.
    pub(crate) fn check(&self) -> Result<(), String> {
        let classes = self.queues.len();
        if classes == 0 || classes > CLASSES_ROOM {
            return Err(format!("{classes} classes; there are 1 to {CLASSES_ROOM}"));
        }
        match self.map.iter().position(|class| usize::from(*class) >= classes) {
            Some(priority) => Err(format!(
                "priority {priority} is mapped to class {}, but there are {classes} classes, counted from 0",
                self.map[priority]
            )),
            None => Ok(()),
        }
    }

    /// struct tc_mqprio_qopt.
    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = self.queues.len().min(CLASSES_ROOM) as u8;
        bytes[MAP..MAP + PRIORITIES].copy_from_slice(&self.map);
        bytes[HARDWARE] = self.hardware.into();
        for (at, queues) in self.queues.iter().take(CLASSES_ROOM).enumerate() {
            let (count, offset) = (COUNTS + 2 * at, OFFSETS + 2 * at);
            bytes[count..count + 2].copy_from_slice(&queues.count.to_ne_bytes());
            bytes[offset..offset + 2].copy_from_slice(&queues.offset.to_ne_bytes());
        }
        bytes
    }

    /// `None` where the bytes are no such structure.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let classes = usize::from(*bytes.first()?);
        if bytes.len() < BYTES || classes > CLASSES_ROOM {
            return None;
        }
        let queues = (0..classes).map_while(|at| {
            Some(Queues { count: u16_at(bytes, COUNTS + 2 * at)?, offset: u16_at(bytes, OFFSETS + 2 * at)? })
        });
        let mut map = [0; PRIORITIES];
        map.copy_from_slice(&bytes[MAP..MAP + PRIORITIES]);
        Some(Mqprio { map, queues: queues.collect(), hardware: bytes[HARDWARE] != 0 })
    }

    /// mqprio's options are the structure itself, and not attributes as everywhere else.
    pub(crate) fn put(&self, request: &mut Request, options: u16) {
        request.put(options, &self.encode());
    }
}
