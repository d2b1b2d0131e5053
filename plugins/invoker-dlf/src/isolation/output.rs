//! What a function prints: lines for the node's log, a few at a time.

use std::fs::File;
use std::io::Read;

use tempos_abi::export::log;
use tempos_abi::host::LogLevel;

const LINE_BYTES_MAX: usize = 240;
/// Lines in a second; what is more is counted.
const LINES_MAX: u32 = 20;
const SECOND_NS: u64 = 1_000_000_000;
/// Bytes that are fetched at once: a function that never stops printing does not hold up its keeper.
const FETCHED_BYTES_MAX: usize = 64 << 10;
/// A pipe is not looked at again for so long after it was full.
const REST_NS: u64 = 50_000_000;

/// The printed lines of one process.
#[derive(Debug, Default)]
pub struct Printed {
    line: Vec<u8>,
    second_ns: u64,
    lines: u32,
    lost: u64,
    rests_until_ns: u64,
}

impl Printed {
    /// Whether its pipe is to be looked at now.
    pub fn listens(&self, now_ns: u64) -> bool {
        now_ns >= self.rests_until_ns
    }

    /// Fetches what is there and logs it.
    pub fn fetch(&mut self, mut pipe: &File, name: &str, now_ns: u64) {
        let (mut chunk, mut fetched) = ([0; 4096], 0);
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            self.take(&chunk[..count], name, now_ns);
            fetched += count;
            if fetched >= FETCHED_BYTES_MAX {
                self.rests_until_ns = now_ns + REST_NS;
                return;
            }
        }
    }

    /// Logs what is left of it; its process has ended.
    pub fn finish(&mut self, pipe: &File, name: &str, now_ns: u64) {
        self.fetch(pipe, name, now_ns);
        if !self.line.is_empty() {
            self.say(name, now_ns);
        }
        self.tell_lost(name);
    }

    fn take(&mut self, bytes: &[u8], name: &str, now_ns: u64) {
        for byte in bytes {
            match byte {
                b'\n' => self.say(name, now_ns),
                _ if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn say(&mut self, name: &str, now_ns: u64) {
        if now_ns.saturating_sub(self.second_ns) > SECOND_NS {
            self.tell_lost(name);
            (self.second_ns, self.lines) = (now_ns, 0);
        }
        self.lines += 1;
        if self.lines > LINES_MAX {
            self.lost += 1;
        } else {
            let line: String = String::from_utf8_lossy(&self.line)
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            log(LogLevel::INFO, "dlf", &format!("function of workflow \"{name}\" prints: {line}"));
        }
        self.line.clear();
    }

    fn tell_lost(&mut self, name: &str) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let sentence =
                format!("function of workflow \"{name}\" printed {lost} lines more than are logged");
            log(LogLevel::INFO, "dlf", &sentence);
        }
    }
}
