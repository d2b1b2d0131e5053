//! The lists: plugins, topics, workflows, levels, channels.

use serde_json::Value as Json;
use tempos_control::{Kind, units::show_bytes};

use crate::client::Client;
use crate::exit::Failing;
use crate::figures::{count, reasons, time};
use crate::object::Object;
use crate::output::{Mark, Output};
use crate::table::{self, Cell, figure, state, text};

/// Prints the objects of a kind: as JSON, as a table, or a sentence where there are none.
async fn list(
    client: &Client,
    output: &mut Output,
    kind: Kind,
    none: &str,
    show: impl FnOnce(&mut Output, &[&Object]) -> std::io::Result<()>,
) -> Result<u8, Failing> {
    let objects = client.objects_of(kind).await?;
    if output.json {
        output.value(&objects.iter().map(Object::json).collect::<Json>(), false)?;
    } else if objects.is_empty() {
        output.line(none)?;
    } else {
        show(output, &objects.iter().collect::<Vec<_>>())?;
    }
    Ok(0)
}

/// `plugins`
pub async fn plugins(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    list(client, output, Kind::Plugin, "No plugin is known to the node.", |output, plugins| {
        let rows: Vec<Vec<Cell>> = plugins
            .iter()
            .map(|p| {
                vec![
                    text(&p.name),
                    text(p.text("PluginKind")),
                    text(p.text("Version")),
                    state(p.text("State")),
                    text(if table::amiss(p.text("State")) { p.text("Reason") } else { p.text("Summary") }),
                ]
            })
            .collect();
        table::print(output, &["PLUGIN", "KIND", "VERSION", "STATE", "ABOUT"], &rows)
    })
    .await
}

/// `topics`
pub async fn topics(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    list(client, output, Kind::Topic, "No topic is wired.", |output, topics| {
        let rows: Vec<Vec<Cell>> = topics
            .iter()
            .map(|t| {
                vec![
                    text(&t.name),
                    text(t.text("Level")),
                    state(t.text("State")),
                    figure(count(t.count("EventsIn"))),
                    figure(count(t.count("EventsOut"))),
                    lost(t.count("EventsLate")),
                    figure(count(t.count("Queued"))),
                    figure(p99(t)),
                    dropped(t, "EventsDropped"),
                ]
            })
            .collect();
        table::print(
            output,
            &["TOPIC", "LEVEL", "STATE", "IN", "OUT", "LATE", "QUEUED", "P99", "DROPPED"],
            &rows,
        )
    })
    .await
}

/// `workflows`
pub async fn workflows(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    list(client, output, Kind::Workflow, "No workflow is wired.", |output, workflows| {
        let rows: Vec<Vec<Cell>> = workflows.iter().flat_map(|w| workflow_rows(w)).collect();
        let headings = [
            "WORKFLOW", "ROAD", "METHOD", "STATE", "IN", "DONE", "BUSY", "WARM", "STARTED", "CRASHED",
            "RETRIES", "P99", "FAILED",
        ];
        table::print(output, &headings, &rows)
    })
    .await
}

/// A workflow, and below it what its canary did of that.
fn workflow_rows(w: &Object) -> Vec<Vec<Cell>> {
    let mut to = w.texts("Branches").iter().map(|b| b.replace('=', ": ")).collect::<Vec<_>>().join(", ");
    if to.is_empty() {
        to = Some(w.text("To")).filter(|to| !to.is_empty()).unwrap_or("–").to_owned();
    }
    let p99 = |hop: &str| time(w.latency().get(hop).map_or(0, |l| l.1));
    let mut rows = vec![vec![
        text(&w.name),
        text(format!("{} → {to}", w.text("From"))),
        text(w.text("Method")),
        state(w.text("State")),
        figure(count(w.count("EventsIn"))),
        figure(count(w.count("EventsDone"))),
        figure(count(w.count("Busy"))),
        figure(count(w.count("Warm"))),
        figure(count(w.count("InstancesStarted"))),
        lost(w.count("InstancesCrashed")),
        figure(count(w.count("Retries"))),
        figure(p99("function")),
        dropped(w, "Failures"),
    ]];
    if !w.text("Canary").is_empty() {
        let none = || figure(String::new());
        rows.push(vec![
            text("  canary"),
            text(format!("{} % to {}", w.count("CanaryShare"), w.text("Canary"))),
            text(""),
            text(""),
            none(),
            figure(count(w.count("CanaryDone"))),
            none(),
            none(),
            none(),
            none(),
            none(),
            figure(p99("canary")),
            dropped(w, "CanaryFailures"),
        ]);
    }
    rows
}

