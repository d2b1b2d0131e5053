//! The bounds of one evaluation.

use std::time::Duration;

/// What a run of scripts may use. Every bound that is reached is a mistake with its sentence.
///
/// Time is counted so that a busy machine does not make a good script fail: `time` is CPU time of the
/// script's own thread, and each declaration begins a new allowance of it. A script that declares ten
/// thousand topics runs as long as that takes, one that turns in circles is stopped after `time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time that a script may use without declaring anything.
    pub time: Duration,
    /// Wall time of a whole run, all scripts together.
    pub total: Duration,
    /// Wall time without a sign of life, after which the thread of a script is abandoned: it is inside
    /// one long operation of the Lua library that nothing can interrupt. Where it wants to run and gets no CPU,
    /// five times as much.
    pub silence: Duration,
    /// Memory of the Lua state, in bytes.
    pub memory_bytes: usize,
    /// Size of one script or module, in bytes.
    pub source_bytes: usize,
    /// Size of all scripts and modules together, in bytes.
    pub sources_bytes: usize,
    /// Number of scripts and modules.
    pub files: usize,
    /// Number of constructor calls in a run.
    pub declarations: usize,
    /// Mistakes that are reported one by one; the rest is only counted.
    pub mistakes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_millis(100),
            total: Duration::from_secs(20),
            silence: Duration::from_secs(2),
            memory_bytes: 64 << 20,
            source_bytes: 1 << 20,
            sources_bytes: 16 << 20,
            files: 1000,
            declarations: 262_144,
            mistakes: 100,
        }
    }
}
