//! A command line of words and `--key value` pairs.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What is left of a command line.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    words: Vec<String>,
    values: BTreeMap<String, Vec<String>>,
}

impl Arguments {
    /// Reads all of it.
    ///
    /// # Errors
    /// A key without a value.
    pub fn read(all: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut read = Arguments::default();
        let mut all = all.into_iter();
        while let Some(word) = all.next() {
            match word.strip_prefix("--") {
                Some(key) => {
                    let value = all.next().ok_or_else(|| format!("--{key} needs a value"))?;
                    read.values.entry(key.to_owned()).or_default().push(value);
                }
                None => read.words.push(word),
            }
        }
        Ok(read)
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// There is none: `what` is missing.
    pub fn word(&mut self, what: &str) -> Result<String, String> {
        if self.words.is_empty() { Err(format!("{what} is missing")) } else { Ok(self.words.remove(0)) }
    }

    /// Takes the words that are left.
    pub fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Takes all values of a key.
    pub fn all(&mut self, key: &str) -> Vec<String> {
        self.values.remove(key).unwrap_or_default()
    }

    /// Takes the value of a key, of which there is one at most.
    ///
    /// # Errors
    /// It is no such value, or stands there twice.
    pub fn maybe<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        match self.all(key).as_slice() {
            [] => Ok(None),
            [one] => one.parse().map(Some).map_err(|_| format!("--{key} {one:?} cannot be read")),
            _ => Err(format!("--{key} stands there twice")),
        }
    }

    /// As [`maybe`](Self::maybe), with a default.
    ///
    /// # Errors
    /// As there.
    pub fn or<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, String> {
        Ok(self.maybe(key)?.unwrap_or(default))
    }

    /// As [`maybe`](Self::maybe), where it must be given.
    ///
    /// # Errors
    /// As there, or it is missing.
    pub fn needed<T: FromStr>(&mut self, key: &str) -> Result<T, String> {
        self.maybe(key)?.ok_or_else(|| format!("--{key} is missing"))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Something is left that nobody asked for.
    pub fn done(self) -> Result<(), String> {
        match (self.words.first(), self.values.keys().next()) {
            (Some(word), _) => Err(format!("{word:?} is too much")),
            (None, Some(key)) => Err(format!("--{key} is not known here")),
            (None, None) => Ok(()),
        }
    }
}
