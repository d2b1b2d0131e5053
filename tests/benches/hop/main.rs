//! What a hop through the node costs, beside the bare system calls that do the same; how long a start
//! takes, and what a node needs at rest.
//!
//! ```sh
//! cargo bench -p tempos-tests --bench hop                         # about two minutes
//! cargo bench -p tempos-tests --bench hop -- --events 100000 --json
//! cargo bench -p tempos-tests --bench hop -- hop                  # one part: hop, flood, start
//! ```
//!
//! All systems take turns in short rounds of one run, so that whatever else the machine does meets them
//! alike: read the ratios, not the microseconds. Each forwarder, ours and the bare ones, is a process of its
//! own, pinned to the same CPU with the same policy and priority; sender and receiver share another CPU.
//! Latency counts from the instant at which an event was due, so that a stalled sender hides nothing.

mod bare;
mod batch;
mod flood;
mod hop;
mod machine;
mod options;
mod report;
mod rest;
mod ring;
mod scene;
mod start;
mod summary;
mod traffic;

use options::Part;

fn main() {
    if bare::is_asked_for() {
        bare::main();
    }
    let options = match options::Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("hop: {sentence}");
            std::process::exit(64);
        }
    };
    let layout = machine::Layout::of_this_machine();
    let mut report = report::Report::new(options.json, &layout);
    if options.wants(Part::Hop) || options.wants(Part::Flood) {
        let mut scene = scene::Scene::start(&layout);
        if options.wants(Part::Hop) {
            report.hops(&hop::run(&mut scene, &layout, &options));
        }
        if options.wants(Part::Flood) {
            report.floods(&flood::run(&scene, &layout, &options));
        }
    }
    if options.wants(Part::Start) {
        report.starts(&start::run(&options));
    }
    report.end();
}
