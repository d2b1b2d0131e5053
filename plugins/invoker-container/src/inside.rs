//! A function's place in a container: what the launcher is told so that a process becomes one of the container, and
//! what of the container could not be taken over.

use std::fs;
use std::io;
use std::sync::Arc;

use tempos_abi::invoker::{FunctionSpec, Scheduling};
use tempos_process::control_group::ControlGroup;
use tempos_process::environment::Variables;
use tempos_process::launcher;
use tempos_process::process::Process;
use tempos_process::program::{Program, Stdio};
use tempos_process::runtime::{DEFAULT_PATH, Runtime};
use tempos_process::seccomp;
use tempos_process::source::Source;

use crate::config::{Config, Mode};
use crate::container::Container;
use crate::files::Root;
use crate::groups::Groups;
use crate::limits;
use crate::seat::Seat;
use crate::user::User;

/// The namespaces of a process and the flags of setns(2) for them; user first, as the kernel does it, too.
const NAMESPACES: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", 0x80),
];

/// A container, and how processes are started in it.
pub struct Place {
    /// The container.
    pub container: Container,
    /// What is started; none where the engine does it.
    program: Option<Program>,
    /// Ends what is left in it, with the place.
    _group: Option<ControlGroup>,
    left_out: Vec<String>,
}

impl Place {
    /// A place where the engine starts the processes.
    pub fn of_engine(container: Container) -> Place {
        Place { container, program: None, _group: None, left_out: Vec::new() }
    }

    /// A place for the processes of a function; the launcher has been there once.
    ///
    /// # Errors
    /// One sentence without its subject.
    pub fn new(
        container: Container,
        spec: &FunctionSpec,
        config: &Config,
        scheduling: Scheduling,
    ) -> Result<Place, String> {
        let pid = container.pid;
        let shut = |error: io::Error| {
            format!(
                "this node may not look into {} ({error}): it needs root's capabilities; mode = \"exec\" does not",
                container.shown()
            )
        };
        let root = Root::of(pid).map_err(shut)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(shut)?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let about = &container.about;
        let mut left_out = Vec::new();
        let user = config.user.as_deref().unwrap_or(&about.config.user);
        let beside = about.host_config.group_add.as_deref().unwrap_or_default();
        let user = User::find(&root, user, beside)?;
        let environment = environment(&container, config, &user.home);
        let command = command(&root, &container, spec, config, &environment)?;
        let groups = Groups::of(pid, scheduling.policy != 0);
        let (group, counting) = match &groups.counting {
            Some(folder) => match ControlGroup::below(folder, config.processes) {
                Ok(group) => {
                    let entrance = group.entrance().to_string_lossy().into_owned();
                    (Some(group), Some(entrance))
                }
                Err(what) if config.processes.is_some() => {
                    return Err(format!("processes cannot be bounded ({what}): bound the container"));
                }
                Err(_) => (None, Some(folder.join("cgroup.procs").display().to_string())),
            },
            None if config.processes.is_some() => {
                return Err(
                    "processes cannot be bounded: the node sees no control group of the container".into()
                );
            }
            None => (None, None),
        };
        let mut orders = Vec::new();
        let mut say = |option: &str, value: String| orders.extend([option.to_owned(), value]);
        // The launcher gets the pidfd after all else: standard descriptors, a word to wait for, or frames aside.
        let ahead = config.mode == Mode::Each && config.runtime == Runtime::Native;
        let beside = match config.runtime {
            Runtime::Native if ahead => 4,
            Runtime::Native => 3,
            _ => 5,
        };
        say("--container", format!("{beside}"));
        if ahead {
            say("--wait", "3".into());
        }
        say("--join", namespaces(pid).map_err(shut)?.to_string());
        let folders = groups.folders.iter().map(|folder| folder.join("cgroup.procs").display().to_string());
        folders.chain(counting).for_each(|entrance| say("--cgroup", entrance));
        limits::of(spec, config, pid).into_iter().for_each(|limit| say("--limit", limit));
        let directory = config.directory.as_deref().unwrap_or(&about.config.working_dir);
        say("--directory", if directory.is_empty() { String::from("/") } else { directory.to_owned() });
        match field("CapBnd:").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(kept) => say("--capabilities", kept.to_string()),
            None => left_out.push("its bound of capabilities".into()),
        }
        let numbers: Vec<String> = user.groups.iter().map(u32::to_string).collect();
        say("--groups", numbers.join(","));
        say("--group", user.gid.to_string());
        say("--user", user.uid.to_string());
        if config.no_new_privs || config.seccomp {
            say("--no-new-privileges", "1".into());
        }
        if config.seccomp {
            say("--seccomp", seccomp::filter());
        }
        left_out.extend(groups.left_out);
        if field("Seccomp:") == Some("2") {
            let instead = if config.seccomp { "\"basic\" stands in for it" } else { "none is set" };
            left_out.push(format!("its filter of system calls ({instead})"));
        }
        for (what, label) in
            [("AppArmor profile", &about.app_armor_profile), ("SELinux label", &about.process_label)]
        {
            if !label.is_empty() && label != "unconfined" {
                left_out.push(format!("its {what} {}", label.replace(char::is_control, " ")));
            }
        }
        let memory = |error: io::Error| format!("the launcher cannot be kept in memory: {error}");
        let program =
            launcher::program(&orders, &command, &environment).map_err(memory)?.scheduled(scheduling);
        // All of the above was read by the process's number: it is the container's if that has not ended since.
        if container.has_ended() {
            return Err(format!("container {:?} has stopped", container.name));
        }
        launcher::check(&orders_for_check(&orders), Some(container.handle()))?;
        Ok(Place { container, program: Some(program), _group: group, left_out })
    }

    /// A sentence without its subject: where the function runs, and what of the container it goes without.
    pub fn greeting(&self) -> String {
        let without = match self.left_out.as_slice() {
            [] => String::new(),
            list => format!("; not taken over from it: {}", list.join(", ")),
        };
        let by = if self.program.is_some() { "" } else { ", started by its engine" };
        format!("it runs in {}{by}{without}", self.container.shown())
    }
}

