//! Lists of words and texts, rates and shares, and the topics that a workflow's outputs may go to by the names
//! of branches.

use std::collections::BTreeMap;

use mlua::{Table, Value};
use tempos_control::workflow::BRANCHES_MAX;
use tempos_control::{Rate, names, units};

use crate::fields::Reader;
use crate::sentence::render;

const BRANCHES: &str = "{ BRANCH = TOPIC }";

impl Reader<'_> {
    /// Reads a list of known words; `None` where one of them is none, which has been noted.
    pub(crate) fn words(
        &mut self,
        key: &str,
        words: &'static [&'static str],
        entries: &BTreeMap<i64, Value>,
    ) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for (at, value) in entries {
            let known = match value {
                Value::String(text) => words.iter().find(|word| text.as_bytes() == word.as_bytes()),
                _ => None,
            };
            let Some(word) = known else {
                let hint = match value {
                    Value::String(text) => names::nearest(&text.to_string_lossy(), words.iter().copied()),
                    _ => None,
                };
                let hint = hint.map_or_else(String::new, |word| format!(" (did you mean {word:?}?)"));
                let right = words.join(", ");
                self.wrong(format!(
                    "{key}: entry {at} is {}, it must be one of {right}{hint}",
                    render(value, 0)
                ));
                return None;
            };
            if !found.iter().any(|other| other == word) {
                found.push((*word).to_owned());
            }
        }
        Some(found)
    }

    /// Reads a list of texts, each once; `None` where one of them is none, which has been noted.
    pub(crate) fn texts(&mut self, key: &str, entries: &BTreeMap<i64, Value>) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for (at, value) in entries {
            match value {
                Value::String(text) => match self.text(text) {
                    Ok(text) if !found.contains(&text) => found.push(text),
                    Ok(_) => {}
                    Err(right) => {
                        self.wrong(format!("{key}: entry {at} must be {right}"));
                        return None;
                    }
                },
                other => {
                    self.wrong(format!("{key}: entry {at} is {}, it must be a text", render(other, 0)));
                    return None;
                }
            }
        }
        Some(found)
    }

    /// A rate, or what would be right.
    pub(crate) fn rate(&mut self, value: &Value) -> Result<Rate, String> {
        let right = || String::from("a rate such as \"1000/s\", \"30/min\" or \"2/h\"");
        match value {
            Value::String(text) => self.text(text).and_then(|text| units::rate(&text)).map_err(|_| right()),
            _ => Err(right()),
        }
    }

    /// Reads topics by the names of branches; `None` where something is wrong, which has been noted.
    pub(crate) fn branches(&mut self, key: &str, table: &Table) -> Option<Vec<(String, String)>> {
        let (mut found, mut sound) = (Vec::new(), !table.has_metatable());
        let walked = table.for_each::<Value, Value>(|name, topic| {
            let (Value::String(name), Value::String(topic)) = (&name, &topic) else {
                sound = false;
                return Ok(());
            };
            let (Ok(name), Ok(topic)) = (self.text(name), self.text(topic)) else {
                sound = false;
                return Ok(());
            };
            // One more than may be is told with the rest of the workflow.
            if found.len() > BRANCHES_MAX {
                return Err(mlua::Error::StackError);
            }
            found.push((name, topic));
            Ok(())
        });
        if walked.is_ok() && !sound || found.is_empty() {
            self.wrong(format!("{key} must be a topic, or {BRANCHES} with texts on both sides"));
            return None;
        }
        found.sort();
        Some(found)
    }
}

/// A share from 0 to 1 in millionths, or what would be right.
pub(crate) fn share(value: &Value) -> Result<u32, String> {
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Number(number) => *number,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&number) {
        // Rounded down: less loss is asked for, never more.
        Ok((number * 1e6 + 1e-6).floor() as u32)
    } else {
        Err("a number from 0 to 1: the share of events that may be lost".into())
    }
}
