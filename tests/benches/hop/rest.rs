//! A node at rest: memory, wake-ups, CPU time.

use std::fs;
use std::time::Duration;

use crate::machine::{Usage, number_after};

/// After the start, until everything that the start still does is done.
const SETTLE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(5);

/// What a node needs while nothing happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Resident memory, KiB.
    pub resident_kib: u64,
    /// Of it, memory that belongs to no file.
    pub anonymous_kib: u64,
    /// Of it, code and data of files, which other processes may share.
    pub file_kib: u64,
    /// Locked memory, KiB.
    pub locked_kib: u64,
    /// Times a second that a thread woke up.
    pub wakeups_per_second: f64,
    /// CPU time, per cent of one CPU.
    pub cpu_percent: f64,
    /// Threads.
    pub threads: u64,
}

impl Rest {
    /// Looks at a process for a while.
    pub fn of(pid: u32) -> Rest {
        std::thread::sleep(SETTLE);
        let before = Usage::of(pid);
        std::thread::sleep(LOOK);
        let used = Usage::of(pid).since(before);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |key: &str| number_after(&status, key);
        Rest {
            resident_kib: kib("VmRSS:"),
            anonymous_kib: kib("RssAnon:"),
            file_kib: kib("RssFile:"),
            locked_kib: kib("VmLck:"),
            wakeups_per_second: used.sleeps as f64 / LOOK.as_secs_f64(),
            cpu_percent: used.cpu_ns as f64 * 100.0 / LOOK.as_nanos() as f64,
            threads: kib("Threads:"),
        }
    }
}
