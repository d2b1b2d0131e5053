//! Reads one table of a script against the table of keys: names, kinds and bounds, for every constructor
//! alike.

use std::collections::BTreeMap;

use mlua::{LightUserData, Table, Value};
use tempos_control::schema::{Constructor, Key, KeyKind, constructor};
use tempos_control::{LevelRule, Rate, Value as OptionValue, names, units};

use crate::sentence::{beginning, one_line, render};

/// Most entries of one table.
const ENTRIES_MAX: usize = 4096;
/// What an entry of a list costs beside its text, in bytes.
const ENTRY_BYTES: usize = size_of::<OptionValue>();
/// Most values that are walked through in search of channels that stand in a wrong place.
const SPILL_MAX: usize = 10_000;
/// Longest text of one key, in bytes.
const TEXT_BYTES_MAX: usize = 65_536;

/// What a key held.
#[derive(Debug)]
pub(crate) enum Field {
    Flag(bool),
    Integer(i64),
    Text(String),
    /// Nanoseconds or bytes.
    Quantity(u64),
    Integers(Vec<i64>),
    Nested(Box<Fields>),
    Tokens(Vec<LightUserData>),
    Rules(Vec<LevelRule>),
    /// Known words, or texts of the user's own.
    Words(Vec<String>),
    Rate(Rate),
    /// Millionths.
    Share(u32),
    /// Topics by branch, sorted by name.
    Branches(Vec<(String, String)>),
}

/// The checked contents of one table.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    known: Vec<(&'static str, Field)>,
    refused: Vec<&'static str>,
    /// What goes to the plugin, sorted by name.
    pub options: Vec<(String, OptionValue)>,
    /// The list part, where the constructor has one.
    pub list: Vec<LightUserData>,
}

macro_rules! getter {
    ($name:ident, $variant:ident, $type:ty) => {
        pub fn $name(&mut self, key: &str) -> Option<$type> {
            match self.take(key) {
                Some(Field::$variant(value)) => Some(value),
                _ => None,
            }
        }
    };
}

impl Fields {
    getter!(flag, Flag, bool);
    getter!(integer, Integer, i64);
    getter!(text, Text, String);
    getter!(quantity, Quantity, u64);
    getter!(integers, Integers, Vec<i64>);
    getter!(nested, Nested, Box<Fields>);
    getter!(tokens, Tokens, Vec<LightUserData>);
    getter!(rules, Rules, Vec<LevelRule>);
    getter!(words, Words, Vec<String>);
    getter!(rate, Rate, Rate);
    getter!(share, Share, u32);
    getter!(branches, Branches, Vec<(String, String)>);

    /// Whether the key holds several topics by the names of branches.
    pub fn has_branches(&self, key: &str) -> bool {
        self.known.iter().any(|(name, field)| *name == key && matches!(field, Field::Branches(_)))
    }

    fn take(&mut self, key: &str) -> Option<Field> {
        let at = self.known.iter().position(|(name, _)| *name == key)?;
        Some(self.known.swap_remove(at).1)
    }

    /// An integer whose bounds the table of keys has already checked to fit.
    pub fn small<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        self.integer(key).and_then(|value| T::try_from(value).ok())
    }

    /// Whether the key was given and not taken yet, well or not.
    pub fn has(&self, key: &str) -> bool {
        self.known.iter().any(|(name, _)| *name == key) || self.refused(key)
    }

    /// Whether the key was given with a value that has been refused: its absence is no second mistake.
    pub fn refused(&self, key: &str) -> bool {
        self.refused.contains(&key)
    }
}

/// Reads tables and notes what is wrong with them.
pub(crate) struct Reader<'a> {
    /// What the table belongs to: `topic "a"`.
    pub subject: String,
    /// Whether the constructor takes a list of channels beside its keys.
    pub listing: bool,
    /// Where the sentences go.
    pub mistakes: &'a mut Vec<String>,
    /// Bytes of text that were read.
    pub bytes: &'a mut usize,
    /// How many of them a whole run may read: the same long list may stand under many keys.
    pub bytes_max: usize,
    /// Channels and groups in values that were refused: they were used, only not well.
    pub spilled: &'a mut Vec<LightUserData>,
    /// Values walked through for them; 0 to begin with.
    pub walked: usize,
}

