//! A running container: found by its name through the engine, and pinned by a pidfd of its first process, so that
//! nothing that comes after it is taken for it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tempos_process::clock::{polled, wait};
use tempos_process::instance::raised;

use crate::engine::{Engine, Inspection};

/// How often a container that is just being started again is looked up before it is left for later.
const LOOKS_MAX: usize = 3;

/// A container that runs, or has run until a moment ago.
#[derive(Debug)]
pub struct Container {
    /// What the engine says of it.
    pub about: Inspection,
    /// Its name, as the user wrote it.
    pub name: String,
    /// Its first process.
    pub pid: i32,
    handle: OwnedFd,
}

impl Container {
    /// Looks it up.
    ///
    /// # Errors
    /// One sentence: why there is none.
    pub fn find(engine: &Engine, name: &str) -> Result<Container, String> {
        for _ in 0..LOOKS_MAX {
            let about = engine.inspect(name)?;
            let state = &about.state;
            if !state.running || state.pid <= 0 {
                let how = state.status.replace(char::is_control, " ");
                return Err(format!("container {name:?} is not running ({how}); start it"));
            }
            if state.paused {
                return Err(format!("container {name:?} is paused; let it go on"));
            }
            let pid = state.pid;
            let Ok(handle) = pidfd(pid) else { continue };
            // The number may have become another's between the answer and the pidfd: then the engine says so now.
            let again = engine.inspect(name)?;
            if again.id != about.id || again.state != about.state {
                continue;
            }
            if !is_of(pid, &about.id) {
                return Err(format!(
                    "process {pid} is not in a control group of container {name:?}: its engine is not on this \
                     machine, or numbers processes in another way"
                ));
            }
            return Ok(Container { about, name: name.to_owned(), pid, handle });
        }
        Err(format!("container {name:?} is just being started or stopped"))
    }

    /// Readable once its first process has ended, and all others of it with that.
    pub fn handle(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// Whether that has happened.
    pub fn has_ended(&self) -> bool {
        wait(&mut [polled(self.handle(), libc::POLLIN)], 1)
    }

    /// How it is shown to users.
    pub fn shown(&self) -> String {
        let id: String = self.about.id.chars().take(12).collect();
        format!("container {:?} ({id}, process {})", self.name, self.pid)
    }
}

/// A pidfd, under a number that no process gets its own descriptors as.
///
/// # Errors
/// What the system refuses: most often that there is no such process.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if handle < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    raised(unsafe { OwnedFd::from_raw_fd(handle as RawFd) })
}

/// Whether a process is in a control group that bears a container's id, as every engine names them.
pub fn is_of(pid: i32, id: &str) -> bool {
    !id.is_empty() && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
}
