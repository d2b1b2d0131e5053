//! A gate schedule, its check, and when a class may send next.

use crate::duration::show_duration;

/// Traffic classes that a device can have (IEEE 802.1Q; Linux: TC_QOPT_MAX_QUEUE is larger, the gate mask is not).
pub const CLASSES_MAX: usize = 8;
/// Priorities that a socket can ask for and a schedule can map (Linux: TC_QOPT_BITMASK).
pub const PRIORITIES: usize = 16;
/// The largest frame where nothing is said: Ethernet header and 1500 bytes.
pub const FRAME_BYTES_DEFAULT: u32 = 1514;
/// Gate entries that a schedule may have; hardware has fewer (Intel i225: 64 and more are refused by it).
pub const WINDOWS_MAX: usize = 256;

const FRAME_BYTES_LEAST: u32 = 60;
const PREAMBLE_BYTES: u64 = 8;
const TAG_BYTES: u64 = 4;
const CHECK_BYTES: u64 = 4;
const GAP_BYTES: u64 = 12;
/// A cycle longer than this is a slip of the pen: gates are a matter of micro- and milliseconds.
const CYCLE_NS_MAX: u64 = 10_000_000_000;

/// Bytes that a frame takes on the wire, with preamble 8, VLAN tag 4, FCS 4 and the gap of 12 behind it (IEEE
/// 802.3). `frame_bytes` counts from the destination address to the last byte of the payload.
pub const fn wire_bytes(frame_bytes: u32) -> u64 {
    let frame = if frame_bytes < FRAME_BYTES_LEAST { FRAME_BYTES_LEAST } else { frame_bytes };
    frame as u64 + PREAMBLE_BYTES + TAG_BYTES + CHECK_BYTES + GAP_BYTES
}

/// Nanoseconds, rounded up, that a frame takes on a link of that speed; a speed of 0 counts as 1.
pub const fn wire_ns(frame_bytes: u32, link_mbit: u32) -> u64 {
    let speed = if link_mbit == 0 { 1 } else { link_mbit as u64 };
    (wire_bytes(frame_bytes) * 8_000).div_ceil(speed)
}

/// A part of the cycle in which some classes may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The classes whose gates are open, a bit each; 0: all are closed.
    pub gates: u8,
    /// How long it lasts.
    pub length_ns: u64,
    /// The largest frame that is sent in it (destination address to payload).
    pub frame_bytes_max: u32,
}

/// An entry of the gate control list, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The gates that are open, a bit for each class.
    pub mask: u32,
    /// How long.
    pub interval_ns: u32,
}

/// A schedule of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long a cycle lasts.
    pub cycle_ns: u64,
    /// When a cycle starts (CLOCK_TAI); the kernel takes the next cycle where it has passed.
    pub base_ns: u64,
    /// What is kept free at the end of each window, beside the frame itself.
    pub guard_ns: u64,
    /// The speed of the link.
    pub link_mbit: u32,
    /// The windows, in order, which fill the cycle.
    pub windows: Vec<Window>,
    /// The class of each priority (SO_PRIORITY, socket(7)).
    pub classes: [u8; PRIORITIES],
    /// The priorities that are used, a bit each: each of their classes needs a gate.
    pub used: u16,
    /// The priority of PTP's frames (ptp4l: socket_priority); none where the link is not synchronised by gPTP.
    pub ptp_priority: Option<u8>,
}

/// What a mistake is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// A key of the schedule.
    Key(&'static str),
    /// A window, counted from 0.
    Window(usize),
    /// A hop, counted from 0.
    Hop(usize),
    /// A place in the file, in bytes from its start.
    Byte(usize),
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What it is about.
    pub at: Where,
    /// One sentence: what is wrong, and what would be right.
    pub sentence: String,
}

