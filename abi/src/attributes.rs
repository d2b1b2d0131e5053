//! Attributes of an event: a bounded list of keys and values in one block of bytes.
//!
//! Each entry is `key length (u8) · value kind (u8) · value length (u16, little endian) · key · value`.
//! A block is written once by whoever makes the event and then only read; a reader trusts nothing in it.

/// The most bytes that the attributes of one event may take.
pub const ATTRIBUTES_BYTES_MAX: usize = 1024;

const ENTRY_HEADER_BYTES: usize = 4;

/// A value, as it lies in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeValue<'a> {
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

const BYTES: u8 = 0;
const TEXT: u8 = 1;
const UNSIGNED: u8 = 2;
const SIGNED: u8 = 3;
const ADDRESS: u8 = 4;

/// Writes entries into a buffer; what does not fit is left out and said so.
#[derive(Debug)]
pub struct AttributeWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> AttributeWriter<'a> {
    /// Starts an empty block in `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        AttributeWriter { buffer, len: 0 }
    }

    /// Adds an entry; `false` where it does not fit or the key is empty or over 255 bytes.
    pub fn put(&mut self, key: &str, value: AttributeValue<'_>) -> bool {
        let number: [u8; 8];
        let (kind, bytes): (u8, &[u8]) = match value {
            AttributeValue::Bytes(v) => (BYTES, v),
            AttributeValue::Text(v) => (TEXT, v.as_bytes()),
            AttributeValue::Address(v) => (ADDRESS, v),
            AttributeValue::Unsigned(v) => {
                number = v.to_le_bytes();
                (UNSIGNED, &number)
            }
            AttributeValue::Signed(v) => {
                number = v.to_le_bytes();
                (SIGNED, &number)
            }
        };
        let (Ok(key_len), Ok(value_len)) = (u8::try_from(key.len()), u16::try_from(bytes.len())) else {
            return false;
        };
        let end = self.len + ENTRY_HEADER_BYTES + key.len() + bytes.len();
        if key_len == 0 || end > self.buffer.len() || end > ATTRIBUTES_BYTES_MAX {
            return false;
        }
        let entry = &mut self.buffer[self.len..end];
        entry[0] = key_len;
        entry[1] = kind;
        entry[2..4].copy_from_slice(&value_len.to_le_bytes());
        entry[4..4 + key.len()].copy_from_slice(key.as_bytes());
        entry[4 + key.len()..].copy_from_slice(bytes);
        self.len = end;
        true
    }

    /// The bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Reads the entries of a block in their order; ends at the first that is not well formed.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The entries of `block`.
    pub fn new(block: &'a [u8]) -> Self {
        Attributes { rest: block }
    }

    /// The first value of that key.
    pub fn get(&self, key: &str) -> Option<AttributeValue<'a>> {
        self.clone().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether the block is well formed to its end.
    pub fn is_well_formed(&self) -> bool {
        let mut walk = self.clone();
        while walk.next().is_some() {}
        walk.rest.is_empty()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, AttributeValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.first_chunk::<ENTRY_HEADER_BYTES>()?;
        let key_len = header[0] as usize;
        let value_len = u16::from_le_bytes([header[2], header[3]]) as usize;
        let end = ENTRY_HEADER_BYTES + key_len + value_len;
        let entry = self.rest.get(ENTRY_HEADER_BYTES..end)?;
        let (key, value) = entry.split_at(key_len);
        let key = std::str::from_utf8(key).ok().filter(|k| !k.is_empty())?;
        let value = match header[1] {
            BYTES => AttributeValue::Bytes(value),
            TEXT => AttributeValue::Text(std::str::from_utf8(value).ok()?),
            UNSIGNED => AttributeValue::Unsigned(u64::from_le_bytes(value.try_into().ok()?)),
            SIGNED => AttributeValue::Signed(i64::from_le_bytes(value.try_into().ok()?)),
            ADDRESS if matches!(value.len(), 6 | 18) => AttributeValue::Address(value),
            _ => return None,
        };
        self.rest = &self.rest[end..];
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = [0; 128];
        let mut writer = AttributeWriter::new(&mut buffer);
        assert!(writer.put("peer.uid", AttributeValue::Unsigned(1000)));
        assert!(writer.put("unit", AttributeValue::Text("mm/s²")));
        assert!(!writer.put("", AttributeValue::Unsigned(1)));
        assert!(!writer.put("big", AttributeValue::Bytes(&[0; 200])));
        let len = writer.len();
        let read = Attributes::new(&buffer[..len]);
        assert!(read.is_well_formed());
        assert_eq!(read.get("peer.uid"), Some(AttributeValue::Unsigned(1000)));
        assert_eq!(read.get("unit"), Some(AttributeValue::Text("mm/s²")));
        assert_eq!(read.get("nothing"), None);
    }

    #[test]
    fn a_damaged_block_ends_early_and_says_so() {
        let mut buffer = [0; 64];
        let mut writer = AttributeWriter::new(&mut buffer);
        writer.put("a", AttributeValue::Unsigned(7));
        let len = writer.len();
        for cut in 1..len {
            assert!(!Attributes::new(&buffer[..cut]).is_well_formed());
        }
        buffer[2] = 0xff;
        assert!(!Attributes::new(&buffer[..len]).is_well_formed());
    }
}
