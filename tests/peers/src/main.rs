//! TEMPOS beside its peers: the same flows through each of them, in one run, pinned and prioritised alike.
//!
//! What is compared, how to read it, and what each scene does: the README of this folder.

mod aims;
mod client;
mod event;
mod node;
mod options;
mod process;
mod report;
mod scenes;
mod systems;

#[path = "../../benches/hop/machine.rs"]
#[allow(dead_code)] // A part of it is for the other bench.
mod machine;
#[path = "../../benches/hop/summary.rs"]
mod summary;

use std::process::ExitCode;

use options::Scene;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((role, rest)) = arguments.split_first()
        && let Some(role) = role.strip_prefix("role:")
    {
        return systems::play(role, rest);
    }
    let options = match options::Options::read(&arguments) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("tempos-peers: {sentence}");
            return ExitCode::from(64);
        }
    };
    let layout = machine::Layout::of_this_machine();
    let mut report = report::Report::new(options.json, &layout);
    let mut sound = true;
    let flows = [Scene::Quiet, Scene::Three, Scene::Flood, Scene::Shared, Scene::Rate];
    if flows.iter().any(|scene| options.wants(*scene)) {
        let mut systems = systems::start(&options, &layout, &mut report);
        let before = options.before.as_ref().filter(|_| options.wants(Scene::Rate));
        let mut before = before.map_or_else(Vec::new, |programs| {
            systems::start_before(programs, &options, &layout, &mut report)
        });
        for scene in flows.into_iter().filter(|scene| options.wants(*scene)) {
            match scene {
                Scene::Rate => {
                    systems.append(&mut before);
                    scenes::rate::run(&mut systems, &options, &mut report);
                }
                scene => scenes::latency::run(scene, &mut systems, &options, &layout, &mut report),
            }
        }
    }
    if options.wants(Scene::Bare) {
        scenes::ungranted::run(&options, &layout, &mut report);
    }
    if options.wants(Scene::Topics) {
        scenes::topics::run(&options, &layout, &mut report);
    }
    if options.wants(Scene::Soak) {
        sound = scenes::soak::run(&options, &mut report);
    }
    if let Some((file, name)) = &options.record
        && let Err(error) = report.record(file, name)
    {
        eprintln!("tempos-peers: {}: {error}", file.display());
        sound = false;
    }
    sound &= report.end();
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
