//! Options of a plugin: already checked against its option table, with units resolved, by the host.

use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec, Tuple2};

/// A value. Durations are whole nanoseconds and sizes whole bytes.
#[repr(u8)]
#[derive(StableAbi, Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number, a duration in nanoseconds, or a size in bytes.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// A text.
    Text(RString),
    /// A list of texts.
    Texts(RVec<RString>),
}

/// The options of one channel, queue or function.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, Default, PartialEq)]
pub struct Options {
    entries: RVec<Tuple2<RString, OptionValue>>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one, in place of an earlier value.
    pub fn set(&mut self, key: &str, value: OptionValue) {
        match self.entries.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push(Tuple2(RString::from(key), value)),
        }
    }

    /// The value of a key, where the user gave one or the option table has a default.
    pub fn get(&self, key: &str) -> Option<&OptionValue> {
        self.entries.iter().find(|entry| entry.0 == key).map(|entry| &entry.1)
    }

    /// A flag; `false` where there is none.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(OptionValue::Flag(true)))
    }

    /// A whole number, duration (ns) or size (bytes).
    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key) {
            Some(OptionValue::Integer(v)) => Some(*v),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(OptionValue::Text(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of texts; empty where there is none.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        match self.get(key) {
            Some(OptionValue::Texts(v)) => v.iter().map(RString::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.entries.iter().map(|entry| (entry.0.as_str(), &entry.1))
    }
}
