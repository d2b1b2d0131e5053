//! Histograms of arrival phases, one beneath the other, as an SVG.

use std::fmt::Write;

use crate::phases::{Phases, Window};

const BINS: usize = 100;
const WIDTH: usize = 900;
const LEFT: usize = 60;
const TOP: usize = 56;
const PANEL: usize = 150;
const GAP: usize = 46;

/// One class of traffic.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above it.
    pub label: String,
    /// When its frames arrived.
    pub phases: Phases,
    /// Where its gate is open.
    pub window: Window,
}

/// Draws them: open gates as a tinted ground, a bar for each hundredth of the cycle.
pub fn draw(title: &str, panels: &[Panel]) -> String {
    let height = TOP + panels.len() * (PANEL + GAP);
    let mut svg = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" fill=\"#202124\">{}</text>",
        escape(title)
    );
    for (at, panel) in panels.iter().enumerate() {
        draw_panel(&mut svg, panel, TOP + at * (PANEL + GAP), ["#1a73b7", "#c2571a"][at % 2]);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: usize, colour: &str) {
    let inner = WIDTH - LEFT - 20;
    let cycle = panel.phases.cycle_ns();
    let counts = panel.phases.histogram(BINS);
    let (most, all) = (counts.iter().copied().max().unwrap_or(0).max(1), counts.iter().sum::<usize>());
    let x_of = |ns: u64| LEFT as f64 + ns as f64 / cycle as f64 * inner as f64;
    let (from, to) = (x_of(panel.window.from_ns), x_of(panel.window.to_ns.min(cycle)));
    let (floor, base) = (top + 16, top + PANEL);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#202124\">{} ({all} frames; gate open where tinted)</text>\n\
         <rect x=\"{from:.1}\" y=\"{floor}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\" fill-opacity=\"0.12\"/>",
        top + 8,
        escape(&panel.label),
        to - from,
        base - floor
    );
    let step = inner as f64 / BINS as f64;
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let tall = (*count as f64 / most as f64 * (base - floor) as f64).max(1.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{colour}\"/>",
            LEFT as f64 + bin as f64 * step + 0.5,
            base as f64 - tall,
            step - 1.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {base}H{}\" stroke=\"#5f6368\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#5f6368\">{most}</text>",
        LEFT + inner,
        LEFT - 6,
        floor + 10
    );
    for part in 0..=4u64 {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#5f6368\">{} µs</text>",
            x_of(cycle / 4 * part),
            base + 16,
            cycle / 4 * part / 1000
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_with_frames_has_a_bar_and_texts_are_escaped() {
        let mut phases = Phases::new(1_000_000);
        [5, 5, 400_000, 999_999].iter().for_each(|time| phases.add(*time));
        let window = Window { from_ns: 0, to_ns: 500_000 };
        let svg = draw("a < b", &[Panel { label: "strict & sound".into(), phases, window }]);
        assert_eq!(svg.matches("<rect").count(), 1 + 1 + 3, "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("strict &amp; sound (4 frames"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
