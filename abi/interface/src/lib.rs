//! Network interfaces set for latency, for jitter or for CPU time: interrupt coalescing, threaded NAPI and its threads'
//! priority, deferred interrupts, GRO. What an interface does not support is said; what was there before is put back.
//!
//! It knows the ethtool ioctl, `/sys/class/net` and the NAPI threads, in the network namespace of the calling thread
//! (whose `/sys` must be that namespace's); it refuses to know sockets and events. Before anything is changed a record
//! of what was there lies in a folder that the caller names: [`recover`] puts it back where the process was killed.

mod ethtool;
mod profile;
mod record;
mod thing;
mod threads;
mod tuning;

pub use profile::Profile;
pub use tuning::{Tuning, recover};
