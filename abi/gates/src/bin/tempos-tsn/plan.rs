//! `plan`: a schedule's check and picture.

use std::path::Path;

use serde_json::json;

use crate::{DATA, Failing, NO_INPUT, Output};

/// Checks a schedule and draws it; with hops, all of them on one time.
pub fn run(output: &Output, path: &Path) -> Result<u8, Failing> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failing(NO_INPUT, format!("{shown}: {error}")))?;
    let document = tempos_tsn::parse(&text).map_err(|error| Failing(DATA, format!("{shown}:{error}")))?;
    let schedule = &document.schedule;
    let hops = tempos_tsn::plan(schedule, &document.hops)
        .map_err(|mistake| Failing(DATA, format!("{shown}: {mistake}")))?;
    if output.json {
        let gates: Vec<_> =
            schedule.gates().iter().map(|gate| json!({"gates": gate.mask, "ns": gate.interval_ns})).collect();
        let hops: Vec<_> = hops
            .iter()
            .map(|hop| {
                json!({
                    "name": hop.name, "base_ns": hop.schedule.base_ns,
                    "opens_ns": hop.opens_ns, "worst_ns": hop.worst_ns,
                })
            })
            .collect();
        output.value(&json!({"cycle_ns": schedule.cycle_ns, "gates": gates, "hops": hops}));
        return Ok(0);
    }
    let picture = match hops.is_empty() {
        true => tempos_tsn::draw(schedule, output.width()),
        false => tempos_tsn::draw_plan(&hops, output.width()),
    };
    picture.lines().for_each(|line| output.line(line));
    Ok(0)
}
