//! `calibrate`: has the node measure what hops cost on this machine, and shows what it found.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::client::Client;
use crate::exit::{Failing, SYSTEM, TEMPORARY};
use crate::figures::time;
use crate::object::Object;
use crate::output::{Output, tame};
use crate::table::{self, Cell, figure, text};

/// How often the node is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// What the node may take beyond what it was given.
const SLACK: Duration = Duration::from_secs(60);
/// The width of the bar.
const BAR: usize = 32;

/// `calibrate`
pub async fn calibrate(
    client: &Client,
    output: &mut Output,
    limit: Duration,
    show: bool,
) -> Result<u8, Failing> {
    if !show {
        let time_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let () = client.call("Calibrate", &time_ms).await?;
        wait(client, limit).await?;
    }
    let node = client.node().await?;
    let failure = node.text("CalibrationFailure");
    if !show && !failure.is_empty() {
        return Err(Failing::new(SYSTEM, format!("no calibration: {failure}")));
    }
    if output.json {
        output.value(&json_of(&node), false)?;
        return Ok(0);
    }
    print(output, &node)?;
    Ok(0)
}

/// Shows how far it is until it is done.
async fn wait(client: &Client, limit: Duration) -> Result<(), Failing> {
    let begun = Instant::now();
    let mut bar = Bar::new();
    loop {
        let node = client.node().await?;
        let what = node.text("Calibrating");
        if what.is_empty() {
            bar.end();
            return Ok(());
        }
        bar.show(node.count("CalibrationPercent").min(100) as usize, what);
        if begun.elapsed() > limit + SLACK {
            bar.end();
            return Err(Failing::new(
                TEMPORARY,
                "the node is still measuring; temposctl calibrate --show later",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A bar on the terminal; in a pipe nothing.
struct Bar {
    is_terminal: bool,
    drawn: bool,
}

impl Bar {
    fn new() -> Self {
        Bar { is_terminal: std::io::stderr().is_terminal(), drawn: false }
    }

    fn show(&mut self, percent: usize, what: &str) {
        if self.is_terminal {
            self.drawn = true;
            let done = percent * BAR / 100;
            let bar = format!("{}{}", "█".repeat(done), "░".repeat(BAR - done));
            let _ = write!(std::io::stderr(), "\r\x1b[K{bar} {percent:>3} %  {}", tame(what));
        }
    }

    fn end(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

type Row = (String, (u64, u64, u64, u64));

fn rows(node: &Object) -> Vec<Row> {
    let mut rows: Vec<Row> = node.latency_of("CostsNs").into_iter().collect();
    rows.sort();
    rows
}

fn json_of(node: &Object) -> Json {
    let costs = rows(node).into_iter().map(|(what, (p50, p99, p999, max))| {
        (what, json!({ "p50_ns": p50, "p99_ns": p99, "p99_9_ns": p999, "max_ns": max }))
    });
    let costs: Map<String, Json> = costs.collect();
    json!({
        "calibration": node.text("Calibration"),
        "costs": costs,
        "left_out": node.texts("CalibrationLeftOut"),
    })
}

fn print(output: &mut Output, node: &Object) -> Result<(), Failing> {
    let rows: Vec<Vec<Cell>> = rows(node)
        .into_iter()
        .map(|(what, (p50, p99, p999, max))| {
            let mut words = what.splitn(3, ' ');
            let mut row: Vec<Cell> = (0..3).map(|_| text(words.next().unwrap_or_default())).collect();
            row.extend([p50, p99, p999, max].map(|ns| figure(time(ns))));
            row
        })
        .collect();
    if !rows.is_empty() {
        table::print(output, &["WHAT", "THREAD", "BESIDE", "P50", "P99", "P99.9", "MAX"], &rows)?;
        output.line("")?;
    }
    for sentence in node.texts("CalibrationLeftOut") {
        output.line(&format!("not measured: {}", tame(&sentence)))?;
    }
    output.line(&tame(node.text("Calibration")))?;
    Ok(())
}
