//! Standard output: coloured on a terminal, plain in a pipe, JSON where asked for.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use serde_json::Value;

/// Where the answers go.
pub struct Output {
    out: BufWriter<Stdout>,
    /// Whether JSON was asked for.
    pub json: bool,
    colour: bool,
}

/// How a text is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// Not at all.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Of less weight.
    Faint,
    /// As it should be.
    Good,
    /// To be looked at.
    Poor,
    /// Wrong.
    Bad,
}

impl Mark {
    /// How a state is marked.
    pub fn of_state(state: &str) -> Mark {
        match state {
            "started" | "granted" | "loaded" | "open" | "running" | "good" => Mark::Good,
            "failed" | "gone" | "stopped" | "bad" => Mark::Bad,
            _ => Mark::Poor,
        }
    }

    /// Poor where it would be good: for a node that runs, but not as asked.
    pub fn max_with_poor(self) -> Mark {
        if self == Mark::Good { Mark::Poor } else { self }
    }

    fn code(self) -> &'static str {
        match self {
            Mark::Plain => "",
            Mark::Bold => "\x1b[1m",
            Mark::Faint => "\x1b[2m",
            Mark::Good => "\x1b[32m",
            Mark::Poor => "\x1b[33m",
            Mark::Bad => "\x1b[31m",
        }
    }
}

impl Output {
    /// Standard output. `NO_COLOR` is that of no-color.org: set and not empty.
    pub fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let colour = wanted && stdout.is_terminal();
        Output { out: BufWriter::new(stdout), json, colour }
    }

    /// How wide the terminal is; none where standard output is no terminal.
    pub fn terminal_columns(&self) -> Option<u16> {
        let (terminal_size::Width(columns), _) = terminal_size::terminal_size_of(io::stdout())?;
        Some(columns)
    }

    /// A text with its mark, where there are colours.
    pub fn paint(&self, mark: Mark, text: &str) -> String {
        if self.colour && mark != Mark::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", mark.code())
        } else {
            text.to_owned()
        }
    }

    /// Writes one line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes a JSON value: over several lines, or on one where it is one of a stream.
    pub fn value(&mut self, value: &Value, one_line: bool) -> io::Result<()> {
        if one_line { writeln!(self.out, "{value}") } else { writeln!(self.out, "{value:#}") }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A text from outside, on one line and without control characters: a name or a sentence must not steer
/// the terminal.
pub fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
