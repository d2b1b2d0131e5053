//! Level rules: which level an event asks for by its attributes, and whether its endpoint lets it.
//!
//! The level of an event comes from its endpoint, its topic, or a rule on attributes, in that order of
//! trust: what a sender writes counts only as far as its endpoint allows. Pure.

use std::sync::Arc;

use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_control::level::LEVELS_MAX;
use tempos_control::{LevelRule, Matcher};

/// The attribute by which a sender asks for a level, where its endpoint lets it.
pub const ASKED: &str = "qos";

/// The levels of a node as its lanes know them: name and rank by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelTable {
    entries: [Option<(Arc<str>, u8)>; LEVELS_MAX],
}

impl LevelTable {
    /// Puts a level in its place.
    pub fn set(&mut self, index: usize, name: &str, rank: u8) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Some((name.into(), rank));
        }
    }

    /// The index of a level.
    pub fn index(&self, name: &str) -> Option<u8> {
        let at = self.entries.iter().position(|e| e.as_ref().is_some_and(|(known, _)| &**known == name))?;
        Some(at as u8)
    }

    /// The rank of a level; 0 where there is none.
    pub fn rank(&self, index: u8) -> u8 {
        self.entries.get(index as usize).and_then(Option::as_ref).map_or(0, |(_, rank)| *rank)
    }
}

/// Whether an attribute is what a rule says.
pub fn is_match(matcher: &Matcher, value: AttributeValue<'_>) -> bool {
    match (matcher, value) {
        (Matcher::Text(pattern), AttributeValue::Text(text)) => fits(pattern, text),
        (Matcher::Range { min, max }, AttributeValue::Signed(number)) => (*min..=*max).contains(&number),
        (Matcher::Range { min, max }, AttributeValue::Unsigned(number)) => match i64::try_from(number) {
            Ok(number) => (*min..=*max).contains(&number),
            Err(_) => *max == i64::MAX,
        },
        _ => false,
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or(rest)),
        (Some(end), None) => text.ends_with(end),
        (None, Some(begin)) => text.starts_with(begin),
        (None, None) => text == pattern,
    }
}

/// The level that the first matching rule gives.
pub fn ruled<'a>(rules: &'a [LevelRule], attributes: &Attributes<'_>) -> Option<&'a str> {
    let holds = |(key, matcher): &(String, Matcher)| {
        attributes.get(key).is_some_and(|value| is_match(matcher, value))
    };
    rules.iter().find(|rule| rule.matches.iter().all(holds)).map(|rule| rule.qos.as_str())
}

/// The level of an event, and whether it asked for more than its endpoint allows: then it gets the most
/// that is allowed. `own` is the level of the endpoint, `most` the highest that its senders may ask for.
pub fn level_of(
    own: u8,
    most: Option<&str>,
    rules: &[LevelRule],
    attributes: &Attributes<'_>,
    levels: &LevelTable,
) -> (u8, bool) {
    let asked = || match attributes.get(ASKED) {
        Some(AttributeValue::Text(name)) if most.is_some() => levels.index(name),
        _ => None,
    };
    let wanted = ruled(rules, attributes).and_then(|name| levels.index(name)).or_else(asked);
    let Some(wanted) = wanted else { return (own, false) };
    let most = most.and_then(|name| levels.index(name)).unwrap_or(own);
    let most = if levels.rank(most) > levels.rank(own) { most } else { own };
    if levels.rank(wanted) > levels.rank(most) { (most, true) } else { (wanted, false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_abi::attributes::AttributeWriter;

    fn levels() -> LevelTable {
        let mut levels = LevelTable::default();
        for (index, (name, rank)) in [("strict", 200), ("best-effort", 50), ("burst", 100)].iter().enumerate()
        {
            levels.set(index, name, *rank);
        }
        levels
    }

    fn block(entries: &[(&str, AttributeValue<'_>)]) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut writer = AttributeWriter::new(&mut buffer);
        for (key, value) in entries {
            assert!(writer.put(key, *value));
        }
        let len = writer.len();
        buffer[..len].to_vec()
    }

    fn rule(key: &str, matcher: Matcher, qos: &str) -> LevelRule {
        LevelRule { matches: vec![(key.into(), matcher)], qos: qos.into() }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = [
            rule("kind", Matcher::Text("alarm*".into()), "burst"),
            rule("kind", Matcher::Text("*".into()), "best-effort"),
            rule("value", Matcher::Range { min: 10, max: i64::MAX }, "burst"),
        ];
        for (value, expected) in
            [("alarm", Some("burst")), ("alarms/1", Some("burst")), ("x", Some("best-effort"))]
        {
            let block = block(&[("kind", AttributeValue::Text(value))]);
            assert_eq!(ruled(&rules, &Attributes::new(&block)), expected, "{value}");
        }
        for (value, expected) in [(9, None), (10, Some("burst")), (u64::MAX, Some("burst"))] {
            let block = block(&[("value", AttributeValue::Unsigned(value))]);
            assert_eq!(ruled(&rules, &Attributes::new(&block)), expected, "{value}");
        }
        let bytes = block(&[("kind", AttributeValue::Bytes(b"alarm"))]);
        assert_eq!(ruled(&rules, &Attributes::new(&bytes)), None, "another kind of value");
    }

    #[test]
    fn texts_fit_at_either_end() {
        for (pattern, text, expected) in [
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("*b*", "abc", true),
            ("*b*", "ac", false),
            ("ab", "ab", true),
            ("ab", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_endpoint_bounds_what_its_senders_get() {
        let asks = block(&[(ASKED, AttributeValue::Text("strict"))]);
        let asks = Attributes::new(&asks);
        assert_eq!(level_of(1, None, &[], &asks, &levels()), (1, false), "nobody may ask");
        assert_eq!(level_of(1, Some("strict"), &[], &asks, &levels()), (0, false));
        assert_eq!(level_of(1, Some("burst"), &[], &asks, &levels()), (2, true), "the most that is allowed");
        let ruled = [rule(ASKED, Matcher::Text("strict".into()), "strict")];
        assert_eq!(level_of(1, None, &ruled, &asks, &levels()), (1, true), "a rule does not raise by itself");
        let lowered = [rule(ASKED, Matcher::Text("strict".into()), "best-effort")];
        assert_eq!(level_of(0, None, &lowered, &asks, &levels()), (1, false), "but it may lower");
    }
}
