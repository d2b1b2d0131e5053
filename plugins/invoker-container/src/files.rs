//! Files as they are inside a container, seen from outside: a path is followed as the container would follow it, and
//! never leads out of it (openat2(2), RESOLVE_IN_ROOT).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

const FILE_BYTES_MAX: u64 = 1 << 20;

/// The root of a container.
#[derive(Debug)]
pub struct Root(File);

impl Root {
    /// The root that a process has.
    ///
    /// # Errors
    /// What the system refuses: only who may look into the process may see its files.
    pub fn of(pid: i32) -> io::Result<Root> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        File::options().read(true).custom_flags(flags).open(format!("/proc/{pid}/root")).map(Root)
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(&self, path: &str) -> io::Result<File> {
        // O_NONBLOCK: a named pipe in its place must not keep us waiting.
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        self.resolve(path, flags)
    }

    fn resolve(&self, path: &str, flags: i32) -> io::Result<File> {
        let path = CString::new(path)?;
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = flags as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: a text, and a struct of the size that is given.
        let file = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.0.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        Ok(unsafe { File::from_raw_fd(file as i32) })
    }

    /// The text of a file, as far as 1 MiB; empty where there is none.
    pub fn text(&self, path: &str) -> String {
        let mut bytes = Vec::new();
        let file = self.open(path).and_then(|file| match file.metadata()?.is_file() {
            true => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes),
            false => Ok(0),
        });
        let _ = file;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it is a regular file that somebody may execute.
    pub fn is_program(&self, path: &str) -> bool {
        self.about(path).is_ok_and(|about| about.is_file() && about.mode() & 0o111 != 0)
    }

    /// What kind of file it is.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn about(&self, path: &str) -> io::Result<std::fs::Metadata> {
        self.resolve(path, libc::O_PATH | libc::O_CLOEXEC)?.metadata()
    }
}
