//! Level rules: what a topic's `rules` hold, rule by rule.

use std::collections::BTreeMap;

use mlua::Value;
use tempos_control::names;
use tempos_control::topic::{LevelRule, MATCHES_MAX, Matcher, RULES_MAX};

use crate::fields::{Reader, whole};
use crate::sentence::render;

const RULE: &str = "{ match = { ATTRIBUTE = VALUE }, qos = \"LEVEL\" }";

impl Reader<'_> {
    /// Reads the entries of a list of rules; `None` where one of them is wrong, which has been noted.
    pub(crate) fn rules(&mut self, key: &str, entries: &BTreeMap<i64, Value>) -> Option<Vec<LevelRule>> {
        if entries.len() > RULES_MAX {
            self.wrong(format!("{key}: there are {} rules, at most {RULES_MAX} are allowed", entries.len()));
            return None;
        }
        let rules: Vec<Option<LevelRule>> =
            entries.iter().map(|(at, value)| self.rule(&format!("{key}: rule {at}"), value)).collect();
        rules.into_iter().collect()
    }

    fn rule(&mut self, subject: &str, value: &Value) -> Option<LevelRule> {
        let Value::Table(table) = value else {
            self.wrong(format!("{subject} is {}, it must be {RULE}", render(value, 0)));
            return None;
        };
        let (mut matches, mut qos, mut sound) = (Vec::new(), None, !table.has_metatable());
        let walked = table.for_each::<Value, Value>(|key, value| {
            let key = match &key {
                Value::String(key) => key.to_string_lossy(),
                other => render(other, 1),
            };
            match (key.as_str(), &value) {
                ("match", Value::Table(table)) if !table.has_metatable() => {
                    sound &= table
                        .for_each::<Value, Value>(|attribute, value| {
                            match self.matcher(subject, &attribute, &value) {
                                Some(found) if matches.len() < MATCHES_MAX => matches.push(found),
                                _ => return Err(mlua::Error::StackError),
                            }
                            Ok(())
                        })
                        .is_ok();
                }
                ("qos", Value::String(level)) => match self.text(level) {
                    Ok(level) => qos = Some(level),
                    Err(_) => sound = false,
                },
                _ => {
                    let hint = names::hint(&key, ["match", "qos"]);
                    self.wrong(format!("{subject}: {key:?} does not belong there{hint}"));
                    return Err(mlua::Error::StackError);
                }
            }
            Ok(())
        });
        // Lua's tables have no order: the same script would be another wiring each time.
        matches.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
        match (walked, sound, qos) {
            (Ok(()), true, Some(qos)) if !matches.is_empty() => Some(LevelRule { matches, qos }),
            (Err(_), ..) => None,
            _ => {
                self.wrong(format!(
                    "{subject} must be {RULE}, with 1 to {MATCHES_MAX} attributes and one level"
                ));
                None
            }
        }
    }

    fn matcher(&mut self, subject: &str, attribute: &Value, value: &Value) -> Option<(String, Matcher)> {
        let Value::String(name) = attribute else {
            self.wrong(format!(
                "{subject}: {} is not an attribute; attributes are texts",
                render(attribute, 1)
            ));
            return None;
        };
        let name = self.text(name).ok()?;
        let matcher = match value {
            Value::String(text) => Matcher::Text(self.text(text).ok()?),
            Value::Table(table) if !table.has_metatable() => {
                let bound = |key: &str| match table.raw_get::<Value>(key) {
                    Ok(Value::Nil) => Some(None),
                    Ok(value) => whole(&value).map(Some),
                    Err(_) => None,
                };
                match (bound("min"), bound("max")) {
                    (Some(min), Some(max)) if min.is_some() || max.is_some() => {
                        Matcher::Range { min: min.unwrap_or(i64::MIN), max: max.unwrap_or(i64::MAX) }
                    }
                    _ => {
                        self.wrong(format!(
                            "{subject}: {name} is {}, it must be {{ min = NUMBER, max = NUMBER }}",
                            render(value, 0)
                        ));
                        return None;
                    }
                }
            }
            other => match whole(other) {
                Some(number) => Matcher::Range { min: number, max: number },
                None => {
                    self.wrong(format!(
                        "{subject}: {name} is {}, it must be a text, a whole number or {{ min = NUMBER, max = NUMBER }}",
                        render(other, 0)
                    ));
                    return None;
                }
            },
        };
        Some((name, matcher))
    }
}
