//! What a function's file is: a program, or a source for an interpreter with a shim around it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{Config, Mode};

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A program.
    Native,
    /// A Python source with `def handle(event)`.
    Python,
    /// A JavaScript source that exports `handle`.
    JavaScript,
}

static PYTHON_SHIM: &str = include_str!("../shims/shim.py");
static JAVASCRIPT_SHIM: &str = include_str!("../shims/shim.js");

impl Runtime {
    /// The program to start and its arguments, the first being its name.
    ///
    /// # Errors
    /// One sentence without its subject: which interpreter is missing, and the package that has it.
    pub fn command(self, file: &str, config: &Config) -> Result<(String, Vec<String>), String> {
        let (program, package, flags) = match self {
            Runtime::Native => {
                let arguments = std::iter::once(file.to_owned()).chain(config.args.iter().cloned()).collect();
                return Ok((file.to_owned(), arguments));
            }
            Runtime::Python => {
                let mode = if config.mode == Mode::Zygote { "zygote" } else { "warm" };
                ("python3", "python3", vec!["-c", PYTHON_SHIM, mode])
            }
            Runtime::JavaScript => ("node", "nodejs", vec!["-e", JAVASCRIPT_SHIM, "--"]),
        };
        let path = match &config.interpreter {
            Some(path) if is_program(path) => path.clone(),
            Some(path) => return Err(format!("interpreter = {path:?} is not a program")),
            None => in_path(program).ok_or_else(|| {
                format!("there is no {program} in PATH; install the package {package}, or set `interpreter`")
            })?,
        };
        let flags = flags.into_iter().map(str::to_owned);
        let arguments = std::iter::once(path.clone()).chain(flags).chain([file.to_owned()]);
        Ok((path, arguments.chain(config.args.iter().cloned()).collect()))
    }
}

fn in_path(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| String::from(DEFAULT_PATH));
    path.split(':').map(|folder| format!("{folder}/{program}")).find(|path| is_program(path))
}

/// Where programs are looked for, where the node's own environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn is_program(path: &str) -> bool {
    std::fs::metadata(Path::new(path))
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
