//! One daemon for each run folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::exit::{CANTCREAT, Ending, TEMPFAIL};

/// The hold on a run folder. The kernel lets go of it when the process ends, however it ends (flock(2)).
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Makes the folder where it is missing and takes hold of it.
    ///
    /// # Errors
    /// The folder cannot be made, or another daemon holds it.
    pub fn take(run_dir: &Path) -> Result<RunLock, Ending> {
        make_folder(run_dir, 0o755)?;
        let path = run_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(|error| Ending::new(CANTCREAT, format!("{} cannot be made: {error}", path.display())))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the sentence: a holder that cannot be read is still a holder.
                let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
                return Err(Ending::new(
                    TEMPFAIL,
                    format!(
                        "another temposd (process {}) holds {}; stop it, or give this one a folder of its own with --run",
                        if holder.trim().is_empty() { "unknown" } else { holder.trim() },
                        run_dir.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Ending::new(CANTCREAT, format!("{} cannot be locked: {error}", path.display())));
            }
        }
        // Whoever looks at the file learns who holds it. The lock itself does not depend on this.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(RunLock { _file: file })
    }
}

/// Makes a folder and its parents, with `mode` for those that are new.
///
/// # Errors
/// Why it cannot be made.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), Ending> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| {
        Ending::new(
            CANTCREAT,
            format!(
                "the folder {} cannot be made: {error}; run as root, or name another with --run and --state",
                path.display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("deep/run");
        let first = RunLock::take(&run).unwrap();
        let refusal = RunLock::take(&run).unwrap_err();
        assert_eq!(refusal.code, TEMPFAIL);
        assert!(refusal.sentence.contains(&std::process::id().to_string()), "{}", refusal.sentence);
        drop(first);
        assert!(RunLock::take(&run).is_ok());
    }
}
