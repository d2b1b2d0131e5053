//! The options of a function: the table for users, and what it becomes.

use std::path::PathBuf;

use tempos_abi::invoker::FunctionSpec;
use tempos_abi::{OptionKind, OptionSpec, PluginError};
use tempos_process::runtime::Runtime;

const ENGINE: &str = "unix:///run/docker.sock";
const NAME_BYTES_MAX: usize = 255;

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    // The workflow's own key: with this row the method says that it is no file of the node.
    OptionSpec::new("file", OptionKind::TEXT, "", "The function's file, as it is called inside the container."),
    OptionSpec::new("container", OptionKind::TEXT, "", "The container, by name or id; it must be running.")
        .required(),
    OptionSpec::new("engine", OptionKind::TEXT, ENGINE, "The socket of the container engine.")
        .unit("unix:///PATH"),
    OptionSpec::new(
        "mode",
        OptionKind::TEXT,
        "warm",
        "Resident workers, a process for each event, or resident workers that the engine itself starts.",
    )
    .words("warm|each|exec"),
    OptionSpec::new(
        "runtime",
        OptionKind::TEXT,
        "native",
        "What the file is: a program, or a source with a function `handle`.",
    )
    .words("native|python|javascript"),
    OptionSpec::new(
        "interpreter",
        OptionKind::TEXT,
        "",
        "The interpreter of `runtime` in the container; unset: python3 or node, where its PATH has them.",
    ),
    OptionSpec::new("args", OptionKind::TEXTS, "", "Arguments of the program."),
    OptionSpec::new("env", OptionKind::TEXTS, "", "Its environment beside the container's own.")
        .unit("NAME=value"),
    OptionSpec::new(
        "user",
        OptionKind::TEXT,
        "",
        "The user that it runs as, by name or number in the container; unset: the container's own.",
    )
    .unit("USER or USER:GROUP"),
    OptionSpec::new("directory", OptionKind::TEXT, "", "Where it runs; unset: the container's own folder."),
    OptionSpec::new("files", OptionKind::INTEGER, "", "The most descriptors that it may have open.")
        .unit("8 to 1048576"),
    OptionSpec::new("processes", OptionKind::INTEGER, "", "The most processes and threads that it may have.")
        .unit("1 to 1048576"),
    OptionSpec::new("cpu", OptionKind::DURATION, "", "The most CPU time of one process, in whole seconds."),
    OptionSpec::new("no_new_privs", OptionKind::FLAG, "true", "Nothing that it runs gains privileges."),
    OptionSpec::new(
        "seccomp",
        OptionKind::TEXT,
        "basic",
        "The engine's own filter of system calls cannot be taken over; \"basic\" refuses what no function needs.",
    )
    .words("off|basic"),
    OptionSpec::new(
        "start_within",
        OptionKind::DURATION,
        "10s",
        "How long a resident worker may take until it says that it is ready.",
    ),
];

/// When processes are started, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Resident workers.
    Warm,
    /// One for each event.
    Each,
    /// Resident workers that the engine starts.
    Exec,
}

/// What a function is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The container.
    pub container: String,
    /// The engine's socket.
    pub engine: PathBuf,
    /// When processes are started, and by whom.
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
    /// The working directory.
    pub directory: Option<String>,
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
        let whole = |key: &str, text: &str| match text.contains('\0') {
            true => Err(format!("{key}: {text:?} holds a zero byte; take it out")),
            false => Ok(text.to_owned()),
        };
        let texts = |key: &str| -> Result<Vec<String>, String> {
            options.texts(key).iter().map(|text| whole(key, text)).collect()
        };
        let text = |key: &str| options.text(key).filter(|text| !text.is_empty());
        let owned = |key: &str| text(key).map(|text| whole(key, text)).transpose();
        let container = name(text("container").unwrap_or(""))?;
        let mode = match text("mode") {
            None | Some("warm") => Mode::Warm,
            Some("each") => Mode::Each,
            Some("exec") => Mode::Exec,
            Some(other) => {
                return Err(format!("mode = {other:?} is neither \"warm\" nor \"each\" nor \"exec\""));
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
        let cpu = within("cpu", 1_000_000_000, i64::MAX)
            .map_err(|_| String::from("cpu is less than a second; the deadline bounds what is shorter"))?;
        let seccomp = match text("seccomp") {
            None | Some("basic") => true,
            Some("off") => false,
            Some(other) => return Err(format!("seccomp = {other:?} is neither \"off\" nor \"basic\"")),
        };
        for key in ["interpreter", "directory"] {
            if let Some(path) = text(key).filter(|path| !path.starts_with('/')) {
                return Err(format!("{key} = {path:?} is not an absolute path in the container"));
            }
        }
        let config = Config {
            container,
            engine: socket(text("engine").unwrap_or(ENGINE))?,
            mode,
            runtime: Runtime::of(text("runtime"))?,
            interpreter: owned("interpreter")?,
            args: texts("args")?,
            env,
            user: owned("user")?,
            directory: owned("directory")?,
            files: within("files", 8, 1 << 20)?,
            processes: within("processes", 1, 1 << 20)?,
            cpu_seconds: cpu.map(|ns| ns.div_ceil(1_000_000_000)),
            no_new_privs: options.get("no_new_privs").is_none() || options.flag("no_new_privs"),
            seccomp,
            start_within_ns: within("start_within", 1_000_000, 600_000_000_000)
                .map_err(|_| String::from("start_within is not within 1ms to 10min"))?
                .unwrap_or(10_000_000_000),
        };
        config.what_the_engine_cannot(spec)?;
        Ok(config)
    }

    /// A process that the engine starts gets what the container has, and no limits of its own.
    fn what_the_engine_cannot(&self, spec: &FunctionSpec) -> Result<(), String> {
        let given = [
            ("files", self.files.is_some()),
            ("processes", self.processes.is_some()),
            ("cpu", self.cpu_seconds.is_some()),
            ("memory", spec.memory_bytes > 0),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) if self.mode == Mode::Exec => Err(format!(
                "{key} cannot be bounded with mode = \"exec\": bound the container, or use mode = \"warm\""
            )),
            _ => Ok(()),
        }
    }
}

/// The name or id of a container: it becomes a part of a path that the engine is asked for.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.len() <= NAME_BYTES_MAX && text.chars().all(plain) {
        Ok(text.to_owned())
    } else if text.is_empty() {
        Err("container is missing; set the name or id of a container that is running".into())
    } else {
        let start: String = text.chars().take(40).collect();
        Err(format!("container = {start:?} is neither a name nor an id of a container"))
    }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') && path.len() <= 107 && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        let start: String = text.chars().take(120).collect();
        Err(format!("engine = {start:?} is no socket of this machine, such as \"{ENGINE}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::{name, socket};

    #[test]
    fn only_what_can_be_a_name_or_a_socket_gets_to_the_engine() {
        for right in ["press", "press-1_a.b", "0123456789abcdef"] {
            assert_eq!(name(right).as_deref(), Ok(right));
        }
        for wrong in ["", "..", "a/b", "a b", "a\r\nHost: x", "ä", &"x".repeat(256)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(socket("unix:///run/x.sock"), Ok("/run/x.sock".into()));
        assert_eq!(socket("/run/x.sock"), Ok("/run/x.sock".into()));
        for wrong in
            ["tcp://127.0.0.1:2375", "run/x.sock", "unix://x", "/\0", &format!("/{}", "x".repeat(107))]
        {
            assert!(socket(wrong).is_err(), "{wrong:?}");
        }
    }
}
