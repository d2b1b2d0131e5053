//! A schedule as a user writes it, in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::duration::parse_duration;
use crate::plan::Hop;
use crate::schedule::{CLASSES_MAX, FRAME_BYTES_DEFAULT, Mistake, PRIORITIES, Schedule, Where, Window};

/// A file's schedule and the hops that follow it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The schedule of the first link.
    pub schedule: Schedule,
    /// The hops; empty where the file names none.
    pub hops: Vec<Hop>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Duration {
    Ns(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    cycle: Spanned<Duration>,
    #[serde(default)]
    base_time_ns: u64,
    guard_band: Option<Spanned<Duration>>,
    link_mbit: Spanned<u32>,
    largest_frame: Option<u32>,
    ptp_priority: Option<Spanned<u8>>,
    #[serde(default)]
    priorities: Option<Spanned<BTreeMap<String, u8>>>,
    #[serde(default)]
    window: Vec<Spanned<RawWindow>>,
    #[serde(default)]
    hop: Vec<Spanned<RawHop>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    #[serde(default)]
    classes: Vec<u8>,
    length: Duration,
    largest_frame: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHop {
    name: String,
    class: u8,
    link_mbit: Option<u32>,
    #[serde(default = "one")]
    frames: u32,
    propagation: Option<Duration>,
    processing: Option<Duration>,
    clock_error: Option<Duration>,
}

fn one() -> u32 {
    1
}

/// Reads and checks a schedule.
///
/// # Errors
/// `LINE: SENTENCE` for the first mistake; the caller puts the file's name and a colon before it.
pub fn parse(text: &str) -> Result<Document, String> {
    let line = |byte: usize| text.get(..byte.min(text.len())).map_or(1, |t| t.matches('\n').count() + 1);
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(1, |span| line(span.start));
        format!("{at}: {}", error.message().lines().next().unwrap_or("not TOML"))
    })?;
    let document = read(&raw).map_err(|mistake| {
        let byte = match mistake.at {
            Where::Byte(byte) => byte,
            _ => 0,
        };
        format!("{}: {}", line(byte), mistake.sentence)
    })?;
    document
        .schedule
        .check()
        .map_err(|mistake| format!("{}: {}", line(byte_of(&raw, mistake.at)), mistake.sentence))?;
    Ok(document)
}

/// Where in the file something stands.
fn byte_of(raw: &RawFile, at: Where) -> usize {
    let windows = raw.window.first().map_or(raw.cycle.span().start, |w| w.span().start);
    match at {
        Where::Byte(byte) => byte,
        Where::Window(n) => raw.window.get(n).map_or(windows, |w| w.span().start),
        Where::Hop(n) => raw.hop.get(n).map_or(windows, |h| h.span().start),
        Where::Key("window") => windows,
        Where::Key("link_mbit") => raw.link_mbit.span().start,
        Where::Key("ptp_priority") => raw.ptp_priority.as_ref().map_or(windows, |p| p.span().start),
        Where::Key("priorities") => raw.priorities.as_ref().map_or(windows, |p| p.span().start),
        Where::Key(_) => raw.cycle.span().start,
    }
}

fn read(raw: &RawFile) -> Result<Document, Mistake> {
    let byte = raw.cycle.span().start;
    let cycle_ns = nanoseconds("cycle", raw.cycle.get_ref(), byte)?;
    let guard_ns = match &raw.guard_band {
        Some(guard) => nanoseconds("guard_band", guard.get_ref(), guard.span().start)?,
        None => 0,
    };
    let frame_bytes = raw.largest_frame.unwrap_or(FRAME_BYTES_DEFAULT);
    let mut windows = Vec::new();
    for window in &raw.window {
        let (byte, window) = (window.span().start, window.get_ref());
        let mut gates = 0u8;
        for class in &window.classes {
            if usize::from(*class) >= CLASSES_MAX {
                let sentence = format!("class {class} is not within 0 to 7");
                return Err(Mistake::new(Where::Byte(byte), sentence));
            }
            gates |= 1 << class;
        }
        windows.push(Window {
            gates,
            length_ns: nanoseconds("length", &window.length, byte)?,
            frame_bytes_max: window.largest_frame.unwrap_or(frame_bytes),
        });
    }
    let mut classes = [0u8; PRIORITIES];
    // What nobody maps goes to class 0, and class 0 carries what nobody marks: it is always used.
    let mut used = 1u16;
    if let Some(priorities) = &raw.priorities {
        for (priority, class) in priorities.get_ref() {
            let at = Where::Byte(priorities.span().start);
            let Some(index) = priority.parse::<usize>().ok().filter(|p| *p < PRIORITIES) else {
                return Err(Mistake::new(at, format!("{priority:?} is not a priority of 0 to 15")));
            };
            classes[index] = *class;
            used |= 1 << index;
        }
    }
    let schedule = Schedule {
        cycle_ns,
        base_ns: raw.base_time_ns,
        guard_ns,
        link_mbit: *raw.link_mbit.get_ref(),
        windows,
        classes,
        used,
        ptp_priority: raw.ptp_priority.as_ref().map(|p| *p.get_ref()),
    };
    let hops = raw.hop.iter().map(|hop| read_hop(hop, &schedule)).collect::<Result<_, _>>()?;
    Ok(Document { schedule, hops })
}

fn read_hop(hop: &Spanned<RawHop>, schedule: &Schedule) -> Result<Hop, Mistake> {
    let (byte, hop) = (hop.span().start, hop.get_ref());
    let optional = |key, value: &Option<Duration>| match value {
        Some(value) => nanoseconds(key, value, byte),
        None => Ok(0),
    };
    Ok(Hop {
        name: hop.name.clone(),
        class: hop.class,
        link_mbit: hop.link_mbit.unwrap_or(schedule.link_mbit),
        frames: hop.frames,
        propagation_ns: optional("propagation", &hop.propagation)?,
        processing_ns: optional("processing", &hop.processing)?,
        clock_error_ns: optional("clock_error", &hop.clock_error)?,
    })
}

fn nanoseconds(key: &str, value: &Duration, byte: usize) -> Result<u64, Mistake> {
    match value {
        Duration::Ns(ns) => Ok(*ns),
        Duration::Text(text) => parse_duration(text)
            .map_err(|sentence| Mistake::new(Where::Byte(byte), format!("{key} = {sentence}"))),
    }
}
