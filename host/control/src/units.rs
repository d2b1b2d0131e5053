//! Durations and sizes as people write them: a whole or decimal number and a unit, nothing else.

use crate::Rate;

/// Reads a duration such as `250us`, `2ms`, `1.5s`, `3min`; the answer is in nanoseconds.
///
/// # Errors
/// One sentence that says what would be right.
pub fn duration_ns(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, f64)] =
        &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3600e9)];
    quantity(text, UNITS, "a duration with its unit, such as \"250us\", \"2ms\" or \"1s\"")
}

/// Reads a size such as `512B`, `64KiB`, `16MiB`, `1GiB` (also `kB`, `MB`, `GB`); the answer is in bytes.
///
/// # Errors
/// One sentence that says what would be right.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, f64)] = &[
        ("B", 1.0),
        ("KiB", 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("GiB", 1024.0 * 1024.0 * 1024.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
    ];
    quantity(text, UNITS, "a size with its unit, such as \"512B\", \"64KiB\" or \"16MiB\"")
}

/// Reads a rate such as `1000/s`, `30/min` or `2/h`.
///
/// # Errors
/// One sentence that says what would be right.
pub fn rate(text: &str) -> Result<Rate, String> {
    const RIGHT: &str = "a rate such as \"1000/s\", \"30/min\" or \"2/h\"";
    let wrong = || format!("{text:?} is not {RIGHT}");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: u64 = count.trim().parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "s" => 3600,
        "min" => 60,
        "h" => 1,
        _ => return Err(wrong()),
    };
    match count.checked_mul(factor) {
        Some(per_hour @ 1..=RATE_PER_HOUR_MAX) => Ok(Rate { per_hour }),
        _ => Err(format!("{text:?} is out of range; \"1/h\" to \"100000000/s\" are rates")),
    }
}

/// The highest rate: a hundred million events in a second.
const RATE_PER_HOUR_MAX: u64 = 360_000_000_000;

fn quantity(text: &str, units: &[(&str, f64)], right: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not {right}");
    let text_trimmed = text.trim();
    let split = text_trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
    let (number, unit) = text_trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let product = number * factor;
    if !(0.0..=9.0e18).contains(&product) {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(product.round() as u64)
}

/// Nanoseconds for a reader: three significant digits and the fitting unit.
pub fn show_ns(ns: u64) -> String {
    let v = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (v / 1e3, "µs"),
        1_000_000..1_000_000_000 => (v / 1e6, "ms"),
        _ => (v / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

/// Bytes for a reader, in powers of 1024.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(duration_ns("2ms"), Ok(2_000_000));
        assert_eq!(duration_ns("1.5 s"), Ok(1_500_000_000));
        assert_eq!(duration_ns("250us"), Ok(250_000));
        assert_eq!(size_bytes("64KiB"), Ok(65_536));
        assert_eq!(size_bytes("1MB"), Ok(1_000_000));
    }

    #[test]
    fn a_wrong_quantity_says_what_would_be_right() {
        for wrong in ["", "5", "ms", "1.2.3ms", "-1ms", "5 parsecs", "1e400s", "9999999999999h"] {
            assert!(duration_ns(wrong).is_err(), "{wrong:?}");
        }
        assert!(size_bytes("5ms").unwrap_err().contains("64KiB"));
    }

    #[test]
    fn rates_are_read_with_their_units() {
        assert_eq!(rate("1000/s"), Ok(Rate::per_second(1000)));
        assert_eq!(rate(" 30 / min"), Ok(Rate { per_hour: 1800 }));
        for wrong in ["1000", "1000/d", "0/s", "-1/s", "1.5/s", "/s", "100000001/s", "99999999999999999999/s"]
        {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(show_ns(512), "512 ns");
        assert_eq!(show_ns(27_300), "27.3 µs");
        assert_eq!(show_bytes(65_536), "64 KiB");
    }
}
