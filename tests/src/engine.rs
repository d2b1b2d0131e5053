//! A container engine of the tests' own: `dockerd` in a temporary folder, without a bridge, without the network, and
//! with images that are built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use crate::child::Child;
use crate::wait::eventually;

/// An engine; it and all its containers end when it is dropped.
#[derive(Debug)]
pub struct Engine {
    daemon: Child,
    folder: TempDir,
}

impl Engine {
    /// The engine that all tests which run at this time share; `None` where none can run here, which is said.
    ///
    /// # Panics
    /// When one should run and does not.
    pub fn shared() -> Option<Arc<Engine>> {
        static RUNNING: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = running.upgrade() {
            return Some(engine);
        }
        let engine = Arc::new(Engine::start()?);
        *running = Arc::downgrade(&engine);
        Some(engine)
    }

    fn start() -> Option<Engine> {
        // SAFETY: no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("only root may start a container engine: skipped");
            return None;
        }
        let there =
            |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        if let Some(missing) = ["dockerd", "docker", "runc"].into_iter().find(|program| !there(program)) {
            eprintln!("there is no {missing} (packages docker.io and runc): skipped");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("tempos-engine-").tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let log = fs::File::create(at("log")).expect("the log can be written");
        let mut command = Command::new("dockerd");
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(at(name));
        }
        command
            .arg("--host")
            .arg(format!("unix://{}", at("sock").display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let mut engine = Engine { daemon: Child::start("dockerd", &mut command), folder };
        let came = eventually("the engine", || match engine.ask(&["info"]).status.success() {
            true => Some(true),
            false if !engine.daemon.runs() => Some(false),
            false => None,
        });
        if !came {
            let log = fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("");
            eprintln!("a container engine cannot run here ({last}): skipped");
            return None;
        }
        Some(engine)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// The command `docker` for this engine.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_HOST").arg("--host").arg(format!("unix://{}", self.socket().display()));
        command
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("docker runs")
    }

    /// Runs `docker`; the answer is what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes an image of a folder.
    ///
    /// # Panics
    /// When it fails.
    pub fn import(&self, root: &Path, image: &str) {
        let archive = self.folder.path().join(format!("{}.tar", image.replace(':', "-")));
        let packed = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.expect("tar runs").success());
        self.docker(&["import", &archive.display().to_string(), image]);
        let _ = fs::remove_file(archive);
    }

    /// The first process of a container.
    pub fn first_process(&self, container: &str) -> i32 {
        self.docker(&["inspect", "--format", "{{.State.Pid}}", container]).parse().expect("a number")
    }

    /// The processes of this machine that are in a container, without its first one.
    pub fn inside(&self, container: &str) -> Vec<i32> {
        let first = self.first_process(container);
        let place = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let of = place(first).expect("it runs");
        let all = fs::read_dir("/proc").expect("there is a /proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| *pid != first && place(*pid).as_ref() == Some(&of))
            .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.ask(&["ps", "--all", "--quiet"]);
        let all = String::from_utf8_lossy(&all.stdout).into_owned();
        for container in all.lines() {
            self.ask(&["rm", "--force", container]);
        }
        if self.daemon.runs() {
            self.daemon.signal(libc::SIGTERM);
            self.daemon.wait_for_end();
        }
    }
}
