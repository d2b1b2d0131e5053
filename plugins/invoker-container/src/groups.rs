//! The control groups of a container (cgroups(7), both versions): what setns(2) does not enter.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a process goes to be bounded as its container is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Their folders, one for each hierarchy, but for `counting`.
    pub folders: Vec<PathBuf>,
    /// The one that can be watched over for processes that are left: `pids`, or that of version 2.
    pub counting: Option<PathBuf>,
    /// What is not entered, for a sentence.
    pub left_out: Vec<String>,
}

impl Groups {
    /// Those of a process. Under a real-time policy, which a group without a budget for that refuses, the controller
    /// `cpu` is left out.
    pub fn of(pid: i32, real_time: bool) -> Groups {
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let (own, mounts) = (read(format!("/proc/{pid}/cgroup")), read("/proc/self/mountinfo".into()));
        let is_there = |folder: &Path| folder.join("cgroup.procs").is_file();
        let has_budget = |folder: &Path| {
            let budget = fs::read_to_string(folder.join("cpu.rt_runtime_us"));
            budget.map_or(true, |text| text.trim() != "0")
        };
        parse(&own, &mounts, &is_there, &|folder| !real_time || has_budget(folder))
    }
}

fn parse(own: &str, mounts: &str, is_there: &dyn Fn(&Path) -> bool, takes: &dyn Fn(&Path) -> bool) -> Groups {
    let mut groups = Groups::default();
    for line in own.lines() {
        // hierarchy:controllers:path; version 2 names no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let shown = if controllers.is_empty() { "version 2" } else { controllers };
        let folder = mounts.lines().find_map(|line| mounted(line, controllers, path));
        let Some(folder) = folder.filter(|folder| is_there(folder)) else {
            groups.left_out.push(format!("its control group {shown}, which this node does not see"));
            continue;
        };
        if !takes(&folder) {
            groups.left_out.push(format!("its control group {shown}, which takes nothing real-time"));
        } else if controllers.split(',').any(|name| name == "pids")
            || (controllers.is_empty() && groups.counting.is_none())
        {
            groups.folders.extend(groups.counting.replace(folder));
        } else {
            groups.folders.push(folder);
        }
    }
    groups
}

/// The folder of a group where this line of mountinfo (proc(5)) is its hierarchy's: … root, mount point … - type,
/// source, options.
fn mounted(line: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut about = after.split(' ');
    let (kind, options) = (about.next()?, about.nth(1).unwrap_or(""));
    let right = match controllers {
        "" => kind == "cgroup2",
        _ => kind == "cgroup" && controllers.split(',').all(|name| options.split(',').any(|o| o == name)),
    };
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = path.strip_prefix(if root == "/" { "" } else { root })?;
    right.then(|| Path::new(point).join(below.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &str, mounts: &str, real_time: bool) -> (Vec<String>, Option<String>, usize) {
        let groups = parse(own, mounts, &|_| true, &|folder| {
            !(real_time && folder.components().any(|part| part.as_os_str() == "cpu"))
        });
        let shown = |folder: PathBuf| folder.display().to_string();
        (groups.folders.into_iter().map(shown).collect(), groups.counting.map(shown), groups.left_out.len())
    }

    #[test]
    fn the_folders_are_those_of_its_own_hierarchies() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      39 31 0:36 /node /sys/fs/cgroup/pids rw shared:5 - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let own =
            "9:name=systemd:/docker/ab\n8:pids:/node/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/docker/ab\n";
        let [systemd, cpu, unified] =
            ["systemd", "cpu", "unified"].map(|n| format!("/sys/fs/cgroup/{n}/docker/ab"));
        let pids = Some(String::from("/sys/fs/cgroup/pids/docker/ab"));
        assert_eq!(of(own, mounts, false), (vec![systemd.clone(), cpu, unified.clone()], pids.clone(), 0));
        assert_eq!(of(own, mounts, true), (vec![systemd, unified], pids, 1));
        let second = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let folder = Some(String::from("/sys/fs/cgroup/docker-ab.scope"));
        assert_eq!(of("0::/docker-ab.scope\n", second, true), (vec![], folder, 0));
        assert_eq!(of("8:pids:/ab\nnonsense\n", second, false), (vec![], None, 1));
    }
}
