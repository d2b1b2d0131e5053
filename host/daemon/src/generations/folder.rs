//! A folder of generations: files that appear whole or not at all, and files of no use that are set aside.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{self, Body, Head, Unreadable};

/// What the files are called behind their number.
const ENDING: &str = ".generation";
/// Behind this name stands the number up to which numbers may have been given.
const RESERVED: &str = "reserved-";
/// Where files of no use go.
const ASIDE: &str = "set-aside";
/// The most of them that stay.
const ASIDE_MAX: usize = 8;
/// The largest file that is read. A wiring of 65,536 topics with a channel each takes about 60 MB.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// What is read of a file at first.
const FIRST_BYTES: u64 = 16 << 10;
/// The most files that are looked at.
const FILES_MAX: usize = 10_000;

/// A folder of generations.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whether what is in it is to be there after a power failure.
    is_lasting: bool,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Generations by number.
    pub heads: BTreeMap<u64, Head>,
    /// The number up to which numbers may have been given.
    pub reserved: u64,
    /// The number of the newest file, also where that is of no use.
    pub newest: Option<u64>,
    /// One sentence for each file that is of no use.
    pub troubles: Vec<String>,
}

impl Folder {
    /// The folder at `path`, made where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: PathBuf, is_lasting: bool) -> io::Result<Folder> {
        // Options of channels may be passwords.
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Folder { path, is_lasting })
    }

    /// Looks at all files. Those of no use are set aside.
    pub fn look(&self) -> Found {
        let mut found = Found::default();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                found.troubles.push(format!("{} cannot be read: {error}", self.path.display()));
                return found;
            }
        };
        for entry in entries.filter_map(Result::ok).take(FILES_MAX) {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with('.') && name.ends_with(".part") {
                // Of a write that did not come to its end.
                let _ = fs::remove_file(entry.path());
            } else if let Some(number) = name.strip_prefix(RESERVED) {
                found.reserved = found.reserved.max(number.parse().unwrap_or(0));
            } else if let Some(number) = name.strip_suffix(ENDING) {
                let Ok(number) = number.parse::<u64>() else { continue };
                found.newest = found.newest.max(Some(number));
                match self.head(number) {
                    Ok(head) => drop(found.heads.insert(number, head)),
                    Err(why) => found.troubles.push(self.set_aside(number, &why)),
                }
            }
        }
        found
    }

    fn head(&self, number: u64) -> Result<Head, Unreadable> {
        let mut file = self.file(number)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        (&mut file).take(FIRST_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        let end = record::head_end(&bytes)?;
        if end > bytes.len() && (end as u64) <= len {
            let more = (end - bytes.len()) as u64;
            file.take(more).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        let head = record::decode_head(&bytes, len)?;
        named(head.number, number).map(|()| head)
    }

    /// Reads a generation whole.
    ///
    /// # Errors
    /// Why it is of no use; the file is still there.
    pub fn read(&self, number: u64) -> Result<Body, Unreadable> {
        let mut bytes = Vec::new();
        self.file(number)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
        let (head, body) = record::decode(&bytes)?;
        named(head.number, number).map(|()| body)
    }

    fn file(&self, number: u64) -> Result<File, Unreadable> {
        let path = self.at(number);
        // A named pipe would wait for its writer.
        if !fs::symlink_metadata(&path).map_err(unreadable)?.is_file() {
            return Err(Unreadable(String::from("it is no regular file")));
        }
        File::open(path).map_err(unreadable)
    }

    /// Writes a generation; it is there whole, or the one before it is.
    ///
    /// # Errors
    /// One sentence.
    pub fn write(&self, head: &Head, body: &Body) -> Result<(), String> {
        let bytes = record::encode(head, body)?;
        let path = self.at(head.number);
        let part = self.path.join(format!(".{}.part", head.number));
        self.write_through(&part, &path, &bytes).map_err(|error| {
            let _ = fs::remove_file(&part);
            format!("{} cannot be written: {error}", path.display())
        })
    }

    fn write_through(&self, part: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part)?;
        file.write_all(bytes)?;
        if self.is_lasting {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(part, path)?;
        self.sync()
    }

    /// What was renamed is still renamed after a power failure (fsync(2) of the folder).
    fn sync(&self) -> io::Result<()> {
        if self.is_lasting { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// Says that numbers up to this one may be given.
    ///
    /// # Errors
    /// The system's.
    pub fn reserve(&self, before: u64, number: u64) -> io::Result<()> {
        File::create(self.path.join(format!("{RESERVED}{number}")))?;
        self.sync()?;
        if before != number {
            // One that stays does no harm: the highest counts.
            let _ = fs::remove_file(self.path.join(format!("{RESERVED}{before}")));
        }
        Ok(())
    }

    /// Removes a generation.
    pub fn remove(&self, number: u64) {
        // One that stays is removed when there are too many the next time.
        let _ = fs::remove_file(self.at(number));
    }

    /// Moves a file of no use out of the way; the answer says so.
    pub fn set_aside(&self, number: u64, why: &Unreadable) -> String {
        let (path, aside) = (self.at(number), self.path.join(ASIDE));
        let to = (0..1000).map(|again| match again {
            0 => aside.join(format!("{number}{ENDING}")),
            again => aside.join(format!("{number}{ENDING}.{again}")),
        });
        let to = to.into_iter().find(|to| !to.exists()).unwrap_or_else(|| aside.join("last"));
        let moved = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
        let moved = moved.and_then(|()| fs::rename(&path, &to)).and_then(|()| self.sync());
        self.forget_aside(&aside);
        match moved {
            Ok(()) => format!("{} is set aside as {}: {}", path.display(), to.display(), why.0),
            Err(error) => {
                format!("{} is of no use: {}; it cannot be set aside: {error}", path.display(), why.0)
            }
        }
    }

    /// Keeps the newest of what was set aside.
    fn forget_aside(&self, aside: &Path) {
        let Ok(entries) = fs::read_dir(aside) else { return };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(ASIDE_MAX) {
            let _ = fs::remove_file(path);
        }
    }

    fn at(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:020}{ENDING}"))
    }
}

fn unreadable(error: io::Error) -> Unreadable {
    Unreadable(format!("it cannot be read: {error}"))
}

/// A file that was renamed is not what its name says.
fn named(own: u64, number: u64) -> Result<(), Unreadable> {
    if own == number {
        return Ok(());
    }
    Err(Unreadable(format!("its name says {number} and its text says {own}")))
}
