//! A message bus of a test's own.

use std::path::Path;
use std::process::Command;

use crate::child::Child;
use crate::wait::eventually;

/// A private `dbus-daemon`, ended when dropped.
#[derive(Debug)]
pub struct PrivateBus {
    address: String,
    daemon: Child,
}

impl PrivateBus {
    /// Starts one with its socket in `folder`.
    ///
    /// # Panics
    /// When `dbus-daemon` is missing or does not come up.
    pub fn start(folder: &Path) -> PrivateBus {
        let socket = folder.join("bus");
        let address = format!("unix:path={}", socket.display());
        let daemon = Child::start(
            "dbus-daemon",
            Command::new("dbus-daemon").args([
                "--session",
                "--nofork",
                "--nopidfile",
                "--nosyslog",
                &format!("--address={address}"),
            ]),
        );
        eventually("the private bus", || socket.exists().then_some(()));
        PrivateBus { address, daemon }
    }

    /// Its address, for `--bus` and `busctl --address=`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process, for tests that take the bus away.
    pub fn daemon(&mut self) -> &mut Child {
        &mut self.daemon
    }
}