/// `levels`
pub async fn levels(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    list(client, output, Kind::QosLevel, "The node has no QoS level.", |output, levels| {
        level_rows(output, levels)?;
        for level in by_rank(levels) {
            output.line("")?;
            output.line(&output.paint(Mark::Bold, &crate::output::tame(&level.name)))?;
            let granted = level.text("Granted");
            for (word, value) in [
                ("granted", granted.to_owned()),
                ("why", level.text("Reason").to_owned()),
                ("policy", level.text("Policy").to_owned()),
                ("cpus", level.text("Cpus").to_owned()),
                ("threads", level.texts("Threads").join(", ")),
                ("cpu time", time(level.count("CpuNs"))),
                (
                    "faults",
                    format!(
                        "{} minor, {} major",
                        count(level.count("MinorFaults")),
                        count(level.count("MajorFaults"))
                    ),
                ),
            ] {
                if !value.is_empty() {
                    output.line(&format!("  {word:<9} {}", crate::output::tame(&value)))?;
                }
            }
        }
        Ok(())
    })
    .await
}

/// The lane that is served first, first.
fn by_rank<'a>(levels: &[&'a Object]) -> Vec<&'a Object> {
    let mut levels = levels.to_vec();
    levels.sort_by_key(|level| std::cmp::Reverse(level.count("Rank")));
    levels
}

/// The lanes as a table, the highest rank first.
pub fn level_rows(output: &mut Output, levels: &[&Object]) -> std::io::Result<()> {
    let rows: Vec<Vec<Cell>> = by_rank(levels)
        .into_iter()
        .map(|l| {
            let total = l.latency().get("total").copied().unwrap_or_default();
            vec![
                text(&l.name),
                figure(l.count("Rank").to_string()),
                text(l.text("Scheduler")),
                state(l.text("State")),
                figure(format!("{} / {}", count(l.count("Queued")), count(l.count("CapacityEvents")))),
                figure(count(l.count("EventsIn"))),
                figure(count(l.count("EventsOut"))),
                lost(l.count("EventsLate")),
                figure(time(total.0)),
                figure(time(total.1)),
                dropped(l, "EventsDropped"),
            ]
        })
        .collect();
    let headings =
        ["LANE", "RANK", "SCHEDULER", "STATE", "QUEUED", "IN", "OUT", "LATE", "P50", "P99", "DROPPED"];
    table::print(output, &headings, &rows)
}

/// `channels`
pub async fn channels(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    list(client, output, Kind::Channel, "No channel is open.", |output, channels| {
        let rows: Vec<Vec<Cell>> = channels
            .iter()
            .map(|c| {
                let lost = c.count("SendErrors") + c.count("KernelDropped") + c.count("Malformed");
                vec![
                    text(&c.name),
                    text(c.text("Adapter")),
                    text(c.text("Direction")),
                    text(c.text("Address")),
                    text(c.text("Level")),
                    state(c.text("State")),
                    figure(count(c.count("FramesReceived"))),
                    figure(count(c.count("FramesSent"))),
                    figure(show_bytes(c.count("BytesReceived") + c.count("BytesSent"))),
                    self::lost(lost),
                ]
            })
            .collect();
        let headings =
            ["CHANNEL", "ADAPTER", "WAY", "ADDRESS", "LEVEL", "STATE", "RECEIVED", "SENT", "BYTES", "LOST"];
        table::print(output, &headings, &rows)
    })
    .await
}

fn p99(object: &Object) -> String {
    time(object.latency().get("total").map_or(0, |l| l.1))
}

fn lost(n: u64) -> Cell {
    figure(count(n)).marked(if n > 0 { Mark::Poor } else { Mark::Plain })
}

fn dropped(object: &Object, property: &str) -> Cell {
    let counts = object.counts(property);
    let any = counts.values().any(|n| *n > 0);
    text(reasons(&counts)).marked(if any { Mark::Poor } else { Mark::Plain })
}
