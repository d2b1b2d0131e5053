//! A TEMPOS node of the release build, in a temporary folder.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;

/// The node; ended when dropped, its folder removed.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    programs: PathBuf,
    process: Process,
}

/// What is built by `cargo build --release` in the house.
pub fn built() -> PathBuf {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    house.join("target/release")
}

/// A folder for one run, short enough for the paths of sockets.
pub fn folder(name: &str) -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("tempos-peers-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Node {
    /// Starts a node of the house as it is, with every plugin that is built. `change` may change the command before it
    /// runs.
    pub fn start(name: &str, wiring: &str, change: impl FnOnce(&mut Command)) -> io::Result<Node> {
        Node::of(built(), name, wiring, change)
    }

    /// Starts a node of another build, whose programs and plugins lie in a folder.
    pub fn of(
        programs: PathBuf,
        name: &str,
        wiring: &str,
        change: impl FnOnce(&mut Command),
    ) -> io::Result<Node> {
        let folder = folder(name)?;
        for part in ["run", "state", "plugins"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        for entry in std::fs::read_dir(&programs)?.flatten() {
            let file = entry.file_name();
            if file.to_string_lossy().starts_with("libtempos_") && file.to_string_lossy().ends_with(".so") {
                std::fs::copy(entry.path(), folder.join("plugins").join(file))?;
            }
        }
        std::fs::write(folder.join("node.toml"), "[log]\nlevel = \"info\"\n")?;
        std::fs::write(folder.join("wiring.lua"), wiring)?;
        let mut command = Command::new(programs.join("temposd"));
        for (flag, part) in [
            ("--config", "node.toml"),
            ("--wiring", "wiring.lua"),
            ("--run", "run"),
            ("--state", "state"),
            ("--plugins", "plugins"),
        ] {
            command.arg(flag).arg(folder.join(part));
        }
        command.args(["--bus", "none"]);
        change(&mut command);
        let log = folder.join("log");
        let mut process = Process::start(&mut command, &log, None)?;
        let ready = process
            .wait_until("temposd", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("ready:")));
        if let Err(error) = ready {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(io::Error::other(format!("{error}\n{log}")));
        }
        Ok(Node { folder, programs, process })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What `temposctl` prints, as JSON.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<serde_json::Value> {
        let bus = format!("unix:path={}", self.folder.join("run/control.sock").display());
        let output = Command::new(self.programs.join("temposctl"))
            .args(["--bus", &bus, "--json"])
            .args(arguments)
            .output()?;
        match serde_json::from_slice(&output.stdout) {
            // A node that is degraded says so by the exit code too.
            Ok(value) => Ok(value),
            Err(_) if output.status.success() => Ok(serde_json::Value::Null),
            Err(_) => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// Applies a wiring.
    pub fn apply(&self, lua: &str) -> io::Result<()> {
        let file = self.folder.join("next.lua");
        std::fs::write(&file, lua)?;
        self.ctl(&["apply", &file.display().to_string()]).map(|_| ())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
