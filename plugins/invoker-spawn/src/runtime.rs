//! The interpreter of a source, where this machine has one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempos_process::runtime::DEFAULT_PATH;

use crate::config::{Config, Mode};

/// The program to start and its arguments, the first being its name.
///
/// # Errors
/// One sentence without its subject: which interpreter is missing, and the package that has it.
pub fn command(file: &str, config: &Config) -> Result<(String, Vec<String>), String> {
    let zygote = config.mode == Mode::Zygote;
    let Some((program, package)) = config.runtime.interpreter() else {
        return Ok((file.to_owned(), config.runtime.arguments("", file, &config.args, zygote)));
    };
    let path = match &config.interpreter {
        Some(path) if is_program(path) => path.clone(),
        Some(path) => return Err(format!("interpreter = {path:?} is not a program")),
        None => in_path(program).ok_or_else(|| {
            format!("there is no {program} in PATH; install the package {package}, or set `interpreter`")
        })?,
    };
    let arguments = config.runtime.arguments(&path, file, &config.args, zygote);
    Ok((path, arguments))
}

fn in_path(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| String::from(DEFAULT_PATH));
    path.split(':').map(|folder| format!("{folder}/{program}")).find(|path| is_program(path))
}

fn is_program(path: &str) -> bool {
    std::fs::metadata(Path::new(path))
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
