//! Where scripts come from: files, folders, or a text that a caller holds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use tempos_control::{Mistake, Origin};

use crate::Limits;
use crate::sentence::one_line;

/// What is to be evaluated, all of it as one wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files, and folders whose `*.lua` are read in the order of their names. Hidden files are left out,
    /// and folders inside folders are too: that is where modules for `require` go.
    Paths(Vec<PathBuf>),
    /// A text without a folder: `require` finds library modules only, and a function's `file` must be
    /// a full path.
    Text {
        /// The name under which mistakes are reported.
        chunk_name: String,
        /// The script.
        lua: String,
    },
    /// Scripts that were read before, as [`read_scripts`] gives them: the same texts mean the same, whatever has
    /// become of their files. Modules are still looked for in their folders.
    Scripts(Vec<Script>),
}

/// One script, read into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The name in mistakes.
    pub name: String,
    /// The folder that holds it, absolute; `None` for a text.
    pub folder: Option<PathBuf>,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Reads all scripts of `source` into memory.
///
/// # Errors
/// What cannot be read, and why.
pub fn read_scripts(source: &Source, limits: &Limits) -> Result<Vec<Script>, Vec<Mistake>> {
    let (scripts, mistakes) = read(source, limits, &mut Tally::default());
    if mistakes.is_empty() { Ok(scripts) } else { Err(mistakes) }
}

/// Counts the files and bytes that were read, against their bounds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    files: usize,
    bytes: usize,
}

impl Tally {
    /// Adds one text.
    pub fn add(&mut self, bytes: usize, limits: &Limits) -> Result<(), String> {
        self.files += 1;
        self.bytes += bytes;
        if bytes > limits.source_bytes {
            return Err(format!("the script is larger than {} bytes", limits.source_bytes));
        }
        if self.files > limits.files {
            return Err(format!("the wiring has more than {} scripts and modules", limits.files));
        }
        if self.bytes > limits.sources_bytes {
            return Err(format!("the scripts are larger than {} bytes together", limits.sources_bytes));
        }
        Ok(())
    }
}

/// Reads all scripts of `source`; what cannot be read becomes a mistake, and the rest is still read.
pub(crate) fn read(source: &Source, limits: &Limits, tally: &mut Tally) -> (Vec<Script>, Vec<Mistake>) {
    let mut scripts = Vec::new();
    let mut mistakes = Vec::new();
    match source {
        Source::Text { chunk_name, lua } => {
            let name = if chunk_name.trim().is_empty() { "script".into() } else { one_line(chunk_name) };
            match tally.add(lua.len(), limits) {
                Ok(()) => scripts.push(Script { name, folder: None, text: lua.clone().into_bytes() }),
                Err(sentence) => mistakes.push(Mistake::new(&Origin::new(name, 0), sentence)),
            }
        }
        Source::Scripts(read) => {
            for script in read {
                match tally.add(script.text.len(), limits) {
                    Ok(()) => scripts.push(script.clone()),
                    Err(sentence) => {
                        mistakes.push(Mistake::new(&Origin::new(script.name.clone(), 0), sentence))
                    }
                }
            }
        }
        Source::Paths(paths) => {
            let files: Vec<PathBuf> =
                paths.iter().flat_map(|path| expand(path, limits, &mut mistakes)).collect();
            for path in files {
                match read_script(&path, limits, tally) {
                    Ok(script) => scripts.push(script),
                    Err(sentence) => mistakes.push(Mistake::new(&origin_of(&path), sentence)),
                }
                if tally.files > limits.files {
                    break;
                }
            }
        }
    }
    (scripts, mistakes)
}

fn origin_of(path: &Path) -> Origin {
    Origin::new(one_line(&path.to_string_lossy()), 0)
}

/// The files that a path stands for.
fn expand(path: &Path, limits: &Limits, mistakes: &mut Vec<Mistake>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            mistakes.push(Mistake::new(&origin_of(path), format!("the folder cannot be read: {error}")));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.ends_with(b".lua") && !name.starts_with(b".") && !entry.path().is_dir()
        })
        .take(limits.files + 1)
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn read_script(path: &Path, limits: &Limits, tally: &mut Tally) -> Result<Script, String> {
    let text = read_file(path, limits)?;
    tally.add(text.len(), limits)?;
    let absolute = std::path::absolute(path).map_err(|e| format!("its folder is unknown: {e}"))?;
    Ok(Script {
        name: one_line(&path.to_string_lossy()),
        folder: absolute.parent().map(Path::to_owned),
        text,
    })
}

/// Reads a regular file of at most the allowed size.
pub(crate) fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("the script cannot be read: {error}");
    // Asked before opening: to open a named pipe would wait for its writer.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("a script must be a regular file".into());
    }
    let mut text = Vec::new();
    let bound = limits.source_bytes as u64 + 1;
    File::open(path).map_err(cannot)?.take(bound).read_to_end(&mut text).map_err(cannot)?;
    if text.len() > limits.source_bytes {
        return Err(format!("the script is larger than {} bytes", limits.source_bytes));
    }
    Ok(text)
}
