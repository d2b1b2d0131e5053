//! A private copy of a function's file under a name that is never used again.
//!
//! What is mapped must not change: a file that is overwritten in place kills the process with SIGBUS. And
//! a path that was opened before gives the old library again, whatever lies there now.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempos_abi::PluginError;
use tempos_abi::invoker::FunctionSpec;

use crate::inspect::inspect;

/// A function larger than this is refused.
const FILE_BYTES_MAX: u64 = 256 << 20;

static COPIES: AtomicU64 = AtomicU64::new(0);

/// A copy, removed when it is dropped: what is mapped by then stays.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
    /// Somebody else removes it.
    borrowed: bool,
}

impl Copy {
    /// Copies a function's file, once it is known to be a whole shared library.
    ///
    /// # Errors
    /// One sentence: what is wrong with the file, or what the system refused.
    pub fn make(spec: &FunctionSpec) -> Result<Self, PluginError> {
        let (workflow, file) = (&spec.name, &spec.file);
        let unreadable = |error: io::Error| {
            let what = format!("function of workflow \"{workflow}\": cannot read {file}");
            PluginError::new(PluginError::BAD_FUNCTION, format!("{what}: {error}"))
        };
        let wrong = |what: &str| {
            let sentence = format!("function of workflow \"{workflow}\": {file} cannot be used: {what}");
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        };
        // O_NONBLOCK: a named pipe in the function's place must not keep us waiting.
        let source = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file.as_str());
        let source = source.map_err(unreadable)?;
        if !source.metadata().map_err(unreadable)?.is_file() {
            return Err(wrong("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("it is larger than 256 MiB"));
        }
        inspect(&bytes).map_err(wrong)?;
        Copy::write(&bytes).map_err(|error| {
            let folder = folder().display().to_string();
            let what = format!("function of workflow \"{workflow}\": cannot copy {file} to {folder}");
            PluginError::system(what, &error)
        })
    }

    /// A copy that somebody else has made and removes.
    pub fn borrowed(path: &Path) -> Self {
        Copy { path: path.to_owned(), borrowed: true }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(bytes: &[u8]) -> io::Result<Self> {
        let folder = folder();
        if !folder.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        }
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("function-{}-{number}-{:x}.so", std::process::id(), now.as_nanos());
        let copy = Copy { path: folder.join(name), borrowed: false };
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy.path)?;
        target.write_all(bytes)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.borrowed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The node's own folder where it says so, else the system's for temporary files.
fn folder() -> PathBuf {
    std::env::var_os("TEMPOS_RUN_DIR")
        .map_or_else(std::env::temp_dir, |run| Path::new(&run).join("functions"))
}
