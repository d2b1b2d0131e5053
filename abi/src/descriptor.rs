//! What a plugin says of itself before anything else is called.

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

/// What a plugin is.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PluginKind(pub u8);

impl PluginKind {
    /// Carries events over one technology.
    pub const ADAPTER: PluginKind = PluginKind(1);
    /// Decides who is admitted and who goes next.
    pub const QUEUE: PluginKind = PluginKind(2);
    /// Runs functions.
    pub const INVOKER: PluginKind = PluginKind(3);

    /// The word for it in sentences.
    pub const fn word(self) -> &'static str {
        match self.0 {
            1 => "adapter",
            2 => "queue policy",
            3 => "invocation method",
            _ => "unknown kind",
        }
    }
}

/// What an option holds.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionKind(pub u8);

impl OptionKind {
    /// `true` or `false`.
    pub const FLAG: OptionKind = OptionKind(0);
    /// A whole number.
    pub const INTEGER: OptionKind = OptionKind(1);
    /// A number with a fraction.
    pub const NUMBER: OptionKind = OptionKind(2);
    /// A text.
    pub const TEXT: OptionKind = OptionKind(3);
    /// A list of texts.
    pub const TEXTS: OptionKind = OptionKind(4);
    /// A duration, handed over in nanoseconds.
    pub const DURATION: OptionKind = OptionKind(5);
    /// A size, handed over in bytes.
    pub const SIZE: OptionKind = OptionKind(6);
    /// The path of a file or socket.
    pub const PATH: OptionKind = OptionKind(7);

    /// The word for it in sentences.
    pub const fn word(self) -> &'static str {
        match self.0 {
            0 => "true or false",
            1 => "a whole number",
            2 => "a number",
            3 => "a text",
            4 => "a list of texts",
            5 => "a duration such as \"2ms\"",
            6 => "a size such as \"64KiB\"",
            7 => "a path",
            _ => "an unknown kind of value",
        }
    }
}

/// One row of a plugin's option table. The host checks what users write against it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The key.
    pub key: RStr<'static>,
    /// What it holds.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// The unit or the allowed range, for readers ("datagrams", "1 to 64"); may be empty.
    pub unit: RStr<'static>,
    /// The default, as a user would write it; empty: none.
    pub default: RStr<'static>,
    /// The allowed words of a text, separated by `|`; empty: any.
    pub words: RStr<'static>,
    /// One line of help.
    pub help: RStr<'static>,
}

impl OptionSpec {
    /// An option that may be left out.
    pub const fn new(key: &'static str, kind: OptionKind, default: &'static str, help: &'static str) -> Self {
        OptionSpec {
            key: RStr::from_str(key),
            kind,
            required: false,
            unit: RStr::from_str(""),
            default: RStr::from_str(default),
            words: RStr::from_str(""),
            help: RStr::from_str(help),
        }
    }

    /// The same, but it must be given.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same, with its unit or range for readers.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = RStr::from_str(unit);
        self
    }

    /// The same, with the words that it may hold, separated by `|`.
    pub const fn words(mut self, words: &'static str) -> Self {
        self.words = RStr::from_str(words);
        self
    }
}

/// What a plugin says of itself.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Descriptor {
    /// Its name: what wiring scripts call it (`udp`, `fifo`, `dlf`).
    pub name: RStr<'static>,
    /// Its own version, `MAJOR.MINOR.PATCH`.
    pub version: RStr<'static>,
    /// What it is.
    pub kind: PluginKind,
    /// The minor version of the interface that it was built against.
    pub abi_minor: u32,
    /// One line that says what it does.
    pub summary: RStr<'static>,
    /// Its option table.
    pub options: RSlice<'static, OptionSpec>,
}
