//! taprio: gates of traffic classes that open and close in a cycle (IEEE 802.1Qbv; tc-taprio(8)).

use crate::mqprio::{Mqprio, Queues};
use crate::wire::{Request, attributes, find, find_i64, find_u32};

/// Priorities that have a class of their own (TC_QOPT_BITMASK).
pub const PRIORITIES: usize = 16;
/// Entries of a gate control list that are sent: all of them fit into one attribute.
pub const ENTRIES_MAX: usize = 1024;

// linux/pkt_sched.h: TCA_TAPRIO_ATTR_*, _SCHED_*, _SCHED_ENTRY_*, _TC_ENTRY_*
const PRIOMAP: u16 = 1;
const ENTRY_LIST: u16 = 2;
const BASE_TIME: u16 = 3;
const CLOCK: u16 = 5;
const ADMIN: u16 = 7;
const CYCLE: u16 = 8;
const EXTENSION: u16 = 9;
const FLAGS: u16 = 10;
const TXTIME_DELAY: u16 = 11;
const CLASS: u16 = 12;
const ENTRY: u16 = 1;
const ENTRY_COMMAND: u16 = 2;
const ENTRY_GATES: u16 = 3;
const ENTRY_INTERVAL: u16 = 4;
const CLASS_INDEX: u16 = 1;
const CLASS_MAX_SDU: u16 = 2;
const TXTIME_ASSIST: u32 = 1;
const FULL_OFFLOAD: u32 = 2;
/// SetGateStates; the kernel knows no other.
const SET_GATES: u8 = 0;
/// NLA_F_NESTED: of all that nests here the kernel wants it on [`CLASS`] alone.
const NESTED: u16 = 0x8000;

/// Some gates are open, for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The classes whose gates are open, a bit each.
    pub gates: u32,
    /// How long.
    pub interval_ns: u32,
}

/// Who opens the gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The kernel, by a timer on CLOCK_TAI.
    #[default]
    Software,
    /// The kernel gives each frame a launch time, which etf and a card keep.
    TxtimeAssist {
        /// The most that a frame takes from here to the wire; longer than etf's delta.
        delay_ns: u32,
    },
    /// The card, by its own clock (PHC), which must follow TAI.
    FullOffload,
}

/// A gate control list and when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// When a cycle starts (CLOCK_TAI); one that has passed is moved to the next cycle's start by the kernel.
    pub base_time_ns: i64,
    /// How long a cycle lasts; 0: the sum of the entries.
    pub cycle_ns: i64,
    /// By how much the last cycle before a new schedule may be stretched.
    pub extension_ns: i64,
    /// The gates, in order.
    pub entries: Vec<Entry>,
}

/// taprio's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taprio {
    /// The class of each priority (SO_PRIORITY, socket(7)).
    pub map: [u8; PRIORITIES],
    /// The queues of each class: as many classes as entries.
    pub queues: Vec<Queues>,
    /// The schedule in force; read back before its base time it is empty, and the schedule stands in `admin`.
    pub schedule: Schedule,
    /// Read back only: the schedule that is to follow at its base time.
    pub admin: Option<Schedule>,
    /// Who opens the gates.
    pub mode: Mode,
    /// The largest frame of each class without its Ethernet header, in bytes; 0 or no entry: the device's MTU.
    /// Kernels before 6.1 refuse it.
    pub max_sdu: Vec<u32>,
}

impl Taprio {
    /// The schedule that is or will be in force: `admin` where there is one.
    pub fn newest(&self) -> &Schedule {
        self.admin.as_ref().unwrap_or(&self.schedule)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.mqprio().check()?;
        let entries = &self.schedule.entries;
        if entries.is_empty() || entries.len() > ENTRIES_MAX {
            return Err(format!("{} gate entries; there are 1 to {ENTRIES_MAX}", entries.len()));
        }
        // A kernel that does not know the speed yet (6.1, at the first setting) would take it.
        if let Some(at) = entries.iter().position(|entry| entry.interval_ns == 0) {
            return Err(format!("gate entry {} lasts 0 ns; give each the time of a frame at least", at + 1));
        }
        if self.max_sdu.len() > self.queues.len() {
            let (sizes, classes) = (self.max_sdu.len(), self.queues.len());
            return Err(format!(
                "{sizes} largest frames for {classes} classes; give one for each class at most"
            ));
        }
        Ok(())
    }

