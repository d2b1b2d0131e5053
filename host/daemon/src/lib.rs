//! The TEMPOS daemon: reads the node file, assembles the rooms, waits, drains.
//!
//! Everything that a node does is done by the rooms below: the engine carries events, Lua reads wirings,
//! D-Bus takes orders. This room puts them together and looks after the process: command line, node file,
//! log, signals, supervisor, lock. It knows everyone; how an event is treated it refuses to know, and
//! nothing in it runs on an event's road. Nobody depends on it: it is a library only so that its tests
//! reach the node file's reader.

pub mod calibration;
mod changes;
pub mod check;
pub mod clock_watch;
pub mod config;
pub mod daemon;
pub mod exit;
mod generations;
pub mod happenings;
pub mod heap;
pub mod hooks;
pub mod host_node;
pub mod inspect;
pub mod interfaces;
pub mod lock;
pub mod log;
pub mod notify;
pub mod options;
mod probe;
pub mod signals;
pub mod turn;
mod wanted;
pub mod wiring_watch;
