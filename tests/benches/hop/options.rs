//! The command line.

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Latency of a hop at a steady pace.
    Hop,
    /// Throughput, and CPU time of an event.
    Flood,
    /// Start to READY, memory and wake-ups at rest.
    Start,
}

/// What is to be done.
#[derive(Debug)]
pub struct Options {
    /// Events for each system, over all rounds.
    pub events: u32,
    /// Events a second.
    pub rate: u32,
    /// Turns that each system gets.
    pub rounds: u32,
    /// Starts for each node.
    pub starts: u32,
    /// Print one JSON object instead of tables.
    pub json: bool,
    parts: Vec<Part>,
}

impl Options {
    /// Reads the arguments. Cargo adds `--bench`.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options =
            Options { events: 10_000, rate: 1000, rounds: 10, starts: 5, json: false, parts: Vec::new() };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut number = |least: u32, most: u32| {
                let text = arguments.next().unwrap_or_default();
                match text.parse() {
                    Ok(number) if (least..=most).contains(&number) => Ok(number),
                    _ => Err(format!("{argument} takes a number from {least} to {most}, not {text:?}")),
                }
            };
            match argument.as_str() {
                "--bench" => {}
                "--json" => options.json = true,
                "--events" => options.events = number(100, 10_000_000)?,
                "--rate" => options.rate = number(1, 20_000)?,
                "--rounds" => options.rounds = number(1, 1000)?,
                "--starts" => options.starts = number(1, 100)?,
                "hop" => options.parts.push(Part::Hop),
                "flood" => options.parts.push(Part::Flood),
                "start" => options.parts.push(Part::Start),
                other => {
                    return Err(format!(
                        "unknown argument {other:?}; there are --events N, --rate N, --rounds N, --starts N, \
                         --json, and the parts hop, flood, start"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// Whether a part is to be run.
    pub fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}
