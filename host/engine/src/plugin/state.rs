//! What the registry tells: what happened, and how things are.

use std::path::PathBuf;
use std::sync::Arc;

use super::load::Plugin;

/// Something that happened in a plugin's life.
#[derive(Clone, Debug)]
pub enum PluginEvent {
    /// It is now the current one of its name; there was none.
    Started(Arc<Plugin>),
    /// A newer version took over; the old one drains.
    Replaced {
        /// Drains from now on.
        old: Arc<Plugin>,
        /// Is current from now on.
        new: Arc<Plugin>,
    },
    /// Its file was removed: it takes no new work.
    Draining(Arc<Plugin>),
    /// A generation is not used any more, or a file that was not started went away.
    Gone {
        /// The plugin, or the name that a refused file was shown by.
        name: String,
        /// Its version; empty where it was never known.
        version: String,
        /// One sentence.
        sentence: String,
    },
    /// A file was refused.
    Failed {
        /// The plugin's name where the manifest could be read, else the file's.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why: one sentence.
        sentence: String,
    },
    /// The file holds what runs already.
    Unchanged,
}

/// A plugin, or a file that is not started, at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginState {
    /// Its name; unique among the states.
    pub name: String,
    /// Its version; empty where it is not known.
    pub version: String,
    /// `adapter`, `queue policy`, `invocation method`, or empty.
    pub kind: &'static str,
    /// The interface that it was built against, `1.MINOR`, or empty.
    pub abi: String,
    /// The file.
    pub path: PathBuf,
    /// The file's SHA-256 in hexadecimal, or empty.
    pub sha256: String,
    /// One line that says what it does.
    pub summary: String,
    /// Its options, one line each: `bind: a text, required — …`.
    pub options: Vec<String>,
    /// `declared` (readable, but an older version than the one that runs), `started`, `draining`, `gone`
    /// or `failed`.
    pub state: &'static str,
    /// Why: one sentence.
    pub reason: String,
    /// Since when: microseconds since the epoch.
    pub since_us: u64,
    /// How many generations of it are mapped.
    pub generations: u32,
    /// Memory that the mapped files of all its generations take, in KiB, as of the last change of any
    /// plugin; it returns when the process ends.
    pub resident_kib: u64,
}
