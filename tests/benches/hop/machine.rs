//! The machine: clocks, CPUs, scheduling, and who used how much of it.

use std::fs;
use std::io;

/// The priority of the forwarders: the one that the strict level has.
pub const FORWARDER_PRIORITY: i32 = 45;
/// Those of the clients, which share a CPU: the receiver's stamp must not wait for the next event's sending.
pub const SENDER_PRIORITY: i32 = 60;
/// See [`SENDER_PRIORITY`].
pub const RECEIVER_PRIORITY: i32 = 61;

/// Who runs where.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The CPU of the forwarders.
    pub forwarder_cpu: usize,
    /// The CPU of sender and receiver.
    pub client_cpu: usize,
    /// Whether SCHED_FIFO is granted; without it both sides go without.
    pub real_time: bool,
}

impl Layout {
    /// The last CPU forwards, the first one sends and receives.
    pub fn of_this_machine() -> Layout {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let real_time = std::thread::spawn(|| fifo(FORWARDER_PRIORITY).is_ok()).join().unwrap_or(false);
        Layout { forwarder_cpu: cpus - 1, client_cpu: 0, real_time }
    }

    /// Prepares the calling thread as a client.
    pub fn settle_client(&self, priority: i32) {
        let _ = pin(self.client_cpu);
        if self.real_time {
            let _ = fifo(priority);
        }
    }
}

/// Pins the calling thread.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: an empty set is all zeroes; the calls write into it and read it.
    let answer = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu % libc::CPU_SETSIZE as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread SCHED_FIFO.
pub fn fifo(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: reads the structure.
    let answer = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until an instant of CLOCK_MONOTONIC.
pub fn sleep_until(at_ns: u64) {
    let time = libc::timespec {
        tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: reads the structure. An interrupted sleep is an early event, which its latency shows.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    };
}

/// What the threads of a process have used and done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time (proc_pid_schedstat).
    pub cpu_ns: u64,
    /// Times that a thread went to sleep and was woken (proc_pid_status(5)).
    pub sleeps: u64,
}

impl Usage {
    /// Of all living threads of a process.
    pub fn of(pid: u32) -> Usage {
        let mut sum = Usage::default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            sum.cpu_ns += first_number(&read("schedstat"));
            sum.sleeps += number_after(&read("status"), "voluntary_ctxt_switches:");
        }
        sum
    }

    /// From an earlier look to this one.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
        }
    }
}

/// CPU time of a process with all threads that it ever had, and of the children that it has waited for; of
/// the latter in steps of 10 ms (proc_pid_stat(5)).
pub fn cpu_ns_with_children(pid: u32) -> u64 {
    let mut clock = 0;
    let mut own = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the calls write into the two variables.
    unsafe {
        if libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) == 0 {
            libc::clock_gettime(clock, &raw mut own);
        }
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // What follows the name, whose own parentheses may hold anything: cutime and cstime are the 14th and 15th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64 + ticks * 10_000_000
}

fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The number that follows the key at the beginning of a line.
pub fn number_after(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)).map_or(0, first_number)
}

/// How busy the machine was, and how much of that was not ours.
#[derive(Debug)]
pub struct Watch {
    at_ns: u64,
    busy_ns: u64,
    own_ns: u64,
    own: Vec<u32>,
}

impl Watch {
    /// Begins; `own` are the processes that belong to the bench, beside itself.
    pub fn begin(own: Vec<u32>) -> Watch {
        let mut watch = Watch { at_ns: now_ns(), busy_ns: busy_ns(), own_ns: 0, own };
        watch.own_ns = watch.of_own();
        watch
    }

    /// CPUs that others used on average, such as 0.4. The system counts in steps of 10 ms.
    pub fn others(&self) -> f64 {
        let took = now_ns().saturating_sub(self.at_ns).max(1);
        let busy = busy_ns().saturating_sub(self.busy_ns);
        let own = self.of_own().saturating_sub(self.own_ns);
        busy.saturating_sub(own) as f64 / took as f64
    }

    /// Threads of ours that ended meanwhile are in the process's own clock.
    fn of_own(&self) -> u64 {
        // SAFETY: a structure of integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes the structure.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        let of = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
        let own = of(usage.ru_utime) + of(usage.ru_stime);
        own + self.own.iter().map(|pid| Usage::of(*pid).cpu_ns).sum::<u64>()
    }
}

/// Time of all CPUs but idle, with what the hypervisor took (proc_stat(5)).
fn busy_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let busy: u64 =
        fields.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|f| f.1).sum();
    busy * 10_000_000
}
