//! From what Lua raises to one sentence with its place.

use std::sync::Arc;

use mlua::Value;
use tempos_control::{Mistake, Origin, names};

/// The longest sentence, in characters.
const SENTENCE_CHARS_MAX: usize = 600;
/// Lua cuts chunk names of 60 bytes and more (LUA_IDSIZE), and would cut off the wrong end of a path.
const ALIAS_BYTES_MAX: usize = 50;

/// Makes `text` a single line of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(SENTENCE_CHARS_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == SENTENCE_CHARS_MAX {
            line.push('…');
            break;
        }
        // U+2028 and U+2029 break lines in some terminals and editors too.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The names that Lua knows the chunks by, and the files that they stand for.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    names: Vec<(String, Arc<str>)>,
}

impl Chunks {
    /// Gives a file a name that Lua prints in full.
    pub fn alias(&mut self, file: &str) -> String {
        if let Some((alias, _)) = self.names.iter().find(|(_, known)| **known == *file) {
            return alias.clone();
        }
        let number = self.names.len();
        let whole = file.len() < ALIAS_BYTES_MAX && self.names.iter().all(|(alias, _)| alias != file);
        let alias = if whole {
            file.to_owned()
        } else {
            let from = file.len().saturating_sub(ALIAS_BYTES_MAX - 12);
            let from = (from..=file.len()).find(|at| file.is_char_boundary(*at)).unwrap_or(0);
            format!("#{number}…{}", &file[from..])
        };
        self.names.push((alias.clone(), file.into()));
        alias
    }

    /// The place that a chunk's name and a line stand for.
    pub fn origin(&self, alias: &str, line: u32) -> Option<Origin> {
        let (_, file) = self.names.iter().find(|(known, _)| known == alias)?;
        Some(Origin { file: file.clone(), line })
    }

    /// The name that Lua knows a file by.
    pub fn known_as(&self, file: &str) -> Option<&str> {
        self.names.iter().find(|(_, known)| **known == *file).map(|(alias, _)| alias.as_str())
    }

    /// Splits `ALIAS:LINE: sentence`.
    pub fn split<'a>(&self, message: &'a str) -> Option<(Origin, &'a str)> {
        self.names.iter().find_map(|(alias, file)| {
            let rest = message.strip_prefix(alias.as_str())?.strip_prefix(':')?;
            let (line, sentence) = rest.split_once(':')?;
            let line = line.parse().ok()?;
            Some((Origin { file: file.clone(), line }, sentence.trim_start()))
        })
    }
}

/// What ended a script.
pub(crate) struct Ending<'a> {
    /// The script's name.
    pub script: &'a str,
    /// Where it was raised, for texts that do not say it themselves.
    pub raised_at: Option<Origin>,
    /// The memory that a script may use.
    pub memory_bytes: usize,
    /// The globals that a misspelt name may have meant.
    pub globals: &'a [String],
}

impl Ending<'_> {
    /// The mistake for an error that reached the end of a script.
    pub fn mistake(&self, chunks: &Chunks, raised: &Value) -> Mistake {
        let text = match raised {
            Value::String(text) => text.to_string_lossy(),
            Value::Error(error) => message_of(error),
            other => format!("it raised {}", render(other, 0)),
        };
        let elsewhere = || self.raised_at.clone().unwrap_or_else(|| Origin::new(self.script, 0));
        let (origin, sentence) =
            chunks.split(&text).unwrap_or_else(|| (elsewhere(), without_own_place(&text)));
        let first = sentence.split("\nstack traceback:").next().unwrap_or(sentence).trim();
        Mistake::new(&origin, self.word(chunks, first))
    }

    fn word(&self, chunks: &Chunks, sentence: &str) -> String {
        if sentence.contains("not enough memory") {
            let most = tempos_control::units::show_bytes(self.memory_bytes as u64);
            return format!("the script needs more than {most} of memory");
        }
        if sentence.contains("stack overflow") {
            return "the script calls itself too deeply (stack overflow)".into();
        }
        // A place in the middle of a sentence would show the shortened name.
        let sentence = chunks.names.iter().fold(sentence.to_owned(), |text, (alias, file)| {
            if **file == **alias { text } else { text.replace(alias.as_str(), file) }
        });
        let meant = sentence.split_once("(global '").and_then(|(_, rest)| rest.split_once('\'')).and_then(
            |(global, _)| {
                // What a stranger's name resembles from its second letter on, it did not mean.
                let alike =
                    self.globals.iter().filter(|known| known.as_bytes().first() == global.as_bytes().first());
                names::nearest(global, alike.map(String::as_str))
            },
        );
        let sentence = match meant {
            Some(name) => format!("{sentence} (did you mean {name:?}?)"),
            None if sentence.is_empty() => "it raised an error without a text".into(),
            None => sentence,
        };
        one_line(&sentence)
    }
}