impl Reader<'_> {
    /// Reads `value` as the table of `constructor`.
    pub fn read(&mut self, value: &Value, spec: &'static Constructor) -> Fields {
        let Value::Table(table) = value else {
            self.wrong(format!("it takes a table {{ … }}, not {}", render(value, 0)));
            self.spill(value, 0);
            return Fields::default();
        };
        if table.has_metatable() {
            self.wrong("its table has a metatable; only a plain table can be read".into());
            self.spill(value, 0);
            return Fields::default();
        }
        let mut fields = Fields::default();
        let mut list = BTreeMap::new();
        let mut entries = 0;
        let walked = table.for_each::<Value, Value>(|key, value| {
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(mlua::Error::StackError);
            }
            match key {
                Value::String(name) if name.as_bytes().len() <= names::NAME_BYTES_MAX => {
                    self.entry(&name.to_string_lossy(), value, spec, &mut fields);
                }
                Value::String(name) => {
                    let (bytes, begins) = (name.as_bytes().len(), beginning(&name));
                    self.wrong(format!("a key of {bytes} bytes is not known: {begins:?}"));
                    self.spill(&value, 0);
                }
                Value::Integer(at) if self.listing => {
                    list.insert(at, value);
                }
                Value::Integer(at) => {
                    self.wrong(format!("entry {at} ({}) has no key; write KEY = VALUE", render(&value, 1)));
                    self.spill(&value, 0);
                }
                other => self.wrong(format!("{} is not a key; keys are texts", render(&other, 1))),
            }
            Ok(())
        });
        if walked.is_err() {
            self.wrong(format!("its table has more than {ENTRIES_MAX} entries"));
        }
        if self.listing {
            fields.list = self.tokens("its list", list);
        }
        for key in spec.keys.iter().filter(|key| key.required && !table_has(table, key.name)) {
            let help = key.help.trim_end_matches('.');
            self.wrong(format!("key {:?} is missing ({})", key.name, lower(help)));
        }
        fields.options.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }

    pub(crate) fn wrong(&mut self, sentence: String) {
        self.mistakes.push(one_line(&format!("{}: {sentence}", self.subject)));
    }

    /// Counts what is taken over; the answer is whether there is still room.
    fn charge(&mut self, bytes: usize) -> bool {
        crate::budget::beat();
        *self.bytes = self.bytes.saturating_add(bytes);
        *self.bytes <= self.bytes_max
    }

    /// Remembers the channels and groups inside a refused value.
    pub fn spill(&mut self, value: &Value, depth: usize) {
        self.walked += 1;
        match value {
            _ if self.walked > SPILL_MAX => {}
            Value::LightUserData(token) => self.spilled.push(*token),
            Value::Table(table) if depth < 3 => {
                // An error only ends the walk.
                let _ = table.for_each::<Value, Value>(|_, value| {
                    if self.walked > SPILL_MAX {
                        return Err(mlua::Error::StackError);
                    }
                    self.spill(&value, depth + 1);
                    Ok(())
                });
            }
            _ => {}
        }
    }

    fn entry(&mut self, name: &str, value: Value, spec: &'static Constructor, fields: &mut Fields) {
        self.charge(name.len() + ENTRY_BYTES);
        match spec.keys.iter().find(|key| key.name == name) {
            Some(key) => match self.field(key, value) {
                Some(field) => fields.known.push((key.name, field)),
                None => fields.refused.push(key.name),
            },
            None if spec.open => match self.option(&value) {
                Ok(value) => fields.options.push((name.to_owned(), value)),
                Err(sentence) => {
                    self.wrong(format!("{name} {sentence}"));
                    self.spill(&value, 0);
                }
            },
            None => {
                self.spill(&value, 0);
                let hint = names::hint(name, spec.keys.iter().map(|key| key.name));
                self.wrong(format!("unknown key {name:?}{hint}"));
            }
        }
    }

    fn field(&mut self, key: &'static Key, value: Value) -> Option<Field> {
        let name = key.name;
        let found = match (key.kind, &value) {
            (KeyKind::Flag, Value::Boolean(flag)) => Ok(Field::Flag(*flag)),
            (KeyKind::Flag, _) => Err("true or false".into()),
            (KeyKind::Integer { min, max }, _) => match whole(&value) {
                Some(number) if (min..=max).contains(&number) => Ok(Field::Integer(number)),
                _ => Err(format!("a whole number from {min} to {max}")),
            },
            (KeyKind::Text, Value::String(text)) => self.text(text).map(Field::Text),
            (KeyKind::Text, _) => Err("a text".into()),
            (KeyKind::Duration, Value::String(text)) => {
                return self.quantity(name, text, units::duration_ns);
            }
            (KeyKind::Duration, _) => Err("a duration with its unit, such as \"2ms\"".into()),
            (KeyKind::Size, Value::String(text)) => return self.quantity(name, text, units::size_bytes),
            (KeyKind::Size, _) => Err("a size with its unit, such as \"64KiB\"".into()),
            (KeyKind::Word(words), _) => match &value {
                Value::String(text) if words.iter().any(|word| text.as_bytes() == word.as_bytes()) => {
                    self.text(text).map(Field::Text)
                }
                Value::String(text) => {
                    let hint = match names::nearest(&text.to_string_lossy(), words.iter().copied()) {
                        Some(word) => format!(" (did you mean {word:?}?)"),
                        None => String::new(),
                    };
                    Err(format!("one of {}{hint}", words.join(", ")))
                }
                _ => Err(format!("one of {}", words.join(", "))),
            },
            (KeyKind::Integers, Value::Table(table)) => match self.list(name, table) {
                Some(entries) => match entries.values().map(whole).collect() {
                    Some(numbers) => Ok(Field::Integers(numbers)),
                    None => Err("a list of whole numbers, such as { 0, 1 }".into()),
                },
                None => return None,
            },
            (KeyKind::Integers, _) => Err("a list of whole numbers, such as { 0, 1 }".into()),
            (KeyKind::Words(words), Value::Table(table)) => match self.list(name, table) {
                Some(entries) => return self.words(name, words, &entries).map(Field::Words),
                None => return None,
            },
            (KeyKind::Words(words), _) => Err(format!("a list of words, such as {{ {:?} }}", words[0])),
            (KeyKind::Texts, Value::Table(table)) => match self.list(name, table) {
                Some(entries) => return self.texts(name, &entries).map(Field::Words),
                None => return None,
            },
            (KeyKind::Texts, _) => Err("a list of texts, such as { \"strict\" }".into()),
            (KeyKind::Rate, _) => self.rate(&value).map(Field::Rate),
            (KeyKind::Share, _) => crate::targets::share(&value).map(Field::Share),
            (KeyKind::Targets, Value::String(text)) => self.text(text).map(Field::Text),
            (KeyKind::Targets, Value::Table(table)) => {
                return self.branches(name, table).map(Field::Branches);
            }
            (KeyKind::Targets, _) => Err("a topic, or a table { BRANCH = TOPIC }".into()),
            (KeyKind::Table(nested), Value::Table(_)) => {
                let spec = constructor(nested)?;
                let mut reader = Reader {
                    subject: format!("{}: {name}", self.subject),
                    listing: false,
                    mistakes: &mut *self.mistakes,
                    bytes: &mut *self.bytes,
                    bytes_max: self.bytes_max,
                    spilled: &mut *self.spilled,
                    walked: self.walked,
                };
                Ok(Field::Nested(Box::new(reader.read(&value, spec))))
            }
            (KeyKind::Table(_), _) => Err("a table { … }".into()),
            (KeyKind::Channels | KeyKind::Groups, Value::Table(table)) => match self.list(name, table) {
                Some(entries) => Ok(Field::Tokens(self.tokens(name, entries))),
                None => {
                    self.spill(&value, 0);
                    return None;
                }
            },
            (KeyKind::Channels, Value::LightUserData(_)) => {
                Err("a list of channels, such as { tempos.udp { … } }".into())
            }
            (KeyKind::Groups, Value::LightUserData(_)) => {
                Err("a list of groups or channels, such as { tempos.group \"a\" { … } }".into())
            }
            (KeyKind::Rules, Value::Table(table)) => match self.list(name, table) {
                Some(entries) => return self.rules(name, &entries).map(Field::Rules),
                None => return None,
            },
            (KeyKind::Rules, _) => {
                Err("a list of rules, such as { { match = { kind = \"alarm\" }, qos = \"strict\" } }".into())
            }
            (KeyKind::Channel, Value::LightUserData(token)) => Ok(Field::Tokens(vec![*token])),
            (KeyKind::Channel, _) => Err("a channel".into()),
            (KeyKind::Channels, _) => Err("a list of channels".into()),
            (KeyKind::Groups, _) => Err("a list of groups or channels".into()),
            // The table of keys may grow kinds that this door does not know yet.
            (other, _) => Err(format!("of a kind that scripts cannot give ({other:?})")),
        };
        match found {
            Ok(field) => Some(field),
            Err(right) => {
                self.wrong(format!("{name} is {}, it must be {right}", render(&value, 0)));
                self.spill(&value, 0);
                None
            }
        }
    }

    pub(crate) fn text(&mut self, text: &mlua::LuaString) -> Result<String, String> {
        let bytes = text.as_bytes();
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(format!("a text of at most {TEXT_BYTES_MAX} bytes"));
        }
        if !self.charge(bytes.len()) {
            return Err("shorter: the texts of this wiring need too much memory".into());
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| "a text in UTF-8".into())
    }

    fn quantity(
        &mut self,
        name: &str,
        text: &mlua::LuaString,
        read: fn(&str) -> Result<u64, String>,
    ) -> Option<Field> {
        match self.text(text).and_then(|text| read(&text)) {
            Ok(0) => self.wrong(format!("{name} is zero, it must be more")),
            Ok(quantity) => return Some(Field::Quantity(quantity)),
            Err(sentence) => self.wrong(format!("{name}: {sentence}")),
        }
        None
    }

    /// The entries of a plain list.
    fn list(&mut self, name: &str, table: &Table) -> Option<BTreeMap<i64, Value>> {
        let mut entries = BTreeMap::new();
        let mut odd = None;
        if table.has_metatable() {
            self.wrong(format!("{name}: its table has a metatable; only a plain table can be read"));
            return None;
        }
        let walked = table.for_each::<Value, Value>(|key, value| match key {
            Value::Integer(at) if entries.len() < ENTRIES_MAX && self.charge(ENTRY_BYTES) => {
                entries.insert(at, value);
                Ok(())
            }
            key => {
                odd = Some(key);
                Err(mlua::Error::StackError)
            }
        });
        match (walked, odd) {
            (Ok(()), _) => Some(entries),
            (Err(_), Some(Value::Integer(_)) | None) => {
                self.wrong(format!("{name}: its list has more than {ENTRIES_MAX} entries, or the wiring needs too much memory"));
                None
            }
            (Err(_), Some(key)) => {
                self.wrong(format!(
                    "{name}: it is a list, the key {} does not belong there",
                    render(&key, 1)
                ));
                None
            }
        }
    }

    /// A list of channels and groups. A hole is a variable that was nil: it must not pass unseen.
    fn tokens(&mut self, name: &str, entries: BTreeMap<i64, Value>) -> Vec<LightUserData> {
        let mut tokens = Vec::with_capacity(entries.len());
        let mut whole = true;
        for (expected, (at, value)) in (1..).zip(entries) {
            if whole && at != expected {
                self.wrong(format!("{name}: entry {expected} is nil, it must be a channel or a group"));
                whole = false;
            }
            match value {
                Value::LightUserData(token) => tokens.push(token),
                other => self.wrong(format!(
                    "{name}: entry {at} is {}, it must be a channel or a group",
                    render(&other, 0)
                )),
            }
        }
        tokens
    }

    /// A value for a plugin, which checks it against its own option table.
    fn option(&mut self, value: &Value) -> Result<OptionValue, String> {
        match value {
            Value::Table(table) => {
                let wrong = || {
                    format!(
                        "is {}, it must be a list of at most {ENTRIES_MAX} plain values",
                        render(value, 0)
                    )
                };
                let mut entries = BTreeMap::new();
                table
                    .for_each::<Value, Value>(|key, value| match key {
                        Value::Integer(at) if entries.len() < ENTRIES_MAX && self.charge(ENTRY_BYTES) => {
                            entries.insert(at, value);
                            Ok(())
                        }
                        _ => Err(mlua::Error::StackError),
                    })
                    .map_err(|_| wrong())?;
                if table.has_metatable() || !entries.keys().copied().eq(1..=entries.len() as i64) {
                    return Err(wrong());
                }
                let items: Vec<OptionValue> =
                    entries.values().map(|item| self.scalar(item)).collect::<Result<_, _>>()?;
                let kind = |item: &OptionValue| std::mem::discriminant(item);
                if items.windows(2).any(|pair| kind(&pair[0]) != kind(&pair[1])) {
                    return Err(format!("is {}, its entries must be of one kind", render(value, 0)));
                }
                Ok(OptionValue::List(items))
            }
            scalar => self.scalar(scalar),
        }
    }

    fn scalar(&mut self, value: &Value) -> Result<OptionValue, String> {
        match value {
            Value::Boolean(flag) => Ok(OptionValue::Flag(*flag)),
            Value::Integer(number) => Ok(OptionValue::Integer(*number)),
            Value::Number(number) if number.is_finite() => Ok(OptionValue::Number(*number)),
            Value::String(text) => match self.text(text) {
                Ok(text) => Ok(OptionValue::Text(text)),
                Err(right) => Err(format!("is {}, it must be {right}", render(value, 0))),
            },
            other => Err(format!(
                "is {}, it must be a text, a finite number, true or false, or a list of them",
                render(other, 0)
            )),
        }
    }
}

fn table_has(table: &Table, key: &str) -> bool {
    !matches!(table.raw_get::<Value>(key), Ok(Value::Nil) | Err(_))
}

pub(crate) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        // 45.0 is a whole number to those who write it.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        _ => None,
    }
}

fn lower(help: &str) -> String {
    let mut chars = help.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
