//! `tempos-tsn`: schedules and interfaces looked at, without a node; `temposctl tsn` becomes this program.
//!
//! It changes nothing: what it says of an interface it has read, and what it asks of the kernel beyond that is asked
//! of the loopback interface, which takes neither gates nor launch times.

mod check;
mod plan;
mod show;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

const HELP: &str = "\
tempos-tsn plan  FILE     check a schedule and draw it, with the hops that follow
tempos-tsn show  IFACE    the disciplines of an interface, and its gates as a picture
tempos-tsn check IFACE    what an interface can do, what is missing and how it is mended
                          --json: as JSON; --columns N: as wide as that

Exit codes: 0 well, 1 check found something bad, 64 wrong usage, 65 a wrong schedule, 66 no such file or interface.";

/// sysexits.h
const USAGE: u8 = 64;
const DATA: u8 = 65;
const NO_INPUT: u8 = 66;
const SYSTEM: u8 = 71;
const COLUMNS: usize = 80;
/// What stands beside a picture.
const BESIDE: usize = 30;

/// An exit code and one sentence.
struct Failing(u8, String);

impl Failing {
    fn system(sentence: impl ToString) -> Self {
        Failing(SYSTEM, sentence.to_string())
    }
}

/// Where the answers go.
struct Output {
    json: bool,
    columns: usize,
}

impl Output {
    fn line(&self, line: &str) {
        // Where nobody reads any more there is nobody to be told.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn value(&self, value: &Value) {
        self.line(&format!("{value:#}"));
    }

    /// Columns of a picture.
    fn width(&self) -> usize {
        self.columns.saturating_sub(BESIDE)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(Failing(code, sentence)) => {
            let _ = writeln!(std::io::stderr().lock(), "temposctl tsn: {sentence}");
            ExitCode::from(code)
        }
    }
}

fn run() -> Result<u8, Failing> {
    let usage = || Failing(USAGE, HELP.to_owned());
    let mut output = Output { json: false, columns: COLUMNS };
    let mut words = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--json") => output.json = true,
            Some("--columns") => {
                let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
                output.columns = number.ok_or_else(usage)?;
            }
            Some("--help" | "-h") => {
                output.line(HELP);
                return Ok(0);
            }
            _ => words.push(argument),
        }
    }
    let [verb, what] = &words[..] else { return Err(usage()) };
    let name = what.to_string_lossy();
    match verb.to_str() {
        Some("plan") => plan::run(&output, Path::new(what)),
        Some("show") => show::run(&output, &name),
        Some("check") => check::run(&output, &name),
        _ => Err(usage()),
    }
}
