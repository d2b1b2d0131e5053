//! This machine's own counters: CPU, interrupts, network, scheduler.
//!
//! The files of /proc are opened once and read again with pread(2) into the same buffer. The kernel
//! writes each of them anew for each reading, so the counters are read at most a thousand times a second;
//! events in between carry those read last.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// How old the counters of an event may be, in nanoseconds.
const AGE_MAX_NS: u64 = 1_000_000;
/// Room for /proc/stat of a machine with hundreds of CPUs.
const BUFFER_BYTES: usize = 256 << 10;

/// The counters, all since the machine started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time in user programs, in ticks of 10 ms (proc(5)); low-priority programs included.
    pub cpu_user: u64,
    /// CPU time in the kernel.
    pub cpu_system: u64,
    /// CPU time idle, waiting for disks included.
    pub cpu_idle: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Context switches.
    pub switches: u64,
    /// Threads that could run at the moment of reading.
    pub runnable: u64,
    /// Nanoseconds that threads ran, over all CPUs.
    pub run_ns: u64,
    /// Nanoseconds that threads waited for a CPU, over all CPUs.
    pub wait_ns: u64,
    /// Bytes received, over all network interfaces.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// The open files and what was read last.
pub struct Vitals {
    stat: Option<File>,
    schedstat: Option<File>,
    net: Option<File>,
    buffer: Vec<u8>,
    counters: Counters,
    read_at_ns: Option<u64>,
}

impl Vitals {
    /// Opens the files. One that this kernel does not have leaves its counters at 0.
    pub fn open() -> Vitals {
        let open = |path: &str| File::open(path).ok();
        Vitals {
            stat: open("/proc/stat"),
            schedstat: open("/proc/schedstat"),
            net: open("/proc/net/dev"),
            buffer: vec![0; BUFFER_BYTES],
            counters: Counters::default(),
            read_at_ns: None,
        }
    }

    /// The counters, read anew where they are too old.
    pub fn at(&mut self, now_ns: u64) -> &Counters {
        if self.read_at_ns.is_none_or(|read| now_ns.saturating_sub(read) >= AGE_MAX_NS) {
            self.read_at_ns = Some(now_ns);
            for (file, take) in [
                (&self.stat, Counters::take_stat as fn(&mut Counters, &str)),
                (&self.schedstat, Counters::take_schedstat),
                (&self.net, Counters::take_net),
            ] {
                let Some(file) = file else { continue };
                let len = file.read_at(&mut self.buffer, 0).unwrap_or(0);
                if let Ok(text) = std::str::from_utf8(&self.buffer[..len]) {
                    take(&mut self.counters, text);
                }
            }
        }
        &self.counters
    }
}

impl Counters {
    /// Writes an event's line, without a line feed, over what `line` held.
    pub fn render(&self, line: &mut String, name: &str, sequence: u64, now_ns: u64) {
        line.clear();
        // Writing into a String cannot fail.
        let _ = write!(
            line,
            "producer={name} seq={sequence} t_ns={now_ns} cpu_user={} cpu_system={} cpu_idle={} \
             interrupts={} switches={} runnable={} run_ns={} wait_ns={} rx_bytes={} tx_bytes={}",
            self.cpu_user,
            self.cpu_system,
            self.cpu_idle,
            self.interrupts,
            self.switches,
            self.runnable,
            self.run_ns,
            self.wait_ns,
            self.received_bytes,
            self.sent_bytes,
        );
    }

    /// /proc/stat, see proc_stat(5).
    fn take_stat(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let first = words.next();
            let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match first {
                Some("cpu") => {
                    let [user, nice, system, idle, iowait] = std::array::from_fn(|_| number());
                    (self.cpu_user, self.cpu_system, self.cpu_idle) = (user + nice, system, idle + iowait);
                }
                // The sum stands first, then one number for each interrupt.
                Some("intr") => self.interrupts = number(),
                Some("ctxt") => self.switches = number(),
                Some("procs_running") => self.runnable = number(),
                _ => {}
            }
        }
    }

    /// /proc/schedstat: the seventh and eighth number of each CPU are its run and wait times in
    /// nanoseconds (Documentation/scheduler/sched-stats.rst of the kernel).
    fn take_schedstat(&mut self, text: &str) {
        (self.run_ns, self.wait_ns) = (0, 0);
        for line in text.lines().filter(|line| line.starts_with("cpu")) {
            let mut numbers = line.split_ascii_whitespace().skip(7).map(|word| word.parse().unwrap_or(0));
            self.run_ns += numbers.next().unwrap_or(0);
            self.wait_ns += numbers.next().unwrap_or(0);
        }
    }

    /// /proc/net/dev: the first number of an interface is bytes received, the ninth bytes sent.
    fn take_net(&mut self, text: &str) {
        (self.received_bytes, self.sent_bytes) = (0, 0);
        for (_, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
            let mut numbers = numbers.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
            self.received_bytes += numbers.next().unwrap_or(0);
            self.sent_bytes += numbers.nth(7).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        let mut counters = Counters::default();
        counters.take_stat(
            "cpu  10 1 5 100 3 0 2 0 0 0\ncpu0 1 2 3 4\nintr 777 5 6 7\nctxt 88\nbtime 1\nprocs_running 3\n",
        );
        counters.take_schedstat(
            "version 17\ntimestamp 1\ncpu0 0 0 0 0 0 0 70 7 9\ndomain0 1 2 3\ncpu1 0 0 0 0 0 0 30 3 9\n",
        );
        counters.take_net(
            "Inter-| Receive | Transmit\n face |bytes | bytes\n    lo: 100 1 0 0 0 0 0 0 200 1 0\n\
             eth0:1 1 0 0 0 0 0 0 2 1 0\n",
        );
        let expected = Counters {
            cpu_user: 11,
            cpu_system: 5,
            cpu_idle: 103,
            interrupts: 777,
            switches: 88,
            runnable: 3,
            run_ns: 100,
            wait_ns: 10,
            received_bytes: 101,
            sent_bytes: 202,
        };
        assert_eq!(counters, expected);
        let mut line = String::from("old");
        counters.render(&mut line, "vitals", 7, 99);
        assert!(line.starts_with("producer=vitals seq=7 t_ns=99 cpu_user=11 cpu_system=5 "), "{line}");
    }

    #[test]
    fn this_machine_has_counters_and_they_grow() {
        let mut vitals = Vitals::open();
        let before = vitals.at(0).clone();
        assert_ne!(before.switches, 0);
        assert_eq!(*vitals.at(AGE_MAX_NS - 1), before, "read again too soon");
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(vitals.at(AGE_MAX_NS).switches > before.switches);
    }
}
