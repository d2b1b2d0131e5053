//! Scheduling of threads: policy, priority, CPUs, and what a thread has used so far.

use std::io;

use tempos_control::Scheduler;
use thread_priority::unix::{ScheduleParams, ThreadSchedulePolicy};

/// The highest real-time priority that a supervisor takes: 99 belongs to the kernel's watchdogs.
pub const PRIORITY_MAX: u8 = 98;

/// The kernel's id of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(pub i32);

impl ThreadId {
    /// The calling thread.
    pub fn current() -> Self {
        ThreadId(rustix::thread::gettid().as_raw_nonzero().get())
    }
}

/// SCHED_FLAG_RESET_ON_FORK (sched_setattr(2)): children start as ordinary threads.
const RESET_ON_FORK: u64 = 1;
const SCHED_DEADLINE: u32 = 6;

#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Gives a thread the scheduling of its lane, with RESET_ON_FORK.
///
/// sched_setattr(2) directly: `thread-priority` names policies and their bounds well, but passes a
/// pthread_t where its deadline call needs a thread id, and cannot set the flag.
///
/// # Errors
/// EPERM where the system does not grant it; EINVAL for a priority outside the policy's bounds.
pub fn apply(thread: ThreadId, scheduler: &Scheduler) -> io::Result<()> {
    let mut attributes =
        Attributes { size: size_of::<Attributes>() as u32, flags: RESET_ON_FORK, ..Attributes::default() };
    match *scheduler {
        Scheduler::Other { nice } => {
            attributes.policy = libc::SCHED_OTHER as u32;
            attributes.nice = nice;
        }
        Scheduler::RoundRobin { priority } => {
            attributes.policy = libc::SCHED_RR as u32;
            attributes.priority = u32::from(priority);
        }
        Scheduler::Fifo { priority } => {
            attributes.policy = libc::SCHED_FIFO as u32;
            attributes.priority = u32::from(priority);
        }
        Scheduler::Deadline { runtime_ns, deadline_ns, period_ns } => {
            attributes.policy = SCHED_DEADLINE;
            attributes.runtime_ns = runtime_ns;
            attributes.deadline_ns = deadline_ns;
            attributes.period_ns = period_ns;
        }
    }
    // SAFETY: the structure is the kernel's own, its size is in it, and it outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, thread.0, &raw const attributes, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The slice of an ordinary thread that was refused real time: the least that the kernel takes. A thread with a
/// short slice is served soon after it wakes, however long the slices of others are (Linux 6.12, EEVDF).
const SHORT_SLICE_NS: u64 = 100_000;

/// The same, and where real time is refused the best that everybody may have: a short slice.
///
/// # Errors
/// What was refused; the thread then runs as an ordinary one.
pub fn apply_best(thread: ThreadId, scheduler: &Scheduler) -> io::Result<()> {
    let answer = apply(thread, scheduler);
    if answer.is_err() && !matches!(scheduler, Scheduler::Other { .. }) {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            policy: libc::SCHED_OTHER as u32,
            flags: RESET_ON_FORK,
            runtime_ns: SHORT_SLICE_NS,
            ..Attributes::default()
        };
        // SAFETY: as in `apply`. An older kernel passes the slice over.
        unsafe { libc::syscall(libc::SYS_sched_setattr, thread.0, &raw const attributes, 0) };
    }
    answer
}

/// Takes real-time scheduling from a thread that does not answer.
pub fn demote(thread: ThreadId) -> io::Result<()> {
    apply(thread, &Scheduler::Other { nice: 10 })
}

/// Restricts a thread to CPUs; an empty list leaves it as it is.
///
/// # Errors
/// EINVAL where none of them is there.
pub fn pin(thread: ThreadId, cpus: &[u32]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus {
        if (*cpu as usize) < rustix::thread::CpuSet::MAX_CPU {
            set.set(*cpu as usize);
        }
    }
    Ok(rustix::thread::sched_setaffinity(rustix::thread::Pid::from_raw(thread.0), &set)?)
}

/// The CPUs that a thread may run on; none where the system does not say.
pub fn allowed_cpus(thread: ThreadId) -> Vec<u32> {
    let set = rustix::thread::sched_getaffinity(rustix::thread::Pid::from_raw(thread.0));
    set.map_or_else(
        |_| Vec::new(),
        |set| {
            (0..rustix::thread::CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .map(|cpu| cpu as u32)
                .collect()
        },
    )
}

/// What a thread is doing and has used, from proc_pid_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// `R`, `S`, `D`, …
    pub state: u8,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
}

/// Reads it; `None` once the thread is gone.
pub fn usage(thread: ThreadId) -> Option<ThreadUsage> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/stat", thread.0)).ok()?;
    // The name, in parentheses, may hold anything: what follows its last one is fixed.
    let rest = &text[text.rfind(')')? + 2..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(10).collect();
    Some(ThreadUsage {
        state: *fields.first()?.as_bytes().first()?,
        minor_faults: fields.get(7)?.parse().ok()?,
        major_faults: fields.get(9)?.parse().ok()?,
    })
}

