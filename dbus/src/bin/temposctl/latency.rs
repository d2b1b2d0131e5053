//! `latency`: where the time goes, hop by hop.

use serde_json::{Map, Value as Json, json};
use tempos_control::{Kind, names};

use crate::client::Client;
use crate::exit::{Failing, NO_INPUT};
use crate::figures::{count, time};
use crate::object::Object;
use crate::output::{Mark, Output, tame};
use crate::table::{self, Cell, figure, text};

/// The hops in the order of the event's road.
const HOPS: [&str; 5] = ["arrival", "queue", "function", "egress", "total"];
/// The width of the bar of the longest hop.
const BAR: usize = 48;

/// `latency`
pub async fn latency(client: &Client, output: &mut Output, topic: Option<&str>) -> Result<u8, Failing> {
    match topic {
        Some(name) => {
            let topics = client.objects_of(Kind::Topic).await?;
            let Some(topic) = topics.iter().find(|t| t.name == name) else {
                let hint = names::hint(name, topics.iter().map(|t| t.name.as_str()));
                return Err(Failing::new(NO_INPUT, format!("there is no topic {name:?}{hint}")));
            };
            one_topic(output, topic)
        }
        None => {
            let mut levels = client.objects_of(Kind::QosLevel).await?;
            levels.sort_by_key(|level| std::cmp::Reverse(level.count("Rank")));
            all_levels(output, &levels)
        }
    }
}

type Row = (String, (u64, u64, u64, u64));

/// The hops that were measured: the known ones in their order, then any others.
fn hops(object: &Object) -> Vec<Row> {
    let latency = object.latency();
    let mut rows: Vec<Row> =
        HOPS.iter().filter_map(|hop| latency.get(*hop).map(|l| ((*hop).to_owned(), *l))).collect();
    let mut others: Vec<Row> = latency.into_iter().filter(|(hop, _)| !HOPS.contains(&hop.as_str())).collect();
    others.sort();
    rows.extend(others);
    rows
}

fn json_of(object: &Object) -> Json {
    let hops = hops(object).into_iter().map(|(hop, (p50, p99, p999, max))| {
        (hop, json!({ "p50_ns": p50, "p99_ns": p99, "p99_9_ns": p999, "max_ns": max }))
    });
    let hops: Map<String, Json> = hops.collect();
    json!({ "name": object.name, "hops": hops })
}

fn all_levels(output: &mut Output, levels: &[Object]) -> Result<u8, Failing> {
    if output.json {
        output.value(&levels.iter().map(json_of).collect::<Json>(), false)?;
        return Ok(0);
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for level in levels {
        for (at, (hop, (p50, p99, p999, max))) in hops(level).into_iter().enumerate() {
            let name = if at == 0 { level.name.as_str() } else { "" };
            let mark = if hop == "total" { Mark::Bold } else { Mark::Plain };
            let mut row = vec![text(name), text(hop).marked(mark)];
            row.extend([p50, p99, p999, max].map(|ns| figure(time(ns)).marked(mark)));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        output.line("No event was measured yet.")?;
        return Ok(0);
    }
    table::print(output, &["LEVEL", "HOP", "P50", "P99", "P99.9", "MAX"], &rows)?;
    Ok(0)
}

fn one_topic(output: &mut Output, topic: &Object) -> Result<u8, Failing> {
    if output.json {
        output.value(&json_of(topic), false)?;
        return Ok(0);
    }
    let hops = hops(topic);
    let head = format!(
        "{} · {} · {} events out, {} late",
        output.paint(Mark::Bold, &tame(&topic.name)),
        tame(topic.text("Level")),
        count(topic.count("EventsOut")),
        count(topic.count("EventsLate"))
    );
    output.line(&head)?;
    if hops.is_empty() {
        output.line("No event was measured yet.")?;
        return Ok(0);
    }
    output.line("")?;
    // Each bar begins where the one before it ended; the total spans the scale. Medians do not add up
    // exactly: the scale is the longer of their sum and the total's.
    let (total, parts): (Vec<_>, Vec<_>) = hops.iter().partition(|(hop, _)| hop == "total");
    let sum: u64 = parts.iter().map(|(_, l)| l.0).sum();
    let scale = total.first().map_or(0, |(_, l)| l.0).max(sum).max(1);
    let cells = |ns: u64| (ns as f64 / scale as f64 * BAR as f64).round() as usize;
    let mut begin = 0;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (hop, (p50, p99, p999, max)) in &hops {
        let whole = hop == "total";
        let from = if whole { 0 } else { cells(begin) };
        let to = if whole { cells(*p50) } else { cells(begin + p50) };
        let len = to.saturating_sub(from).max(usize::from(*p50 > 0));
        let bar = format!("{}{}", " ".repeat(from), if whole { "─" } else { "█" }.repeat(len));
        let mark = if whole { Mark::Bold } else { Mark::Plain };
        let mut row = vec![text(hop).marked(mark), text(format!("{bar:<BAR$}"))];
        row.extend([p50, p99, p999, max].map(|ns| figure(time(*ns)).marked(mark)));
        rows.push(row);
        if !whole {
            begin += p50;
        }
    }
    table::print(output, &["HOP", "MEDIANS, ONE AFTER THE OTHER", "P50", "P99", "P99.9", "MAX"], &rows)?;
    Ok(0)
}
