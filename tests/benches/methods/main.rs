//! What each invocation method costs, cold and warm, beside the bare thing that limits it, in one run.
//!
//! ```sh
//! cargo bench -p tempos-tests --bench methods                     # all parts, some minutes
//! cargo bench -p tempos-tests --bench methods -- cost --rounds 50
//! ```
//!
//! Parts: `cost` (preparing, first call, calls, letting go), `stop` (how long after its deadline a function that
//! loops has ended), `contention` (two strict functions beside four of best effort, in a node). Rivals take turns
//! in short rounds of one run, so that whatever else the machine does meets them alike: read the ratios.

mod bare;
mod by_hand;
mod contention;
mod cost;
mod functions;
mod loaded;
mod stop;
mod times;

use std::io::Write as _;

fn main() {
    let (mut parts, mut rounds) = (Vec::new(), 30);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => match arguments.next().and_then(|text| text.parse().ok()) {
                Some(number @ 2..=10_000) => rounds = number,
                _ => return say("--rounds takes a number from 2 to 10000"),
            },
            part @ ("cost" | "stop" | "contention") => parts.push(part.to_owned()),
            other => {
                return say(&format!(
                    "unknown argument {other:?}; there are --rounds N, and the parts cost, stop, contention"
                ));
            }
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|given| given == part);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    say(&format!("Linux {}, {cpus} CPUs, {rounds} rounds", kernel.trim()));
    let folder = tempfile::tempdir().expect("a folder");
    let functions = functions::Functions::build(folder.path());
    if wanted("cost") {
        cost::run(&functions, rounds);
    }
    if wanted("stop") {
        stop::run(&functions, rounds);
    }
    if wanted("contention") {
        contention::run(&functions);
    }
}

/// A line of the report.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
