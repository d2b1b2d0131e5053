//! Sends frames at times that are spread over the cycle, records when frames arrive in it, and judges that.
//!
//! It knows sockets, priorities and the kernel's receive stamps; it refuses to know gates and who set them.

mod receive;
mod send;

use std::fs;
use std::process::ExitCode;

use tempos_tsn_rig::{Arguments, Panel, Phases, Window, draw, say};

const HELP: &str = "\
tsn-phases send    --to ADDRESS:PORT --count N --period-ns NS [--priority P] [--bytes B] [--fifo P]
tsn-phases receive --udp PORT | --interface IFACE --ethertype HEX
                   --seconds S --window FROM-TO [--cycle-ns NS] [--tolerance-ns NS] [--least N] [--label NAME]
                   [--phases FILE]
tsn-phases judge   --phases FILE --window FROM-TO [--cycle-ns NS] [--tolerance-ns NS] [--least N] [--label NAME]
tsn-phases draw    --svg FILE [--title TEXT] [--cycle-ns NS] LABEL:FILE:FROM-TO ...

Exit codes: 0 every frame arrived within the window, 1 some did not or too few came, 2 it could not be tried.";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            say(format_args!("tsn-phases: {sentence}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = Arguments::read(std::env::args().skip(1))?;
    match arguments.word("send, receive, judge or draw").as_deref() {
        Ok("send") => send::run(arguments).map(|()| true),
        Ok("receive") => {
            let (judge, source) = (Judge::read(&mut arguments)?, receive::Source::read(&mut arguments)?);
            let seconds: f64 = arguments.needed("seconds")?;
            let file: Option<String> = arguments.maybe("phases")?;
            arguments.done()?;
            let phases = source.record(judge.cycle_ns, seconds)?;
            if let Some(file) = file {
                fs::write(&file, phases.lines()).map_err(|error| format!("{file}: {error}"))?;
            }
            Ok(judge.tell(&phases))
        }
        Ok("judge") => {
            let judge = Judge::read(&mut arguments)?;
            let file: String = arguments.needed("phases")?;
            arguments.done()?;
            Ok(judge.tell(&read(&file, judge.cycle_ns)?))
        }
        Ok("draw") => picture(arguments).map(|()| true),
        _ => Err(HELP.to_owned()),
    }
}

fn read(file: &str, cycle_ns: u64) -> Result<Phases, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Phases::read(cycle_ns, &text).map_err(|sentence| format!("{file}: {sentence}"))
}

/// What is asked of the phases.
struct Judge {
    cycle_ns: u64,
    window: Window,
    tolerance_ns: u64,
    least: usize,
    label: String,
}

impl Judge {
    fn read(arguments: &mut Arguments) -> Result<Self, String> {
        Ok(Judge {
            cycle_ns: arguments.or("cycle-ns", 1_000_000)?,
            window: arguments.needed("window")?,
            tolerance_ns: arguments.or("tolerance-ns", 20_000)?,
            least: arguments.or("least", 1)?,
            label: arguments.or("label", String::from("frames"))?,
        })
    }

    fn tell(&self, phases: &Phases) -> bool {
        let verdict = phases.judge(self.window, self.tolerance_ns);
        let counts: Vec<String> = phases.histogram(20).iter().map(|count| format!("{count:4}")).collect();
        say(format_args!("{:28}{}", self.label, counts.join("")));
        say(format_args!(
            "{}: {} frames (least {}), {} outside {}-{} ns, worst {} ns late (tolerance {}) and {} ns early",
            self.label,
            verdict.frames,
            self.least,
            verdict.outside,
            self.window.from_ns,
            self.window.to_ns,
            verdict.worst_late_ns,
            self.tolerance_ns,
            verdict.worst_early_ns
        ));
        verdict.outside == 0 && verdict.frames >= self.least
    }
}

fn picture(mut arguments: Arguments) -> Result<(), String> {
    let cycle_ns = arguments.or("cycle-ns", 1_000_000)?;
    let (file, title): (String, String) =
        (arguments.needed("svg")?, arguments.or("title", String::from("Arrival phases"))?);
    let mut panels = Vec::new();
    for word in arguments.rest() {
        let parts: Vec<&str> = word.split(':').collect();
        let [label, phases, window] = parts[..] else {
            return Err(format!("{word:?} is no LABEL:FILE:FROM-TO"));
        };
        let window = window.parse().map_err(|()| format!("{window:?} is no window FROM-TO"))?;
        panels.push(Panel { label: label.into(), phases: read(phases, cycle_ns)?, window });
    }
    arguments.done()?;
    fs::write(&file, draw(&title, &panels)).map_err(|error| format!("{file}: {error}"))
}
