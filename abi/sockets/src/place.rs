//! The file of a listening socket: made with its mode, cleared of what a dead process left, removed at
//! the end where it is still ours and no successor listens at it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};
use tempos_abi::PluginError;

use crate::{Access, Name};

/// The file of a socket that this channel listens at.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    kind: Type,
}

impl Place {
    /// Binds a socket of a kind to its name, for the channel that `subject` names. A file is made with its mode from
    /// the first moment on.
    ///
    /// # Errors
    /// One sentence: what stands in the way, and what would be right.
    pub fn bind(
        subject: &str,
        socket: &Socket,
        name: &Name,
        kind: Type,
        access: Access,
    ) -> Result<Option<Place>, PluginError> {
        let failed = |error: &io::Error| {
            let hint = match (name, error.kind()) {
                (Name::File(path), io::ErrorKind::NotFound) => {
                    let folder = path.parent().unwrap_or(Path::new("/"));
                    format!(" (make the folder {} first)", folder.display())
                }
                _ => String::new(),
            };
            PluginError::system(format!("{subject}: cannot listen at {name}{hint}"), error)
        };
        let address = name.address().map_err(|error| failed(&error))?;
        if let (Some(mode), Name::File(_)) = (access.mode, name) {
            // The mode of an unbound socket is that of the file to come, less the umask (unix(7)).
            // SAFETY: the descriptor is the socket's.
            unsafe { libc::fchmod(socket.as_raw_fd(), mode) };
        }
        match (socket.bind(&address), name) {
            (Ok(()), _) => {}
            (Err(error), Name::File(path)) if error.kind() == io::ErrorKind::AddrInUse => {
                clear(subject, path, kind)?;
                socket.bind(&address).map_err(|error| failed(&error))?;
            }
            (Err(error), _) => return Err(failed(&error)),
        }
        let Name::File(path) = name else { return Ok(None) };
        let place = Place::of(path, kind).map_err(|error| failed(&error))?;
        place.dress(access).map_err(|error| {
            let what = format!("{subject}: cannot set mode or group of {name}");
            place.remove();
            PluginError::system(what, &error)
        })?;
        Ok(Some(place))
    }

    /// The place of a socket that is bound there already.
    pub fn adopt(name: &Name, kind: Type) -> Option<Place> {
        match name {
            Name::File(path) => Place::of(path, kind).ok(),
            Name::Abstract(_) => None,
        }
    }

    fn of(path: &Path, kind: Type) -> io::Result<Place> {
        let file = fs::symlink_metadata(path)?;
        Ok(Place { path: path.to_owned(), device: file.dev(), inode: file.ino(), kind })
    }

    fn dress(&self, access: Access) -> io::Result<()> {
        if let Some(mode) = access.mode {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))?;
        }
        if let Some(group) = access.group {
            let path = CString::new(self.path.as_os_str().as_bytes())?;
            // SAFETY: the path is a live C string; an owner of -1 stays as it is (chown(2)).
            if unsafe { libc::lchown(path.as_ptr(), u32::MAX, group) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Removes the file, where it is still the one that was made.
    fn remove(&self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket may have been handed to a successor, and the successor may have been given up again, together
/// with the wiring that it was opened for: the last of them that closes removes the file. A channel closes
/// its socket before its place.
impl Drop for Place {
    fn drop(&mut self) {
        if is_dead(&self.path, self.kind) {
            self.remove();
        }
    }
}

/// Whether a socket's file is there and no socket of the kind listens at it.
fn is_dead(path: &Path, kind: Type) -> bool {
    let probe = || -> io::Result<()> {
        let socket = Socket::new_raw(Domain::UNIX, kind.nonblocking().cloexec(), None)?;
        socket.connect(&socket2::SockAddr::unix(path)?)
    };
    // Anything but a refusal: somebody is there, if only with another type of socket.
    probe().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes a socket that nobody listens at any more; anything else is left alone.
fn clear(subject: &str, path: &Path, kind: Type) -> Result<(), PluginError> {
    let refuse = |sentence: String| {
        let at = path.display();
        Err(PluginError::bad_option(format!("{subject}: cannot listen at {at}: {sentence}")))
    };
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return refuse(String::from("a file that is not a socket is there; choose another path"));
    }
    if !is_dead(path, kind) {
        return refuse(String::from("another process listens there; stop it or choose another path"));
    }
    fs::remove_file(path)
        .or_else(|error| refuse(format!("a dead socket is there and cannot be removed: {error}")))
}
