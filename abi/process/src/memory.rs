//! How much memory a process has, asked without an allocation.

use std::fmt::Write as _;
use std::io::Read as _;

use crate::verdict::Sentence;

/// The most that one of a process, its first child, and that one's has in memory now (proc(5)); 0 where they have
/// gone. In a namespace of its own or in a container a function is its launcher's child, or that one's.
pub fn resident_bytes(pid: i32) -> u64 {
    let (mut most, mut pid) = (0, Some(pid));
    for _ in 0..3 {
        let Some(of) = pid else { break };
        let pages: u64 = number_in(format_args!("/proc/{of}/statm"), 1).unwrap_or(0);
        most = most.max(pages.saturating_mul(4096));
        pid = number_in(format_args!("/proc/{of}/task/{of}/children"), 0);
    }
    most
}

/// One of the numbers that a small file begins with.
fn number_in<N: std::str::FromStr>(path: std::fmt::Arguments<'_>, at: usize) -> Option<N> {
    let (mut name, mut text) = (Sentence::new(), [0; 128]);
    let _ = name.write_fmt(path);
    let read = std::fs::File::open(name.text()).and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    let fields = std::str::from_utf8(&text[..read]).unwrap_or("");
    fields.split_ascii_whitespace().nth(at)?.parse().ok()
}
