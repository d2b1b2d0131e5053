//! `status`: the node at one glance.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};
use tempos_control::{Kind, units::show_bytes};

use crate::client::Client;
use crate::exit::{DEGRADED, Failing};
use crate::figures::{lasting, plural};
use crate::lists::level_rows;
use crate::object::{Object, properties_json};
use crate::output::{Mark, Output, tame};
use crate::table;

/// Prints the node's state; the exit code says whether it runs as asked.
pub async fn status(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    let node = client.node().await?;
    let objects = client.objects().await?;
    let of = |kind| objects.iter().filter(move |(k, _)| *k == kind).map(|(_, o)| o);
    let degraded = node.texts("Degraded");
    let well = node.text("State") == "started" && degraded.is_empty();
    let code = if well { 0 } else { DEGRADED };

    if output.json {
        let mut counts = Map::new();
        for kind in tempos_dbus::path::KINDS {
            counts.insert(kind.word().into(), Json::from(of(kind).count()));
        }
        let levels: Vec<_> = of(Kind::QosLevel).map(Object::json).collect();
        let failed = objects.iter().filter(|(_, o)| is_amiss(o)).map(|(kind, o)| {
            json!({ "kind": kind.word(), "name": o.name, "State": o.text("State"), "Reason": o.text("Reason") })
        });
        let value = json!({
            "node": properties_json(&node.properties),
            "levels": levels,
            "counts": counts,
            "amiss": failed.collect::<Vec<_>>(),
        });
        output.value(&value, false)?;
        return Ok(code);
    }

    head(output, &node, well)?;
    for sentence in &degraded {
        output.line(&format!("  {} {}", output.paint(Mark::Poor, "degraded:"), tame(sentence)))?;
    }
    let drained = node.text("DrainReport");
    if !drained.is_empty() {
        output.line(&format!("  drained: {}", tame(drained)))?;
    }
    let levels: Vec<&Object> = of(Kind::QosLevel).collect();
    if !levels.is_empty() {
        output.line("")?;
        level_rows(output, &levels)?;
    }
    output.line("")?;
    let counts = [
        (Kind::Plugin, "plugin"),
        (Kind::Adapter, "adapter"),
        (Kind::Channel, "channel"),
        (Kind::Topic, "topic"),
        (Kind::Workflow, "workflow"),
    ];
    let counts: Vec<_> = counts.into_iter().map(|(kind, word)| plural(of(kind).count(), word)).collect();
    output.line(&counts.join(" · "))?;
    let amiss: Vec<_> = objects.iter().filter(|(_, o)| is_amiss(o)).collect();
    if !amiss.is_empty() {
        output.line("")?;
        // A person reads a screenful; `--json` has them all.
        for (kind, object) in amiss.iter().take(20) {
            let mark = Mark::of_state(object.text("State"));
            let what = format!("{} {} {}", kind.word(), tame(&object.name), object.text("State"));
            output.line(&format!("{}: {}", output.paint(mark, &what), tame(object.text("Reason"))))?;
        }
        if amiss.len() > 20 {
            output.line(&format!("and {} more (--json lists all)", amiss.len() - 20))?;
        }
    }
    Ok(code)
}

fn head(output: &mut Output, node: &Object, well: bool) -> Result<(), Failing> {
    let state = node.text("State");
    let mark = if well { Mark::Good } else { Mark::of_state(state).max_with_poor() };
    let dot = output.paint(mark, if well { "●" } else { "▲" });
    let name = output.paint(Mark::Bold, &tame(node.text("NodeId")));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
    let up = lasting(now.saturating_sub(node.count("StartedAt")) / 1_000_000);
    output.line(&format!(
        "{dot} {name}  {}  TEMPOS {} · wiring {} · up {up}",
        output.paint(mark, state),
        tame(node.text("Version")),
        node.count("Generation"),
    ))?;
    let reason = node.text("Reason");
    if !reason.is_empty() {
        output.line(&format!("  {}", tame(reason)))?;
    }
    let memory = [("ResidentKiB", "resident"), ("LockedKiB", "locked")];
    let memory: Vec<_> =
        memory.iter().map(|(key, word)| format!("{} {word}", show_bytes(node.count(key) << 10))).collect();
    let mut line = format!("  memory: {}", memory.join(", "));
    let abandoned = node.count("AbandonedThreads");
    if abandoned > 0 {
        line.push_str(&format!(" · {} abandoned", plural(abandoned as usize, "thread")));
    }
    output.line(&output.paint(Mark::Faint, &line))?;
    Ok(())
}

/// Whether an object is worth a line of its own.
fn is_amiss(object: &Object) -> bool {
    table::amiss(object.text("State"))
}
