//! What needs no node: completions, and the programs that look at plugin files, schedules and interfaces.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::{Args, TsnVerb};
use crate::exit::{Failing, NO_INPUT, UNAVAILABLE};
use crate::output::Output;

/// `completions`
pub fn completions(shell: Shell, output: &mut Output) -> Result<u8, Failing> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "temposctl", &mut script);
    output.bytes(&script)?;
    Ok(0)
}

/// `plugins test`: becomes the conformance suite. Returns only where it cannot.
pub fn test(file: &Path, options: &[String]) -> Failing {
    let mut arguments = vec![file.as_os_str().to_owned()];
    for option in options {
        arguments.extend(["--option".into(), option.into()]);
    }
    become_one_for(file, "tempos-conformance", &arguments)
}

/// `plugins inspect`: becomes the daemon's reader of plugin files. Returns only where it cannot.
pub fn inspect(file: &Path) -> Failing {
    become_one_for(file, "temposd", &["--inspect".into(), file.as_os_str().to_owned()])
}

/// `tsn`: becomes the program that knows schedules and disciplines. Returns only where it cannot.
pub fn tsn(verb: &TsnVerb, output: &Output) -> Failing {
    let (verb, what) = match verb {
        TsnVerb::Plan { file } => ("plan", file.as_os_str()),
        TsnVerb::Show { interface } => ("show", interface.as_os_str()),
        TsnVerb::Check { interface } => ("check", interface.as_os_str()),
    };
    let mut arguments = vec![verb.into(), what.to_owned()];
    if output.json {
        arguments.push("--json".into());
    }
    if let Some(columns) = output.terminal_columns() {
        arguments.extend(["--columns".into(), columns.to_string().into()]);
    }
    become_program("tempos-tsn", &arguments)
}

fn become_one_for(file: &Path, name: &str, arguments: &[OsString]) -> Failing {
    if !file.exists() {
        return Failing::new(NO_INPUT, format!("{}: there is no such file", file.display()));
    }
    become_program(name, arguments)
}

fn become_program(name: &str, arguments: &[OsString]) -> Failing {
    // The one that was built with this tool comes before any other.
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let program = beside.filter(|path| path.exists()).map_or_else(|| OsString::from(name), OsString::from);
    let error = Command::new(&program).args(arguments).exec();
    Failing::new(
        UNAVAILABLE,
        format!("{name} cannot be run, neither beside temposctl nor from the PATH: {error}"),
    )
}
