//! Frames and segments of frames out of a stream of bytes: a length word (32 bits, network byte order), then
//! that many bytes. The crate's first lines say what the word's bits mean.

/// The bytes of a length.
pub const HEAD_BYTES: usize = 4;

/// The largest length that means something; a larger one shows that the sender speaks something else.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;

/// The largest segment.
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;

const SEGMENT: u32 = 1 << 31;
const MORE: u32 = 1 << 30;
const STREAM_SHIFT: u32 = 28;
const STREAM_MASK: u32 = 3;
/// What no length word has set.
const UNUSED: u32 = 7 << 25;
const LENGTH_MASK: u32 = (1 << 25) - 1;

/// The length word of a segment: `stream` is 0 to 3, `more` says that the frame goes on.
pub fn segment_word(stream: u32, more: bool, bytes: usize) -> u32 {
    let more = if more { MORE } else { 0 };
    SEGMENT | more | (stream & STREAM_MASK) << STREAM_SHIFT | bytes as u32 & LENGTH_MASK
}

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// A frame that is larger than wanted; its bytes are passed over.
    TooLarge,
    /// A part of a frame: its stream, its bytes (none where it is larger than any frame wanted, and is passed
    /// over), and whether more follows.
    Segment(usize, Option<&'a [u8]>, bool),
    /// More bytes are needed.
    Incomplete,
    /// A length that no frame has: nothing after it can be told apart.
    Broken,
}

/// Where the frames of one stream stand in its buffer, which the caller keeps: at least [`HEAD_BYTES`] and
/// the largest frame long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    start: usize,
    end: usize,
    /// Bytes of a frame that is too large, still to come.
    skip: usize,
}

