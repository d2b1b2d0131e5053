//! A listening Unix socket, and the file that it is.

use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode, so that only our own file is removed.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path` with that mode and group. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// One sentence.
    pub fn bind(path: &Path, mode: u32, gid: Option<u32>) -> Result<Self, String> {
        let fails = |what: &str, error: io::Error| format!("{what} {}: {error}", path.display());
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(format!("{} is there and is not a socket: it is left alone", path.display()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(format!("another node listens at {}", path.display()));
            }
            _ => {}
        }
        // Under another name first: a client must never meet the socket before it has its mode.
        let mut early = path.as_os_str().to_owned();
        early.push(format!(".{}", std::process::id()));
        let early = PathBuf::from(early);
        let _ = std::fs::remove_file(&early);
        let socket = UnixListener::bind(&early).map_err(|e| fails("cannot listen at", e))?;
        let settled = std::fs::set_permissions(&early, std::fs::Permissions::from_mode(mode))
            .and_then(|()| match gid {
                // A daemon that is neither root nor a member may not: its own group stays.
                Some(gid) => std::os::unix::fs::chown(&early, None, Some(gid)).or(Ok(())),
                None => Ok(()),
            })
            .and_then(|()| std::fs::rename(&early, path))
            .and_then(|()| std::fs::symlink_metadata(path));
        match settled {
            Ok(found) => Ok(Listener { socket, path: path.to_owned(), file: (found.dev(), found.ino()) }),
            Err(error) => {
                let _ = std::fs::remove_file(&early);
                Err(fails("cannot set up", error))
            }
        }
    }
}

impl Deref for Listener {
    type Target = UnixListener;

    fn deref(&self) -> &UnixListener {
        &self.socket
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
