//! The other end of sd_notify(3): how a test knows that a node is ready.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::wait::LIVENESS;

/// A socket that the daemon tells its state to.
#[derive(Debug)]
pub struct ReadySocket {
    path: PathBuf,
    socket: UnixDatagram,
}

impl ReadySocket {
    /// Binds one in `folder`.
    ///
    /// # Panics
    /// When it cannot be bound.
    pub fn bind(folder: &Path) -> ReadySocket {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in the test's own folder");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time limit can be set");
        ReadySocket { path, socket }
    }

    /// The value of NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message, where one comes soon: lines such as `READY=1`.
    pub fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    /// Waits for a message that holds `line`. `alive` is asked in between; a sentence from it ends the wait.
    ///
    /// # Errors
    /// Why it never came.
    pub fn wait_for(&self, line: &str, mut alive: impl FnMut() -> Result<(), String>) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < LIVENESS {
            if self.next().is_some_and(|message| message.lines().any(|l| l == line)) {
                return Ok(());
            }
            alive()?;
        }
        Err(format!("waited {LIVENESS:?} in vain for {line}"))
    }
}
