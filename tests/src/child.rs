//! A process that a test started: ended by its id, never by its name.

use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::wait::LIVENESS;

/// A child process, killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    name: String,
}

impl Child {
    /// Starts `command` with an empty standard input.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Child {
        let process = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Child { process, name: name.into() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Sends a signal (`libc::SIGTERM`, …).
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn signal(&mut self, signal: i32) {
        assert!(self.runs(), "{} has ended, it cannot take signal {signal}", self.name);
        // SAFETY: kill(2) takes no pointers; the process is our own child and not yet reaped, so the id
        // cannot have passed to another.
        let done = unsafe { libc::kill(self.pid().cast_signed(), signal) };
        assert_eq!(done, 0, "kill {}: {}", self.name, std::io::Error::last_os_error());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not within [`LIVENESS`].
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status;
            }
            assert!(start.elapsed() < LIVENESS, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child that has ended already gives an error here, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
