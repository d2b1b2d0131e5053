//! `explain`: what a topic or a workflow gets for what it asks, hop by hop, and why.

use serde_json::{Value as Json, json};
use tempos_control::{Kind, names};

use crate::client::Client;
use crate::exit::{DEGRADED, Failing, NO_INPUT};
use crate::figures::time;
use crate::object::Object;
use crate::output::{Mark, Output, tame};
use crate::table::{self, figure, text};

/// `explain`; a name that both have means the topic and the workflow.
pub async fn explain(client: &Client, output: &mut Output, name: &str) -> Result<u8, Failing> {
    let objects = client.objects().await?;
    let known = || objects.iter().filter(|(kind, _)| matches!(kind, Kind::Topic | Kind::Workflow));
    let named: Vec<&(Kind, Object)> = known().filter(|(_, object)| object.name == name).collect();
    if named.is_empty() {
        let hint = names::hint(name, known().map(|(_, object)| object.name.as_str()).collect::<Vec<_>>());
        return Err(Failing::new(NO_INPUT, format!("there is no topic or workflow {name:?}{hint}")));
    }
    let is_less = |object: &Object| {
        object.text("Granted").starts_with("degraded") || object.text("State") == "degraded"
    };
    let degraded = named.iter().any(|(_, object)| is_less(object));
    if output.json {
        let all: Json = named.iter().map(|(kind, object)| json_of(*kind, object)).collect();
        output.value(&all, false)?;
    } else {
        for (at, (kind, object)) in named.iter().enumerate() {
            if at > 0 {
                output.line("")?;
            }
            one(output, *kind, object)?;
        }
    }
    Ok(if degraded { DEGRADED } else { 0 })
}

fn json_of(kind: Kind, object: &Object) -> Json {
    let measured = object.counts("MeasuredP99Ns");
    let hops = object.rows("Grant").into_iter();
    let hops: Json = hops
        .map(|(hop, asked, granted, why)| {
            let now = measured.get(&hop);
            json!({ "hop": hop, "asked": asked, "granted": granted, "p99_now_ns": now, "why": why })
        })
        .collect();
    json!({
        "kind": kind.word(),
        "name": object.name,
        "requested": object.text("Requested"),
        "granted": object.text("Granted"),
        "state": object.text("State"),
        "reason": object.text("Reason"),
        "hops": hops,
    })
}

fn one(output: &mut Output, kind: Kind, object: &Object) -> Result<(), Failing> {
    let granted = object.text("Granted");
    let title = output.paint(Mark::Bold, &format!("{} {}", kind.word(), tame(&object.name)));
    if granted.is_empty() {
        output.line(&format!("{title} asks for nothing but what its level gives."))?;
        return Ok(());
    }
    let asked = Some(object.text("Requested")).filter(|asked| !asked.is_empty());
    output.line(&format!("{title} asks for {}", tame(asked.unwrap_or("its level"))))?;
    let mark = if granted.starts_with("granted") { Mark::Good } else { Mark::Poor };
    output.line(&output.paint(mark, &tame(granted)))?;
    if object.text("State") == "degraded" {
        output.line(&output.paint(Mark::Poor, &format!("now: {}", tame(object.text("Reason")))))?;
    }
    output.line("")?;
    let measured = object.counts("MeasuredP99Ns");
    let rows: Vec<_> = object
        .rows("Grant")
        .into_iter()
        .map(|(hop, asked, granted, why)| {
            let now = time(measured.get(&hop).copied().unwrap_or(0));
            vec![text(hop), text(asked), text(granted), figure(now), text(why)]
        })
        .collect();
    table::print(output, &["HOP", "ASKED", "GRANTED", "P99 NOW", "WHY"], &rows)?;
    Ok(())
}
