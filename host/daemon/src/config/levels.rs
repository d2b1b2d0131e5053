//! `[[qos]]`: the levels of the node file, said again as a wiring script.
//!
//! A level has the same keys and the same rules whether the node file or a script declares it. So that
//! the rules stand in one place, each table is rewritten as a call of `tempos.qos` on the lines where
//! its keys stood, and the Lua room reads it.

use std::fmt::Write;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Reader;

/// How deep tables and lists may be nested: `network` and `queue` are one deep, their options two.
const DEPTH_MAX: usize = 4;

/// The script that declares these levels. What cannot be said in Lua is noted, and left out.
pub(crate) fn as_script(tables: &[Spanned<DeValue<'_>>], reader: &mut Reader) -> String {
    let mut script = Script::default();
    for table in tables {
        let DeValue::Table(keys) = table.get_ref() else {
            reader.wrong(table.span(), "qos must be a list of tables: write [[qos]]".into());
            continue;
        };
        let Some(name) = keys.get("name").and_then(|name| name.get_ref().as_str()) else {
            reader.wrong(table.span(), "[[qos]] needs a name: write name = \"burst\"".into());
            continue;
        };
        script.reach(reader.line(&table.span()));
        script.text.push_str("tempos.qos ");
        quote(name, &mut script.text);
        script.text.push_str(" {");
        let mut others: Vec<_> = keys.iter().filter(|(key, _)| key.get_ref() != "name").collect();
        others.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in others {
            script.field(key, value, DEPTH_MAX, reader);
        }
        script.text.push_str("} ");
    }
    script.text
}

#[derive(Default)]
struct Script {
    text: String,
    /// Line feeds in the text so far.
    lines: usize,
}

impl Script {
    /// Goes down to a line, counted from 1. Never up: a key may stand on the line of the one before.
    fn reach(&mut self, line: usize) {
        while self.lines + 1 < line {
            self.text.push('\n');
            self.lines += 1;
        }
    }

    fn field(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        depth: usize,
        reader: &mut Reader,
    ) {
        self.reach(reader.line(&key.span()));
        self.text.push('[');
        quote(key.get_ref(), &mut self.text);
        self.text.push_str("] = ");
        self.value(value, depth, reader);
        self.text.push_str(", ");
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, depth: usize, reader: &mut Reader) {
        let said = match value.get_ref() {
            _ if depth == 0 => Err(format!("[[qos]]: tables are nested more than {DEPTH_MAX} deep")),
            DeValue::String(text) => {
                quote(text, &mut self.text);
                Ok(())
            }
            DeValue::Boolean(flag) => {
                self.text.push_str(if *flag { "true" } else { "false" });
                Ok(())
            }
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                // Writing into a String cannot fail.
                Ok(number) => write!(self.text, "({number})").map_err(|error| error.to_string()),
                Err(_) => Err(format!("the number {} is out of range", number.as_str())),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => {
                    write!(self.text, "({number:?})").map_err(|error| error.to_string())
                }
                _ => Err(format!("{} is not a finite number", number.as_str())),
            },
            DeValue::Datetime(_) => Err("[[qos]]: no key takes a date".into()),
            DeValue::Array(items) => {
                self.text.push('{');
                for item in items.iter() {
                    self.value(item, depth - 1, reader);
                    self.text.push_str(", ");
                }
                self.text.push('}');
                Ok(())
            }
            DeValue::Table(keys) => {
                self.text.push('{');
                let mut keys: Vec<_> = keys.iter().collect();
                keys.sort_by_key(|(key, _)| key.span().start);
                for (key, value) in keys {
                    self.field(key, value, depth - 1, reader);
                }
                self.text.push('}');
                Ok(())
            }
        };
        if let Err(sentence) = said {
            reader.wrong(value.span(), sentence);
            self.text.push_str("nil");
        }
    }
}

/// A Lua string of the same bytes. Everything but plain letters and signs goes as a decimal escape, so
/// that no text can end the string early or move the lines.
fn quote(text: &str, into: &mut String) {
    into.push('"');
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' => into.push(char::from(byte)),
            _ => {
                let _ = write!(into, "\\{byte:03}");
            }
        }
    }
    into.push('"');
}
