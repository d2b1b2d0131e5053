//! Lists of words, and the topics that a workflow's outputs may go to by the names of branches.

use std::collections::BTreeMap;

use mlua::{Table, Value};
use tempos_control::names;
use tempos_control::workflow::BRANCHES_MAX;

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