impl Mistake {
    pub(crate) fn new(at: Where, sentence: impl Into<String>) -> Self {
        Mistake { at, sentence: sentence.into() }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Mistake {}

impl Schedule {
    /// How many classes there are: one more than the highest that a priority or a window names.
    pub fn class_count(&self) -> usize {
        let mapped = self.classes.iter().map(|class| usize::from(*class) + 1).max().unwrap_or(1);
        let gated = self.windows.iter().map(|w| 8 - w.gates.leading_zeros() as usize).max().unwrap_or(0);
        mapped.max(gated)
    }

    /// The class of a priority; those above the map are sent as priority 0, as the kernel does.
    pub fn class_of(&self, priority: u32) -> u8 {
        self.classes[if priority < PRIORITIES as u32 { priority as usize } else { 0 }]
    }

    /// The gate control list.
    pub fn gates(&self) -> Vec<Gate> {
        let gate = |w: &Window| Gate {
            mask: u32::from(w.gates),
            interval_ns: u32::try_from(w.length_ns).unwrap_or(u32::MAX),
        };
        self.windows.iter().map(gate).collect()
    }

    /// Looks for what the kernel would refuse, and for what it would take and then never send.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), Mistake> {
        self.check_numbers()?;
        self.check_windows()?;
        self.check_classes()
    }

    fn check_numbers(&self) -> Result<(), Mistake> {
        if self.cycle_ns == 0 || self.cycle_ns > CYCLE_NS_MAX {
            let cycle = show_duration(self.cycle_ns);
            return Err(Mistake::new(
                Where::Key("cycle"),
                format!("cycle = {cycle} is not within 1ns to 10s; write for example \"1ms\""),
            ));
        }
        if self.link_mbit == 0 {
            return Err(Mistake::new(
                Where::Key("link_mbit"),
                "link_mbit = 0 is no speed; write the link's, such as 1000",
            ));
        }
        if self.windows.is_empty() || self.windows.len() > WINDOWS_MAX {
            return Err(Mistake::new(
                Where::Key("window"),
                format!(
                    "the schedule has {} windows; it needs 1 to {WINDOWS_MAX} that fill the cycle of {}",
                    self.windows.len(),
                    show_duration(self.cycle_ns)
                ),
            ));
        }
        if let Some((priority, class)) =
            self.classes.iter().enumerate().find(|(_, class)| usize::from(**class) >= CLASSES_MAX)
        {
            return Err(Mistake::new(
                Where::Key("priorities"),
                format!("priority {priority} is mapped to class {class}; classes are 0 to 7"),
            ));
        }
        if let Some(priority) = self.ptp_priority.filter(|priority| usize::from(*priority) >= PRIORITIES) {
            return Err(Mistake::new(
                Where::Key("ptp_priority"),
                format!("ptp_priority = {priority} is not within 0 to 15"),
            ));
        }
        Ok(())
    }

    fn check_windows(&self) -> Result<(), Mistake> {
        for (at, window) in self.windows.iter().enumerate() {
            if window.length_ns == 0 || u32::try_from(window.length_ns).is_err() {
                return Err(Mistake::new(
                    Where::Window(at),
                    format!(
                        "window {} lasts {}; the kernel takes 1ns to 4.29s",
                        at + 1,
                        show_duration(window.length_ns)
                    ),
                ));
            }
            let wire = wire_ns(window.frame_bytes_max, self.link_mbit);
            let needs = wire.saturating_add(self.guard_ns);
            if window.gates != 0 && window.length_ns < needs {
                return Err(Mistake::new(
                    Where::Window(at),
                    format!(
                        "window {} lasts {}, but its largest frame of {} bytes takes {} at {} Mbit/s and the guard \
                         band {}: make it {} or longer, or its frames smaller",
                        at + 1,
                        show_duration(window.length_ns),
                        window.frame_bytes_max,
                        show_duration(wire),
                        self.link_mbit,
                        show_duration(self.guard_ns),
                        show_duration(needs)
                    ),
                ));
            }
        }
        let sum = self.windows.iter().fold(0u64, |sum, window| sum.saturating_add(window.length_ns));
        if sum != self.cycle_ns {
            let (difference, word) = if sum > self.cycle_ns {
                (sum - self.cycle_ns, "too long")
            } else {
                (self.cycle_ns - sum, "too short")
            };
            return Err(Mistake::new(
                Where::Key("window"),
                format!(
                    "the windows last {} together, {} {word} for the cycle of {}; a window without classes fills a \
                     gap",
                    show_duration(sum),
                    show_duration(difference),
                    show_duration(self.cycle_ns)
                ),
            ));
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), Mistake> {
        let open = self.windows.iter().fold(0u8, |open, window| open | window.gates);
        let gated = |priority: usize| open & (1 << self.classes[priority]) != 0;
        if let Some(priority) = self.ptp_priority.map(usize::from).filter(|priority| !gated(*priority)) {
            return Err(Mistake::new(
                Where::Key("ptp_priority"),
                format!(
                    "PTP's priority {priority} is mapped to class {}, which has no window: clocks would never \
                     synchronise; open its gate in a window, or map it to a class that has one",
                    self.classes[priority]
                ),
            ));
        }
        match (0..PRIORITIES).find(|p| self.used & (1 << p) != 0 && !gated(*p)) {
            Some(priority) => Err(Mistake::new(
                Where::Key("priorities"),
                format!(
                    "priority {priority} is mapped to class {}, which has no window: its frames would wait for ever; \
                     open its gate in a window, or map it to a class that has one",
                    self.classes[priority]
                ),
            )),
            None => Ok(()),
        }
    }

    /// The largest frame that a class may send: that of the smallest of its windows; `None` where it has none.
    pub fn frame_bytes_max(&self, class: u8) -> Option<u32> {
        self.windows.iter().filter(|w| open(w, class)).map(|w| w.frame_bytes_max).min()
    }

    /// The first instant, at `from` or later (CLOCK_TAI, ns), at which a frame of `class` may start so that it has
    /// left before the gate closes, guard band included; `None` where no window is long enough. Before the base
    /// time no gate is ruled: it is the base time that counts then. Allocates nothing.
    pub fn next_opening(&self, class: u8, from_ns: u64, frame_bytes: u32) -> Option<u64> {
        let needs = wire_ns(frame_bytes, self.link_mbit).saturating_add(self.guard_ns);
        let from = from_ns.max(self.base_ns);
        if self.cycle_ns == 0 || self.windows.is_empty() {
            return None;
        }
        if self.windows.iter().all(|window| open(window, class)) {
            return Some(from);
        }
        let phase = (from - self.base_ns) % self.cycle_ns;
        let cycle_start = from - phase;
        // Two cycles and one: a stretch of windows may reach over the end of a cycle.
        let mut stretch: Option<u64> = None;
        let mut offset = 0u64;
        for window in self.windows.iter().cycle().take(self.windows.len() * 3) {
            if open(window, class) {
                let start = *stretch.get_or_insert(offset);
                let end = offset + window.length_ns;
                let earliest = start.max(phase);
                if earliest + needs <= end {
                    return cycle_start.checked_add(earliest);
                }
            } else {
                stretch = None;
            }
            offset += window.length_ns;
        }
        None
    }
}

/// Whether a class's gate is open in a window.
pub(crate) fn open(window: &Window, class: u8) -> bool {
    usize::from(class) < CLASSES_MAX && window.gates & (1 << class) != 0
}
