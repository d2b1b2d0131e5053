//! From exec to READY=1, with everything that lies before: plugins are examined, tried in a child, loaded;
//! lanes are started; the wiring is evaluated and brought into force; the control socket is open.
//! The files are in the page cache, as they are at a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempos_tests::NodeSetup;
use tempos_tests::built::{plugin_folders, profile_folder, source_root};
use tempos_tests::setup::drop_plugin;

use crate::machine::{Watch, cpu_ns_with_children};
use crate::options::Options;
use crate::rest::Rest;
use crate::summary::median;

/// How many plugins a node has: those of the house, and copies of the template up to this number.
const PLUGINS: usize = 10;
/// The name of the plugin in `examples/plugin-template`.
const TEMPLATE: &str = "mqueue";

/// What one kind of node came to.
#[derive(Debug)]
pub struct StartResult {
    /// What it has.
    pub name: String,
    /// Milliseconds to READY, sorted.
    pub ready_ms: Vec<f64>,
    /// Milliseconds of CPU time until then, of the node and of the children that tried its plugins: what a
    /// busy machine does not change. Two CPUs share it.
    pub cpu_ms: f64,
    /// What the last one needed at rest.
    pub rest: Rest,
    /// CPUs that others used during the starts.
    pub others: f64,
}

/// Starts each kind of node several times.
pub fn run(options: &Options) -> Vec<StartResult> {
    let house = plugin_folders().len();
    let copies = template_copies(PLUGINS.saturating_sub(house));
    let plugins = house + copies.len();
    let topics = |count: usize, channels: &str| {
        format!("for at = 1, {count} do tempos.topic(string.format(\"line/%d\", at)) {{ {channels} }} end\n")
    };
    let sockets = "ingress = { tempos.udp { bind = \"127.0.0.1:0\" } }, egress = { tempos.udp { to = \"127.0.0.1:9\" } }";
    vec![
        start(format!("{house} plugins, no topic"), &[], "", options),
        start(
            format!("{plugins} plugins, 1000 topics without channels"),
            &copies,
            &topics(1000, ""),
            options,
        ),
        start(
            format!("{plugins} plugins, 1000 topics, 2000 UDP sockets"),
            &copies,
            &topics(1000, sockets),
            options,
        ),
    ]
}

fn start(name: String, more: &[PathBuf], wiring: &str, options: &Options) -> StartResult {
    let watch = Watch::begin(Vec::new());
    let mut ready_ms = Vec::new();
    let mut cpu_ms = Vec::new();
    let mut others = 0.0;
    let mut rest = Rest::default();
    for number in 1..=options.starts {
        let setup = NodeSetup::new().all_plugins().wiring(wiring);
        for copy in more {
            drop_plugin(copy, &setup.folder().join("plugins"));
        }
        // Built and written before the clock starts.
        let command = setup.command();
        let begin = Instant::now();
        let mut node = setup.start_as(command);
        ready_ms.push(begin.elapsed().as_secs_f64() * 1000.0);
        let pid = node.daemon().pid();
        cpu_ms.push(cpu_ns_with_children(pid) as f64 / 1e6);
        if number == options.starts {
            others = watch.others();
            rest = Rest::of(pid);
        }
    }
    ready_ms.sort_by(f64::total_cmp);
    StartResult { name, ready_ms, cpu_ms: median(&cpu_ms), rest, others }
}

impl StartResult {
    /// The median.
    pub fn median_ms(&self) -> f64 {
        median(&self.ready_ms)
    }
}

/// More plugins: the one of `examples/plugin-template`, built as a third party would, under other names of
/// its own length.
fn template_copies(count: usize) -> Vec<PathBuf> {
    let target =
        profile_folder().parent().map(|folder| folder.join("bench-plugins")).expect("a target folder");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(source_root().join("examples/plugin-template"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the template: {}", String::from_utf8_lossy(&output.stderr));
    let built = fs::read(target.join("release/libtempos_adapter_mqueue.so")).expect("it was built");
    (0..count.min(10)).map(|number| renamed(&built, number, &target)).collect()
}

fn renamed(built: &[u8], number: usize, folder: &Path) -> PathBuf {
    let name = format!("mqueu{number}");
    let mut bytes = built.to_vec();
    let places: Vec<usize> = (0..built.len().saturating_sub(TEMPLATE.len()))
        .filter(|at| built[*at..].starts_with(TEMPLATE.as_bytes()))
        .collect();
    assert!(!places.is_empty(), "the template is not called {TEMPLATE:?} any more");
    for at in places {
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    let path = folder.join(format!("lib{name}.so"));
    fs::write(&path, bytes).expect("the copy can be written");
    path
}
