//! `temposd --check`: everything that a start would read, and nothing that it would change.

use tempos_control::{Kind, Node as _, Reply};
use tempos_engine::Engine;

use crate::config::NodeFile;
use crate::daemon::engine_config;
use crate::exit::{CONFIG, Ending, OSERR};
use crate::host_node::HostNode;
use crate::log::Log;

/// Loads the plugins into an engine with folders of its own, and has it check the wiring without opening
/// anything. A node that is running beside it is not touched. The answer is what a start would report.
///
/// # Errors
/// The mistakes.
pub fn check(file: &NodeFile, log: &Log) -> Result<String, Ending> {
    let folder = tempfile::Builder::new()
        .prefix("tempos-check-")
        .tempdir()
        .map_err(|error| Ending::new(OSERR, format!("no folder for the check could be made: {error}")))?;
    let kept_in = file.state_dir.clone();
    let file = NodeFile {
        run_dir: folder.path().join("run"),
        state_dir: folder.path().join("state"),
        // A check must pass on the machine where the files are written, not only where they are used.
        strict_realtime: false,
        lock_memory: false,
        ..file.clone()
    };
    for path in [&file.run_dir, &file.state_dir] {
        crate::lock::make_folder(path, 0o700)?;
    }
    let engine = Engine::start(engine_config(&file, log))?;
    let node = HostNode::new(engine, &file, log.clone());
    // Requests are weighed as the node would.
    node.rest_on_calibration_of(&kept_in);
    let outcome = node.check();
    // Plugins first: a wiring that speaks of a refused one is wrong for that reason.
    let mut mistakes = refused_plugins(&node);
    node.engine().stop();
    let report = match outcome {
        Ok(Reply::Report(report)) => report,
        Ok(_) => String::new(),
        Err(refusal) => {
            mistakes.push(refusal.message);
            String::new()
        }
    };
    if let Err(wrong) = tempos_rest::Door::check(&file.rest.tcp) {
        mistakes.extend(wrong.iter().map(ToString::to_string));
    }
    if mistakes.is_empty() { Ok(report) } else { Err(Ending::new(CONFIG, mistakes.join("\n"))) }
}

/// One sentence for each file in the plugin folders that is no good.
fn refused_plugins(node: &HostNode) -> Vec<String> {
    let plugins = node.names(Kind::Plugin);
    let states = plugins.iter().filter_map(|name| node.observe(Kind::Plugin, name));
    states.filter(|plugin| plugin.condition.state == "failed").map(|plugin| plugin.condition.reason).collect()
}
