//! `temposctl tsn plan`: a schedule's check and picture. It asks no node.

use std::path::Path;

use serde_json::json;

use crate::exit::{DATA, Failing, NO_INPUT};
use crate::output::Output;

/// Columns of the picture where the terminal does not say, and what stands beside it.
const COLUMNS: usize = 80;
const BESIDE: usize = 30;

/// Checks a schedule and draws it; with hops, all of them on one time.
///
/// # Errors
/// The file cannot be read, or `FILE:LINE: SENTENCE` for its first mistake.
pub fn plan(output: &mut Output, path: &Path) -> Result<u8, Failing> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failing::new(NO_INPUT, format!("{shown}: {error}")))?;
    let document =
        tempos_tsn::parse(&text).map_err(|error| Failing::new(DATA, format!("{shown}:{error}")))?;
    let schedule = &document.schedule;
    let hops = tempos_tsn::plan(schedule, &document.hops)
        .map_err(|mistake| Failing::new(DATA, format!("{shown}: {mistake}")))?;
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
        let value = json!({"cycle_ns": schedule.cycle_ns, "gates": gates, "hops": hops});
        output.value(&value, false)?;
        return Ok(0);
    }
    let columns = output.terminal_columns().map_or(COLUMNS, usize::from);
    let width = columns.saturating_sub(BESIDE);
    let picture = match hops.is_empty() {
        true => tempos_tsn::draw(schedule, width),
        false => tempos_tsn::draw_plan(&hops, width),
    };
    for line in picture.lines() {
        output.line(line)?;
    }
    Ok(0)
}
