//! Frames out of a stream of bytes: a length (32 bits, network byte order), then that many bytes.

/// The bytes of a length.
pub const HEAD_BYTES: usize = 4;

/// The largest length that means something; a larger one shows that the sender speaks something else.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// A frame that is larger than wanted; its bytes are passed over.
    TooLarge,
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
        let length = u32::from_be_bytes(*head);
        if length > FRAME_BYTES_MAX {
            return Step::Broken;
        }
        let length = length as usize;
        if length > most {
            self.start += HEAD_BYTES;
            self.skip = length;
            return Step::TooLarge;
        }
        match rest.get(..length) {
            Some(frame) => {
                self.start += HEAD_BYTES + length;
                Step::Frame(frame)
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

    const MOST: usize = 300;
    const BUFFER: usize = 512;

    fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    /// Feeds a stream in parts of any size; what comes out, `None` for a frame that is too large.
    fn parse(stream: &[u8], mut part: impl FnMut() -> usize) -> (Vec<Option<Vec<u8>>>, bool, Assembly) {
        let (mut buffer, mut assembly, mut frames, mut at) =
            ([0; BUFFER], Assembly::default(), Vec::new(), 0);
        loop {
            match assembly.next(&buffer, MOST) {
                Step::Frame(frame) => frames.push(Some(frame.to_vec())),
                Step::TooLarge => frames.push(None),
                Step::Broken => return (frames, true, assembly),
                Step::Incomplete => {
                    assert!(!assembly.has_more(&buffer, MOST));
                    let room = assembly.room(&mut buffer);
                    assert!(!room.is_empty(), "it would never go on");
                    let count = part().min(room.len()).min(stream.len() - at);
                    if count == 0 {
                        return (frames, false, assembly);
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
            let (frames, broken, assembly) = parse(&stream, || 1 + draw(90) as usize);
            assert_eq!((frames, broken), (sent, false), "seed {seed}");
            assert!(assembly.is_between_frames());
        }
    }

    #[test]
    fn garbage_never_panics_and_never_makes_a_frame_that_is_not_in_it() {
        let mut draw = generator(99);
        for input in 0..100_000u32 {
            let mut stream: Vec<u8> = (0..draw(64)).map(|_| draw(256) as u8).collect();
            if input % 2 == 0 && stream.len() > 3 {
                // A length that is believable, so that more than the first four bytes are looked at.
                (stream[0], stream[1], stream[2]) = (0, 0, draw(2) as u8);
            }
            let (frames, _, _) = parse(&stream, || 1 + draw(20) as usize);
            let bytes: usize = frames.iter().flatten().map(|frame| HEAD_BYTES + frame.len()).sum();
            assert!(bytes <= stream.len());
        }
    }

    #[test]
    fn a_length_beyond_all_frames_breaks_the_stream() {
        let (frames, broken, _) = parse(b"\0\0\0\x02okGET / HTTP/1.1\r\n", || 7);
        assert_eq!((frames, broken), (vec![Some(b"ok".to_vec())], true));
    }
}
