//! One TOML file against the table of keys: all its mistakes at once, each with line and column.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempos_control::{Mistake, Origin, names, units};
use tempos_dbus::Bus;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Holds, KEYS, Key, sections};
use super::levels;

/// A value of the node file with its unit resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    Flag(bool),
    /// An integer, nanoseconds or bytes.
    Number(u64),
    Text(String),
    Bus(Bus),
    Address(SocketAddr),
    Paths(Vec<PathBuf>),
    Texts(Vec<String>),
}

/// What one file sets.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// By section and key.
    pub settings: BTreeMap<(&'static str, &'static str), Setting>,
    /// Where the keys stood: for mistakes that only show once all files are read.
    pub places: BTreeMap<(&'static str, &'static str), Origin>,
    /// The levels, as the text of a wiring script whose lines are those of the file.
    pub levels: Option<String>,
}

/// Reads the text of one file. What is wrong is added to `mistakes`, the rest is still read.
pub(crate) fn read(file: &Path, text: &str, mistakes: &mut Vec<Mistake>) -> Read {
    let mut reader = Reader { places: Places::new(file, text), found: Vec::new() };
    let read = reader.document(text);
    reader.found.sort_by_key(|(offset, _)| *offset);
    mistakes.extend(reader.found.into_iter().map(|(_, mistake)| mistake));
    read
}

/// Turns byte offsets into `FILE:LINE:COLUMN`.
struct Places {
    file: String,
    line_starts: Vec<usize>,
}

impl Places {
    fn new(file: &Path, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Places { file: file.display().to_string(), line_starts: std::iter::once(0).chain(newlines).collect() }
    }

    /// Line and column, both from 1; columns count bytes, as compilers do.
    fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        (line, offset - self.line_starts[line - 1] + 1)
    }
}

/// The file being read and what was wrong in it so far.
pub(crate) struct Reader {
    places: Places,
    /// By the offset at which each was found.
    found: Vec<(usize, Mistake)>,
}

impl Reader {
    fn document(&mut self, text: &str) -> Read {
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            self.wrong(error.span().unwrap_or(0..0), error.message().replace('\n', ", "));
        }
        if !errors.is_empty() {
            // A file that does not parse says too little about what was meant: only its syntax is reported.
            return Read::default();
        }
        let mut read = Read::default();
        for (name, value) in document.get_ref() {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("qos", DeValue::Array(tables)) => {
                    read.levels = Some(levels::as_script(tables, self));
                }
                ("qos", _) => self.wrong(name.span(), "qos must be a list of tables: write [[qos]]".into()),
                (section, DeValue::Table(table)) if sections().contains(&section) => {
                    self.section(section, table, &mut read);
                }
                (section, _) if sections().contains(&section) => {
                    self.wrong(name.span(), format!("{section} must be a section: write [{section}]"));
                }
                (unknown, _) => {
                    let hint = names::hint(unknown, sections());
                    self.wrong(name.span(), format!("unknown section {unknown:?}{hint}"));
                }
            }
        }
        read
    }

    /// Notes a mistake. The column is part of the sentence's place, as editors expect it.
    pub fn wrong(&mut self, span: Range<usize>, sentence: String) {
        let place = self.place(&span);
        self.found.push((span.start, Mistake::new(&place, sentence)));
    }

    fn place(&self, span: &Range<usize>) -> Origin {
        let (line, column) = self.places.of(span.start);
        Origin::new(format!("{}:{line}:{column}", self.places.file), 0)
    }

    /// The line of an offset, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.places.of(span.start).0
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>, read: &mut Read) {
        for (name, value) in table {
            let known = || KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
            let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name.get_ref())
            else {
                let hint = names::hint(name.get_ref(), known());
                self.wrong(name.span(), format!("[{section}]: unknown key {:?}{hint}", name.get_ref()));
                continue;
            };
            match setting(key, value) {
                Ok(setting) => {
                    read.settings.insert((key.section, key.name), setting);
                    read.places.insert((key.section, key.name), self.place(&value.span()));
                }
                Err(sentence) => {
                    self.wrong(value.span(), format!("[{section}] {}: {sentence}", key.name));
                }
            }
        }
    }
}

