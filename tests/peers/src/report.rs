//! What is printed: a table for each scene as it ends, then the aims; or one JSON object.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::aims;
use crate::machine::Layout;
use crate::options::Scene;
use crate::summary::Percentiles;
use crate::systems::OURS;

/// One system in one scene.
#[derive(Clone, Debug)]
pub struct LatencyRow {
    /// The system.
    pub system: String,
    /// The scene.
    pub scene: Scene,
    /// From the instant that an event was due.
    pub due: Percentiles,
    /// From the call that sent it.
    pub sent: Percentiles,
    /// Strict events that did not come.
    pub lost: u64,
    /// Strict events that came after a later one.
    pub out_of_order: u64,
    /// Best-effort events sent.
    pub bulk_sent: u64,
    /// Best-effort events received.
    pub bulk_came: u64,
    /// CPU time of the forwarding process for each event that came out.
    pub cpu_ns_per_event: f64,
    /// CPUs that others used meanwhile.
    pub others: f64,
}

/// One system at its highest rate.
#[derive(Clone, Debug)]
pub struct RateRow {
    /// The system.
    pub system: String,
    /// Events a second: the median of the rounds.
    pub per_second: f64,
    /// Events a second in the quickest round.
    pub best_per_second: f64,
    /// CPU time of the forwarding process for each event; none where there is no such process.
    pub cpu_ns_per_event: Option<f64>,
    /// Events lost.
    pub lost: u64,
    /// CPUs that others used meanwhile.
    pub others: f64,
}

/// Ten topics and ten thousand.
#[derive(Clone, Copy, Debug)]
pub struct TopicsRow {
    /// Median among ten, ns.
    pub few_p50: f64,
    /// Median among ten thousand, ns.
    pub many_p50: f64,
    /// 99 of 100 among ten, ns.
    pub few_p99: f64,
    /// 99 of 100 among ten thousand, ns.
    pub many_p99: f64,
    /// Resident memory for each idle topic.
    pub bytes_per_topic: f64,
    /// How long it took to apply them.
    pub apply_s: f64,
}

/// The report.
pub struct Report {
    json: bool,
    systems: Vec<Value>,
    scene: Option<Scene>,
    /// Rows of all scenes.
    pub latencies: Vec<LatencyRow>,
    /// Rows of the scene `rate`.
    pub rates: Vec<RateRow>,
    /// The scene `topics`.
    pub topics: Option<TopicsRow>,
    /// The scene `ungranted`: p99 in ns, lost events, what the node says.
    pub ungranted: Option<(f64, u64, String)>,
    soak: Vec<Value>,
}

fn us(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => format!("{:.2} ms", ns as f64 / 1e6),
    }
}

impl Report {
    /// Begins it.
    pub fn new(json: bool, layout: &Layout) -> Report {
        if !json {
            println!(
                "Forwarding on CPU {}, clients on CPU {}, real-time scheduling {}\n",
                layout.forwarder_cpu,
                layout.client_cpu,
                if layout.real_time { "granted to all" } else { "not granted: nobody has it" },
            );
        }
        Report {
            json,
            systems: Vec::new(),
            scene: None,
            latencies: Vec::new(),
            rates: Vec::new(),
            topics: None,
            ungranted: None,
            soak: Vec::new(),
        }
    }

    /// A system takes part.
    pub fn system(&mut self, name: &str, runs_as: &str) {
        self.systems.push(json!({ "name": name, "runs_as": runs_as }));
        if !self.json {
            println!("{name:<15} {runs_as}");
        }
    }

    /// A system does not.
    pub fn missing(&mut self, name: &str, why: &str) {
        self.systems.push(json!({ "name": name, "missing": why }));
        if !self.json {
            println!("{name:<15} left out: {why}");
        }
    }

    /// A round of a system failed; the others go on.
    pub fn failed(&mut self, name: &str, scene: Scene, why: &str) {
        eprintln!("{name}: scene {}: {why}", scene.word());
    }

    /// A row of a latency scene.
    pub fn latency(&mut self, row: LatencyRow) {
        if !self.json {
            if self.scene.replace(row.scene) != Some(row.scene) {
                println!(
                    "\n{:<15} {:>9} {:>9} {:>9} {:>9}  {:>9} {:>9}  {:>5} {:>5}  {:>10} {:>10}  {:>8} {:>6}",
                    row.scene.word().to_uppercase(),
                    "P50",
                    "P99",
                    "P99.9",
                    "MAX",
                    "P50 SENT",
                    "P99 SENT",
                    "LOST",
                    "ORDER",
                    "BULK SENT",
                    "BULK CAME",
                    "CPU/EV",
                    "OTHERS"
                );
            }
            println!(
                "{:<15} {:>9} {:>9} {:>9} {:>9}  {:>9} {:>9}  {:>5} {:>5}  {:>10} {:>10}  {:>8} {:>6.2}",
                row.system,
                us(row.due.p50),
                us(row.due.p99),
                us(row.due.p999),
                us(row.due.max),
                us(row.sent.p50),
                us(row.sent.p99),
                row.lost,
                row.out_of_order,
                row.bulk_sent,
                row.bulk_came,
                us(row.cpu_ns_per_event as u64),
                row.others,
            );
        }
        self.latencies.push(row);
    }

