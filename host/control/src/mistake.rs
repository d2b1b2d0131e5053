//! What was wrong, where, and what would be right: one sentence each.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where something was declared, so that a mistake found later still names its line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The script, file or call: `/etc/tempos/wiring.d/10-line.lua`, `node.toml`, `D-Bus call`.
    #[serde(with = "crate::exact::shared_text")]
    pub file: Arc<str>,
    /// The line in it, counted from 1; 0 where there is none.
    pub line: u32,
}

impl Origin {
    /// A place in a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Origin { file: file.into(), line }
    }

    /// What the node itself declares (the two levels that always exist).
    pub fn builtin() -> Self {
        Origin::new("built-in", 0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// One mistake of a user: `file:line: sentence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where the offending thing was declared.
    pub origin: Origin,
    /// What was wrong and what would be right, without a full stop.
    pub sentence: String,
}

impl Mistake {
    /// A mistake found at `origin`.
    pub fn new(origin: &Origin, sentence: impl Into<String>) -> Self {
        Mistake { origin: origin.clone(), sentence: sentence.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.sentence)
    }
}

/// Why an order was not carried out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind, which doors translate into their own error names or exit codes.
    pub kind: RefusalKind,
    /// One sentence, or one line for each mistake.
    pub message: String,
}

/// The kinds of refusal; each is a D-Bus error of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// A script or a set of commands holds mistakes.
    InvalidWiring,
    /// The order names an object that is not there.
    NoSuchObject,
    /// The requested QoS cannot be given, and degrading is not allowed.
    QosNotGrantable,
    /// A plugin was refused at one of the gates.
    PluginRejected,
    /// A bound was reached: try again later.
    Overloaded,
    /// The caller may not do this.
    NotAuthorized,
    /// The node is draining or has stopped.
    ShuttingDown,
    /// The operating system refused something that the order needs.
    System,
    /// Another generation is in force than the one that the order was meant for.
    OutOfDate,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Refusal { kind, message: message.into() }
    }

    /// All the mistakes of a wiring, one line each, in the order of their lines.
    pub fn of_mistakes(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        let message = mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n");
        Refusal::new(RefusalKind::InvalidWiring, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
