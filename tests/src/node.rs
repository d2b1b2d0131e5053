//! A running node and what a user may do to it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::built;
use crate::bus::PrivateBus;
use crate::child::Child;
use crate::ready::ReadySocket;
use crate::wait::eventually;

/// The name on the bus.
pub const BUS_NAME: &str = "org.tempos.Host1";
/// The root object.
pub const ROOT: &str = "/org/tempos/Host1";

/// A running node; killed when dropped. Where the test is failing, its log is printed then.
#[derive(Debug)]
pub struct Node {
    daemon: Child,
    bus: Option<PrivateBus>,
    ready: ReadySocket,
    folder: TempDir,
}

impl Node {
    pub(crate) fn new(folder: TempDir, bus: Option<PrivateBus>, ready: ReadySocket, daemon: Child) -> Self {
        Node { daemon, bus, ready, folder }
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that plugins are dropped into.
    pub fn plugin_folder(&self) -> PathBuf {
        self.folder().join("plugins")
    }

    /// The wiring script.
    pub fn wiring_path(&self) -> PathBuf {
        self.folder().join("wiring/10-test.lua")
    }

    /// The socket that the node listens on with or without a bus.
    pub fn peer_socket(&self) -> PathBuf {
        self.folder().join("run/control.sock")
    }

    /// The daemon's process.
    pub fn daemon(&mut self) -> &mut Child {
        &mut self.daemon
    }

    /// The private bus, where it has one.
    pub fn bus(&mut self) -> Option<&mut PrivateBus> {
        self.bus.as_mut()
    }

    /// The address for clients: of the bus where there is one, of the peer socket otherwise.
    pub fn address(&self) -> String {
        match &self.bus {
            Some(bus) => bus.address().to_owned(),
            None => format!("unix:path={}", self.peer_socket().display()),
        }
    }

    /// Replaces the wiring script in one step, as an editor does that saves through a rename.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn save_wiring(&self, lua: &str) {
        let path = self.wiring_path();
        let hidden = path.with_file_name(".saving");
        fs::write(&hidden, lua).expect("the wiring can be written");
        fs::rename(&hidden, &path).expect("the wiring can be moved into place");
    }

    /// Runs `temposctl` against this node.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn ctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Command::new(built::program("temposctl"))
            .args(["--bus", &self.address()])
            .args(arguments)
            .output()
            .expect("temposctl runs")
    }

    /// As [`ctl`](Self::ctl) with `--json`, for a call that must succeed.
    ///
    /// # Panics
    /// When it fails or does not print JSON.
    pub fn ctl_json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let arguments: Vec<_> = arguments.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let output = self.ctl(arguments.iter().cloned().chain(["--json".into()]));
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "temposctl {arguments:?}: {} {errors}", output.status);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("temposctl {arguments:?} printed no JSON: {error}\n{text}"))
    }

    /// Runs `busctl` against this node, on the bus or on the peer socket.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn busctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Command::new("busctl")
            .arg(format!("--address={}", self.address()))
            .args(["--no-pager"])
            .args(arguments)
            .output()
            .expect("busctl runs")
    }

    /// One property of an object, as `busctl -j` prints it.
    ///
    /// # Panics
    /// When there is no such property.
    pub fn property(&self, path: &str, interface: &str, name: &str) -> Value {
        let interface = format!("{BUS_NAME}.{interface}");
        let output = self.busctl(["--json=short", "get-property", BUS_NAME, path, &interface, name]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "property {path} {interface} {name}: {errors}");
        let value: Value = serde_json::from_slice(&output.stdout).expect("busctl prints JSON");
        value["data"].clone()
    }

    /// The generation of the wiring in force.
    ///
    /// # Panics
    /// When the node does not say.
    pub fn generation(&self) -> u64 {
        self.property(ROOT, "Node", "Generation").as_u64().expect("a generation is a number")
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Waits until the log holds `words`.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_for_log(&self, words: &str) {
        eventually(&format!("{words:?} in the log"), || self.log().contains(words).then_some(()));
    }

    /// The messages that the daemon sends to its supervisor.
    pub fn supervisor(&self) -> &ReadySocket {
        &self.ready
    }

    /// Ends the daemon where it still runs, as SIGKILL does, and starts it again in the same folders, as a
    /// supervisor would. `command` is what [`NodeSetup::command`](crate::NodeSetup::command) made.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn restart(&mut self, command: &mut Command) {
        if self.daemon.runs() {
            self.end(libc::SIGKILL);
        }
        // What the former one still had to say is not the new one's.
        while self.ready.next().is_some() {}
        let log = fs::File::options().append(true).open(self.folder().join("log")).expect("the log is there");
        command
            .env("NOTIFY_SOCKET", self.ready.path())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.daemon = Child::start("temposd", command);
        let daemon = &mut self.daemon;
        let came = self.ready.wait_for("READY=1", || {
            if daemon.runs() { Ok(()) } else { Err(format!("temposd {}", daemon.wait_for_end())) }
        });
        if let Err(why) = came {
            panic!("the node is not ready again: {why}");
        }
    }

    /// Ends the node with a signal and waits for it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self, signal: i32) -> ExitStatus {
        self.daemon.signal(signal);
        self.daemon.wait_for_end()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the node\n{}--- end of the log", self.log());
        }
    }
}