    /// A row of the scene `rate`.
    pub fn rate(&mut self, row: RateRow) {
        if !self.json {
            if self.rates.is_empty() {
                println!(
                    "\n{:<15} {:>12} {:>10} {:>8} {:>7}",
                    "RATE", "EVENTS/S", "CPU/EVENT", "LOST", "OTHERS"
                );
            }
            let cpu = row.cpu_ns_per_event.map_or_else(|| String::from("-"), |ns| format!("{ns:.0} ns"));
            println!(
                "{:<15} {:>12.0} {:>10} {:>8} {:>7.2}",
                row.system, row.per_second, cpu, row.lost, row.others
            );
        }
        self.rates.push(row);
    }

    /// The scene `topics`.
    pub fn topics(&mut self, row: &TopicsRow) {
        self.topics = Some(*row);
        if !self.json {
            println!(
                "\nTOPICS: p50 {} among ten, {} among ten thousand; p99 {}, {}; {:.0} bytes for each idle topic; applied in {:.2} s",
                us(row.few_p50 as u64),
                us(row.many_p50 as u64),
                us(row.few_p99 as u64),
                us(row.many_p99 as u64),
                row.bytes_per_topic,
                row.apply_s
            );
        }
    }

    /// The scene `ungranted`.
    pub fn ungranted(&mut self, p99_ns: f64, lost: u64, said: &str) {
        self.ungranted = Some((p99_ns, lost, said.to_owned()));
        if !self.json {
            println!(
                "\nUNGRANTED: strict p99 {} in a flood, {lost} lost; the node says: {said}",
                us(p99_ns as u64)
            );
        }
    }

    /// The scene `soak`.
    pub fn soak(&mut self, seconds: u64, lines: &[(String, bool)]) {
        if !self.json {
            println!("\nSOAK of {seconds} s");
        }
        for (line, holds) in lines {
            self.soak.push(json!({ "line": line, "holds": holds }));
            if !self.json {
                println!("{} {line}", if *holds { "holds" } else { "FAILS" });
            }
        }
    }

    /// Adds a line of JSON for each of ours to a file: its rate, and what the run is called.
    ///
    /// # Errors
    /// What the system says.
    pub fn record(&self, file: &Path, name: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        for row in self.rates.iter().filter(|row| OURS.contains(&&*row.system)) {
            let line = json!({ "name": name, "system": row.system, "best_per_second": row.best_per_second });
            writeln!(file, "{line}")?;
        }
        Ok(())
    }

    /// Ends it with the aims; `false`: ours is slower than an earlier build of it.
    pub fn end(&self) -> bool {
        let aims = aims::judge(self);
        let sound = aims.iter().all(|aim| aim.met || !aim.binds);
        if !self.json {
            println!("\nAIMS");
            for aim in &aims {
                println!("{} {}", if aim.met { "met   " } else { "missed" }, aim.sentence);
            }
            return sound;
        }
        let percentiles =
            |p: &Percentiles| json!({ "p50": p.p50, "p99": p.p99, "p999": p.p999, "max": p.max });
        let latencies: Vec<Value> = self
            .latencies
            .iter()
            .map(|r| {
                json!({
                    "scene": r.scene.word(), "system": r.system, "due_ns": percentiles(&r.due),
                    "sent_ns": percentiles(&r.sent), "lost": r.lost, "out_of_order": r.out_of_order,
                    "bulk_sent": r.bulk_sent, "bulk_came": r.bulk_came,
                    "cpu_ns_per_event": r.cpu_ns_per_event, "others": r.others,
                })
            })
            .collect();
        let rates: Vec<Value> = self
            .rates
            .iter()
            .map(|r| {
                json!({
                    "system": r.system, "per_second": r.per_second, "best_per_second": r.best_per_second,
                    "cpu_ns_per_event": r.cpu_ns_per_event, "lost": r.lost, "others": r.others,
                })
            })
            .collect();
        let aims: Vec<Value> =
            aims.iter().map(|aim| json!({ "met": aim.met, "aim": aim.sentence })).collect();
        let all = json!({
            "systems": self.systems, "latencies": latencies, "rates": rates, "soak": self.soak, "aims": aims,
            "topics": self.topics.map(|t| json!({
                "few_p50_ns": t.few_p50, "many_p50_ns": t.many_p50, "few_p99_ns": t.few_p99,
                "many_p99_ns": t.many_p99, "bytes_per_topic": t.bytes_per_topic, "apply_s": t.apply_s,
            })),
            "ungranted": self.ungranted.as_ref().map(|(p99, lost, said)| json!({
                "p99_ns": p99, "lost": lost, "degraded": said,
            })),
        });
        println!("{all:#}");
        sound
    }
}
