//! The algorithm: deserialise, count the pattern in the text, alternate power and square root.

use std::collections::BTreeMap;

/// The function's own code and one sentence for the operator.
pub type Refusal = (u8, &'static str);

/// Works on one event.
pub fn main(event: &[u8]) -> Result<String, Refusal> {
    let (message, pattern) =
        deserialise(event).ok_or((1, "the event is not {\"message\": \"...\", \"pattern\": \"...\"}"))?;
    if pattern.is_empty() {
        return Err((2, "the pattern is empty"));
    }
    // From the left; what was counted is not counted again.
    let occurrences = message.matches(&pattern).count();
    Ok(format!("{{\"occurrences\":{occurrences},\"result\":{:.6}}}", powers_and_roots(occurrences)))
}

fn deserialise(event: &[u8]) -> Option<(String, String)> {
    let mut members: BTreeMap<String, String> = serde_json::from_slice(event).ok()?;
    Some((members.remove("message")?, members.remove("pattern")?))
}

fn powers_and_roots(count: usize) -> f64 {
    let term = |i: usize| if i.is_multiple_of(2) { (i as f64).powf(2.0) } else { (i as f64).sqrt() };
    // Not `sum`: that of nothing is -0.0 for floats.
    (0..count).fold(0.0, |result, i| result + term(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_case_by_hand() {
        // 0 + 1 + 4 + 1.732...
        let answer = main(br#"{"message": "a\u00e4aaa", "pattern": "a"}"#);
        assert_eq!(answer.as_deref(), Ok("{\"occurrences\":4,\"result\":6.732051}"));
        let none = main(br#"{"message": "b", "pattern": "a"}"#);
        assert_eq!(none.as_deref(), Ok("{\"occurrences\":0,\"result\":0.000000}"));
        assert_eq!(main(b"{\"message\": \"x\"}").map_err(|(code, _)| code), Err(1));
        assert_eq!(main(br#"{"message": "x", "pattern": ""}"#).map_err(|(code, _)| code), Err(2));
    }
}
