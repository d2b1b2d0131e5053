//! Figures for a reader: counts in groups of three, times with their units.

use std::collections::BTreeMap;

use tempos_control::units::show_ns;

/// A count with thin gaps: `1 204 331`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

/// A time, or a dash where nothing was measured.
pub fn time(ns: u64) -> String {
    if ns == 0 { "–".into() } else { show_ns(ns) }
}

/// How long something lasts: `3 h 12 min`.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Counts by reason: their sum, with the reasons where there are any.
pub fn reasons(counts: &BTreeMap<String, u64>) -> String {
    let some: Vec<_> =
        counts.iter().filter(|(_, n)| **n > 0).map(|(why, n)| format!("{} {why}", count(*n))).collect();
    if some.is_empty() { "0".into() } else { some.join(", ") }
}

/// `1 topic`, `2 topics`.
pub fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_204_331), "1 204 331");
        assert_eq!(lasting(11_520), "3 h 12 min");
        assert_eq!(plural(1, "topic"), "1 topic");
        let dropped = BTreeMap::from([("queue-full".into(), 1200), ("expired".into(), 0)]);
        assert_eq!(reasons(&dropped), "1 200 queue-full");
    }
}
