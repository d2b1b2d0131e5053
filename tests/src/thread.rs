//! The daemon's threads and its use of the machine, as the kernel tells.

use std::fs;
use std::time::Duration;

/// How the kernel schedules a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// `libc::SCHED_OTHER`, `SCHED_FIFO`, …
    pub policy: i32,
    /// The real-time priority, or 0.
    pub priority: i32,
}

/// The threads of a process: their ids and names.
pub fn threads(process: u32) -> Vec<(i32, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let id = task.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some((id, name.trim_end().to_owned()))
        })
        .collect()
}

/// How a thread is scheduled; `None` where it has gone.
pub fn scheduling(thread: i32) -> Option<Scheduling> {
    let mut parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: sched_getscheduler(2) takes no pointers; the other writes the structure that is passed.
    let (policy, got) =
        unsafe { (libc::sched_getscheduler(thread), libc::sched_getparam(thread, &raw mut parameter)) };
    let policy = policy & !libc::SCHED_RESET_ON_FORK;
    (policy >= 0 && got == 0).then_some(Scheduling { policy, priority: parameter.sched_priority })
}

/// The CPU time that a process has used so far.
///
/// # Panics
/// When it has gone.
pub fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process lives");
    // Fields 14 and 15, counted after the name, which may hold anything (proc(5)).
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf(3) takes no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_millis(ticks * 1000 / u64::try_from(per_second).unwrap_or(100).max(1))
}
