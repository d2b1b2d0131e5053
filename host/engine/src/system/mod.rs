//! What the engine asks of the operating system: clocks, scheduling, locked memory, waiting.
//!
//! This is one of the two rooms of the engine in which `unsafe` lives. It knows Linux, not events.

pub mod atomic;
pub mod clock;
pub mod memory;
pub mod preflight;
pub mod scheduling;
pub mod sleep_flag;
pub mod wake;
