//! The kernel's threads that take frames where NAPI is threaded, and their scheduling.

use std::{fs, io};

/// A thread and how it is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub pid: i32,
    /// SCHED_OTHER, SCHED_FIFO …
    pub policy: i32,
    /// The priority of a real-time policy; else 0.
    pub priority: i32,
}

/// The NAPI threads of an interface by their names (`napi/NAME-ID`), as far as this process sees the kernel's threads.
pub fn of(interface: &str) -> Vec<Thread> {
    let prefix = format!("napi/{interface}-");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| is_named(*pid, &prefix)).filter_map(scheduling).collect()
}

/// Whether it is still a NAPI thread of that interface: numbers are used again.
pub fn is_of(pid: i32, interface: &str) -> bool {
    is_named(pid, &format!("napi/{interface}-"))
}

fn is_named(pid: i32, prefix: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(prefix))
}

fn scheduling(pid: i32) -> Option<Thread> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the struct is live for the call.
    let policy = unsafe {
        if libc::sched_getparam(pid, &raw mut parameters) != 0 {
            return None;
        }
        libc::sched_getscheduler(pid)
    };
    (policy >= 0).then_some(Thread { pid, policy, priority: parameters.sched_priority })
}

/// Has a thread scheduled so.
///
/// # Errors
/// What the system says; it needs CAP_SYS_NICE.
pub fn schedule(thread: Thread) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: thread.priority };
    // SAFETY: the struct is live for the call.
    match unsafe { libc::sched_setscheduler(thread.pid, thread.policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
