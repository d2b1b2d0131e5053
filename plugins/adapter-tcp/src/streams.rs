//! Large frames that come in segments: up to four at once on one connection, each put together in a place of
//! its own. What is larger than wanted is passed over and said at its end.

/// Frames that may be under way in segments at once.
pub const STREAMS: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stream {
    open: bool,
    /// Bytes that are here; none where the frame is too large.
    length: usize,
    too_large: bool,
}

/// How far the frames of one connection are. Their bytes lie in a buffer that the caller keeps: [`STREAMS`]
/// places of equal length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    streams: [Stream; STREAMS],
}

/// A frame is whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Whole<'a> {
    /// Its bytes.
    Frame(&'a [u8]),
    /// It is larger than wanted.
    TooLarge,
}

impl Streams {
    /// Whether no frame is under way.
    pub fn is_idle(&self) -> bool {
        self.streams.iter().all(|stream| !stream.open)
    }

    /// The next segment of a stream; the frame where `more` does not follow.
    pub fn add<'a>(
        &mut self,
        number: usize,
        segment: &[u8],
        more: bool,
        buffer: &'a mut [u8],
    ) -> Option<Whole<'a>> {
        let place = place(buffer, number);
        let stream = &mut self.streams[number];
        match place.get_mut(stream.length..stream.length + segment.len()) {
            Some(room) if !stream.too_large => {
                room.copy_from_slice(segment);
                stream.length += segment.len();
            }
            _ => (stream.length, stream.too_large) = (0, true),
        }
        stream.open = more;
        if more {
            return None;
        }
        let whole = std::mem::take(stream);
        Some(if whole.too_large { Whole::TooLarge } else { Whole::Frame(&place[..whole.length]) })
    }

    /// The next segment of a stream is larger than any frame wanted: it is passed over. Whether that is all of
    /// the frame.
    pub fn pass_over(&mut self, number: usize, more: bool) -> bool {
        self.streams[number] = Stream { open: more, length: 0, too_large: more };
        !more
    }

    /// For each stream: whether it is open, and the bytes that are here; `None` for those of a frame that is
    /// too large.
    pub fn lengths(&self) -> [Option<Option<usize>>; STREAMS] {
        self.streams.map(|stream| stream.open.then_some((!stream.too_large).then_some(stream.length)))
    }

    /// Streams that go on with what is in the buffer.
    pub fn resumed(lengths: [Option<Option<usize>>; STREAMS]) -> Self {
        Streams {
            streams: lengths.map(|stream| match stream {
                None => Stream::default(),
                Some(length) => {
                    Stream { open: true, length: length.unwrap_or(0), too_large: length.is_none() }
                }
            }),
        }
    }

    /// The bytes of a stream that are here.
    pub fn bytes<'a>(&self, number: usize, buffer: &'a mut [u8]) -> &'a mut [u8] {
        &mut place(buffer, number)[..self.streams[number].length]
    }
}

/// The place of a stream in its connection's buffer.
fn place(buffer: &mut [u8], number: usize) -> &mut [u8] {
    let bytes = buffer.len() / STREAMS;
    &mut buffer[number * bytes..(number + 1) * bytes]
}
