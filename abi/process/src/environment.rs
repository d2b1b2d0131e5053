//! What a process is told of its event by its environment: bounded, and only what a variable can hold.

use std::ffi::c_char;
use std::fmt::Write as _;

use tempos_abi::attributes::AttributeValue;
use tempos_abi::event::EventView;

/// The most bytes of all variables of an event together.
const BYTES_MAX: usize = 4096;
/// The most attributes that become variables.
const ATTRIBUTES_MAX: usize = 64;

/// The variables of one event; kept and filled again for the next.
#[derive(Debug, Default)]
pub struct Variables {
    text: String,
    starts: Vec<u32>,
}

impl Variables {
    /// Room for the largest event.
    pub fn new() -> Self {
        Variables { text: String::with_capacity(BYTES_MAX), starts: Vec::with_capacity(ATTRIBUTES_MAX + 8) }
    }

    /// Writes the variables of an event, in place of the former one's. What does not fit is left out.
    pub fn fill(&mut self, event: &EventView<'_>, deadline_ns: u64) {
        self.text.clear();
        self.starts.clear();
        self.put(|text| write!(text, "TEMPOS_ID={}", event.id));
        self.put(|text| write!(text, "TEMPOS_LEVEL={}", event.level.0));
        self.put(|text| write!(text, "TEMPOS_SOURCE_TIME_NS={}", event.source_time_ns));
        self.put(|text| write!(text, "TEMPOS_ARRIVAL_NS={}", event.arrival_ns));
        self.put(|text| write!(text, "TEMPOS_DEADLINE_NS={deadline_ns}"));
        self.put(|text| write!(text, "TEMPOS_TOPIC={}", event.topic.as_str()));
        for (key, value) in event.attributes().take(ATTRIBUTES_MAX) {
            self.put(|text| attribute(text, key, value));
        }
    }

    fn put(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        let start = self.text.len();
        let written = write(&mut self.text);
        let new = &self.text[start..];
        let name_bytes = new.find('=').map_or(0, |at| at + 1);
        let twice = || {
            let name = &new[..name_bytes];
            self.starts.iter().any(|at| self.text[*at as usize..start].starts_with(name))
        };
        if written.is_err() || new.contains('\0') || self.text.len() >= BYTES_MAX || twice() {
            self.text.truncate(start);
            return;
        }
        self.text.push('\0');
        self.starts.push(start as u32);
    }

    /// All of them, one after the other, each ended by a zero.
    pub fn block(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// `NAME=value`, each ended by a zero; they live until the next fill.
    pub fn texts(&self) -> impl Iterator<Item = *const c_char> {
        self.starts.iter().map(|start| self.text[*start as usize..].as_ptr().cast())
    }
}

/// Letters and digits of the key in capitals, `_` for all else.
fn attribute(text: &mut String, key: &str, value: AttributeValue<'_>) -> std::fmt::Result {
    text.push_str("TEMPOS_ATTR_");
    text.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    text.push('=');
    match value {
        AttributeValue::Text(value) => text.write_str(value),
        AttributeValue::Unsigned(value) => write!(text, "{value}"),
        AttributeValue::Signed(value) => write!(text, "{value}"),
        AttributeValue::Address([a, b, c, d, high, low]) => {
            write!(text, "{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([*high, *low]))
        }
        AttributeValue::Bytes(value) | AttributeValue::Address(value) => {
            value.iter().try_for_each(|byte| write!(text, "{byte:02x}"))
        }
        _ => Err(std::fmt::Error),
    }
}
