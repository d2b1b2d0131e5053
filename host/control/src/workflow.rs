//! A workflow as it is requested: topic → function → topic.

use crate::{Origin, Value};

/// The function of a workflow and how it is invoked.
#[derive(Clone, Debug, PartialEq)]
pub struct CallSpec {
    /// The invocation method plugin: `dlf`, `wasm`, `spawn`, `container`.
    pub method: String,
    /// The function's file. A relative path is relative to the script that declared it; doors make it
    /// absolute.
    pub file: String,
    /// Instances kept ready.
    pub warm: u32,
    /// The function is stopped, or where that cannot be done reported late, after this long.
    pub deadline_ns: Option<u64>,
    /// The most memory an instance may use, where the method can hold it to that.
    pub memory_bytes: Option<u64>,
    /// The largest output, in bytes.
    pub output_bytes_max: u32,
    /// How many events the function may work on at once, 1 to 64; 1 keeps their order.
    pub concurrency: u32,
    /// Runs the function on the queue worker itself, for one that is short and never waits.
    pub inline: bool,
    /// Further options of the method, checked against its option table.
    pub options: Vec<(String, Value)>,
    /// Where it was declared.
    pub origin: Origin,
}

/// A workflow as requested.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowSpec {
    /// Its name.
    pub name: String,
    /// The topic whose events it works on.
    pub from: String,
    /// The topic that its output goes to; `None`: the output is counted and let go.
    pub to: Option<String>,
    /// Whether its output goes to the topic that the event names in its attribute `reply-to`, where that
    /// topic takes replies.
    pub replies: bool,
    /// The subscription group that it is a member of; `None`: one of its own.
    pub group: Option<String>,
    /// What it calls.
    pub call: CallSpec,
    /// Where it was declared.
    pub origin: Origin,
}

impl CallSpec {
    /// A call with every default.
    pub fn new(method: &str, file: &str, origin: &Origin) -> Self {
        CallSpec {
            method: method.into(),
            file: file.into(),
            warm: 1,
            deadline_ns: None,
            memory_bytes: None,
            output_bytes_max: 65_536,
            concurrency: 1,
            inline: false,
            options: Vec::new(),
            origin: origin.clone(),
        }
    }
}