/// Takes off the place in `sandbox.lua`, which means nothing to the author of a script.
fn without_own_place(text: &str) -> &str {
    text.strip_prefix("tempos:").and_then(|rest| rest.split_once(": ")).map_or(text, |(line, sentence)| {
        if line.bytes().all(|byte| byte.is_ascii_digit()) { sentence } else { text }
    })
}

/// The innermost message, without tracebacks.
pub(crate) fn message_of(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::BadArgument { cause, .. } => {
            message_of(cause)
        }
        mlua::Error::WithContext { cause, .. } => message_of(cause),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::MemoryError(_) => "not enough memory".into(),
        other => other.to_string(),
    }
}

/// A value as a user would write it, bounded in depth and length.
pub(crate) fn render(value: &Value, depth: usize) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Boolean(v) => v.to_string(),
        Value::Integer(v) => v.to_string(),
        Value::Number(v) => v.to_string(),
        Value::String(v) => short(&format!("{:?}", beginning(v))),
        Value::Table(_) if depth >= 2 => "{…}".into(),
        Value::Table(table) => {
            let mut entries = Vec::new();
            let mut more = false;
            // An error only ends the walk: what was read until then is shown.
            let _ = table.for_each::<Value, Value>(|key, value| {
                if entries.len() == 8 {
                    more = true;
                    return Err(mlua::Error::StackError);
                }
                let value = render(&value, depth + 1);
                entries.push(match &key {
                    Value::Integer(_) => value,
                    Value::String(name) => format!("{} = {value}", short(&beginning(name))),
                    other => format!("[{}] = {value}", render(other, depth + 1)),
                });
                Ok(())
            });
            entries.sort();
            if more {
                entries.push("…".into());
            }
            if entries.is_empty() { "{}".into() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        Value::LightUserData(_) => "a channel or group".into(),
        Value::Error(error) => short(&message_of(error)),
        other => format!("a {}", other.type_name()),
    }
}

/// The first bytes of a text: it may be as large as the memory of a script.
pub(crate) fn beginning(text: &mlua::LuaString) -> String {
    let bytes = text.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

fn short(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_found_again_behind_its_short_name() {
        let mut chunks = Chunks::default();
        let long = format!("/etc/{}/10-line.lua", "ü".repeat(80));
        let alias = chunks.alias(&long);
        assert!(alias.len() < 60, "{alias}");
        let message = format!("{alias}:12: it broke");
        let (origin, sentence) = chunks.split(&message).expect("a place");
        assert_eq!((origin.to_string(), sentence), (format!("{long}:12"), "it broke"));
        assert!(chunks.split("elsewhere:1: it broke").is_none());
    }

    #[test]
    fn a_sentence_is_one_bounded_line() {
        assert_eq!(one_line("a\nb\u{2028}c"), "a\\nb\\u{2028}c");
        assert!(one_line(&"x".repeat(10_000)).len() < 700);
    }
}
