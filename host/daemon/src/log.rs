//! The log: lines on standard error, one for each sentence.
//!
//! A thread of its own writes them, so that a reader who does not read holds up nobody: what does not
//! fit into its bounded queue is counted and said later. Each part of the node has a share of lines a
//! second. Under systemd each line begins with its priority (sd-daemon(3)), elsewhere with the time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tempos_abi::host::LogLevel;
use tempos_engine::LogFn;

use crate::config::LogSettings;

/// Lines that may wait for the writer.
const WAITING_MAX: usize = 4096;
/// Parts of the node that have a share of their own; what comes later shares one.
const TARGETS_MAX: usize = 256;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 8192;
/// How long the last lines may take to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// A level at which nothing is logged.
pub const NOTHING: &str = "nothing";

/// The log of the daemon. Clones write to the same one.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    queue: SyncSender<Entry>,
    threshold: u8,
    shares: Mutex<HashMap<String, Share>>,
    lines_per_second: f64,
    left_out: AtomicU64,
}

enum Entry {
    Line { level: LogLevel, at: SystemTime, target: String, sentence: String },
    Flush(SyncSender<()>),
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("threshold", &self.shared.threshold).finish_non_exhaustive()
    }
}

impl Log {
    /// Starts the writer. Without a thread for it, nothing is written: the node matters more.
    pub fn start(settings: &LogSettings) -> Log {
        let (queue, entries) = sync_channel(WAITING_MAX);
        let journal = match settings.format.as_str() {
            "journal" => true,
            "plain" => false,
            _ => stderr_is_the_journal(),
        };
        let _ = std::thread::Builder::new()
            .name("tempos-log".into())
            .stack_size(256 << 10)
            .spawn(move || write_all(&entries, journal));
        Log {
            shared: Arc::new(Shared {
                queue,
                threshold: threshold(&settings.level),
                shares: Mutex::new(HashMap::new()),
                lines_per_second: f64::from(settings.lines_per_second),
                left_out: AtomicU64::new(0),
            }),
        }
    }

    /// The function that the rooms log through.
    pub fn function(&self) -> LogFn {
        let log = self.clone();
        Arc::new(move |level, target, sentence| log.say(level, target, sentence))
    }

    /// Logs a sentence; each of its lines becomes a line. The plugin room names itself with an empty target.
    pub fn say(&self, level: LogLevel, target: &str, sentence: &str) {
        if level.0 > self.shared.threshold {
            return;
        }
        let target = if target.is_empty() { "plugins" } else { target };
        for line in sentence.lines().filter(|line| !line.trim().is_empty()) {
            match self.shared.share_of(target) {
                Some(0) => {}
                Some(left_out) => self.send(level, target, format!("{left_out} lines were left out here")),
                None => continue,
            }
            self.send(level, target, line.to_owned());
        }
    }

    fn send(&self, level: LogLevel, target: &str, sentence: String) {
        let left_out = self.shared.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let sentence = format!("{left_out} lines were left out, because nobody read the log in time");
            self.try_send(LogLevel::WARNING, "log", sentence, left_out);
        }
        self.try_send(level, target, sentence, 1);
    }

    fn try_send(&self, level: LogLevel, target: &str, sentence: String, worth: u64) {
        let line = Entry::Line { level, at: SystemTime::now(), target: target.to_owned(), sentence };
        if self.shared.queue.try_send(line).is_err() {
            self.shared.left_out.fetch_add(worth, Ordering::Relaxed);
        }
    }

    /// Waits until everything so far is written, within a bound.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.shared.queue.try_send(Entry::Flush(done)).is_ok() {
            // Late or never written makes no difference to a process that is about to end.
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

/// Lines that one part of the node may still write: a bucket that fills with time.
struct Share {
    tokens: f64,
    filled: Instant,
    left_out: u64,
}

impl Shared {
    /// Takes a line from the share of `target`: how many were left out before it, or `None` where it is
    /// left out too.
    fn share_of(&self, target: &str) -> Option<u64> {
        let now = Instant::now();
        let most = self.lines_per_second * 2.0;
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let target = if shares.len() < TARGETS_MAX || shares.contains_key(target) { target } else { "" };
        let share =
            shares.entry(target.to_owned()).or_insert(Share { tokens: most, filled: now, left_out: 0 });
        let earned = now.duration_since(share.filled).as_secs_f64() * self.lines_per_second;
        share.tokens = (share.tokens + earned).min(most);
        share.filled = now;
        if share.tokens < 1.0 {
            share.left_out += 1;
            return None;
        }
        share.tokens -= 1.0;
        Some(std::mem::take(&mut share.left_out))
    }
}

