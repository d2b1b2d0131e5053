//! A QoS level as a lane: one queue worker with its pool, its queue, its channels and its function
//! workers. Lanes share nothing that can block.
//!
//! Everything that a lane touches was made, faulted in and locked by the controller. The queue worker
//! finds its wiring by one atomic load, makes no memory, takes no lock, writes no log. This room knows
//! neither scripts nor calls, and of plugins only the doors.

pub mod cell;
pub mod crossing;
pub mod handle;
pub mod migration;
pub mod order;
pub mod ownership;
pub mod pool;
pub mod shared;
pub mod state;
pub mod supervisor;
pub mod tables;
pub mod threads;
pub mod worker;
