//! Keeps a process near the thread that calls it.
//!
//! A thread in real time that wakes another one sends it to the other CPU, whose sleep it has to wait out:
//! 35 to 45 µs each way have been seen, against 4 to 9 where the two take turns on one CPU. A process with
//! short invocations is therefore kept on its caller's CPU. Long ones may run where there is room, and
//! nothing runs in real time for as long as it likes.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use tempos_abi::invoker::Scheduling;

/// Invocations that take longer than this, on the average, are not kept on the caller's CPU.
const SHORT_NS: u64 = 1_000_000;
/// Real-time priority ends here: as long as a function worker's own, which waits meanwhile.
pub const REAL_TIME_NS: u64 = 20_000_000;
const ANYWHERE: i32 = -1;

/// Where a process runs, and how.
#[derive(Debug)]
pub struct Follow {
    scheduling: Scheduling,
    cpu: AtomicI32,
    mean_ns: AtomicU64,
    demoted: AtomicBool,
}

impl Follow {
    /// Of a process that was started with this scheduling.
    pub fn new(scheduling: Scheduling) -> Self {
        Follow {
            scheduling,
            cpu: AtomicI32::new(ANYWHERE),
            mean_ns: AtomicU64::new(0),
            demoted: AtomicBool::new(false),
        }
    }

    fn real_time(&self) -> bool {
        self.scheduling.policy != 0
    }

    /// Before an invocation.
    pub fn call(&self, pid: libc::pid_t) {
        if !self.real_time() {
            return;
        }
        // SAFETY: the call takes nothing.
        let here = unsafe { libc::sched_getcpu() };
        let cpus = self.scheduling.cpus;
        let allowed = (0..64).contains(&here) && (cpus == 0 || cpus >> here & 1 == 1);
        let short = self.mean_ns.load(Ordering::Relaxed) < SHORT_NS;
        let wanted = if allowed && short { here } else { ANYWHERE };
        if wanted != self.cpu.load(Ordering::Relaxed) {
            self.cpu.store(wanted, Ordering::Relaxed);
            let mask = if wanted == ANYWHERE { cpus } else { 1 << wanted };
            set_cpus(pid, if mask == 0 { u64::MAX } else { mask });
        }
    }

    /// After an invocation that took so long.
    pub fn done(&self, pid: libc::pid_t, took_ns: u64) {
        if self.real_time() {
            let mean_ns = self.mean_ns.load(Ordering::Relaxed);
            self.mean_ns.store(mean_ns - mean_ns / 8 + took_ns / 8, Ordering::Relaxed);
            if self.demoted.swap(false, Ordering::Relaxed) {
                let policy = i32::from(self.scheduling.policy) | libc::SCHED_RESET_ON_FORK;
                set_scheduler(pid, policy, self.scheduling.priority.into());
            }
        }
    }

    /// While an invocation runs that has taken so long already.
    pub fn look(&self, pid: libc::pid_t, took_ns: u64) {
        if self.real_time() && took_ns > REAL_TIME_NS && !self.demoted.swap(true, Ordering::Relaxed) {
            set_scheduler(pid, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
        }
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
