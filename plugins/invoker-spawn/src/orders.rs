//! What the launcher is told about a function: what of its options the kernel is not told in another way.

use tempos_process::control_group::ControlGroup;
use tempos_process::limits::Limits;
use tempos_process::seccomp;

use crate::config::Config;
use crate::user::User;

/// What the launcher is told, where one is needed at all.
#[derive(Debug, Default)]
pub struct Orders {
    /// Its arguments before `--`; empty: no launcher.
    pub arguments: Vec<String>,
    /// The group that bounds the function's processes.
    pub group: Option<ControlGroup>,
}

/// What of the options needs the launcher. `limits` are set by it then, before the function begins.
///
/// # Errors
/// One sentence without its subject.
pub fn orders(config: &Config, limits: &Limits) -> Result<Orders, String> {
    let user = config.user.as_deref().map(User::find).transpose()?;
    let files = !config.readable.is_empty() || !config.writable.is_empty();
    let needed =
        user.is_some() || config.processes.is_some() || config.namespaces != 0 || config.seccomp || files;
    let mut orders = Orders::default();
    if !needed {
        return Ok(orders);
    }
    let list = &mut orders.arguments;
    let mut say = |option: &str, value: String| {
        list.push(option.into());
        list.push(value);
    };
    if let Some(processes) = config.processes {
        // The kernel counts the processes of every user but root.
        // SAFETY: no preconditions.
        let root = user.as_ref().map_or(unsafe { libc::getuid() }, |user| user.uid) == 0;
        if root {
            let group = ControlGroup::new(processes)
                .map_err(|what| format!("processes = {processes} needs `user` here: {what}"))?;
            say("--cgroup", group.entrance().to_string_lossy().into_owned());
            orders.group = Some(group);
        } else {
            say("--limit", format!("{}={processes}", libc::RLIMIT_NPROC));
        }
    }
    for (resource, value) in limits {
        say("--limit", format!("{resource}={value}"));
    }
    if config.namespaces != 0 {
        say("--namespaces", config.namespaces.to_string());
    }
    for (option, paths) in [("--readable", &config.readable), ("--writable", &config.writable)] {
        paths.iter().for_each(|path| say(option, path.clone()));
    }
    if let Some(user) = user {
        let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
        say("--groups", groups.join(","));
        say("--group", user.gid.to_string());
        say("--user", user.uid.to_string());
    }
    // The kernel asks for it where files or calls are bounded without privileges.
    if config.no_new_privs || config.seccomp || files {
        say("--no-new-privileges", "1".into());
    }
    if config.seccomp {
        say("--seccomp", seccomp::filter());
    }
    Ok(orders)
}
