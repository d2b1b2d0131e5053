//! The real-time budget of the process's cgroup: a kernel with CONFIG_RT_GROUP_SCHED refuses real-time
//! scheduling in a group that has none.

use super::{kernel, read};

/// Why the cgroup refuses real-time scheduling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Version 1: the group has a budget of zero. The outermost group that has none is the one to begin
    /// with: a group gets no more than the one around it.
    NoBudget {
        /// The group.
        group: String,
        /// The outermost group without a budget on its path.
        outermost: String,
    },
    /// Version 2 has no real-time budgets: with this kernel only its root may hold real-time threads.
    NotTheRoot {
        /// The group.
        group: String,
    },
}

/// Asks the kernel.
pub fn refusal() -> Option<Refusal> {
    let groups = read("/proc/self/cgroup")?;
    let mounts = read("/proc/self/mountinfo")?;
    if let Some(place) = cpu_group(&groups, &mounts) {
        return without_budget(&place.group, |group| {
            read(&format!("{}{}/cpu.rt_runtime_us", place.mount, place.below(group)))
        });
    }
    let group = unified_group(&groups)?;
    let mount = mount_of(&mounts, |fields| fields.kind == "cgroup2")?.point.to_owned();
    let controllers = read(&format!("{mount}{group}/cgroup.controllers")).unwrap_or_default();
    let cmdline = read("/proc/cmdline").unwrap_or_default();
    let grouped = kernel::config().is_some_and(|config| kernel::groups_real_time(&config, &cmdline));
    not_the_root(group, &controllers, grouped)
}

/// The group of the controller cpu, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    group: String,
    mount: String,
    root: String,
}

impl Place {
    /// A group as a path below the mount, which may show a part of the tree only (containers).
    fn below<'a>(&self, group: &'a str) -> &'a str {
        group.strip_prefix(self.root.trim_end_matches('/')).unwrap_or(group).trim_end_matches('/')
    }
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// The first mount of /proc/PID/mountinfo that is wanted (proc_pid_mountinfo(5)).
fn mount_of<'a>(mounts: &'a str, wanted: impl Fn(&Mount<'_>) -> bool) -> Option<Mount<'a>> {
    mounts.lines().find_map(|line| {
        let (own, system) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(3);
        let (root, point) = (own.next()?, own.next()?);
        let mut system = system.split(' ');
        let mount = Mount { root, point, kind: system.next()?, options: system.nth(1)? };
        wanted(&mount).then_some(mount)
    })
}

fn has_cpu(list: &str) -> bool {
    list.split(',').any(|word| word == "cpu")
}

/// The group of version 1.
fn cpu_group(groups: &str, mounts: &str) -> Option<Place> {
    let group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        has_cpu(controllers).then(|| group.to_owned())
    })?;
    let mount = mount_of(mounts, |mount| mount.kind == "cgroup" && has_cpu(mount.options))?;
    Some(Place { group, mount: mount.point.to_owned(), root: mount.root.to_owned() })
}

/// The group of version 2.
fn unified_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The refusal of version 1; `budget` reads a group's cpu.rt_runtime_us.
fn without_budget(group: &str, budget: impl Fn(&str) -> Option<String>) -> Option<Refusal> {
    if budget(group)? != "0" {
        return None;
    }
    let mut outermost = group;
    let mut around = group;
    while let Some((outer, _)) = around.rsplit_once('/').filter(|(outer, _)| !outer.is_empty()) {
        if budget(outer).as_deref() == Some("0") {
            outermost = outer;
        }
        around = outer;
    }
    Some(Refusal::NoBudget { group: group.to_owned(), outermost: outermost.to_owned() })
}

/// The refusal of version 2: `controllers` are those of the group, `grouped` says whether the kernel keeps
/// real-time budgets for groups.
fn not_the_root(group: &str, controllers: &str, grouped: bool) -> Option<Refusal> {
    let has_cpu = controllers.split_ascii_whitespace().any(|word| word == "cpu");
    (grouped && has_cpu && group != "/").then(|| Refusal::NotTheRoot { group: group.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "9:name=systemd:/\n4:memory:/m\n1:cpu,cpuacct:/system.slice/tempos.service\n0::/u\n";
    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                          33 31 0:30 / /sys/fs/cgroup/cpuacct rw shared:9 - cgroup cgroup rw,cpuacct\n\
                          32 31 0:29 /docker/1 /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_of_the_controller_cpu_is_found_where_it_is_mounted() {
        let place = cpu_group(GROUPS, MOUNTS).expect("it is there");
        assert_eq!(
            (place.group.as_str(), place.mount.as_str()),
            ("/system.slice/tempos.service", "/sys/fs/cgroup/cpu")
        );
        let contained = Place { group: "/docker/1/a".into(), ..place };
        assert_eq!(
            (contained.below("/docker/1/a"), contained.below("/docker/1"), contained.below("/other")),
            ("/a", "", "/other")
        );
        assert_eq!(cpu_group("0::/user.slice\n", MOUNTS), None);
        assert_eq!(cpu_group(GROUPS, "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), None);
        assert_eq!(cpu_group("nonsense", "nonsense - too"), None);
        assert_eq!(unified_group(GROUPS), Some("/u"));
    }

    #[test]
    fn the_outermost_group_without_a_budget_is_named() {
        let budgets = |zero: &'static [&'static str]| {
            move |group: &str| Some(if zero.contains(&group) { "0" } else { "950000" }.to_owned())
        };
        assert_eq!(without_budget("/a/b/c", budgets(&[])), None);
        for (zero, outermost) in
            [(&["/a/b/c"][..], "/a/b/c"), (&["/a/b/c", "/a/b"], "/a/b"), (&["/a", "/a/b", "/a/b/c"], "/a")]
        {
            let found = without_budget("/a/b/c", budgets(zero));
            assert_eq!(
                found,
                Some(Refusal::NoBudget { group: "/a/b/c".into(), outermost: outermost.into() })
            );
        }
        assert_eq!(without_budget("/a", |_| None), None, "a kernel without budgets");
    }

    #[test]
    fn version_2_has_budgets_in_its_root_only() {
        let refused = Some(Refusal::NotTheRoot { group: "/tempos".into() });
        for (group, controllers, grouped, refusal) in [
            ("/tempos", "cpuset cpu io memory", true, refused),
            ("/tempos", "cpuset cpu io memory", false, None),
            ("/tempos", "cpuset memory", true, None),
            ("/", "cpuset cpu", true, None),
        ] {
            assert_eq!(not_the_root(group, controllers, grouped), refusal, "{group} {controllers} {grouped}");
        }
    }
}
