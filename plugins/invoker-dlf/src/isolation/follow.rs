//! Keeps a process near the thread that calls it.
//!
//! A thread in real time that wakes another one sends it to the other CPU, whose sleep it has to wait out: a
//! round trip of 35 to 45 µs has been seen, against 4 to 9 where the two take turns on one CPU. For short
//! invocations both are therefore held on the caller's CPU: the process from one call to the next, the caller
//! while it waits. Long ones may run where there is room, and nothing runs in real time for as long as it
//! likes.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use tempos_abi::invoker::Scheduling;

/// Invocations that take longer than this, on the average, are not kept on the caller's CPU.
const SHORT_NS: u64 = 1_000_000;
/// CPU time in real time that an invocation may use: as much as a function worker may.
const REAL_TIME_NS: u64 = 20_000_000;
const ANYWHERE: i32 = -1;

/// Where a process runs, and how.
#[derive(Debug)]
pub struct Follow {
    scheduling: Scheduling,
    cpu: AtomicI32,
    mean_ns: AtomicU64,
    used_ns: AtomicU64,
    demoted: AtomicBool,
}

impl Follow {
    /// Of a process that was started with this scheduling.
    pub fn new(scheduling: Scheduling) -> Self {
        Follow {
            scheduling,
            cpu: AtomicI32::new(ANYWHERE),
            mean_ns: AtomicU64::new(0),
            used_ns: AtomicU64::new(0),
            demoted: AtomicBool::new(false),
        }
    }

    fn real_time(&self) -> bool {
        self.scheduling.policy != 0
    }

    /// Before an invocation. The answer is where the calling thread may run, for [`Follow::done`], where that
    /// was narrowed.
    pub fn call(&self, pid: libc::pid_t) -> Option<libc::cpu_set_t> {
        if !self.real_time() {
            return None;
        }
        let short = self.mean_ns.load(Ordering::Relaxed) < SHORT_NS;
        let (here, own) = if short { hold() } else { (ANYWHERE, None) };
        if here != self.cpu.load(Ordering::Relaxed) {
            self.cpu.store(here, Ordering::Relaxed);
            let cpus = self.scheduling.cpus;
            match here {
                ANYWHERE => set_cpus(pid, if cpus == 0 { u64::MAX } else { cpus }),
                here => set_cpus(pid, 1 << here),
            }
        }
        own
    }

    /// After an invocation that took so long.
    pub fn done(&self, pid: libc::pid_t, took_ns: u64, own: Option<libc::cpu_set_t>) {
        release(own);
        if self.real_time() {
            let mean_ns = self.mean_ns.load(Ordering::Relaxed);
            self.mean_ns.store(mean_ns - mean_ns / 8 + took_ns / 8, Ordering::Relaxed);
            if self.demoted.swap(false, Ordering::Relaxed) {
                let policy = i32::from(self.scheduling.policy) | libc::SCHED_RESET_ON_FORK;
                set_scheduler(pid, policy, self.scheduling.priority.into());
            }
        }
    }

    /// After an invocation that did not end by itself.
    pub fn lost(&self, own: Option<libc::cpu_set_t>) {
        release(own);
    }

    /// While an invocation runs that has not ended at once: its real-time priority ends with the CPU time that
    /// it has used since the first look.
    pub fn look(&self, pid: libc::pid_t, first: bool) {
        if !self.real_time() || self.demoted.load(Ordering::Relaxed) {
            return;
        }
        let used_ns = cpu_time_ns(pid);
        if first {
            self.used_ns.store(used_ns, Ordering::Relaxed);
        } else if used_ns.saturating_sub(self.used_ns.load(Ordering::Relaxed)) > REAL_TIME_NS {
            self.demoted.store(true, Ordering::Relaxed);
            set_scheduler(pid, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
        }
    }
}

/// CPU time that a process has used, in nanoseconds; 0 where it has ended.
fn cpu_time_ns(pid: libc::pid_t) -> u64 {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both places are live.
    unsafe {
        if libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
        {
            return 0;
        }
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Holds the calling thread on the CPU that it is on. The answer is that CPU, where it is one of the first 64,
/// and where the thread might run before, where that was more than one.
fn hold() -> (i32, Option<libc::cpu_set_t>) {
    let bytes = size_of::<libc::cpu_set_t>();
    // SAFETY: the structs are live; all calls concern this thread.
    unsafe {
        let here = libc::sched_getcpu();
        let mut own: libc::cpu_set_t = std::mem::zeroed();
        if !(0..64).contains(&here) || libc::sched_getaffinity(0, bytes, &raw mut own) != 0 {
            return (ANYWHERE, None);
        }
        if libc::CPU_COUNT(&own) == 1 {
            return (here, None);
        }
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(here as usize, &mut one);
        if libc::sched_setaffinity(0, bytes, &raw const one) != 0 {
            return (ANYWHERE, None);
        }
        (here, Some(own))
    }
}

/// Lets the calling thread run where it might before.
fn release(own: Option<libc::cpu_set_t>) {
    if let Some(own) = own {
        // SAFETY: the struct is live; the call concerns this thread.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const own) };
    }
}

/// What the system refuses stays as it is.
fn set_cpus(pid: libc::pid_t, cpus: u64) {
    // SAFETY: the struct is live; the process is our own child.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (0..64).filter(|cpu| cpus >> cpu & 1 == 1).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

fn set_scheduler(pid: libc::pid_t, policy: i32, priority: i32) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the struct is live; the process is our own child.
    unsafe { libc::sched_setscheduler(pid, policy, &raw const parameters) };
}
