//! What a plugin writes to the log arrives in one line. In a process of its own: the log that plugins
//! write to is the process'.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod plugin_kit;

use plugin_kit::{Bench, plugin, started};

#[test]
fn a_plugins_lines_reach_the_nodes_log() {
    let mut bench = Bench::new();
    started(bench.load("good.so", &plugin("10.20.30")));
    let lines = bench.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line == "6 fixture: a line from the factory"), "{lines:?}");
}
