//! Scenes one beneath the other: the mean of each leg as a bar, and above it how long events took all the way.

use std::fmt::Write as _;

use tempos_tsn_rig::Spread;

const WIDTH: usize = 900;
const LEFT: usize = 60;
const TOP: usize = 74;
const PANEL: usize = 170;
/// The bar of legs, and the histogram above it.
const BAR: usize = 22;
const FLOOR: usize = 92;
const BINS: usize = 120;
const COLOURS: [&str; 4] = ["#1a73b7", "#c2571a", "#3c8d40", "#7b519d"];
/// The axis ends at a whole number of these.
const STEP_NS: u64 = 100_000;

/// One scene.
pub struct Scene {
    /// What stands above it.
    pub label: String,
    /// Each leg with its durations, and last all the way.
    pub legs: Vec<(String, Vec<u64>)>,
}

/// Draws them on one axis, with marks of other figures.
pub fn draw(title: &str, marks: &[(u64, String)], scenes: &[Scene]) -> String {
    let height = TOP + scenes.len() * PANEL + 30;
    let longest = scenes.iter().filter_map(|scene| scene.legs.last()?.1.iter().max());
    let most = longest.chain(marks.iter().map(|(ns, _)| ns)).max().copied().unwrap_or(0);
    let end_ns = (most / STEP_NS + 1) * STEP_NS;
    let inner = WIDTH - LEFT - 40;
    let x_of = |ns: u64| LEFT as f64 + ns as f64 / end_ns as f64 * inner as f64;
    let mut svg = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" fill=\"#202124\">{}</text>",
        escape(title)
    );
    for (at, (ns, label)) in marks.iter().enumerate() {
        let x = x_of(*ns);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {}V{}\" stroke=\"#5f6368\" stroke-dasharray=\"4 4\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#5f6368\">{}</text>",
            TOP - 10,
            height - 26,
            TOP - 14 - 14 * (at % 2),
            escape(label)
        );
    }
    for (at, scene) in scenes.iter().enumerate() {
        draw_scene(&mut svg, scene, TOP + at * PANEL, end_ns, &x_of);
    }
    for step in 0..=end_ns / STEP_NS {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#5f6368\">{} µs</text>",
            x_of(step * STEP_NS),
            height - 10,
            step * STEP_NS / 1000
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_scene(svg: &mut String, scene: &Scene, top: usize, end_ns: u64, x_of: &dyn Fn(u64) -> f64) {
    let Some(((_, whole), legs)) = scene.legs.split_last() else { return };
    let Spread { events, mean_ns, p99_ns, max_ns, .. } = Spread::of(whole);
    let [mean, p99, max] = [mean_ns, p99_ns, max_ns].map(|ns| ns as f64 / 1000.0);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#202124\">{}: {events} events, mean {mean:.0} µs, p99 {p99:.0} µs, max \
         {max:.0} µs</text>",
        top + 12,
        escape(&scene.label)
    );
    let mut counts = vec![0usize; BINS];
    for ns in whole {
        let bin = u128::from(*ns) * BINS as u128 / u128::from(end_ns);
        counts[(bin as usize).min(BINS - 1)] += 1;
    }
    let (base, room) = (top + 22 + FLOOR, FLOOR as f64);
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let width = x_of(end_ns / BINS as u64) - x_of(0);
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        // What is rare is to be seen: the maximum stands there as well.
        let tall = (*count as f64 / most as f64 * room).max(2.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"#5f6368\"/>",
            LEFT as f64 + bin as f64 * width,
            base as f64 - tall,
            width - 0.8
        );
    }
    let _ = writeln!(svg, "<path d=\"M{LEFT} {base}H{:.1}\" stroke=\"#5f6368\"/>", x_of(end_ns));
    let mut from_ns = 0;
    for (at, (leg, all)) in legs.iter().enumerate() {
        let leg_ns = Spread::of(all).mean_ns;
        let (x, wide) = (x_of(from_ns), x_of(from_ns + leg_ns) - x_of(from_ns));
        from_ns += leg_ns;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{}\" width=\"{wide:.1}\" height=\"{BAR}\" fill=\"{}\"><title>{}: mean {:.0} \
             µs</title></rect>\n<text x=\"{:.1}\" y=\"{}\" font-size=\"11\" fill=\"#ffffff\">{:.0}</text>",
            base + 4,
            COLOURS[at % COLOURS.len()],
            escape(leg),
            leg_ns as f64 / 1000.0,
            x + 4.0,
            base + 19,
            leg_ns as f64 / 1000.0
        );
    }
    let mut x = LEFT as f64;
    for (at, (leg, _)) in legs.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\" \
             font-size=\"11\" fill=\"#5f6368\">{}</text>",
            base + 31,
            COLOURS[at % COLOURS.len()],
            x + 14.0,
            base + 40,
            escape(leg)
        );
        x += 34.0 + 6.2 * leg.chars().count() as f64;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_has_its_histogram_its_legs_and_the_marks() {
        let legs = [("one & two", vec![1_000, 2_000]), ("all the way", vec![1_000, 250_000])];
        let legs = legs.map(|(leg, all)| (leg.to_owned(), all)).to_vec();
        let scenes = [Scene { label: "quiet".into(), legs }];
        let svg = draw("a < b", &[(501_000, "paper".into())], &scenes);
        assert!(svg.contains("a &lt; b") && svg.contains("one &amp; two: mean 2 µs"), "{svg}");
        assert!(svg.contains("quiet: 2 events, mean 126 µs, p99 250 µs, max 250 µs"), "{svg}");
        // The ground, two bins, a leg and its key.
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 1 + 1, "{svg}");
        assert!(svg.contains(">600 µs<") && svg.ends_with("</svg>\n"), "the mark is on the axis: {svg}");
    }
}
