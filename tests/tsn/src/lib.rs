//! What the programs of the TSN rig share: arrival phases of frames in a cycle, what is judged by them, and their
//! picture; how long events took from place to place; and reading a command line.
//!
//! It knows clocks and numbers; it refuses to know who sent a frame, and who set the gates.

mod arguments;
mod clock;
mod phases;
mod picture;
mod road;

pub use arguments::Arguments;
pub use clock::{sleep_until, tai_ns, tai_offset_ns};
pub use phases::{Phases, Verdict, Window};
pub use picture::{Panel, draw};
pub use road::{Place, Spread, durations};

use std::io::Write;

/// Writes a line; where nobody reads any more there is nobody to be told.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
