//! Keys and constructors: what the table of keys is made of.

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// `true` or `false`.
    Flag,
    /// A whole number from `min` to `max`.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A text.
    Text,
    /// A duration with its unit ("2ms").
    Duration,
    /// A size with its unit ("16MiB").
    Size,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of whole numbers.
    Integers,
    /// A nested table whose keys are those of the named constructor.
    Table(&'static str),
    /// One channel.
    Channel,
    /// A list of channels.
    Channels,
    /// A list of groups, or of channels (each then a group of its own).
    Groups,
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A topic, or topics by the names of branches: `{ NAME = TOPIC, … }`.
    Targets,
    /// A list of texts.
    Texts,
    /// A rate with its unit ("1000/s").
    Rate,
    /// A number from 0 to 1.
    Share,
    /// A list of level rules: `{ match = { ATTRIBUTE = VALUE, … }, qos = LEVEL }`.
    Rules,
}

/// One key of a constructor.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it holds.
    pub kind: KeyKind,
    /// Whether it must be given.
    pub required: bool,
    /// The default, as a user would write it; empty where there is none.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// One constructor of the Lua module, or a nested table of one.
#[derive(Clone, Copy, Debug)]
pub struct Constructor {
    /// Its name: `qos`, `topic`, `qos.queue`, …
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Whether keys that are not listed go to the plugin that the table names, to be checked against
    /// that plugin's option table.
    pub open: bool,
}
