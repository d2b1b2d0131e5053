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
                   [--phase-ns NS] [--cycle-ns NS]       the first at that phase; whole cycles keep it
tsn-phases receive --udp PORT | --interface IFACE --ethertype HEX [--port PORT]
                   --seconds S --window FROM-TO [--cycle-ns NS] [--tolerance-ns NS] [--least N] [--label NAME]
                   [--phases FILE] [--times FILE]                      instants of arrival, TAI
tsn-phases judge   --phases FILE --window FROM-TO [--cycle-ns NS] [--tolerance-ns NS] [--least N] [--label NAME]
                   [--outside-most N]
tsn-phases resumed --times FILE --after FILE --within-ns NS [--label NAME]
                   whether a frame arrived that soon after the last line of --after, which begins with an instant
tsn-phases compare --phases FILE --with FILE --most-permille N [--cycle-ns NS] [--label NAME]
tsn-phases draw    --svg FILE [--title TEXT] [--cycle-ns NS] LABEL:FILE:FROM-TO ...

Exit codes: 0 every frame arrived within the window, 1 some did not or too few came, 2 it could not be tried.";

/// What is further apart is of another time.
const A_WHILE_NS: u64 = 5_000_000_000;
/// Bins of a histogram.
const BINS: usize = 20;

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
    match arguments.word("a verb").as_deref() {
        Ok("send") => send::run(arguments).map(|()| true),
        Ok("receive") => {
            let (judge, source) = (Judge::read(&mut arguments)?, receive::Source::read(&mut arguments)?);
            let seconds: f64 = arguments.needed("seconds")?;
            let file: Option<String> = arguments.maybe("phases")?;
            let times_file: Option<String> = arguments.maybe("times")?;
            arguments.done()?;
            let times = source.record(seconds)?;
            let mut phases = Phases::new(judge.cycle_ns);
            times.iter().for_each(|time| phases.add(*time));
            if let Some(file) = times_file {
                let lines: String = times.iter().map(|time| format!("{time}\n")).collect();
                fs::write(&file, lines).map_err(|error| format!("{file}: {error}"))?;
            }
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
        Ok("resumed") => resumed(arguments),
        Ok("compare") => compare(arguments),
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
    outside_most: usize,
    label: String,
}

impl Judge {
    fn read(arguments: &mut Arguments) -> Result<Self, String> {
        Ok(Judge {
            cycle_ns: arguments.or("cycle-ns", 1_000_000)?,
            window: arguments.needed("window")?,
            tolerance_ns: arguments.or("tolerance-ns", 20_000)?,
            least: arguments.or("least", 1)?,
            outside_most: arguments.or("outside-most", 0)?,
            label: arguments.or("label", String::from("frames"))?,
        })
    }

    fn tell(&self, phases: &Phases) -> bool {
        let verdict = phases.judge(self.window, self.tolerance_ns);
        let counts: Vec<String> = phases.histogram(BINS).iter().map(|count| format!("{count:4}")).collect();
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
        verdict.outside <= self.outside_most && verdict.frames >= self.least
    }
}

fn resumed(mut arguments: Arguments) -> Result<bool, String> {
    let (times, after): (String, String) = (arguments.needed("times")?, arguments.needed("after")?);
    let within_ns: u64 = arguments.needed("within-ns")?;
    let label: String = arguments.or("label", String::from("frames"))?;
    arguments.done()?;
    let text = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let told = text(&after)?;
    let instant = told.lines().last().and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    let instant = instant.ok_or_else(|| format!("{after}: its last line begins with no instant"))?;
    let first = text(&times)?
        .lines()
        .filter_map(|line| line.parse::<u64>().ok())
        // Before a step back instants were later.
        .find(|time| *time >= instant && *time - instant < A_WHILE_NS);
    let waited = first.map(|first| first - instant);
    match waited {
        Some(waited) => {
            say(format_args!("{label}: went on {waited} ns after the repair, {within_ns} at most"))
        }
        None => say(format_args!("{label}: nothing arrived after the repair")),
    }
    Ok(waited.is_some_and(|waited| waited <= within_ns))
}

fn compare(mut arguments: Arguments) -> Result<bool, String> {
    let cycle_ns = arguments.or("cycle-ns", 1_000_000)?;
    let (one, other): (String, String) = (arguments.needed("phases")?, arguments.needed("with")?);
    let most: u64 = arguments.needed("most-permille")?;
    let label: String = arguments.or("label", String::from("histograms"))?;
    arguments.done()?;
    let distance = read(&one, cycle_ns)?.distance_permille(&read(&other, cycle_ns)?, BINS);
    say(format_args!("{label}: {distance} of 1000 apart, {most} at most"));
    Ok(distance <= most)
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
