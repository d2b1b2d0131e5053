//! Messages and attributes of netlink(7): written into a buffer, read from bytes that may be garbage.

/// Bytes of the header of a message (struct nlmsghdr).
pub const HEADER_BYTES: usize = 16;
/// Bytes of an attribute's header (struct nlattr).
const ATTRIBUTE_BYTES: usize = 4;
/// The type without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;
/// An attribute's length is a u16; what would not fit is left out, and the kernel refuses the rest.
const ATTRIBUTE_BYTES_MAX: usize = u16::MAX as usize;

/// A request under construction.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of a kind, with what stands between its header and its attributes.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut request = Request { bytes };
        request.pad();
        request
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = ATTRIBUTE_BYTES + value.len();
        if length > ATTRIBUTE_BYTES_MAX {
            return;
        }
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Adds a text with the NUL that the kernel expects.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), b"\0"].concat());
    }

    /// Adds an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Request)) {
        let start = self.bytes.len();
        self.put(kind, &[]);
        fill(self);
        let length = self.bytes.len() - start;
        if length > ATTRIBUTE_BYTES_MAX {
            self.bytes.truncate(start);
            return;
        }
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// The message, with its length and number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What stands behind its header.
    pub body: &'a [u8],
}

/// The messages in what one recv(2) brought; ends at the first that is cut short.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER_BYTES || length > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: &bytes[HEADER_BYTES..length],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in some bytes, with their types; ends at the first that is cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < ATTRIBUTE_BYTES || length > bytes.len() {
            return None;
        }
        let attribute = (u16_at(bytes, 2)? & TYPE_MASK, &bytes[ATTRIBUTE_BYTES..length]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// The first attribute of a type.
pub fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text up to its NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The number at an offset; `None` where the bytes end before.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes)
}

/// As [`u16_at`].
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes)
}

/// As [`u16_at`].
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..offset + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_ne_bytes)
}

/// A number that is an attribute of its own.
pub fn find_u32(bytes: &[u8], wanted: u16) -> Option<u32> {
    find(bytes, wanted).and_then(|value| u32_at(value, 0))
}

/// As [`find_u32`].
pub fn find_i64(bytes: &[u8], wanted: u16) -> Option<i64> {
    find(bytes, wanted).and_then(|value| u64_at(value, 0)).map(u64::cast_signed)
}
