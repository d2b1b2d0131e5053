//! The command line.

use std::time::Duration;

use crate::socket::Place;

/// What `--help` prints.
pub const HELP: &str = "\
tempos-proc-producer: this machine's own counters as events, and the sink that counts them

  tempos-proc-producer --to PLACE (--rate N | --flood) [--seconds S] [--count N]
                       [--phase-us N] [--name NAME] [--fifo PRIORITY] [--json]
  tempos-proc-producer sink --listen PLACE [--seconds S] [--fifo PRIORITY] [--json]

PLACE is udp:ADDRESS:PORT or unix:PATH, both datagrams, one event in each.

  --rate N         N events a second, 1 to 1000000, at absolute times: no drift
  --phase-us N     with --rate: the first event N us into a second of CLOCK_TAI, 0 to 999999
  --flood          as many as the socket takes
  --seconds S      end after S seconds, 10 by default; the sink: never, until SIGTERM or SIGINT
  --count N        end after N events
  --name NAME      the producer's name in its events, vitals by default
  --fifo PRIORITY  run with SCHED_FIFO, 1 to 98, where the system grants it
  --json           the report as one line of JSON

Examples:
  tempos-proc-producer --to udp:127.0.0.1:47001 --rate 1000 --seconds 10
  tempos-proc-producer sink --listen unix:/tmp/vitals.sock
";

/// The longest name of a producer, in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Job {
    /// Print the help.
    Help,
    /// Send events.
    Produce(Produce),
    /// Count events.
    Sink(Sink),
}

/// How events are to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Produce {
    /// Where to.
    pub to: Place,
    /// Events a second; `None`: as many as the socket takes.
    pub rate: Option<u32>,
    /// Where in a second of CLOCK_TAI the first event is sent, in nanoseconds; `None`: at once.
    pub phase_ns: Option<u64>,
    /// How long.
    pub limit: Duration,
    /// How many at most.
    pub count: u64,
    /// The producer's name.
    pub name: String,
    /// The real-time priority that is asked for.
    pub fifo: Option<u8>,
    /// The report as JSON.
    pub json: bool,
}

/// How events are to be counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Where they come in.
    pub listen: Place,
    /// How long; `None`: until a signal.
    pub limit: Option<Duration>,
    /// The real-time priority that is asked for.
    pub fifo: Option<u8>,
    /// The report as JSON.
    pub json: bool,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// One sentence that says what would be right.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Job, String> {
    let mut arguments = arguments.peekable();
    let is_sink = arguments.next_if(|first| first == "sink").is_some();
    let (mut place, mut rate, mut limit, mut count) = (None, None, None, u64::MAX);
    let (mut name, mut fifo, mut flood, mut json) = (String::from("vitals"), None, false, false);
    let mut phase_us: Option<u64> = None;
    let place_flag = if is_sink { "--listen" } else { "--to" };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value; see --help"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(Job::Help),
            "--json" => json = true,
            "--flood" if !is_sink => flood = true,
            "--rate" if !is_sink => rate = Some(number(&flag, &value()?, 1, 1_000_000)?),
            "--phase-us" if !is_sink => phase_us = Some(number(&flag, &value()?, 0, 999_999)?),
            "--count" if !is_sink => count = number(&flag, &value()?, 1, u64::MAX)?,
            "--name" if !is_sink => name = checked_name(value()?)?,
            "--seconds" => limit = Some(seconds(&value()?)?),
            "--fifo" => fifo = Some(number(&flag, &value()?, 1, 98)?),
            given if given == place_flag => place = Some(value()?.parse()?),
            other => return Err(format!("unknown argument {other:?}; see --help")),
        }
    }
    let place = place.ok_or_else(|| format!("{place_flag} PLACE is missing; see --help"))?;
    if is_sink {
        return Ok(Job::Sink(Sink { listen: place, limit, fifo, json }));
    }
    match (flood, rate) {
        (true, Some(_)) => return Err("--rate and --flood exclude each other".into()),
        (false, None) => return Err("one of --rate N and --flood is needed; see --help".into()),
        (true, None) if phase_us.is_some() => return Err("--phase-us is for --rate N; see --help".into()),
        _ => {}
    }
    let limit = limit.unwrap_or(Duration::from_secs(10));
    let phase_ns = phase_us.map(|us| us * 1000);
    Ok(Job::Produce(Produce { to: place, rate, phase_ns, limit, count, name, fifo, json }))
}

fn number<N>(flag: &str, text: &str, min: N, max: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse::<N>() {
        Ok(number) if number >= min && number <= max => Ok(number),
        _ => Err(format!("{flag} takes a whole number from {min} to {max}, not {text:?}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("--seconds takes a number of seconds up to 1000000, not {text:?}")),
    }
}

fn checked_name(name: String) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(name),
        false => Err(format!("--name takes 1 to {NAME_BYTES_MAX} letters, digits and -_./, not {name:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Job, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn lines_of_the_help_are_understood() {
        let Ok(Job::Produce(produce)) = parsed("--to udp:127.0.0.1:47001 --rate 1000 --seconds 10") else {
            panic!("not understood")
        };
        assert_eq!((produce.rate, produce.limit), (Some(1000), Duration::from_secs(10)));
        assert!(matches!(parsed("sink --listen unix:/tmp/vitals.sock"), Ok(Job::Sink(_))));
        assert_eq!(parsed("--help"), Ok(Job::Help));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        for (line, words) in [
            ("", "--to PLACE is missing"),
            ("--to udp:127.0.0.1:1", "one of --rate N and --flood"),
            ("--to udp:127.0.0.1:1 --rate 0", "1 to 1000000"),
            ("--to udp:127.0.0.1:1 --rate 5 --flood", "exclude each other"),
            ("--to udp:127.0.0.1:1 --flood --phase-us 5", "--phase-us is for --rate"),
            ("--to udp:127.0.0.1:1 --rate 5 --phase-us 1000000", "0 to 999999"),
            ("--to tcp:127.0.0.1:1 --flood", "udp:ADDRESS:PORT"),
            ("sink --listen unix:/x --rate 5", "unknown argument \"--rate\""),
            ("--to unix:/x --flood --name a=b", "letters"),
            ("--to unix:/x --flood --fifo", "needs a value"),
        ] {
            let sentence = parsed(line).unwrap_err();
            assert!(sentence.contains(words), "{line}: {sentence}");
        }
    }
}
