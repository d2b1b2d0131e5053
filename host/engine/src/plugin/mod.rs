//! Plugin life: declared → loaded → started → draining → gone, or failed, each with its sentence.
//!
//! A file passes five gates before any of its code may run in this process: *trust* (who can write it),
//! *inspect* (its bytes, without the dynamic loader), *stage* (a private copy under a name that is never
//! used twice), *probe* (the same load in a child process, so that a constructor that crashes or hangs
//! costs a child), *load*. [`Registry`] keeps who is current and who drains; [`Watcher`] says which files
//! appeared or went. Called by the controller, never by a lane.
//!
//! What this room refuses to know: what a channel, queue or function is used for. It opens none.
//! Loaded code stays mapped for the life of the process: what is gone is only no longer used.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub mod decide;
mod gates;
pub(crate) mod host_api;
pub mod info;
pub mod inspect;
mod kept;
pub mod load;
pub mod manifest;
pub mod options;
pub mod probe;
pub mod registry;
mod resident;
pub mod stage;
pub mod state;
pub mod trust;
pub mod watch;

pub use info::{OptionInfo, PluginInfo};
pub use load::{Factory, Plugin};
pub use probe::probe_main;
pub use registry::Registry;
pub use state::{PluginEvent, PluginState};
pub use tempos_abi::PluginKind;
pub use tempos_abi::host::LogLevel;
pub use watch::{FolderChange, Watcher};

/// Writes a line to the node's log: how grave, which plugin (empty: the plugin room itself), the sentence.
pub type LogFn = Arc<dyn Fn(LogLevel, &str, &str) + Send + Sync>;

/// Where plugins come from, and how they are tried.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// The drop-in folders; a missing one is no mistake.
    pub folders: Vec<PathBuf>,
    /// Where private copies are kept (`/run/tempos/plugins`): made with mode 0700, emptied at start. It
    /// must lie on a file system from which code may run: see [`stage::runs_code`].
    pub stage_folder: PathBuf,
    /// Program and leading arguments of the probe (`temposd --probe`), to which the file is appended;
    /// none: files are loaded without a probe, and a bad constructor takes this process with it.
    pub probe_command: Option<Vec<OsString>>,
    /// How long a probe may take.
    pub probe_timeout: Duration,
    /// The user beside root who may own plugin files and their folders: whom the node runs as.
    pub trusted_uid: u32,
}

/// The most generations that one process loads: each stays mapped, at some 400 KiB.
pub const GENERATIONS_MAX: usize = 1024;
/// The most plugin files looked at in a folder, and the most refused files remembered.
pub const FILES_MAX: usize = 1024;
/// The largest plugin file, in bytes.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// One line, however the text was written, of at most 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(300));
    for (count, word) in text.split(|c: char| c.is_whitespace() || c.is_control()).enumerate() {
        if word.is_empty() {
            continue;
        }
        if count > 0 && !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 300 {
            let end = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= 299).last().unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}
