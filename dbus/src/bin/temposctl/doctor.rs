//! `doctor`: what this system grants to real-time threads.

use serde_json::{Value as Json, json};

use crate::client::Client;
use crate::exit::Failing;
use crate::output::{Mark, Output, tame};

/// Prints the findings; the exit code is 1 when one is bad.
pub async fn doctor(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    let mut findings: Vec<(String, String, String, String)> = client.call("Doctor", &()).await?;
    let bad = findings.iter().any(|(_, verdict, _, _)| verdict == "bad");
    if output.json {
        let list = findings.iter().map(|(check, verdict, finding, mend)| {
            json!({ "check": check, "verdict": verdict, "finding": finding, "mend": mend })
        });
        output.value(&list.collect::<Json>(), false)?;
        return Ok(u8::from(bad));
    }
    // The worst first; the node's own order within.
    let weight = |verdict: &str| ["bad", "poor", "good"].iter().position(|v| *v == verdict);
    findings.sort_by_key(|(_, verdict, _, _)| weight(verdict));
    for (check, verdict, finding, mend) in &findings {
        let sign = match verdict.as_str() {
            "good" => "✓",
            "bad" => "✗",
            _ => "!",
        };
        let mark = Mark::of_state(verdict);
        output.line(&format!(
            "{} {}: {}",
            output.paint(mark, sign),
            output.paint(Mark::Bold, &tame(check)),
            tame(finding)
        ))?;
        if !mend.is_empty() {
            output.line(&format!("  → {}", tame(mend)))?;
        }
    }
    let of = |wanted: &str| findings.iter().filter(|(_, verdict, _, _)| verdict == wanted).count();
    output.line(&format!("{} good, {} poor, {} bad", of("good"), of("poor"), of("bad")))?;
    Ok(u8::from(bad))
}
