//! The systems: each starts what it needs, and gives the bench producers and consumers.

mod bare;
pub mod iceoryx2;
mod mosquitto;
mod nats;
pub mod sockets;
mod tempos;

pub use tempos::levels as tempos_levels;
mod zenoh;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::client::{Consumer, Flow, Producer};
use crate::machine::Layout;
use crate::options::Options;
use crate::report::Report;

/// One system.
pub trait System {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// What its forwarding runs as.
    fn runs_as(&self) -> String;

    /// The process that forwards; none where nobody stands between producer and consumer.
    fn pid(&self) -> Option<u32>;

    /// The process that forwards in the scene `rate`, where nobody is pinned or prioritised.
    fn rate_pid(&self) -> Option<u32> {
        self.pid()
    }

    /// Whether it takes part in a flow at all.
    fn has(&self, _flow: Flow) -> bool {
        true
    }

    /// A producer of a flow.
    fn producer(&self, flow: Flow) -> io::Result<Box<dyn Producer>>;

    /// One consumer of these flows. It may wait for the system to reach it only at the first event.
    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>>;

    /// Events that may be under way at the highest rate; none where the system holds its producer back.
    fn window(&self) -> Option<u64> {
        None
    }
}

pub use bare::{BATCHES, FORWARDER};

/// The names of ours.
pub const OURS: [&str; 4] = ["tempos-udp", "tempos-unix", "tempos-tcp", "tempos-shm"];
/// The names of another build of ours, in the same order.
pub const BEFORE: [&str; 4] = ["before-udp", "before-unix", "before-tcp", "before-shm"];
/// The names of the peers.
pub const PEERS: [&str; 4] = ["mosquitto", "nats", "zenoh", "iceoryx2"];

type Start = fn(&Layout) -> io::Result<Box<dyn System>>;

/// All of them, the bare ones first.
const ALL: [(&str, Start); 11] = [
    (bare::DIRECT, bare::direct),
    (bare::FORWARDER, bare::forwarder),
    (bare::BATCHES, bare::batches),
    ("tempos-udp", tempos::udp),
    ("tempos-unix", tempos::unix),
    ("tempos-tcp", tempos::tcp),
    ("tempos-shm", tempos::shm),
    ("mosquitto", mosquitto::start),
    ("nats", nats::start),
    ("zenoh", zenoh::start),
    ("iceoryx2", iceoryx2::start),
];

/// Starts those that are wanted. One that does not start is reported; the others go on.
pub fn start(options: &Options, layout: &Layout, report: &mut Report) -> Vec<Box<dyn System>> {
    let mut systems = Vec::new();
    for (name, start) in ALL.iter().filter(|(name, _)| options.has(name)) {
        match start(layout) {
            Ok(system) => {
                report.system(name, &system.runs_as());
                systems.push(system);
            }
            Err(error) => report.missing(name, &error.to_string()),
        }
    }
    systems
}

/// Starts those of an earlier build of ours whose names now are wanted.
pub fn start_before(
    programs: &Path,
    options: &Options,
    layout: &Layout,
    report: &mut Report,
) -> Vec<Box<dyn System>> {
    let mut systems = Vec::new();
    for (_, name) in OURS.into_iter().zip(BEFORE).filter(|(now, _)| options.has(now)) {
        match tempos::before(name, programs, layout) {
            Ok(system) => {
                report.system(name, &system.runs_as());
                systems.push(system);
            }
            Err(error) => report.missing(name, &error.to_string()),
        }
    }
    systems
}

/// Plays a role in a process of its own.
pub fn play(role: &str, rest: &[String]) -> ExitCode {
    match role {
        "forwarder" => bare::play(rest),
        "zenoh-router" => zenoh::play(rest),
        _ => ExitCode::from(64),
    }
}

/// How a forwarding process of its own is scheduled, in words.
fn granted(layout: &Layout) -> String {
    if layout.real_time {
        format!(
            "the whole process SCHED_FIFO {} on CPU {}",
            crate::machine::FORWARDER_PRIORITY,
            layout.forwarder_cpu
        )
    } else {
        format!("SCHED_OTHER on CPU {}: real time is not granted", layout.forwarder_cpu)
    }
}
