//! What guests say, on its way to the node's log. A lane's thread must not write to the log: lines go into a
//! bounded book, and the keeper carries them on a few times a second. What does not fit is counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tempos_abi::host::LogLevel;

/// Lines of one function that wait for the keeper: with its period that bounds their rate, too.
pub const LINES_MAX: usize = 32;
/// A longer line is cut.
pub const LINE_BYTES_MAX: usize = 240;
/// The book is held for the copy of one line, or for one swap. Whoever does not get it by then lets go.
const TRIES: u32 = 200;

#[derive(Clone, Copy)]
struct Line {
    level: LogLevel,
    len: u8,
    bytes: [u8; LINE_BYTES_MAX],
}

#[derive(Clone)]
struct Book {
    lines: [Line; LINES_MAX],
    len: usize,
}

impl Book {
    const EMPTY: Book = Book {
        lines: [Line { level: LogLevel::INFO, len: 0, bytes: [0; LINE_BYTES_MAX] }; LINES_MAX],
        len: 0,
    };
}

/// The lines of one function.
pub struct Journal {
    book: Mutex<Book>,
    left_out: AtomicU64,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { book: Mutex::new(Book::EMPTY), left_out: AtomicU64::new(0) }
    }
}

impl Journal {
    /// Writes down a line; allocates nothing and waits for nobody.
    pub fn write(&self, level: LogLevel, line: &[u8]) {
        for _ in 0..TRIES {
            let Ok(mut book) = self.book.try_lock() else {
                std::hint::spin_loop();
                continue;
            };
            let at = book.len;
            let Some(free) = book.lines.get_mut(at) else { break };
            let len = line.len().min(LINE_BYTES_MAX);
            free.level = level;
            free.len = len as u8;
            free.bytes[..len].copy_from_slice(&line[..len]);
            book.len += 1;
            return;
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes down a text that may have several lines, or half of one.
    pub fn write_lines(&self, level: LogLevel, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.write(level, line);
        }
    }

    /// Hands the lines to `carry`, and how many were left out since. Called by the keeper.
    pub fn carry_on(&self, mut carry: impl FnMut(LogLevel, &str), left_out: impl FnOnce(u64)) {
        let taken = {
            let mut book = self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if book.len == 0 {
                None
            } else {
                let taken = Box::new(book.clone());
                book.len = 0;
                Some(taken)
            }
        };
        for line in taken.iter().flat_map(|book| &book.lines[..book.len]) {
            carry(line.level, &String::from_utf8_lossy(&line.bytes[..line.len.into()]));
        }
        match self.left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            count => left_out(count),
        }
    }
}

/// What a guest's number for the severity of a line means: 0 error, 1 warning, 2 information, else debug.
pub fn severity(number: i32) -> LogLevel {
    match number {
        0 => LogLevel::ERROR,
        1 => LogLevel::WARNING,
        2 => LogLevel::INFO,
        _ => LogLevel::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(journal: &Journal) -> (Vec<String>, u64) {
        let (mut lines, mut count) = (Vec::new(), 0);
        journal.carry_on(|_, line| lines.push(line.to_owned()), |left_out| count = left_out);
        (lines, count)
    }

    #[test]
    fn lines_come_out_in_order_and_once() {
        let journal = Journal::default();
        journal.write_lines(LogLevel::INFO, b"one\n\ntwo\nthree");
        journal.write(LogLevel::ERROR, &[b'x'; 1000]);
        let (lines, left_out) = carried(&journal);
        assert_eq!(lines[..3], ["one", "two", "three"]);
        assert_eq!((lines[3].len(), left_out), (LINE_BYTES_MAX, 0));
        assert_eq!(carried(&journal), (Vec::new(), 0));
    }

    #[test]
    fn a_flood_is_counted_not_kept() {
        let journal = Journal::default();
        (0..1000).for_each(|_| journal.write(LogLevel::INFO, b"again"));
        let (lines, left_out) = carried(&journal);
        assert_eq!((lines.len(), left_out), (LINES_MAX, 1000 - LINES_MAX as u64));
        journal.write(LogLevel::INFO, b"\xff\xfe");
        assert_eq!(carried(&journal), (vec![String::from("\u{fffd}\u{fffd}")], 0));
    }
}
