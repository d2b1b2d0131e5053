//! Schedules of time-aware shaping (IEEE 802.1Qbv): what a user writes, what is wrong with it, when a class may
//! send next, how several hops follow each other, and a picture of it all.
//!
//! It knows arithmetic only; it refuses to know interfaces, sockets, clocks and files. The adapter `tsn` and
//! `temposctl tsn` call it.

mod duration;
mod file;
mod picture;
mod plan;
mod schedule;
#[cfg(test)]
mod tests;

pub use duration::{parse_duration, show_duration};
pub use file::{Document, parse};
pub use picture::{draw, draw_plan};
pub use plan::{Hop, PlannedHop, plan};
pub use schedule::{
    CLASSES_MAX, FRAME_BYTES_DEFAULT, Gate, Mistake, PRIORITIES, Schedule, Where, Window, wire_bytes, wire_ns,
};