/// A check has plain descriptors, whatever the function has.
fn orders_for_check(orders: &[String]) -> Vec<String> {
    let mut orders = orders.to_vec();
    if let [option, number, ..] = orders.as_mut_slice()
        && option == "--container"
    {
        *number = String::from("3");
    }
    orders
}

/// The flags of those namespaces of a process that are not this one's, too.
fn namespaces(pid: i32) -> io::Result<i32> {
    let of = |who: &str, name: &str| fs::read_link(format!("/proc/{who}/ns/{name}"));
    let mut flags = 0;
    for (name, flag) in NAMESPACES {
        match (of("self", name), of(&pid.to_string(), name)) {
            (Ok(own), Ok(its)) if own == its => {}
            (_, Ok(_)) => flags |= flag,
            // A kernel without that kind of namespace.
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => return Err(error),
        }
    }
    Ok(flags)
}

/// What a process of the container has, and what the function has beside.
pub fn environment(container: &Container, config: &Config, home: &str) -> Vec<String> {
    let settings = &container.about.config;
    let mut all = vec![format!("PATH={DEFAULT_PATH}"), format!("HOME={home}")];
    all.push(format!("HOSTNAME={}", settings.hostname));
    for text in settings.env.iter().flatten().chain(&config.env).filter(|text| !text.contains('\0')) {
        let name = text.split_inclusive('=').next().unwrap_or("");
        all.retain(|known| !known.starts_with(name));
        all.push(text.clone());
    }
    all
}

/// The program and its arguments, both as they are called in the container.
fn command(
    root: &Root,
    container: &Container,
    spec: &FunctionSpec,
    config: &Config,
    environment: &[String],
) -> Result<Vec<String>, String> {
    let file = spec.file.as_str();
    let inside = |what: String| Err(format!("{what} in container {:?}", container.name));
    match root.about(file) {
        Err(_) => return inside(format!("there is no file {file:?}")),
        Ok(about) if !about.is_file() => return inside(format!("{file:?} is no regular file")),
        Ok(_) if config.runtime == Runtime::Native && !root.is_program(file) => {
            return inside(format!("nobody may execute {file:?}"));
        }
        Ok(_) => {}
    }
    let Some((name, package)) = config.runtime.interpreter() else {
        return Ok(config.runtime.arguments("", file, &config.args, false));
    };
    let path = match &config.interpreter {
        Some(path) if root.is_program(path) => path.clone(),
        Some(path) => return inside(format!("interpreter = {path:?} is no program")),
        None => {
            let folders =
                environment.iter().find_map(|text| text.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
            let found = folders.split(':').map(|folder| format!("{folder}/{name}"));
            let found = found.into_iter().find(|path| root.is_program(path));
            match found {
                Some(path) => path,
                None => {
                    return inside(format!(
                        "there is no {name} in PATH (package {package}, or set `interpreter`)"
                    ));
                }
            }
        }
    };
    Ok(config.runtime.arguments(&path, file, &config.args, false))
}

/// Starts processes where the function's container is now.
pub struct Inside(pub Arc<Seat>);

impl Source for Inside {
    fn start(&self, variables: Option<&Variables>, stdio: &Stdio) -> io::Result<Process> {
        let place = self.0.place()?;
        let program = place.program.as_ref().ok_or_else(|| io::Error::other("the engine starts them"))?;
        program.start(variables, stdio, Some(place.container.handle()))
    }
}

/// Finds the container of a function, and its place there.
///
/// # Errors
/// One sentence without its subject.
pub fn find(
    engine: &crate::engine::Engine,
    spec: &FunctionSpec,
    config: &Config,
    scheduling: Scheduling,
) -> Result<Place, String> {
    let container = Container::find(engine, &config.container)?;
    match config.mode {
        Mode::Exec => Ok(Place::of_engine(container)),
        Mode::Warm | Mode::Each => Place::new(container, spec, config, scheduling),
    }
}
