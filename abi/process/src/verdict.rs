//! From how a process ended to how an invocation ended, with its sentence. Pure.

use std::fmt::Write;

use tempos_abi::event::Output;
use tempos_abi::invoker::Outcome;

use crate::launcher;
use crate::process::Ended;
use crate::tail::Tail;

/// A sentence of bounded length, made without an allocation.
#[derive(Debug)]
pub struct Sentence {
    bytes: [u8; 256],
    len: usize,
}

impl Default for Sentence {
    fn default() -> Self {
        Sentence::new()
    }
}

impl Sentence {
    /// An empty one.
    pub const fn new() -> Self {
        Sentence { bytes: [0; 256], len: 0 }
    }

    /// It as far as it fits.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl Write for Sentence {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut len = text.len().min(self.bytes.len() - self.len);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Says it, cut where it does not fit.
pub fn explain(output: &mut Output<'_>, what: std::fmt::Arguments<'_>) {
    let mut sentence = Sentence::new();
    let _ = sentence.write_fmt(what);
    output.explain(sentence.text());
}

/// What a limit on memory means for the judgement of an end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The limit in bytes; 0: none.
    pub limit_bytes: u64,
    /// What the node itself had at most: the kernel counts that for its children too.
    pub node_bytes: u64,
}

/// Whether a process that ended badly did so for want of memory. The kernel does not say: what it said itself
/// and how much it had are the evidence.
fn over_memory(ended: &Ended, tail: &Tail, memory: Memory) -> bool {
    let most = memory.limit_bytes / 4 * 3;
    memory.limit_bytes > 0
        && ended.signal != libc::SIGXCPU
        && (tail.speaks_of_memory()
            || ended.touched_bytes >= most
            || (ended.resident_bytes >= most && memory.node_bytes < most))
}

/// The outcome of a process that ended without having been told to, and did not end well.
pub fn of_bad_end(ended: &Ended, tail: &Tail, memory: Memory, output: &mut Output<'_>) -> Outcome {
    let line = tail.last_line();
    let colon = if line.is_empty() { "" } else { ": " };
    if ended.code == Some(launcher::REFUSED)
        && let Some(what) = line.strip_prefix(launcher::SAYS)
    {
        output.explain(what);
        return Outcome::NOT_STARTED;
    }
    if over_memory(ended, tail, memory) {
        let mebibytes = memory.limit_bytes >> 20;
        explain(output, format_args!("it asked for more than its {mebibytes} MiB of memory{colon}{line}"));
        return Outcome::OVER_MEMORY;
    }
    match *ended {
        Ended { signal, .. } if signal != 0 => {
            explain(output, format_args!("it was ended by signal {signal}{}{colon}{line}", name_of(signal)));
            Outcome::CRASHED
        }
        Ended { code: Some(code @ 1..=255), .. } => {
            explain(output, format_args!("it ended with code {code}{colon}{line}"));
            Outcome::failed(code as u8)
        }
        _ => {
            explain(output, format_args!("it is not known how it ended{colon}{line}"));
            Outcome::CRASHED
        }
    }
}

/// The name of a signal, as an addition to its number.
fn name_of(signal: i32) -> &'static str {
    match signal {
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGSYS => " (SIGSYS)",
        libc::SIGXCPU => " (SIGXCPU): its CPU time was used up",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ended: Ended, limit_bytes: u64, node_bytes: u64) -> (Outcome, String) {
        let (mut buffer, mut error) = ([0; 8], [0; 256]);
        let mut output = Output::new(&mut buffer, &mut error);
        let outcome = of_bad_end(&ended, &Tail::new(), Memory { limit_bytes, node_bytes }, &mut output);
        (outcome, output.explanation())
    }

    #[test]
    fn an_end_is_told_as_what_it_was() {
        let code = |code| Ended { code: Some(code), ..Ended::default() };
        assert_eq!(judge(code(7), 0, 0), (Outcome::failed(7), "it ended with code 7".into()));
        let crash = Ended { signal: libc::SIGSEGV, ..Ended::default() };
        let said = String::from("it was ended by signal 11 (SIGSEGV)");
        assert_eq!(judge(crash, 64 << 20, 0), (Outcome::CRASHED, said));
        let full = Ended { touched_bytes: 60 << 20, ..crash };
        assert_eq!(judge(full, 64 << 20, 0).0, Outcome::OVER_MEMORY);
        assert_eq!(judge(full, 0, 0).0, Outcome::CRASHED);
        // What the node itself has says nothing of its child.
        let resident = Ended { resident_bytes: 60 << 20, ..crash };
        assert_eq!(judge(resident, 64 << 20, 100 << 20).0, Outcome::CRASHED);
        assert_eq!(judge(resident, 64 << 20, 10 << 20).0, Outcome::OVER_MEMORY);
    }
}
