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
        ControlGroup::below(&own_folder()?, Some(processes))
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

/// The group below which this process may have others that count processes.
///
/// Version 1: its own in the hierarchy of `pids`. Version 2: a group with processes passes controllers on to no other
/// but the root (cgroups(7), "no internal processes"); a service manager that delegates puts the node into a group
/// below the one that is the node's, and marks that (systemd.resource-control(5), `Delegate=`, `DelegateSubgroup=`).
fn own_folder() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    if let Some(folder) = folder_of(&groups, &mounts, "pids").filter(|folder| folder.is_dir()) {
        return Ok(folder);
    }
    let own = folder_of(&groups, &mounts, "")
        .filter(|folder| folder.is_dir())
        .ok_or("this machine has no control group that counts processes (pids)")?;
    let above = own.parent().filter(|above| is_delegated(above));
    [Some(own.as_path()), above].into_iter().flatten().find(|folder| passes_on(folder)).map_or_else(
        || {
            Err(format!(
                "the node's control group {} passes pids on to no other; Delegate=pids and DelegateSubgroup=node in \
                 its unit let it",
                own.display()
            ))
        },
        |folder| Ok(folder.to_owned()),
    )
}

/// The group's folder in the hierarchy of a controller of version 1, or of version 2, which is named by nothing.
fn folder_of(groups: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    // hierarchy:controllers:path
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/'))
    })?;
    let kind = if controller.is_empty() { "cgroup2" } else { "cgroup" };
    // … mount point … - type source options
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut about = after.split(' ');
        let right = about.next() == Some(kind)
            && (controller.is_empty() || about.nth(1)?.split(',').any(|option| option == controller));
        right.then(|| before.split(' ').nth(4))?
    })?;
    Some(Path::new(mount).join(path))
}

/// Whether groups below it count their processes.
fn passes_on(folder: &Path) -> bool {
    let passed_on = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    passed_on.split_ascii_whitespace().any(|name| name == "pids")
}

/// Whether a service manager has left a group to those in it.
fn is_delegated(folder: &Path) -> bool {
    let Ok(folder) = CString::new(folder.as_os_str().as_encoded_bytes()) else { return false };
    [c"user.delegate", c"trusted.delegate"].into_iter().any(|name| {
        let mut value = [0u8; 1];
        // SAFETY: two texts that end, and room for what may be written.
        let len =
            unsafe { libc::getxattr(folder.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        len == 1 && value == *b"1"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_in_either_version() {
        let both = "8:pids:/node\n3:cpuset:/\n1:name=systemd:/node\n0::/unified/node\n";
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      39 31 0:36 / /sys/fs/cgroup/pids rw shared:5 - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |controller| folder_of(both, mounts, controller);
        assert_eq!(found("pids"), Some("/sys/fs/cgroup/pids/node".into()));
        assert_eq!(found(""), Some("/sys/fs/cgroup/unified/unified/node".into()));
        assert_eq!(found("memory"), None);
        assert_eq!(folder_of("0::/a/b\n", mounts, "pids"), None);
    }
}