/// CPU time that a thread has used, in nanoseconds (proc_pid_schedstat); 0 once it is gone.
pub fn cpu_time_ns(thread: ThreadId) -> u64 {
    std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", thread.0))
        .ok()
        .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The same by the thread's own clock: one short system call, for whoever asks often and above all lanes.
pub fn cpu_clock_ns(thread: ThreadId) -> u64 {
    // The clock of a thread's CPU time (the kernel's posix-timers.h: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED).
    let clock = (!thread.0 << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure that is passed; a clock of a thread that is gone is EINVAL.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return 0;
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The policy that a thread really runs under, in a user's words: `fifo 45`, `other`.
pub fn granted(thread: ThreadId) -> String {
    let mut attributes = Attributes::default();
    // SAFETY: the structure is the kernel's own and its size is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            thread.0,
            &raw mut attributes,
            size_of::<Attributes>() as u32,
            0,
        )
    };
    if answer != 0 {
        return String::from("gone");
    }
    match attributes.policy as i32 {
        libc::SCHED_FIFO => format!("fifo {}", attributes.priority),
        libc::SCHED_RR => format!("rr {}", attributes.priority),
        6 => String::from("deadline"),
        _ if attributes.nice != 0 => format!("other nice {}", attributes.nice),
        _ => String::from("other"),
    }
}

/// The part of each CPU that the kernel gives away as reservations under SCHED_DEADLINE, in millionths:
/// `sched_rt_runtime_us` by `sched_rt_period_us` (sched-deadline.rst, section 4), less what it has reserved itself for
/// ordinary threads since Linux 6.12: the fair server's 50 of 1000 ms (kernel/sched/deadline.c, `sched_init_dl_servers`).
pub fn reservable_ppm() -> u64 {
    let of = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse::<i64>().ok()
    };
    let runtime_us = of("sched_rt_runtime_us").unwrap_or(950_000);
    let period_us = of("sched_rt_period_us").filter(|us| *us > 0).unwrap_or(1_000_000);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    reservable(runtime_us, period_us, &release)
}

/// The same of these settings and that release; a negative runtime means that the kernel does not look.
fn reservable(runtime_us: i64, period_us: i64, release: &str) -> u64 {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let server = if version >= (6, 12) { 50_000 } else { 0 };
    let whole = match u64::try_from(runtime_us) {
        Ok(runtime) => (runtime.saturating_mul(1_000_000) / period_us.max(1).unsigned_abs()).min(1_000_000),
        Err(_) => 1_000_000,
    };
    whole.saturating_sub(server)
}

/// A scheduler as a user would say it.
pub fn requested(scheduler: &Scheduler) -> String {
    match scheduler {
        Scheduler::Other { nice: 0 } => String::from("other"),
        Scheduler::Other { nice } => format!("other nice {nice}"),
        Scheduler::RoundRobin { priority } => format!("rr {priority}"),
        Scheduler::Fifo { priority } => format!("fifo {priority}"),
        Scheduler::Deadline { .. } => String::from("deadline"),
    }
}

/// The scheduler of a lane's function workers: one step below the queue worker unless said otherwise.
pub fn for_functions(scheduler: &Scheduler, priority: Option<u8>) -> Scheduler {
    let below = |own: u8| priority.unwrap_or(own.saturating_sub(1)).clamp(1, PRIORITY_MAX + 1);
    match scheduler {
        Scheduler::Fifo { priority } => Scheduler::Fifo { priority: below(*priority) },
        Scheduler::RoundRobin { priority } => Scheduler::RoundRobin { priority: below(*priority) },
        // A deadline reservation is one thread's own; its workers run below every reservation.
        Scheduler::Deadline { .. } => Scheduler::Fifo { priority: priority.unwrap_or(40) },
        Scheduler::Other { nice } => Scheduler::Other { nice: *nice },
    }
}

/// The real-time priority of a scheduler; 0 where it has none.
pub fn priority_of(scheduler: &Scheduler) -> u8 {
    match scheduler {
        Scheduler::Fifo { priority } | Scheduler::RoundRobin { priority } => *priority,
        _ => 0,
    }
}

/// Whether this process may use real-time scheduling right now: tried on a thread of its own, so that
/// no lane is touched.
///
/// # Errors
/// What the system says.
pub fn probe_real_time(priority: u8) -> io::Result<()> {
    std::thread::Builder::new()
        .name("rt-probe".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let policy = ThreadSchedulePolicy::Realtime(thread_priority::RealtimeThreadSchedulePolicy::Fifo);
            let highest = thread_priority::ThreadPriority::max_value_for_policy(policy).unwrap_or(99);
            let wanted = ScheduleParams { sched_priority: i32::from(priority).clamp(1, highest) };
            apply(ThreadId::current(), &Scheduler::Fifo { priority: wanted.sched_priority as u8 })
        })?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the probe thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_gives_away_is_less_where_it_serves_ordinary_threads_itself() {
        for (runtime, period, release, ppm) in [
            (950_000, 1_000_000, "6.1.0-32-amd64", 950_000),
            (950_000, 1_000_000, "6.12.9", 900_000),
            (950_000, 1_000_000, "7.0.0-rc1", 900_000),
            (500_000, 1_000_000, "5.10", 500_000),
            (-1, 1_000_000, "6.18.44-fc", 950_000),
            (-1, 1_000_000, "6.1", 1_000_000),
            (0, 0, "", 0),
        ] {
            assert_eq!(reservable(runtime, period, release), ppm, "{runtime} {period} {release}");
        }
    }
}
