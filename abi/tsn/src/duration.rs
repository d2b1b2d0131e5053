//! Durations as users write them: `500us`.

/// Nanoseconds of a text such as `500us`, `1 ms`, `1.5us` or `250ns`.
///
/// # Errors
/// One sentence: what would be right.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is not a duration; write a number with ns, us, ms or s, such as \"500us\"");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(split);
    let unit_ns: u64 = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut ns = whole.checked_mul(unit_ns).ok_or_else(wrong)?;
    let mut digit_ns = unit_ns;
    for digit in part.chars() {
        digit_ns /= 10;
        let digit = u64::from(digit.to_digit(10).ok_or_else(wrong)?);
        if digit_ns == 0 && digit != 0 {
            return Err(format!("{text:?} is finer than a nanosecond; write whole nanoseconds"));
        }
        ns = ns.checked_add(digit * digit_ns).ok_or_else(wrong)?;
    }
    Ok(ns)
}

/// A duration in the largest unit that divides it.
pub fn show_duration(ns: u64) -> String {
    match ns {
        0 => String::from("0"),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{}s", ns / 1_000_000_000),
        _ if ns.is_multiple_of(1_000_000) => format!("{}ms", ns / 1_000_000),
        _ if ns.is_multiple_of(1_000) => format!("{}us", ns / 1_000),
        _ => format!("{ns}ns"),
    }
}
