//! What a node under test is to be: its plugins, its wiring, its bus, its node file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::built;
use crate::bus::PrivateBus;
use crate::child::Child;
use crate::node::Node;
use crate::ready::ReadySocket;

/// A node to be started. Every folder lies in a temporary one of its own, port numbers are 0, the bus is
/// private: any number of them run at once.
#[derive(Debug)]
pub struct NodeSetup {
    pub(crate) folder: TempDir,
    bus: Option<PrivateBus>,
    node_file: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Default for NodeSetup {
    fn default() -> Self {
        NodeSetup::new()
    }
}

impl NodeSetup {
    /// A node without plugins, wiring or bus.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    pub fn new() -> Self {
        // Short: the path of a unix socket has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("tempos-").tempdir().expect("a temporary folder");
        for name in ["run", "state", "plugins", "wiring"] {
            fs::create_dir(folder.path().join(name)).expect("a folder in a temporary one");
        }
        NodeSetup { folder, bus: None, node_file: String::new(), flags: Vec::new(), environment: Vec::new() }
    }

    /// The temporary folder: `run`, `state`, `plugins`, `wiring` and `node.toml` are in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts built plugins, by the names of their folders, into the plugin folder.
    #[must_use]
    pub fn plugins<'a>(self, folders: impl IntoIterator<Item = &'a str>) -> Self {
        for folder in folders {
            drop_plugin(&built::plugin(folder), &self.folder().join("plugins"));
        }
        self
    }

    /// Puts every plugin of the house into the plugin folder.
    #[must_use]
    pub fn all_plugins(self) -> Self {
        let folders = built::plugin_folders();
        self.plugins(folders.iter().map(String::as_str))
    }

    /// The wiring script.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn wiring(self, lua: &str) -> Self {
        fs::write(self.folder().join("wiring/10-test.lua"), lua).expect("the wiring can be written");
        self
    }

    /// Starts a private bus for it.
    #[must_use]
    pub fn with_bus(mut self) -> Self {
        self.bus = Some(PrivateBus::start(self.folder()));
        self
    }

    /// Adds lines to the node file. Its sections are the reader's business; `[paths]`, `[plugins]` and
    /// `[bus]` are set by flags already.
    #[must_use]
    pub fn node_file(mut self, toml: &str) -> Self {
        self.node_file.push_str(toml);
        self.node_file.push('\n');
        self
    }

    /// Adds a flag of `temposd`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The command that `start` runs, for tests that need it in another shape (a lower rlimit, another
    /// user).
    ///
    /// # Panics
    /// When the node file cannot be written.
    pub fn command(&self) -> Command {
        let folder = self.folder();
        fs::write(folder.join("node.toml"), &self.node_file).expect("the node file can be written");
        let mut command = Command::new(built::program("temposd"));
        command.current_dir(folder).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        for (flag, name) in [
            ("--config", "node.toml"),
            ("--run", "run"),
            ("--state", "state"),
            ("--plugins", "plugins"),
            ("--wiring", "wiring"),
        ] {
            command.arg(flag).arg(folder.join(name));
        }
        command.arg("--bus").arg(self.bus.as_ref().map_or("none", PrivateBus::address));
        command.args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the node and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not; its log is in the message.
    pub fn start(self) -> Node {
        let command = self.command();
        self.start_as(command)
    }

    /// As [`start`](Self::start), with a command made from [`command`](Self::command).
    ///
    /// # Panics
    /// When it does not become ready; its log is in the message.
    pub fn start_as(self, mut command: Command) -> Node {
        let ready = ReadySocket::bind(self.folder());
        let log_path = self.folder().join("log");
        let log = fs::File::create(&log_path).expect("the log can be written");
        command
            .env("NOTIFY_SOCKET", ready.path())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let mut daemon = Child::start("temposd", &mut command);
        let came = ready.wait_for("READY=1", || {
            if daemon.runs() { Ok(()) } else { Err(format!("temposd {}", daemon.wait_for_end())) }
        });
        if let Err(why) = came {
            panic!("the node is not ready: {why}\n{}", fs::read_to_string(&log_path).unwrap_or_default());
        }
        Node::new(self.folder, self.bus, ready, daemon)
    }

    /// Runs the daemon to its end (`--check`, refusals to start) and gives back its exit code and what it
    /// wrote.
    ///
    /// # Panics
    /// When it does not end within the limit of [`LIVENESS`](crate::LIVENESS).
    pub fn run_to_end(&self) -> (Option<i32>, String) {
        let log_path = self.folder().join("log");
        let log = fs::File::create(&log_path).expect("the log can be written");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let status = Child::start("temposd", &mut command).wait_for_end();
        (status.code(), fs::read_to_string(&log_path).unwrap_or_default())
    }
}

/// Copies a plugin into a watched folder as an installer should: under a hidden name, closed, renamed.
///
/// # Panics
/// When the copy fails.
pub fn drop_plugin(built: &Path, folder: &Path) {
    let name = built.file_name().expect("a plugin has a file name");
    drop_plugin_as(built, &folder.join(name));
}

/// As [`drop_plugin`], under a name of the test's choice.
///
/// # Panics
/// When the copy fails.
pub fn drop_plugin_as(built: &Path, target: &Path) {
    let hidden = target.with_file_name(format!(".{}.part", target.file_name().unwrap_or_default().display()));
    fs::copy(built, &hidden).expect("the plugin can be copied");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    fs::rename(&hidden, target).expect("it can be moved into place");
}
