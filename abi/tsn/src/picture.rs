//! A schedule drawn for a terminal: a line for each class, one cycle wide.

use std::fmt::Write as _;

use crate::duration::show_duration;
use crate::plan::PlannedHop;
use crate::schedule::{Schedule, open};

const OPEN: char = '█';
const PARTLY: char = '▒';
const CLOSED: char = '·';
const WIDTH_LEAST: usize = 20;
const WIDTH_MOST: usize = 200;

/// One cycle, `width` columns wide (20 to 200).
pub fn draw(schedule: &Schedule, width: usize) -> String {
    draw_from(schedule, 0, width)
}

/// Every hop under the one before, all on the time of the first.
pub fn draw_plan(hops: &[PlannedHop], width: usize) -> String {
    let mut text = String::new();
    for hop in hops {
        let _ = writeln!(
            text,
            "{}: opens at {}, the last event can go on by {}",
            hop.name,
            show_duration(hop.opens_ns),
            show_duration(hop.worst_ns)
        );
        text.push_str(&draw_from(&hop.schedule, hop.opens_ns, width));
    }
    if let Some(last) = hops.last() {
        let _ = writeln!(
            text,
            "end to end: {} at most after the first window opens",
            show_duration(last.worst_ns)
        );
    }
    text
}

fn draw_from(schedule: &Schedule, shift_ns: u64, width: usize) -> String {
    let width = width.clamp(WIDTH_LEAST, WIDTH_MOST);
    let cycle = schedule.cycle_ns.max(1);
    let mut text = String::new();
    for class in (0..schedule.class_count().min(8) as u8).rev() {
        let priorities: Vec<String> = (0..16)
            .filter(|p| schedule.used & (1 << p) != 0 && schedule.classes[*p] == class)
            .map(|p| p.to_string())
            .collect();
        let _ = write!(text, "  class {class} ");
        for column in 0..width as u64 {
            let start = wide(column, cycle, width);
            let end = wide(column + 1, cycle, width).max(start + 1);
            text.push(shade(schedule, class, start, end, shift_ns));
        }
        let listed = if priorities.is_empty() { String::from("-") } else { priorities.join(",") };
        let _ = writeln!(text, " priority {listed}");
    }
    let end = show_duration(schedule.cycle_ns);
    let _ = writeln!(text, "          0{end:>width$}", width = width - 1);
    text
}

/// The instant of a column's left edge.
fn wide(column: u64, cycle: u64, width: usize) -> u64 {
    (u128::from(column) * u128::from(cycle) / width as u128) as u64
}

/// How much of `start..end` the class's gate is open.
fn shade(schedule: &Schedule, class: u8, start: u64, end: u64, shift_ns: u64) -> char {
    let cycle = schedule.cycle_ns.max(1);
    let back = cycle - shift_ns % cycle;
    let (from, length) = ((start + back) % cycle, end - start);
    let (mut opened, mut offset) = (0, 0u64);
    for window in schedule.windows.iter().cycle().take(schedule.windows.len() * 2) {
        let ends = offset + window.length_ns;
        if open(window, class) {
            opened += ends.min(from + length).saturating_sub(offset.max(from));
        }
        offset = ends;
    }
    match opened {
        0 => CLOSED,
        _ if opened >= length => OPEN,
        _ => PARTLY,
    }
}
