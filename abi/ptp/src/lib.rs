//! Whether a clock may be trusted with gates and launch times: ptp4l (linuxptp) is asked over its management socket,
//! and what it says is judged against bounds, with a hold time before a clock that was lost counts again.
//!
//! It knows the management messages of IEEE 1588-2019 (15.4) with the additions of linuxptp, unix datagrams and
//! adjtimex(2); it refuses to know schedules, channels, and what is done where the clock is lost. Nothing waits:
//! [`Clock::poll`] is called again and again by an ordinary thread. [`Watch`] is pure, with time handed in.
//!
//! ```no_run
//! use tempos_ptp::{Clock, ClockConfig, PTP4L_SOCKET, Role};
//! let mut config = ClockConfig::new(PTP4L_SOCKET, "/run/tempos");
//! config.bounds.role = Role::Follower;
//! let mut clock = Clock::new(config)?;
//! let state = clock.poll(); // every 100 ms or so
//! assert!(state.granted, "{}", state.reason);
//! # Ok::<(), std::io::Error>(())
//! ```

mod client;
mod clock;
mod hardware;
mod message;
mod tai;
#[cfg(test)]
mod tests;
mod watch;

pub use client::Client;
pub use clock::{Clock, ClockConfig, ClockState, PTP4L_SOCKET};
pub use hardware::HardwareClock;
pub use message::{
    Answer, CurrentDataSet, Data, GrandmasterSettings, Identity, PortDataSet, PortState, Question,
    TimeProperties, TimeStatus, decode, question,
};
pub use tai::tai_offset_s;
pub use watch::{Bounds, Cause, Reading, Role, Verdict, Watch};
