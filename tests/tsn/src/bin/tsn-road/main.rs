//! How long events took over several nodes, leg by leg, by the instants at which they passed places on their road.
//!
//! It knows files of instants, as `tsn-phases` writes them; it refuses to know nodes.

mod picture;

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use tempos_tsn_rig::{Arguments, Place, Spread, durations, say};

use picture::{Scene, draw};

const HELP: &str = "\
tsn-road measure --into FILE FROM:TIMES LEG:TIMES LEG:TIMES ...
                 prints how long each leg took; FILE gets `LEG NS` for each event and leg
tsn-road compare --road FILE --with FILE --mean-ns NS --p90-ns NS [--label NAME]
                 whether mean and 90th percentile of all the way are no further apart than that
tsn-road table   SCENE:ROAD ...                          a table of all legs, in microseconds
tsn-road draw    --svg FILE --title TEXT [--mark-us N:TEXT]... SCENE:ROAD ...

Exit codes: 0 well, 1 an event was lost or the distribution moved, 2 it could not be tried.";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            say(format_args!("tsn-road: {sentence}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = Arguments::read(std::env::args().skip(1))?;
    match arguments.word("a verb").as_deref() {
        Ok("measure") => measure(arguments),
        Ok("compare") => compare(arguments),
        Ok("table") => table(arguments).map(|()| true),
        Ok("draw") => picture(arguments).map(|()| true),
        _ => Err(HELP.to_owned()),
    }
}

fn text(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

/// The name and the file of a word `NAME:FILE`.
fn named(word: &str) -> Result<(&str, &str), String> {
    word.split_once(':').ok_or_else(|| format!("{word:?} is no NAME:FILE"))
}

fn measure(mut arguments: Arguments) -> Result<bool, String> {
    let into: String = arguments.needed("into")?;
    let mut places = Vec::new();
    for word in arguments.rest() {
        let (leg, file) = named(&word)?;
        let wrong = |line: &str| format!("{file}: {line:?} is no instant");
        let times: Result<_, _> =
            text(file)?.lines().map(|line| line.parse().map_err(|_| wrong(line))).collect();
        places.push(Place { leg: leg.into(), times: times? });
    }
    arguments.done()?;
    let legs = match durations(&places) {
        Ok(legs) => legs,
        Err(sentence) => {
            say(sentence);
            return Ok(false);
        }
    };
    let mut lines = String::new();
    for (leg, all) in &legs {
        say(row("", leg, &Spread::of(all)));
        for ns in all {
            // Writing into a String does not fail.
            let _ = writeln!(lines, "{leg}\t{ns}");
        }
    }
    fs::write(&into, lines).map_err(|error| format!("{into}: {error}"))?;
    Ok(true)
}

/// The legs of a file that `measure` wrote, in their order.
fn road(file: &str) -> Result<Vec<(String, Vec<u64>)>, String> {
    let mut legs: Vec<(String, Vec<u64>)> = Vec::new();
    for line in text(file)?.lines() {
        let parsed = line.split_once('\t').and_then(|(leg, ns)| Some((leg, ns.parse().ok()?)));
        let (leg, ns) = parsed.ok_or_else(|| format!("{file}: {line:?} is no leg and its nanoseconds"))?;
        match legs.last_mut() {
            Some((last, all)) if last == leg => all.push(ns),
            _ => legs.push((leg.to_owned(), vec![ns])),
        }
    }
    if legs.is_empty() { Err(format!("{file}: it is empty")) } else { Ok(legs) }
}

/// The spread of all the way.
fn whole(file: &str) -> Result<Spread, String> {
    Ok(road(file)?.last().map(|(_, all)| Spread::of(all)).unwrap_or_default())
}

fn compare(mut arguments: Arguments) -> Result<bool, String> {
    let (one, other): (String, String) = (arguments.needed("road")?, arguments.needed("with")?);
    let (mean_ns, p90_ns): (u64, u64) = (arguments.needed("mean-ns")?, arguments.needed("p90-ns")?);
    let label: String = arguments.or("label", String::from("all the way"))?;
    arguments.done()?;
    let (one, other) = (whole(&one)?, whole(&other)?);
    let (mean, p90) = (one.mean_ns.abs_diff(other.mean_ns), one.p90_ns.abs_diff(other.p90_ns));
    say(format_args!(
        "{label}: means {mean} ns apart ({mean_ns} at most), 90th percentiles {p90} ns ({p90_ns}), 99th {} ns",
        one.p99_ns.abs_diff(other.p99_ns)
    ));
    Ok(mean <= mean_ns && p90 <= p90_ns)
}

fn us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1000.0)
}

fn row(scene: &str, leg: &str, spread: &Spread) -> String {
    let Spread { events, mean_ns, p50_ns, p99_ns, max_ns, .. } = *spread;
    let [mean, p50, p99, max] = [mean_ns, p50_ns, p99_ns, max_ns].map(us);
    format!("{scene:22} {leg:30} {events:>6} {mean:>8} {p50:>8} {p99:>8} {max:>8}")
}

fn table(mut arguments: Arguments) -> Result<(), String> {
    let [events, mean, p50, p99, max] = ["EVENTS", "MEAN", "P50", "P99", "MAX"];
    let scenes = arguments.rest();
    arguments.done()?;
    say(format_args!("{:22} {:30} {events:>6} {mean:>8} {p50:>8} {p99:>8} {max:>8}", "MICROSECONDS", "LEG"));
    for word in scenes {
        let (scene, from) = named(&word)?;
        for (at, (leg, all)) in road(from)?.iter().enumerate() {
            say(row(if at == 0 { scene } else { "" }, leg, &Spread::of(all)));
        }
    }
    Ok(())
}

fn picture(mut arguments: Arguments) -> Result<(), String> {
    let (file, title): (String, String) = (arguments.needed("svg")?, arguments.needed("title")?);
    let mut marks = Vec::new();
    for word in arguments.all("mark-us") {
        let (number, label) = named(&word)?;
        let number: u64 = number.parse().map_err(|_| format!("--mark-us {word:?} is no N:TEXT"))?;
        marks.push((number * 1000, label.to_owned()));
    }
    let mut scenes = Vec::new();
    for word in arguments.rest() {
        let (label, from) = named(&word)?;
        scenes.push(Scene { label: label.into(), legs: road(from)? });
    }
    arguments.done()?;
    fs::write(&file, draw(&title, &marks, &scenes)).map_err(|error| format!("{file}: {error}"))
}