    fn mqprio(&self) -> Mqprio {
        Mqprio { map: self.map, queues: self.queues.clone(), hardware: false }
    }

    pub(crate) fn put(&self, request: &mut Request, options: u16) {
        request.nest(options, |request| {
            request.put(PRIOMAP, &self.mqprio().encode());
            match self.mode {
                Mode::Software => request.put(CLOCK, &libc::CLOCK_TAI.to_ne_bytes()),
                Mode::TxtimeAssist { delay_ns } => {
                    request.put(CLOCK, &libc::CLOCK_TAI.to_ne_bytes());
                    request.put(FLAGS, &TXTIME_ASSIST.to_ne_bytes());
                    request.put(TXTIME_DELAY, &delay_ns.to_ne_bytes());
                }
                // The clock is the card's: naming one is refused.
                Mode::FullOffload => request.put(FLAGS, &FULL_OFFLOAD.to_ne_bytes()),
            }
            self.schedule.put(request);
            for (class, size) in self.max_sdu.iter().enumerate().filter(|(_, size)| **size != 0) {
                request.nest(CLASS | NESTED, |request| {
                    request.put(CLASS_INDEX, &(class as u32).to_ne_bytes());
                    request.put(CLASS_MAX_SDU, &size.to_ne_bytes());
                });
            }
        });
    }

    /// `None` where the bytes are not taprio's.
    pub(crate) fn decode(options: &[u8]) -> Option<Self> {
        let mqprio = Mqprio::decode(find(options, PRIOMAP)?)?;
        let flags = find_u32(options, FLAGS).unwrap_or(0);
        let mode = if flags & FULL_OFFLOAD != 0 {
            Mode::FullOffload
        } else if flags & TXTIME_ASSIST != 0 {
            Mode::TxtimeAssist { delay_ns: find_u32(options, TXTIME_DELAY).unwrap_or(0) }
        } else {
            Mode::Software
        };
        let mut max_sdu = vec![0; mqprio.queues.len()];
        for (_, class) in attributes(options).filter(|(kind, _)| *kind == CLASS) {
            let index = find_u32(class, CLASS_INDEX).and_then(|index| max_sdu.get_mut(index as usize));
            if let (Some(size), Some(value)) = (index, find_u32(class, CLASS_MAX_SDU)) {
                *size = value;
            }
        }
        if max_sdu.iter().all(|size| *size == 0) {
            max_sdu.clear();
        }
        Some(Taprio {
            map: mqprio.map,
            queues: mqprio.queues,
            schedule: Schedule::decode(options),
            admin: find(options, ADMIN).map(Schedule::decode),
            mode,
            max_sdu,
        })
    }
}

impl Schedule {
    fn put(&self, request: &mut Request) {
        request.put(BASE_TIME, &self.base_time_ns.to_ne_bytes());
        if self.cycle_ns != 0 {
            request.put(CYCLE, &self.cycle_ns.to_ne_bytes());
        }
        if self.extension_ns != 0 {
            request.put(EXTENSION, &self.extension_ns.to_ne_bytes());
        }
        request.nest(ENTRY_LIST, |request| {
            for entry in self.entries.iter().take(ENTRIES_MAX) {
                request.nest(ENTRY, |request| {
                    request.put(ENTRY_COMMAND, &[SET_GATES]);
                    request.put(ENTRY_GATES, &entry.gates.to_ne_bytes());
                    request.put(ENTRY_INTERVAL, &entry.interval_ns.to_ne_bytes());
                });
            }
        });
    }

    fn decode(bytes: &[u8]) -> Self {
        let list = find(bytes, ENTRY_LIST).unwrap_or_default();
        let entries = attributes(list).filter(|(kind, _)| *kind == ENTRY).map(|(_, entry)| Entry {
            gates: find_u32(entry, ENTRY_GATES).unwrap_or(0),
            interval_ns: find_u32(entry, ENTRY_INTERVAL).unwrap_or(0),
        });
        Schedule {
            base_time_ns: find_i64(bytes, BASE_TIME).unwrap_or(0),
            cycle_ns: find_i64(bytes, CYCLE).unwrap_or(0),
            extension_ns: find_i64(bytes, EXTENSION).unwrap_or(0),
            entries: entries.collect(),
        }
    }
}
