//! The event that a function is called with.

use crate::raw::RawEvent;

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Bytes without further meaning.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a str),
    /// A whole number.
    Unsigned(u64),
    /// A whole number with a sign.
    Signed(i64),
    /// A network address: 4 or 16 bytes, then the port (big endian).
    Address(&'a [u8]),
}

/// An event, for as long as the call lasts.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    raw: &'a RawEvent,
}

impl<'a> Event<'a> {
    /// The event behind the raw struct.
    ///
    /// # Safety
    /// Its pointers are to live memory of the lengths given, for as long as `'a` lasts.
    pub unsafe fn new(raw: &'a RawEvent) -> Self {
        Event { raw }
    }

    /// Unique for this node.
    pub fn id(&self) -> u64 {
        self.raw.id
    }

    /// The QoS level: 0 strict, 1 best-effort, others as declared.
    pub fn level(&self) -> u32 {
        self.raw.level
    }

    /// When it came to be, nanoseconds since the epoch; 0: unknown.
    pub fn source_time_ns(&self) -> u64 {
        self.raw.source_time_ns
    }

    /// When it arrived at this node (CLOCK_MONOTONIC, ns).
    pub fn arrival_ns(&self) -> u64 {
        self.raw.arrival_ns
    }

    /// When it is late (CLOCK_MONOTONIC, ns); 0: never.
    pub fn deadline_ns(&self) -> u64 {
        self.raw.deadline_ns
    }

    /// The topic that it came by.
    pub fn topic(&self) -> &'a str {
        // SAFETY: see `Event::new`.
        std::str::from_utf8(unsafe { slice(self.raw.topic, self.raw.topic_bytes) }).unwrap_or("")
    }

    /// What it carries.
    pub fn payload(&self) -> &'a [u8] {
        // SAFETY: see `Event::new`.
        unsafe { slice(self.raw.payload, self.raw.payload_bytes) }
    }

    /// The first attribute of that key: `peer.uid`, for one.
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        // SAFETY: see `Event::new`.
        let mut rest = unsafe { slice(self.raw.attributes, self.raw.attributes_bytes) };
        // Each entry: key length (1 byte), kind (1), value length (2, little endian), key, value.
        while let [key_bytes, kind, low, high, entry @ ..] = rest {
            let (found, entry) = entry.split_at_checked(usize::from(*key_bytes))?;
            let (value, next) = entry.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
            if found == key.as_bytes() {
                return decode(*kind, value);
            }
            rest = next;
        }
        None
    }
}

fn decode(kind: u8, value: &[u8]) -> Option<Value<'_>> {
    Some(match kind {
        0 => Value::Bytes(value),
        1 => Value::Text(std::str::from_utf8(value).ok()?),
        2 => Value::Unsigned(u64::from_le_bytes(value.try_into().ok()?)),
        3 => Value::Signed(i64::from_le_bytes(value.try_into().ok()?)),
        4 => Value::Address(value),
        _ => return None,
    })
}

/// # Safety
/// Where `bytes` is not 0, `data` is to that many live bytes, for as long as `'a` lasts.
unsafe fn slice<'a>(data: *const u8, bytes: usize) -> &'a [u8] {
    if data.is_null() || bytes == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(data, bytes) }
}
