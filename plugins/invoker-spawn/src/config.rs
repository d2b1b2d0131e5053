//! The options of a function: the table for users, and what it becomes.

use tempos_abi::invoker::FunctionSpec;
use tempos_abi::{OptionKind, OptionSpec, PluginError};
use tempos_process::runtime::Runtime;

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "mode",
        OptionKind::TEXT,
        "each",
        "A process for each event, resident workers, or (Python) a resident one that forks for each event.",
    )
    .words("each|warm|zygote"),
    OptionSpec::new(
        "runtime",
        OptionKind::TEXT,
        "native",
        "What the file is: a program, or a source with a function `handle`.",
    )
    .words("native|python|javascript"),
    OptionSpec::new(
        "interpreter",
        OptionKind::PATH,
        "",
        "The interpreter of `runtime`; unset: python3 or node, where PATH has them.",
    ),
    OptionSpec::new("args", OptionKind::TEXTS, "", "Arguments of the program."),
    OptionSpec::new("env", OptionKind::TEXTS, "", "Its environment beside PATH and what tells of the event.")
        .unit("NAME=value"),
    OptionSpec::new("user", OptionKind::TEXT, "", "The user that it runs as, by name or number."),
    OptionSpec::new("files", OptionKind::INTEGER, "", "The most descriptors that it may have open.")
        .unit("8 to 1048576"),
    OptionSpec::new("processes", OptionKind::INTEGER, "", "The most processes and threads that it may have.")
        .unit("1 to 1048576"),
    OptionSpec::new("cpu", OptionKind::DURATION, "", "The most CPU time of one process, in whole seconds."),
    OptionSpec::new("no_new_privs", OptionKind::FLAG, "true", "Nothing that it runs gains privileges."),
    OptionSpec::new(
        "seccomp",
        OptionKind::TEXT,
        "off",
        "\"basic\" refuses system calls that no function needs: mounting, tracing, kernel modules, clocks.",
    )
    .words("off|basic"),
    OptionSpec::new(
        "readable",
        OptionKind::TEXTS,
        "",
        "Paths that it may read and run (Landlock); none and no `writable`: all that its user may.",
    ),
    OptionSpec::new("writable", OptionKind::TEXTS, "", "Paths that it may also change (Landlock)."),
    OptionSpec::new(
        "namespaces",
        OptionKind::TEXTS,
        "",
        "Of \"pid\", \"mount\", \"network\", \"ipc\": what it does not share with the node.",
    ),
    OptionSpec::new(
        "start_within",
        OptionKind::DURATION,
        "10s",
        "How long a resident worker may take until it says that it is ready.",
    ),
];

/// When processes are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One for each event.
    Each,
    /// Resident workers.
    Warm,
    /// Resident, and each forks for each event.
    Zygote,
}

/// What a function is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// When processes are started.
    pub mode: Mode,
    /// What the file is.
    pub runtime: Runtime,
    /// The interpreter, where it is named.
    pub interpreter: Option<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The user, as it was written.
    pub user: Option<String>,
    /// The most descriptors.
    pub files: Option<u64>,
    /// The most processes.
    pub processes: Option<u64>,
    /// The most CPU time in seconds.
    pub cpu_seconds: Option<u64>,
    /// Nothing gains privileges.
    pub no_new_privs: bool,
    /// The basic filter of system calls.
    pub seccomp: bool,
    /// Paths to read.
    pub readable: Vec<String>,
    /// Paths to change.
    pub writable: Vec<String>,
    /// The flags of unshare(2).
    pub namespaces: i32,
    /// How long a start may take.
    pub start_within_ns: u64,
}

impl Config {
    /// Reads the options of a function.
    ///
    /// # Errors
    /// One sentence that names the workflow, the option, and what would be right.
    pub fn read(spec: &FunctionSpec) -> Result<Self, PluginError> {
        Config::parse(spec).map_err(|sentence| {
            PluginError::bad_option(format!("function of workflow \"{}\": {sentence}", spec.name))
        })
    }

    fn parse(spec: &FunctionSpec) -> Result<Self, String> {
        let options = &spec.options;
        let texts = |key: &str| -> Result<Vec<String>, String> {
            let texts: Vec<String> = options.texts(key).iter().map(|text| (*text).to_owned()).collect();
            match texts.iter().find(|text| text.contains('\0')) {
                Some(text) => Err(format!("{key}: {text:?} holds a zero byte; take it out")),
                None => Ok(texts),
            }
        };
        let text = |key: &str| options.text(key).filter(|text| !text.is_empty());
        let runtime = Runtime::of(text("runtime"))?;
        let mode = match text("mode") {
            None | Some("each") => Mode::Each,
            Some("warm") => Mode::Warm,
            Some("zygote") if runtime == Runtime::Python => Mode::Zygote,
            Some("zygote") => return Err("mode = \"zygote\" needs runtime = \"python\"".into()),
            Some(other) => {
                return Err(format!("mode = {other:?} is neither \"each\" nor \"warm\" nor \"zygote\""));
            }
        };
        let env = texts("env")?;
        if let Some(wrong) =
            env.iter().find(|text| text.split_once('=').is_none_or(|(name, _)| name.is_empty()))
        {
            return Err(format!("env: {wrong:?} is not of the form NAME=value"));
        }
        let within = |key: &str, least: i64, most: i64| match options.integer(key) {
            None => Ok(None),
            Some(value) if (least..=most).contains(&value) => Ok(Some(value as u64)),
            Some(value) => Err(format!("{key} = {value} is not within {least} to {most}")),
        };
        let (readable, writable) = (texts("readable")?, texts("writable")?);
        if let Some(path) = readable.iter().chain(&writable).find(|path| !path.starts_with('/')) {
            return Err(format!(
                "{path:?} of readable or writable is not an absolute path, such as \"/usr\""
            ));
        }
        let cpu = within("cpu", 1_000_000_000, i64::MAX)
            .map_err(|_| String::from("cpu is less than a second; the deadline bounds what is shorter"))?;
        let seccomp = match text("seccomp") {
            None | Some("off") => false,
            Some("basic") => true,
            Some(other) => return Err(format!("seccomp = {other:?} is neither \"off\" nor \"basic\"")),
        };
        Ok(Config {
            mode,
            runtime,
            interpreter: text("interpreter").map(str::to_owned),
            args: texts("args")?,
            env,
            user: text("user").map(str::to_owned),
            files: within("files", 8, 1 << 20)?,
            processes: within("processes", 1, 1 << 20)?,
            cpu_seconds: cpu.map(|ns| ns.div_ceil(1_000_000_000)),
            no_new_privs: options.get("no_new_privs").is_none() || options.flag("no_new_privs"),
            seccomp,
            readable,
            writable,
            namespaces: namespaces(&texts("namespaces")?)?,
            start_within_ns: within("start_within", 1_000_000, 600_000_000_000)
                .map_err(|_| String::from("start_within is not within 1ms to 10min"))?
                .unwrap_or(10_000_000_000),
        })
    }
}

fn namespaces(names: &[String]) -> Result<i32, String> {
    names.iter().try_fold(0, |flags, name| match name.as_str() {
        "pid" => Ok(flags | libc::CLONE_NEWPID),
        "mount" => Ok(flags | libc::CLONE_NEWNS),
        "network" => Ok(flags | libc::CLONE_NEWNET),
        "ipc" => Ok(flags | libc::CLONE_NEWIPC),
        other => Err(format!("namespaces: {other:?} is none of \"pid\", \"mount\", \"network\", \"ipc\"")),
    })
}
