//! What a plugin says of itself, owned and checked: its descriptor with the option table.

use std::fmt;

use tempos_abi::{Descriptor, OptionKind, OptionSpec, PluginKind};

use super::manifest::{ABI_MAJOR, parse_version};
use super::{one_line, options};

/// The most options of a plugin.
pub const OPTIONS_MAX: usize = 128;

/// A plugin's descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// What wiring scripts call it.
    pub name: String,
    /// Its own version, `MAJOR.MINOR.PATCH`.
    pub version: String,
    /// What it is.
    pub kind: PluginKind,
    /// The interface that it was built against, `1.MINOR`.
    pub abi: String,
    /// One line that says what it does.
    pub summary: String,
    /// Its option table.
    pub options: Vec<OptionInfo>,
}

/// One row of an option table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    /// The key.
    pub key: String,
    /// What it holds.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// The unit or range, for readers; may be empty.
    pub unit: String,
    /// The default as a user would write it; empty: none.
    pub default: String,
    /// The allowed words of a text; empty: any.
    pub words: Vec<String>,
    /// One line of help.
    pub help: String,
}

impl PluginInfo {
    /// Reads a descriptor and checks its option table.
    ///
    /// # Errors
    /// One sentence about the plugin.
    pub fn read(descriptor: &Descriptor) -> Result<PluginInfo, String> {
        let rows = descriptor.options.as_slice();
        if rows.len() > OPTIONS_MAX {
            return Err(format!(
                "its option table has {} rows; at most {OPTIONS_MAX} are allowed",
                rows.len()
            ));
        }
        let version = one_line(descriptor.version.as_str());
        if parse_version(&version).is_none() {
            return Err(format!("its version {version:?} is not MAJOR.MINOR.PATCH, such as \"1.0.0\""));
        }
        let options: Vec<OptionInfo> = rows.iter().map(OptionInfo::read).collect::<Result<_, _>>()?;
        for (at, option) in options.iter().enumerate() {
            if options[..at].iter().any(|earlier| earlier.key == option.key) {
                return Err(format!("its option table has the key {:?} twice", option.key));
            }
        }
        Ok(PluginInfo {
            name: one_line(descriptor.name.as_str()),
            version,
            kind: descriptor.kind,
            abi: format!("{ABI_MAJOR}.{}", descriptor.abi_minor),
            summary: one_line(descriptor.summary.as_str()),
            options,
        })
    }
}

impl OptionInfo {
    fn read(row: &OptionSpec) -> Result<OptionInfo, String> {
        let key = row.key.as_str();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if key.is_empty() || key.len() > 64 || !key.chars().all(plain) {
            return Err(format!(
                "its option table has the key {:?}, which is not 1 to 64 small letters, digits and \"_\"",
                one_line(key)
            ));
        }
        let words = row.words.as_str();
        let option = OptionInfo {
            key: key.to_owned(),
            kind: row.kind,
            required: row.required,
            unit: one_line(row.unit.as_str()),
            default: one_line(row.default.as_str()),
            words: words.split('|').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
            help: one_line(row.help.as_str()),
        };
        options::default_of(&option)
            .map_err(|wrong| format!("its option table is wrong: the default of {key:?}: {wrong}"))?;
        Ok(option)
    }

    /// What it holds, with its words where it has some.
    pub fn kind_words(&self) -> String {
        match self.words.is_empty() {
            true => self.kind.word().to_owned(),
            false => format!("one of {}", self.words.join(", ")),
        }
    }
}

impl fmt::Display for OptionInfo {
    /// `bind: a text, required — the address to receive at`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.kind_words())?;
        if !self.unit.is_empty() {
            write!(f, " ({})", self.unit)?;
        }
        match (self.required, self.default.is_empty()) {
            (true, _) => f.write_str(", required")?,
            (false, false) => write!(f, ", default {}", self.default)?,
            (false, true) => {}
        }
        if self.help.is_empty() { Ok(()) } else { write!(f, " — {}", self.help) }
    }
}
