//! What a node says of its own accord: its D-Bus signals, as `busctl monitor` shows them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::child::Child;
use crate::node::{BUS_NAME, Node};
use crate::wait::eventually;

/// A `busctl monitor` of a node, ended when dropped.
#[derive(Debug)]
pub struct Signals {
    path: PathBuf,
    _monitor: Child,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Panics
    /// When `busctl` is missing or cannot listen.
    pub fn of(node: &Node) -> Signals {
        let path = node.folder().join("signals");
        let errors = node.folder().join("signals.errors");
        let create = |path| fs::File::create(path).expect("a file in the test's folder");
        let mut command = Command::new("busctl");
        command
            .arg(format!("--address={}", node.address()))
            .args(["--json=short", "monitor", BUS_NAME])
            .stdout(Stdio::from(create(&path)))
            .stderr(Stdio::from(create(&errors)));
        let monitor = Child::start("busctl monitor", &mut command);
        eventually("busctl to listen", || {
            let said = fs::read_to_string(&errors).unwrap_or_default() + &fs::read_to_string(&path).ok()?;
            said.contains("Monitoring").then_some(())
        });
        Signals { path, _monitor: monitor }
    }

    /// The arguments of all signals of that name so far.
    pub fn named(&self, name: &str) -> Vec<Vec<Value>> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            // The last line may be half written.
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["type"] == "signal" && message["member"] == name)
            .map(|message| message["payload"]["data"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// How many events of a topic were said to have been dropped for a reason.
    pub fn dropped(&self, topic: &str, reason: &str) -> u64 {
        self.named("EventsDropped")
            .iter()
            .filter(|arguments| arguments[0] == topic && arguments[1] == reason)
            .filter_map(|arguments| arguments[2].as_u64())
            .sum()
    }
}
