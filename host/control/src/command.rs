//! Orders, commands and replies: the whole vocabulary of control.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::generation::{Generation, Terms};
use crate::{LevelSpec, TopicSpec, Value, WorkflowSpec};

/// One statement about the wiring. A list of them is checked and applied as one transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Declares a level, or changes the one of that name.
    DeclareLevel(LevelSpec),
    /// Declares a topic, or changes the one of that name.
    DeclareTopic(TopicSpec),
    /// Declares a workflow, or changes the one of that name.
    DeclareWorkflow(WorkflowSpec),
    /// Removes a level that nothing uses.
    RemoveLevel(String),
    /// Removes a topic; what it still holds is delivered first.
    RemoveTopic(String),
    /// Removes a workflow; what it still holds is finished first.
    RemoveWorkflow(String),
}

/// What is asked of a node.
#[derive(Debug)]
#[non_exhaustive]
pub enum Order {
    /// Reads the script or folder at `path` as the whole wiring, and applies the difference.
    ApplyPath {
        /// A `.lua` file, or a folder of them read in name order.
        path: PathBuf,
        /// Only reports what would change.
        dry_run: bool,
    },
    /// The same for the text of one script.
    ApplyText {
        /// The name under which mistakes are reported.
        chunk_name: String,
        /// The script.
        lua: String,
        /// Only reports what would change.
        dry_run: bool,
    },
    /// Applies commands. `whole`: what they do not declare is removed.
    Apply {
        /// The commands, in order.
        commands: Vec<Command>,
        /// Whether they describe the whole wiring.
        whole: bool,
        /// Only reports what would change.
        dry_run: bool,
    },
    /// Reads the configured wiring again and applies the difference.
    Reload,
    /// Stops ingress, finishes what is queued within the limit, and reports the counts.
    Drain {
        /// The limit; 0 means at once.
        timeout_ms: u32,
    },
    /// Puts an event into a topic.
    Publish {
        /// The topic.
        topic: String,
        /// Its attributes: texts, flags and numbers.
        attributes: Vec<(String, Value)>,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Sends a copy of each event of a topic into a socket, until that is closed.
    Subscribe {
        /// The topic.
        topic: String,
    },
    /// Loads a plugin from a file outside the plugin folders.
    LoadPlugin {
        /// The `.so` file.
        path: PathBuf,
    },
    /// Makes instances of a workflow's function ready.
    Prewarm {
        /// The workflow.
        workflow: String,
        /// How many.
        instances: u32,
    },
    /// Looks at what the system grants to real-time threads, and at what it costs where it does not.
    Doctor,
    /// An `Apply`, `ApplyPath`, `ApplyText`, `Reload` or `Rollback` on other terms than the usual.
    Change {
        /// The order.
        order: Box<Order>,
        /// The terms.
        terms: Terms,
    },
    /// Brings the wiring of an earlier generation back into force, as a new generation.
    Rollback {
        /// Its number; `None`: the one before the one in force.
        to: Option<u64>,
    },
    /// Says that the generation on probe is to stay.
    Confirm {
        /// Its number; `None`: whichever is on probe.
        generation: Option<u64>,
    },
    /// Lists the generations, the oldest first.
    Generations,
    /// Begins to measure what hops cost on this machine; grants rest on it once it is done.
    Calibrate {
        /// About how long to measure; 0 leaves that to the node.
        time_ms: u32,
    },
}

impl Order {
    /// What is ordered, in a few words, where it changes the node; `None` for what only asks or concerns single
    /// events.
    pub fn change(&self) -> Option<String> {
        Some(match self {
            Order::ApplyPath { path, dry_run: false } => format!("apply {}", path.display()),
            Order::ApplyText { chunk_name, dry_run: false, .. } => format!("apply script {chunk_name:?}"),
            Order::Apply { commands, whole: false, dry_run: false } => {
                format!("change by {} commands", commands.len())
            }
            Order::Apply { dry_run: false, .. } => String::from("apply commands"),
            Order::Reload => String::from("reload"),
            Order::Drain { timeout_ms } => format!("drain within {timeout_ms} ms"),
            Order::LoadPlugin { path } => format!("load plugin {}", path.display()),
            Order::Prewarm { workflow, instances } => format!("warm {workflow:?} to {instances}"),
            Order::Calibrate { .. } => String::from("calibrate"),
            Order::Change { order, .. } => order.change()?,
            Order::Rollback { to: None } => String::from("rollback"),
            Order::Rollback { to: Some(to) } => format!("rollback to {to}"),
            Order::Confirm { generation: None } => String::from("confirm"),
            Order::Confirm { generation: Some(number) } => format!("confirm {number}"),
            // Each by its name, so that no order comes to be that nobody accounts for.
            Order::ApplyPath { dry_run: true, .. }
            | Order::ApplyText { dry_run: true, .. }
            | Order::Apply { dry_run: true, .. }
            | Order::Publish { .. }
            | Order::Subscribe { .. }
            | Order::Doctor
            | Order::Generations => return None,
        })
    }
}

/// How a finding of the preflight weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It costs latency or safety, the node runs.
    Poor,
    /// A level does not get what it asked for.
    Bad,
}

/// One finding of the preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `real-time scheduling`, `locked memory`, …
    pub check: String,
    /// How it weighs.
    pub verdict: Verdict,
    /// What was found and what it costs, one sentence.
    pub finding: String,
    /// How to mend it, one sentence; empty where there is nothing to mend.
    pub mend: String,
}

/// The answer to an order that was carried out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// What changed, one line each, as a person would say it.
    Report(String),
    /// The id of the published event.
    EventId(u64),
    /// The reading end of a subscription: a `SOCK_SEQPACKET` socket, one event with its header a packet.
    Subscription(OwnedFd),
    /// The findings of the preflight.
    Findings(Vec<Finding>),
    /// The generations, the oldest first.
    Generations(Vec<Generation>),
    /// What changed, and the generation in force: the answer to a change on terms.
    Applied {
        /// The generation.
        generation: u64,
        /// What changed, one line each.
        report: String,
    },
    /// Done, with nothing to tell.
    Done,
}
