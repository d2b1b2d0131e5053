//! The name of a unix socket: a file, or a name of the abstract namespace.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use socket2::SockAddr;

/// A path and its NUL must fit into an address (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The name of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A file.
    File(PathBuf),
    /// A name of the abstract namespace, without its `@`.
    Abstract(String),
}

impl Name {
    /// Reads the value of the option `key`; `@NAME` is a name of the abstract namespace.
    ///
    /// # Errors
    /// What is wrong, and what would be right; the subject is the caller's to say.
    pub fn read(key: &str, path: &str) -> Result<Self, String> {
        if path.len() > PATH_BYTES_MAX {
            return Err(format!(
                "{key} = {path:?} has {} bytes; a unix socket's path has at most {PATH_BYTES_MAX}",
                path.len()
            ));
        }
        match path.strip_prefix('@') {
            _ if path.contains('\0') => Err(format!("{key} holds a NUL byte; write it without")),
            Some("") => Err(format!("{key} = \"@\" has no name; write \"@NAME\"")),
            Some(name) => Ok(Name::Abstract(name.to_owned())),
            None => Ok(Name::File(PathBuf::from(path))),
        }
    }

    /// The address for system calls.
    ///
    /// # Errors
    /// It is too long.
    pub fn address(&self) -> std::io::Result<SockAddr> {
        match self {
            Name::File(path) => SockAddr::unix(path),
            Name::Abstract(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name.as_bytes()].concat())),
        }
    }

    /// Whether an address is this one.
    pub fn is(&self, address: &SockAddr) -> bool {
        match self {
            Name::File(path) => address.as_pathname() == Some(path),
            Name::Abstract(name) => address.as_abstract_namespace() == Some(name.as_bytes()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::File(path) => path.display().fmt(f),
            Name::Abstract(name) => write!(f, "@{name}"),
        }
    }
}