fn write_all(entries: &Receiver<Entry>, journal: bool) {
    let mut text = String::new();
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line { level, at, target, sentence } => {
                render(&mut text, journal, level, at, &target, &sentence);
                // A log that cannot be written has no place to say so.
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
            Entry::Flush(done) => drop(done.try_send(())),
        }
    }
}

fn render(text: &mut String, journal: bool, level: LogLevel, at: SystemTime, target: &str, sentence: &str) {
    text.clear();
    // Writing into a String cannot fail.
    let _ = if journal {
        write!(text, "<{}>{target}: ", level.0)
    } else {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        write!(text, "{} {:<7} {target}: ", utc(since), word(level))
    };
    for c in sentence.chars() {
        if text.len() >= LINE_BYTES_MAX {
            text.push('…');
            break;
        }
        // What others wrote must not move the cursor of a terminal, nor pass for a line of ours.
        match c.is_control() && c != '\t' {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    text.push('\n');
}

fn word(level: LogLevel) -> &'static str {
    match level.0 {
        0..=3 => "error",
        4 => "warning",
        5 | 6 => "info",
        _ => "debug",
    }
}

fn threshold(word: &str) -> u8 {
    match word {
        // Not a word of the node file: a check prints its mistakes itself.
        NOTHING => 0,
        "error" => LogLevel::ERROR.0,
        "warning" => LogLevel::WARNING.0,
        "debug" => LogLevel::DEBUG.0,
        _ => LogLevel::INFO.0,
    }
}

/// Whether standard error goes to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

/// A time in UTC with milliseconds (RFC 3339). The Gregorian calendar repeats every 400 years, which
/// have 146,097 days; years begin in March here, so that the leap day is a year's last.
pub(crate) fn utc(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since_epoch.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(Duration::from_millis(951_782_400_123)), "2000-02-29T00:00:00.123Z");
        assert_eq!(utc(Duration::from_secs(1_798_761_599)), "2026-12-31T23:59:59.000Z");
        assert_eq!(utc(Duration::from_secs(4_107_542_400)), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        let mut text = String::new();
        render(&mut text, true, LogLevel::ERROR, SystemTime::UNIX_EPOCH, "plugin", "a\u{1b}[2Jb\rc");
        assert_eq!(text, "<3>plugin: a\\u{1b}[2Jb\\rc\n");
        render(&mut text, false, LogLevel::INFO, SystemTime::UNIX_EPOCH, "lane", &"x".repeat(20_000));
        assert!(text.starts_with("1970-01-01T00:00:00.000Z info    lane: xx"));
        assert!(text.len() < LINE_BYTES_MAX + 8 && text.ends_with("…\n"));
    }

    #[test]
    fn a_part_that_says_too_much_leaves_the_share_of_others_alone() {
        let (queue, entries) = sync_channel(WAITING_MAX);
        let log = Log {
            shared: Arc::new(Shared {
                queue,
                threshold: LogLevel::INFO.0,
                shares: Mutex::new(HashMap::new()),
                lines_per_second: 1.0,
                left_out: AtomicU64::new(0),
            }),
        };
        for _ in 0..1000 {
            log.say(LogLevel::INFO, "noisy", "again");
        }
        log.say(LogLevel::DEBUG, "quiet", "below the threshold");
        log.say(LogLevel::INFO, "quiet", "first\n\nsecond");
        drop(log);
        let lines: Vec<(String, String)> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Line { target, sentence, .. } => Some((target, sentence)),
                Entry::Flush(_) => None,
            })
            .collect();
        let of = |wanted: &str| -> Vec<&str> {
            lines.iter().filter(|(target, _)| target == wanted).map(|(_, s)| s.as_str()).collect()
        };
        assert!((2..1000).contains(&of("noisy").len()), "{}", of("noisy").len());
        assert_eq!(of("quiet"), ["first", "second"]);
    }
}
