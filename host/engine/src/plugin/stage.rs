//! Private copies of plugin files. The dynamic loader matches libraries by path and maps them from the
//! file, so what it is given must have a name that was never used before and a content that never
//! changes: not the file that an operator may overwrite at any time.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;

/// The largest report kept of a refused file, in bytes.
const REPORT_BYTES_MAX: usize = 1024 * 1024;

/// Names handed out by this process, of every registry that it ever had.
static USED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The folder of the copies; one node at a time.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    /// Held for as long as this is used (flock(2)); the system releases it when the process dies.
    _lock: File,
}

impl Stage {
    /// Makes the folder where it is missing, takes its lock, and removes what dead nodes left.
    ///
    /// # Errors
    /// One sentence: the folder cannot be made or is not ours, another node uses it, or code cannot run
    /// from it.
    pub fn open(folder: &Path) -> Result<Stage, String> {
        let because = |what: &str, error: &dyn std::fmt::Display| {
            format!("the folder {folder:?} for private copies of plugins {what}: {error}")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| because("cannot be made", &error))?;
        let folder = folder.canonicalize().map_err(|error| because("cannot be read", &error))?;
        let meta = folder.metadata().map_err(|error| because("cannot be examined", &error))?;
        // SAFETY: geteuid(2) has no preconditions and cannot fail.
        let own_uid = unsafe { libc::geteuid() };
        if meta.uid() != own_uid {
            return Err(because(
                "cannot be used",
                &format!("it belongs to user {}, not to user {own_uid}", meta.uid()),
            ));
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700))
            .map_err(|error| because("cannot be closed to others", &error))?;
        if !runs_code(&folder).map_err(|error| because("cannot be examined", &error))? {
            return Err(because(
                "cannot be used",
                &"its file system is mounted noexec, so no code can be loaded from it",
            ));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join(".lock"))
            .map_err(|error| because("cannot be locked", &error))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => because("cannot be used", &"another running node uses it"),
            fs::TryLockError::Error(error) => because("cannot be locked", &error),
        })?;
        let stage = Stage { folder, _lock: lock };
        stage.clean();
        Ok(stage)
    }

    /// Copies of nodes that are gone, and their reports.
    fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "so" || end == "txt") {
                // What cannot be removed does no harm: no name of it is used again.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Writes the copy `NAME-VERSION-HASH8.so`, with a number appended where this process used that name
    /// before.
    ///
    /// # Errors
    /// One sentence about the file.
    pub fn put(&self, manifest: &Manifest, sha256: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        let hash8 = &sha256[..sha256.len().min(8)];
        let stem = format!("{}-{}-{hash8}", manifest.name, manifest.version);
        let path = self.unused(&stem);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o500)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| {
            self.remove(&path);
            format!("its private copy {path:?} cannot be written: {error}")
        })?;
        Ok(path)
    }

    fn unused(&self, stem: &str) -> PathBuf {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path = self.folder.join(format!("{stem}.so"));
        let mut number = 2_u32;
        while used.contains(&path) || path.exists() {
            path = self.folder.join(format!("{stem}-{number}.so"));
            number += 1;
        }
        used.insert(path.clone());
        path
    }

    /// Removes a copy that was never loaded here; its name may be used again.
    pub fn remove(&self, path: &Path) {
        let _ = fs::remove_file(path);
        USED.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Keeps the long text behind a refusal as `FILE.txt`, for developers.
    pub fn report(&self, file: &Path, text: &str) -> Option<PathBuf> {
        let path = self.folder.join(format!("{}.txt", file.file_name()?.to_string_lossy()));
        let end = text.floor_char_boundary(REPORT_BYTES_MAX);
        fs::write(&path, &text[..end]).ok()?;
        Some(path)
    }
}

/// Whether code may be mapped from the file system of `folder`: Debian mounts `/run` noexec.
///
/// # Errors
/// As statvfs(3).
pub fn runs_code(folder: &Path) -> io::Result<bool> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends in NUL and `answer` has room for the structure.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs(3) answered 0 and has filled it.
    let answer = unsafe { answer.assume_init() };
    Ok(answer.f_flag & libc::ST_NOEXEC == 0)
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_file_system_without_code_is_known_by_its_mount_options() {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("a Linux");
        // Of several mounts over each other the last one counts.
        let mounts: BTreeMap<&str, &str> = mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                Some((fields.nth(1)?, fields.nth(1)?))
            })
            .collect();
        let mut asked = 0;
        for (place, options) in mounts {
            let Ok(answer) = runs_code(Path::new(place)) else { continue };
            assert_eq!(answer, !options.split(',').any(|option| option == "noexec"), "{place}: {options}");
            asked += 1;
        }
        assert!(asked > 0);
    }
}
