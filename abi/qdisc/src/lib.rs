//! Queueing disciplines of Linux without `tc`: taprio, mqprio and etf are set and read back, what stood there is
//! saved and restored, and changes of links and disciplines are told as they happen.
//!
//! It knows rtnetlink(7) and the ethtool ioctl, in the network namespace of the calling thread; it refuses to know
//! schedules as users write them, sockets that carry events, and when a schedule must be set again. Every request
//! is bounded in time and size. A refusal carries the errno and the kernel's own words.

mod control;
mod error;
mod etf;
mod ethtool;
mod link;
mod monitor;
mod mqprio;
mod qdisc;
mod socket;
mod taprio;
#[cfg(test)]
mod tests;
mod wire;

pub use control::{
    TAPRIO_HANDLE, change_taprio, delete, delete_root, read, read_all, restore, save, set_etf, set_mqprio,
    set_taprio,
};
pub use error::Refusal;
pub use etf::Etf;
pub use ethtool::{HardwareTime, TxQueues};
pub use link::Link;
pub use monitor::{Change, ChangeBell, LinkMonitor};
pub use mqprio::{Mqprio, Queues};
pub use qdisc::{Counters, Options, Qdisc, ROOT, Saved, handle, show_handle};
pub use taprio::{ENTRIES_MAX, Entry, Mode, Schedule, Taprio};
