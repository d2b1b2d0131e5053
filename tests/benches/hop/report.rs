//! Tables for people, or one JSON object for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::flood::FloodResult;
use crate::hop::HopResult;
use crate::machine::Layout;
use crate::start::StartResult;
use crate::summary::Percentiles;

/// What the project aims at.
const RATIO_AIM: f64 = 1.25;
const READY_AIM_MS: f64 = 100.0;
const RESIDENT_AIM_KIB: u64 = 30 * 1024;

/// Gathers the results, and prints tables as they come.
pub struct Report {
    json: bool,
    all: Value,
}

impl Report {
    /// A report that begins with the machine.
    pub fn new(json: bool, layout: &Layout) -> Report {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let report = Report {
            json,
            all: json!({
                "machine": {
                    "kernel": kernel.trim(), "cpus": cpus, "real_time": layout.real_time,
                    "forwarder_cpu": layout.forwarder_cpu, "client_cpu": layout.client_cpu,
                },
            }),
        };
        report.say(&format!(
            "Linux {}, {cpus} CPUs; forwarders on CPU {} ({}), sender and receiver on CPU {}",
            kernel.trim(),
            layout.forwarder_cpu,
            if layout.real_time { "SCHED_FIFO 45" } else { "SCHED_FIFO is refused: all run as SCHED_OTHER" },
            layout.client_cpu
        ));
        report
    }

    /// The latencies.
    pub fn hops(&mut self, results: &[HopResult]) {
        let mut text = format!(
            "\nA hop, 256 bytes; µs from the instant that an event was due (in brackets: from its sending)\n\
             {:<32} {:>15} {:>15} {:>9} {:>9} {:>6} {:>6} {:>8} {:>7}\n",
            "", "p50", "p99", "p99.9", "max", "lost", "ratio", "cpu/evt", "others"
        );
        for of in results {
            let both = |part: fn(&Percentiles) -> u64| {
                format!("{:.1} ({:.1})", us(part(&of.from_due)), us(part(&of.from_send)))
            };
            let ratio = if of.beside.is_some() { format!("{:.2}", of.ratio) } else { String::from("-") };
            let _ = writeln!(
                text,
                "{:<32} {:>15} {:>15} {:>9.1} {:>9.1} {:>6} {:>6} {:>8.1} {:>7.2}",
                of.name,
                both(|p| p.p50),
                both(|p| p.p99),
                us(of.from_due.p999),
                us(of.from_due.max),
                of.lost,
                ratio,
                us(of.cpu_ns_per_event),
                of.others
            );
        }
        let _ = write!(
            text,
            "ratio: median of the rounds' p50 over that of the bare way to the same kind of socket (aim: {RATIO_AIM});\n\
             cpu/evt: µs of the whole forwarding process; others: CPUs that other processes used"
        );
        self.say(&text);
        self.all["hop"] = results
            .iter()
            .map(|of| {
                json!({
                    "name": of.name, "beside": of.beside, "events": of.events, "lost": of.lost,
                    "out_of_order": of.out_of_order, "from_due_ns": percentiles(&of.from_due),
                    "from_send_ns": percentiles(&of.from_send), "p50_ratio": of.ratio,
                    "cpu_ns_per_event": of.cpu_ns_per_event, "others_cpus": of.others,
                })
            })
            .collect();
    }

    /// The floods.
    pub fn floods(&mut self, results: &[FloodResult]) {
        let mut text = format!(
            "\nA flood, 256 bytes, ordinary threads, 128 events under way\n{:<36} {:>10} {:>12} {:>7} {:>6} {:>7}\n",
            "", "events/s", "cpu µs/evt", "ratio", "lost", "others"
        );
        for of in results {
            let _ = writeln!(
                text,
                "{:<36} {:>10.0} {:>12.2} {:>7.2} {:>6} {:>7.2}",
                of.name,
                of.per_second,
                of.cpu_ns_per_event / 1000.0,
                of.cpu_ratio,
                of.lost,
                of.others
            );
        }
        self.say(text.trim_end());
        self.all["flood"] = results
            .iter()
            .map(|of| {
                json!({
                    "name": of.name, "beside": of.beside, "events_per_second": of.per_second,
                    "cpu_ns_per_event": of.cpu_ns_per_event, "cpu_ratio": of.cpu_ratio, "lost": of.lost,
                    "others_cpus": of.others,
                })
            })
            .collect();
    }

    /// Starts, and nodes at rest.
    pub fn starts(&mut self, results: &[StartResult]) {
        let mut text = format!(
            "\nStart to READY, and a node at rest\n{:<42} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}\n",
            "",
            "ms p50",
            "ms min",
            "ms max",
            "cpu ms",
            "RSS MiB",
            "anon MiB",
            "lock MiB",
            "wakes/s",
            "cpu %",
            "others"
        );
        let mib = |kib: u64| kib as f64 / 1024.0;
        for of in results {
            let _ = writeln!(
                text,
                "{:<42} {:>9.1} {:>9.1} {:>9.1} {:>7.0} {:>9.1} {:>9.1} {:>9.1} {:>7.1} {:>7.3} {:>7.2}",
                of.name,
                of.median_ms(),
                of.ready_ms.first().copied().unwrap_or(0.0),
                of.ready_ms.last().copied().unwrap_or(0.0),
                of.cpu_ms,
                mib(of.rest.resident_kib),
                mib(of.rest.anonymous_kib),
                mib(of.rest.locked_kib),
                of.rest.wakeups_per_second,
                of.rest.cpu_percent,
                of.others
            );
        }
        let _ = write!(text, "aims: {READY_AIM_MS} ms, {} MiB", RESIDENT_AIM_KIB / 1024);
        self.say(&text);
        self.all["start"] = results
            .iter()
            .map(|of| {
                json!({
                    "name": of.name, "ready_ms": of.ready_ms, "ready_cpu_ms": of.cpu_ms, "resident_kib": of.rest.resident_kib,
                    "anonymous_kib": of.rest.anonymous_kib, "file_kib": of.rest.file_kib,
                    "locked_kib": of.rest.locked_kib, "wakeups_per_second": of.rest.wakeups_per_second,
                    "cpu_percent": of.rest.cpu_percent, "threads": of.rest.threads, "others_cpus": of.others,
                })
            })
            .collect();
        self.all["aims"] = json!({
            "p50_ratio": RATIO_AIM, "ready_ms": READY_AIM_MS, "resident_kib": RESIDENT_AIM_KIB,
        });
    }

    /// Prints the object, where that was asked for.
    pub fn end(&self) {
        if self.json {
            print(&self.all.to_string());
        }
    }

    fn say(&self, text: &str) {
        if !self.json {
            print(text);
        }
    }
}

fn print(text: &str) {
    // A reader that closed its end early has seen what it wanted.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn percentiles(of: &Percentiles) -> Value {
    json!({ "p50": of.p50, "p99": of.p99, "p99.9": of.p999, "max": of.max })
}
