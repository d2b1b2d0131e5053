//! Whether what is granted is kept: calibrates a node, applies twenty wirings with requests, drives each at its rates, as
//! many events at once as its endpoints let in, quiet and beside ordinary load on every CPU, and compares the bound that
//! was granted with the p99 that was measured.
//!
//! ```sh
//! cargo bench -p tempos-tests --bench wirings                       # about three and a half minutes
//! cargo bench -p tempos-tests --bench wirings -- --seconds 5 --calibrate 2min
//! ```
//!
//! Measured is from the sender's stamp before its system call to the kernel's stamp where the last receiver's socket
//! got the event (SO_TIMESTAMPNS): all that the node promises, and the sender's own system call with it. Of an event
//! that goes to several groups the last copy counts.

mod cases;
mod drive;

use std::io::Write as _;
use std::time::Duration;

use cases::{CASES, Case};
use drive::Measured;
use tempos_tests::node::ROOT;
use tempos_tests::{Node, NodeSetup};

/// What `--seconds` and `--calibrate` say.
struct Options {
    seconds: u64,
    calibrate: String,
}

fn options() -> Options {
    let mut options = Options { seconds: 2, calibrate: String::from("60s") };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => options.seconds = words.next().and_then(|n| n.parse().ok()).unwrap_or(2),
            "--calibrate" => options.calibrate = words.next().unwrap_or_else(|| String::from("60s")),
            _ => {}
        }
    }
    options
}

fn main() {
    let options = options();
    let setup = NodeSetup::new()
        .plugins(["adapter-udp", "adapter-unix", "queue-fifo", "queue-edf", "invoker-dlf"])
        .node_file("[wiring]\nwatch = false")
        .wiring("");
    let function = cases::function_file(setup.folder());
    let node = setup.start();
    let calibrated = node.ctl_json(["calibrate", "--time", &options.calibrate]);
    say(calibrated["calibration"].as_str().unwrap_or_default());
    for key in
        ["wake real-time quiet", "wake real-time loaded", "wake ordinary quiet", "wake ordinary loaded"]
    {
        let at = |of: &str| calibrated["costs"][key][of].as_u64().unwrap_or(0);
        say(&format!("{key}: p50 {}, p99 {}", show(at("p50_ns")), show(at("p99_ns"))));
    }
    say(&format!(
        "\n{:<44} {:<12} {:>9} {:>9} {:>9} {:>9} {:>7}  {}",
        "WIRING", "GRADE", "GRANTED", "QUIET P99", "LOAD P99", "P99.9", "RATIO", "LOST"
    ));
    let mut ratios = Vec::new();
    for case in CASES {
        ratios.extend(one(&node, case, &function, Duration::from_secs(options.seconds)));
    }
    summary(&ratios);
}

/// A wiring: whether its level runs in real time, its grade, and how many times the measured p99 its bound is.
fn one(node: &Node, case: &Case, function: &std::path::Path, time: Duration) -> Option<(bool, String, f64)> {
    let mut scene = drive::Scene::open(node.folder(), case);
    let script = node.write_script("case.lua", &case.lua(node.folder(), function, &scene.addresses()));
    let applied = node.ctl(["apply".as_ref(), script.as_os_str()]);
    if !applied.status.success() {
        say(&format!("{:<44} refused: {}", case.name, String::from_utf8_lossy(&applied.stderr).trim()));
        return None;
    }
    let (kind, interface, name) =
        if case.calls.is_empty() { ("topic", "Topic", "t0") } else { ("workflow", "Workflow", "w0") };
    let granted = node.property(&format!("{ROOT}/{kind}/{name}"), interface, "Granted");
    let granted = granted.as_str().unwrap_or_default();
    let Some((grade, bound_ns)) = bound(granted) else {
        say(&format!("{:<44} {granted}", case.name));
        return None;
    };
    if let Some(missing) = missing(node, kind, interface, name) {
        say(&format!("  not guaranteed: {missing}"));
    }
    scene.join();
    let quiet = scene.drive(case, time, false);
    let loaded = scene.drive(case, time, true);
    let p99 = quiet.p99_ns().max(loaded.p99_ns());
    let ratio = bound_ns as f64 / p99.max(1) as f64;
    say(&format!(
        "{:<44} {:<12} {:>9} {:>9} {:>9} {:>9} {:>7.2}  {}",
        case.name,
        grade,
        show(bound_ns),
        show(quiet.p99_ns()),
        show(loaded.p99_ns()),
        show(quiet.p99_9_ns().max(loaded.p99_9_ns())),
        ratio,
        quiet.lost + loaded.lost,
    ));
    Some((case.level != "best-effort", grade, ratio))
}

/// Why it is not guaranteed, where it is not: from the last row of its grant.
fn missing(node: &Node, kind: &str, interface: &str, name: &str) -> Option<String> {
    let rows = node.property(&format!("{ROOT}/{kind}/{name}"), interface, "Grant");
    let why = rows.as_array()?.last()?[3].as_str()?.to_owned();
    Some(why.split_once("not guaranteed: ")?.1.to_owned())
}

/// Grade and bound of a sentence such as `granted on level "strict": prioritised, p99 at most 214 µs; on …`.
fn bound(sentence: &str) -> Option<(String, u64)> {
    let (_, rest) = sentence.split_once(": ")?;
    let (grade, rest) = rest.split_once(", ")?;
    let (_, time) = rest.split_once("p99 at most ")?;
    let (time, _) = time.split_once(';')?;
    let (number, unit) = time.split_once(' ')?;
    let scale = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some((grade.to_owned(), (number.parse::<f64>().ok()? * scale) as u64))
}

fn summary(ratios: &[(bool, String, f64)]) {
    for (what, wanted) in [("real-time levels", true), ("ordinary levels", false)] {
        let mut of: Vec<f64> = ratios.iter().filter(|(rt, ..)| *rt == wanted).map(|(_, _, r)| *r).collect();
        if of.is_empty() {
            continue;
        }
        of.sort_by(f64::total_cmp);
        let above = of.iter().filter(|ratio| **ratio < 1.0).count();
        let wide = of.iter().filter(|ratio| **ratio > 3.0).count();
        say(&format!(
            "\n{what}: {} wirings, {above} above the bound, {wide} more than 3 times below it; \
             bound over measured p99: least {:.2}, median {:.2}, most {:.2}",
            of.len(),
            of[0],
            of[of.len() / 2],
            of[of.len() - 1]
        ));
    }
    let guaranteed = ratios.iter().filter(|(_, grade, _)| grade == "guaranteed").map(|(.., ratio)| *ratio);
    let guaranteed: Vec<f64> = guaranteed.collect();
    let above = guaranteed.iter().filter(|ratio| **ratio < 1.0).count();
    let wide = guaranteed.iter().filter(|ratio| **ratio > 3.0).count();
    let most = guaranteed.iter().copied().fold(0.0, f64::max);
    say(&format!(
        "granted as guaranteed: {}, of them above the bound: {above}, more than 3 times below it: {wide}, most {most:.2}",
        guaranteed.len()
    ));
}

fn show(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => format!("{:.2} ms", ns as f64 / 1e6),
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Measured {
    fn p99_ns(&self) -> u64 {
        self.at(0.99)
    }

    fn p99_9_ns(&self) -> u64 {
        self.at(0.999)
    }

    fn at(&self, quantile: f64) -> u64 {
        let last = self.latencies_ns.len().saturating_sub(1);
        let at = (self.latencies_ns.len() as f64 * quantile).ceil() as usize;
        self.latencies_ns.get(at.saturating_sub(1).min(last)).copied().unwrap_or(0)
    }
}