impl Assembly {
    /// Bytes that were read and not taken yet.
    pub fn unread<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        &buffer[self.start..self.end]
    }

    /// How many they are.
    pub fn unread_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Whether the last frame ended with the last byte.
    pub fn is_between_frames(&self) -> bool {
        self.start == self.end && self.skip == 0
    }

    /// Bytes of a frame that is too large, still to come.
    pub fn skip(&self) -> usize {
        self.skip
    }

    /// A stream that goes on with `bytes` in the buffer and `skip` more to be passed over.
    pub fn resumed(bytes: usize, skip: usize) -> Self {
        Assembly { start: 0, end: bytes, skip }
    }

    /// Takes the next frame; none is larger than `most` bytes.
    pub fn next<'a>(&mut self, buffer: &'a [u8], most: usize) -> Step<'a> {
        let passed = self.skip.min(self.end - self.start);
        self.start += passed;
        self.skip -= passed;
        let Some((head, rest)) = buffer[self.start..self.end].split_first_chunk::<HEAD_BYTES>() else {
            return Step::Incomplete;
        };
        let word = u32::from_be_bytes(*head);
        let (segment, length) = (word & SEGMENT != 0, (word & LENGTH_MASK) as usize);
        let length_max = if segment { SEGMENT_BYTES_MAX } else { FRAME_BYTES_MAX as usize };
        let unused = if segment { UNUSED } else { !LENGTH_MASK };
        if word & unused != 0 || length > length_max {
            return Step::Broken;
        }
        let (stream, more) = ((word >> STREAM_SHIFT & STREAM_MASK) as usize, word & MORE != 0);
        if length > most {
            self.start += HEAD_BYTES;
            self.skip = length;
            return if segment { Step::Segment(stream, None, more) } else { Step::TooLarge };
        }
        match rest.get(..length) {
            Some(bytes) => {
                self.start += HEAD_BYTES + length;
                if segment { Step::Segment(stream, Some(bytes), more) } else { Step::Frame(bytes) }
            }
            None => Step::Incomplete,
        }
    }

    /// Whether [`Assembly::next`] would say something else than that it needs more.
    pub fn has_more(&self, buffer: &[u8], most: usize) -> bool {
        self.clone().next(buffer, most) != Step::Incomplete
    }

    /// Where the next bytes are to be read to. Empty only where a whole frame is waiting to be taken.
    pub fn room<'a>(&mut self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        if self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut buffer[self.end..]
    }

    /// Says how many bytes were read into [`Assembly::room`].
    pub fn read(&mut self, bytes: usize) {
        self.end += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{STREAMS, Streams, Whole};

    const MOST: usize = 300;
    const BUFFER: usize = 512;

    fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    /// Feeds a stream in parts of any size; what comes out, `None` for a frame that is too large, and whether
    /// it broke, or else whether it ended between frames.
    fn parse(stream: &[u8], mut part: impl FnMut() -> usize) -> (Vec<Option<Vec<u8>>>, bool, bool) {
        let (mut buffer, mut places) = ([0; BUFFER], [0; STREAMS * MOST]);
        let (mut assembly, mut streams) = (Assembly::default(), Streams::default());
        let (mut frames, mut at) = (Vec::new(), 0);
        loop {
            match assembly.next(&buffer, MOST) {
                Step::Frame(frame) => frames.push(Some(frame.to_vec())),
                Step::TooLarge => frames.push(None),
                Step::Segment(number, Some(bytes), more) => {
                    match streams.add(number, bytes, more, &mut places) {
                        Some(Whole::Frame(frame)) => frames.push(Some(frame.to_vec())),
                        Some(Whole::TooLarge) => frames.push(None),
                        None => {}
                    }
                }
                Step::Segment(number, None, more) => {
                    if streams.pass_over(number, more) {
                        frames.push(None);
                    }
                }
                Step::Broken => return (frames, true, false),
                Step::Incomplete => {
                    assert!(!assembly.has_more(&buffer, MOST));
                    let room = assembly.room(&mut buffer);
                    assert!(!room.is_empty(), "it would never go on");
                    let count = part().min(room.len()).min(stream.len() - at);
                    if count == 0 {
                        return (frames, false, assembly.is_between_frames() && streams.is_idle());
                    }
                    room[..count].copy_from_slice(&stream[at..at + count]);
                    assembly.read(count);
                    at += count;
                }
            }
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut() {
        for seed in 1..=500 {
            let mut draw = generator(seed);
            let (mut stream, mut sent) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let frame: Vec<u8> = (0..draw(400)).map(|_| draw(256) as u8).collect();
                stream.extend((frame.len() as u32).to_be_bytes());
                stream.extend(&frame);
                sent.push((frame.len() <= MOST).then_some(frame));
            }
            let (frames, broken, between) = parse(&stream, || 1 + draw(90) as usize);
            assert_eq!((frames, broken, between), (sent, false, true), "seed {seed}");
        }
    }

    #[test]
    fn segments_of_several_frames_and_small_frames_between_them_come_out_whole() {
        for seed in 1..=500 {
            let mut draw = generator(seed);
            let (mut stream, mut sent) = (Vec::new(), Vec::new());
            let mut open: [Option<(Vec<u8>, usize)>; STREAMS] = [const { None }; STREAMS];
            for round in 0..60 {
                let number = draw(STREAMS as u64) as usize;
                match open[number].take() {
                    None if round > 45 => {}
                    None if draw(2) == 0 => {
                        let frame = vec![round; draw(40) as usize];
                        stream.extend((frame.len() as u32).to_be_bytes());
                        stream.extend(&frame);
                        sent.push(Some(frame));
                    }
                    None => {
                        let frame = (0..1 + draw(400)).map(|_| draw(256) as u8).collect();
                        open[number] = Some((frame, 0));
                    }
                    Some((frame, at)) => {
                        let length = if round > 50 { frame.len() - at } else { 1 + draw(120) as usize };
                        let end = (at + length).min(frame.len());
                        let more = end < frame.len();
                        stream.extend(segment_word(number as u32, more, end - at).to_be_bytes());
                        stream.extend(&frame[at..end]);
                        if more {
                            open[number] = Some((frame, end));
                        } else {
                            sent.push((frame.len() <= MOST).then_some(frame));
                        }
                    }
                }
            }
            let begun = open.iter().flatten().any(|(_, at)| *at > 0);
            let (frames, broken, between) = parse(&stream, || 1 + draw(90) as usize);
            assert_eq!((frames, broken, between), (sent, false, !begun), "seed {seed}");
        }
    }

    #[test]
    fn garbage_never_panics_and_never_makes_a_frame_that_is_not_in_it() {
        let mut draw = generator(99);
        for input in 0..100_000u32 {
            let mut stream: Vec<u8> = (0..draw(64)).map(|_| draw(256) as u8).collect();
            // Length words that are believable, so that more than the first four bytes are looked at.
            for at in (0..stream.len().saturating_sub(3)).step_by(1 + draw(12) as usize) {
                let first = match input % 3 {
                    0 => break,
                    1 => 0,
                    _ => 0x80 | (draw(8) as u8) << 4,
                };
                (stream[at], stream[at + 1], stream[at + 2]) = (first, 0, draw(2) as u8);
                if draw(2) == 0 {
                    stream[at + 3] = draw(16) as u8;
                }
            }
            let (frames, _, _) = parse(&stream, || 1 + draw(20) as usize);
            let bytes: usize = frames.iter().flatten().map(|frame| HEAD_BYTES + frame.len()).sum();
            assert!(bytes <= stream.len());
        }
    }

    #[test]
    fn a_length_beyond_all_frames_breaks_the_stream() {
        for word in [*b"GET ", [0x16, 3, 1, 2], [1, 0, 0, 1], [0x80, 0x10, 0, 1], [0x82, 0, 0, 1]] {
            let stream = [b"\0\0\0\x02ok", &word[..], b"/ HTTP/1.1\r\n"].concat();
            let (frames, broken, _) = parse(&stream, || 7);
            assert_eq!((frames, broken), (vec![Some(b"ok".to_vec())], true), "{word:x?}");
        }
    }
}
