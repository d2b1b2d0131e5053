//! Names of topics, levels, channels, groups and workflows: what is allowed, and what was meant.

/// The longest name, in bytes. Bounded so that every table and frame header can be.
pub const NAME_BYTES_MAX: usize = 255;

/// Checks a name of a topic, level, channel, group or workflow.
///
/// A name is 1 to 255 bytes of UTF-8 without control characters, and neither begins nor ends with
/// white space or `/`.
///
/// # Errors
/// One sentence that says what is wrong with it.
pub fn check(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("a {what} needs a name of 1 to {NAME_BYTES_MAX} bytes, this one is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the {what} name has {} bytes; at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("{what} {name:?}: a name may not hold control characters"));
    }
    let ends = |c: char| c.is_whitespace() || c == '/';
    if name.starts_with(ends) || name.ends_with(ends) {
        return Err(format!("{what} {name:?}: a name may not begin or end with white space or \"/\""));
    }
    Ok(())
}

/// The known name nearest to `given`, where one is near enough that it was probably meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = 1 + given.chars().count() / 3;
    known
        .into_iter()
        .map(|name| (distance(given, name), name))
        .filter(|(d, _)| *d <= bound)
        .min()
        .map(|(_, name)| name)
}

/// The tail of an "unknown NAME" sentence: ` (did you mean "X"?)`, or the list of what is known.
pub fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(given, known.clone()) {
        Some(name) => format!(" (did you mean {name:?}?)"),
        None => {
            let mut all: Vec<&str> = known.into_iter().collect();
            all.sort_unstable();
            let more = all.len().saturating_sub(12);
            all.truncate(12);
            match (all.is_empty(), more) {
                (true, _) => String::from("; none is known"),
                (false, 0) => format!("; known: {}", all.join(", ")),
                (false, more) => format!("; known: {} and {more} more", all.join(", ")),
            }
        }
    }
}

/// Edit distance with swaps of neighbours (Damerau, restricted): bounded by the names' own bound.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(NAME_BYTES_MAX).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(NAME_BYTES_MAX).flat_map(char::to_lowercase).collect();
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_bounds() {
        assert!(check("topic", "press/vibration").is_ok());
        assert!(check("topic", "pression/température").is_ok());
        assert!(check("topic", &"x".repeat(255)).is_ok());
        for wrong in ["", " a", "a/", "a\nb", &"x".repeat(256)] {
            assert!(check("topic", wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        assert_eq!(nearest("qso", ["qos", "ingress", "egress"]), Some("qos"));
        assert_eq!(nearest("bestefort", ["strict", "best-effort"]), Some("best-effort"));
        assert_eq!(nearest("gold", ["strict", "best-effort"]), None);
        assert_eq!(hint("gold", ["strict", "best-effort"]), "; known: best-effort, strict");
    }
}