/// Reads a value as its key wants it.
fn setting(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Setting, String> {
    let value = value.get_ref();
    let must = |right: String| format!("{} where {right} must stand", article(value));
    let text = |right: &str| value.as_str().ok_or_else(|| must(right.to_owned()));
    match key.holds {
        Holds::Flag => value.as_bool().map(Setting::Flag).ok_or_else(|| must("true or false".into())),
        Holds::Integer { min, max } => {
            let right = format!("a whole number from {min} to {max}");
            let number = value.as_integer().ok_or_else(|| must(right.clone()))?;
            let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
            match parsed.filter(|number| (min..=max).contains(number)) {
                Some(number) => Ok(Setting::Number(number.unsigned_abs())),
                None => Err(format!("{} is out of range, {right} must stand here", number.as_str())),
            }
        }
        Holds::Duration { min_ns, max_ns } => {
            let ns = units::duration_ns(text("a duration such as \"200ms\"")?)?;
            match (min_ns..=max_ns).contains(&ns) {
                true => Ok(Setting::Number(ns)),
                false => Err(format!(
                    "{} is out of range, {} to {} may stand here",
                    units::show_ns(ns),
                    units::show_ns(min_ns),
                    units::show_ns(max_ns)
                )),
            }
        }
        Holds::Size { min, max } => {
            let bytes = units::size_bytes(text("a size such as \"64MiB\"")?)?;
            match (min..=max).contains(&bytes) {
                true => Ok(Setting::Number(bytes)),
                false => Err(format!(
                    "{} is out of range, {} to {} may stand here",
                    units::show_bytes(bytes),
                    units::show_bytes(min),
                    units::show_bytes(max)
                )),
            }
        }
        Holds::Text { max } => {
            let text = text("a text in quotes")?;
            match text.len() {
                0 => Err("a text must stand here, this one is empty".into()),
                len if len > max => Err(format!("the text has {len} bytes, at most {max} are allowed")),
                _ if text.chars().any(char::is_control) => Err(format!("{text:?} holds control characters")),
                _ => Ok(Setting::Text(text.to_owned())),
            }
        }
        Holds::Bus => {
            let text = text("a bus in quotes")?;
            text.parse().map(Setting::Bus)
        }
        Holds::Address => {
            let text = text("an address in quotes")?;
            text.parse().map(Setting::Address).map_err(|_| {
                format!(
                    "{text:?} is not an address with its port, such as \"127.0.0.1:8443\" or \"[::1]:8443\""
                )
            })
        }
        Holds::Word(words) => {
            let word = text("a word in quotes")?;
            match words.contains(&word) {
                true => Ok(Setting::Text(word.to_owned())),
                false => Err(format!("unknown word {word:?}{}", names::hint(word, words.iter().copied()))),
            }
        }
        Holds::Interfaces => {
            let right = "a list of interfaces such as [\"eth0\"]";
            let list = value.as_array().ok_or_else(|| must(right.into()))?;
            if list.len() > super::INTERFACES_MAX {
                return Err(format!("{} names, at most {} are allowed", list.len(), super::INTERFACES_MAX));
            }
            let names = list.iter().map(|item| interface(item.get_ref().as_str().unwrap_or_default()));
            Ok(Setting::Texts(names.collect::<Result<_, _>>()?))
        }
        Holds::Path => Ok(Setting::Paths(vec![full_path(text("a path in quotes")?)?])),
        Holds::Paths => {
            let list = value.as_array().ok_or_else(|| must("a list of paths".into()))?;
            if list.len() > super::PATHS_MAX {
                return Err(format!("{} paths, at most {} are allowed", list.len(), super::PATHS_MAX));
            }
            let paths = list.iter().map(|item| {
                let text = item.get_ref().as_str();
                text.ok_or_else(|| "a list of paths in quotes must stand here".to_owned()).and_then(full_path)
            });
            Ok(Setting::Paths(paths.collect::<Result<_, _>>()?))
        }
    }
}

fn interface(name: &str) -> Result<String, String> {
    match (1..=15).contains(&name.len()) && !name.contains(['/', '\0', ' ']) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is no name of an interface: 1 to 15 bytes, no space or slash")),
    }
}

fn full_path(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("{text:?} is not a full path, it must begin with \"/\"")),
    }
}

fn article(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(_) | DeValue::Array(_) => format!("an {} stands", value.type_str()),
        _ => format!("a {} stands", value.type_str()),
    }
}
