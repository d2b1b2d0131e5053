//! Keeps schedules of gates on interfaces: sets them the best way that an interface accepts, reads back what the
//! kernel took, gives them again where the kernel has stopped or lost them, and puts back what stood there before.
//!
//! It knows `tempos-tsn` (what a schedule says), `tempos-qdisc` (how the kernel is told) and `tempos-ptp` (what the clock
//! is worth that a schedule rests on); it refuses to know channels, events and nodes. The adapter `tsn` joins through
//! [`join`]; `tempos-tsn` only looks. One thread keeps each interface, and another listens for it; nothing here runs on
//! an event's road.

mod bell;
mod changing;
mod clock;
mod clocks;
mod ear;
mod fit;
mod keeper;
mod ladder;
mod news;
mod obstacle;
mod owner;
mod registry;
mod repair;
mod software;
mod tell;
#[cfg(test)]
mod tests;
mod urgent;
mod watchdog;

pub use fit::{same_gates, schedule_of, taprio};
pub use ladder::mode_word;
pub use news::{Incident, News};
pub use obstacle::{has_net_admin, obstacle};
pub use registry::{Gates, Launch, Want, join};
pub use watchdog::Watchdog;
