//! The event header: how an event travels between TEMPOS components with its id, level and times.
//!
//! A frame of a channel whose format is `event` is this header, the topic, the attributes, the payload.
//! All numbers are little endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `0x54 0x45` ("TE") |
//! | 2 | version, 1 |
//! | 3 | QoS level of the sender, for information: the receiver's endpoint decides |
//! | 4..6 | length of the topic, 0 to 255 |
//! | 6..8 | length of the attributes, 0 to 1024 |
//! | 8..16 | event id |
//! | 16..24 | source time, nanoseconds since the epoch (CLOCK_REALTIME), 0: unknown |
//! | 24..32 | deadline, nanoseconds from the source time, 0: none |
//! | 32..40 | zero, for later versions; ignored |

use crate::attributes::{ATTRIBUTES_BYTES_MAX, Attributes};
use crate::level::QosLevel;

/// The length of the fixed part.
pub const HEADER_BYTES: usize = 40;
/// The longest topic.
pub const TOPIC_BYTES_MAX: usize = 255;
/// The most bytes that stand before a payload.
pub const ENVELOPE_BYTES_MAX: usize = HEADER_BYTES + TOPIC_BYTES_MAX + ATTRIBUTES_BYTES_MAX;

const MAGIC: [u8; 2] = *b"TE";
const VERSION: u8 = 1;

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The event's id, unique for its sender.
    pub event_id: u64,
    /// The level that the sender names.
    pub level: QosLevel,
    /// When the event came to be: nanoseconds since the epoch, 0 where unknown.
    pub source_time_ns: u64,
    /// How long after its source time it is late, in nanoseconds; 0: never.
    pub deadline_ns: u64,
    /// The topic that the sender names; may be empty.
    pub topic: &'a str,
    /// The block of attributes, well formed.
    pub attributes: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Why a frame is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Shorter than it says, or than a header.
    Truncated,
    /// Does not begin with the magic bytes.
    NoMagic,
    /// Another version.
    Version(u8),
    /// The topic is too long, not UTF-8, or holds control characters.
    Topic,
    /// The attributes are too long or not well formed.
    Attributes,
}

impl std::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnvelopeError::Truncated => f.write_str("the frame is shorter than its header says"),
            EnvelopeError::NoMagic => f.write_str("the frame does not begin with an event header"),
            EnvelopeError::Version(v) => {
                write!(f, "the event header has version {v}; this node speaks {VERSION}")
            }
            EnvelopeError::Topic => f.write_str("the topic of the event header is not a topic's name"),
            EnvelopeError::Attributes => {
                f.write_str("the attributes of the event header are not well formed")
            }
        }
    }
}

impl std::error::Error for EnvelopeError {}

impl<'a> Envelope<'a> {
    /// Takes a frame apart. Nothing in it is trusted.
    ///
    /// # Errors
    /// What is wrong with the frame.
    pub fn decode(frame: &'a [u8]) -> Result<Self, EnvelopeError> {
        if !frame.starts_with(&MAGIC) {
            return Err(if frame.len() < MAGIC.len() {
                EnvelopeError::Truncated
            } else {
                EnvelopeError::NoMagic
            });
        }
        let header = frame.first_chunk::<HEADER_BYTES>().ok_or(EnvelopeError::Truncated)?;
        if header[2] != VERSION {
            return Err(EnvelopeError::Version(header[2]));
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let topic_len = u16::from_le_bytes([header[4], header[5]]) as usize;
        let attributes_len = u16::from_le_bytes([header[6], header[7]]) as usize;
        if topic_len > TOPIC_BYTES_MAX {
            return Err(EnvelopeError::Topic);
        }
        if attributes_len > ATTRIBUTES_BYTES_MAX {
            return Err(EnvelopeError::Attributes);
        }
        let rest = &frame[HEADER_BYTES..];
        let (topic, rest) = rest.split_at_checked(topic_len).ok_or(EnvelopeError::Truncated)?;
        let (attributes, payload) = rest.split_at_checked(attributes_len).ok_or(EnvelopeError::Truncated)?;
        let topic = std::str::from_utf8(topic).map_err(|_| EnvelopeError::Topic)?;
        if topic.chars().any(char::is_control) {
            return Err(EnvelopeError::Topic);
        }
        if !Attributes::new(attributes).is_well_formed() {
            return Err(EnvelopeError::Attributes);
        }
        Ok(Envelope {
            event_id: word(8),
            level: QosLevel(header[3]),
            source_time_ns: word(16),
            deadline_ns: word(24),
            topic,
            attributes,
            payload,
        })
    }

    /// Writes all that stands before the payload into `buffer`; the answer is its length, or `None`
    /// where a part is over its bound or the buffer too short.
    pub fn encode_head(&self, buffer: &mut [u8]) -> Option<usize> {
        let len = HEADER_BYTES + self.topic.len() + self.attributes.len();
        if self.topic.len() > TOPIC_BYTES_MAX || self.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return None;
        }
        let head = buffer.get_mut(..len)?;
        head[0..2].copy_from_slice(&MAGIC);
        head[2] = VERSION;
        head[3] = self.level.0;
        head[4..6].copy_from_slice(&(self.topic.len() as u16).to_le_bytes());
        head[6..8].copy_from_slice(&(self.attributes.len() as u16).to_le_bytes());
        head[8..16].copy_from_slice(&self.event_id.to_le_bytes());
        head[16..24].copy_from_slice(&self.source_time_ns.to_le_bytes());
        head[24..32].copy_from_slice(&self.deadline_ns.to_le_bytes());
        head[32..40].fill(0);
        head[HEADER_BYTES..HEADER_BYTES + self.topic.len()].copy_from_slice(self.topic.as_bytes());
        head[HEADER_BYTES + self.topic.len()..].copy_from_slice(self.attributes);
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let envelope = Envelope {
            event_id: 7,
            level: QosLevel::STRICT,
            source_time_ns: 99,
            deadline_ns: 1000,
            topic: "press/vibration",
            attributes: &[],
            payload: b"",
        };
        let mut buffer = [0; ENVELOPE_BYTES_MAX];
        let len = envelope.encode_head(&mut buffer).expect("fits");
        let mut frame = buffer[..len].to_vec();
        frame.extend_from_slice(b"payload");
        frame
    }

    #[test]
    fn a_frame_comes_apart_as_it_was_put_together() {
        let frame = sample();
        let envelope = Envelope::decode(&frame).expect("well formed");
        assert_eq!(
            (envelope.event_id, envelope.topic, envelope.payload),
            (7, "press/vibration", &b"payload"[..])
        );
    }

    #[test]
    fn a_length_taken_from_the_wire_is_never_believed() {
        let mut frame = sample();
        frame[4..6].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(Envelope::decode(&frame), Err(EnvelopeError::Topic));
        let mut frame = sample();
        frame[4..6].copy_from_slice(&255u16.to_le_bytes());
        assert_eq!(Envelope::decode(&frame), Err(EnvelopeError::Truncated));
        let mut frame = sample();
        frame[HEADER_BYTES] = 0xff;
        assert_eq!(Envelope::decode(&frame), Err(EnvelopeError::Topic));
        assert_eq!(Envelope::decode(b""), Err(EnvelopeError::Truncated));
        assert_eq!(Envelope::decode(b"T"), Err(EnvelopeError::Truncated));
    }
}
