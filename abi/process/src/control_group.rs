//! A control group that bounds how many processes a function has (cgroups(7), controller `pids`): the kernel
//! bounds them for each user by itself, but not for root.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the end of what is left in a group is waited for, a millisecond each.
const ROUNDS: usize = 200;

/// A group; it and what is left in it end with it.
#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
}

impl ControlGroup {
    /// A new group of so many processes, below the node's own.
    ///
    /// # Errors
    /// What the system has not or refuses.
    pub fn new(processes: u64) -> Result<Self, String> {
        let own = own_folder().ok_or("this machine has no control group that counts processes (pids)")?;
        ControlGroup::below(&own, Some(processes))
    }

    /// A new group below another one, of so many processes where there is a number.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn below(own: &Path, processes: Option<u64>) -> Result<Self, String> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let folder = own.join(format!("tempos-{}-{number}", std::process::id()));
        let refused = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(refused)?;
        let group = ControlGroup { folder: folder.clone() };
        if let Some(processes) = processes {
            fs::write(group.folder.join("pids.max"), processes.to_string()).map_err(refused)?;
        }
        Ok(group)
    }

    /// The file that a process writes itself into.
    pub fn entrance(&self) -> CString {
        CString::new(self.folder.join("cgroup.procs").into_os_string().into_encoded_bytes())
            .unwrap_or_default()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for _ in 0..ROUNDS {
            let left = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in left.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1) {
                // SAFETY: no pointers; the process is in the function's own group.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            if fs::remove_dir(&self.folder).is_ok() || !self.folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The node's own group in the hierarchy that counts processes.
fn own_folder() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // hierarchy:controllers:path; version 2 names no controllers.
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    // … mount point … - type source options
    let mount_of = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut about = after.split(' ');
            let right = about.next() == Some(kind) && about.nth(1)?.split(',').any(|o| o == option);
            right.then(|| before.split(' ').nth(4).map(PathBuf::from))?
        })
    };
    let first = mount_of("cgroup", "pids").and_then(|mount| {
        path_of(&|controllers| controllers.split(',').any(|name| name == "pids")).map(|path| mount.join(path))
    });
    let second = || {
        let folder = mount_of("cgroup2", "rw")?.join(path_of(&|controllers| controllers.is_empty())?);
        let passed_on = fs::read_to_string(folder.join("cgroup.subtree_control")).ok()?;
        passed_on.split_ascii_whitespace().any(|name| name == "pids").then_some(folder)
    };
    first.or_else(second).filter(|folder| Path::new(folder).is_dir())
}
