//! Reads this machine's own counters from /proc and sends them as events; and the sink that counts them.
//!
//! A program as a user of TEMPOS would write it: plain sockets, one line of text for each event, nothing
//! of TEMPOS linked in. What it knows of a node is an address to send to, or one to listen on.

mod clock;
mod latency;
mod options;
mod produce;
mod sequence;
mod sink;
mod socket;
mod vitals;

use std::io::Write as _;
use std::process::ExitCode;

use options::Job;

/// Wrong use, as sysexits.h has it.
const USAGE: u8 = 64;
/// The operating system refused something.
const OSERR: u8 = 71;

fn main() -> ExitCode {
    let job = match options::parse(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(sentence) => {
            complain(&sentence);
            return ExitCode::from(USAGE);
        }
    };
    let report = match &job {
        Job::Help => Ok(options::HELP.to_owned()),
        Job::Produce(order) => produce::run(order).map(|sent| sent.render(order.json)),
        Job::Sink(order) => sink::run(order).map(|counts| counts.render(order.json)),
    };
    match report {
        Ok(text) => {
            // A reader that closed its end early has seen what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(OSERR)
        }
    }
}

fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "tempos-proc-producer: {sentence}");
}
