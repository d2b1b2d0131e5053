//! The end of what a function writes to its standard error: the last line is its explanation.

use std::os::fd::RawFd;

const TAIL_BYTES: usize = 2048;
/// Reads of one drain: what a flood writes beyond waits for the next.
const READS_MAX: usize = 64;

/// The last bytes; what came before is let go.
#[derive(Debug)]
pub struct Tail {
    bytes: Box<[u8; TAIL_BYTES]>,
    len: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Tail::new()
    }
}

impl Tail {
    /// Nothing yet.
    pub fn new() -> Self {
        Tail { bytes: Box::new([0; TAIL_BYTES]), len: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes what a non-blocking descriptor holds; `false` at its end.
    pub fn drain(&mut self, descriptor: RawFd) -> bool {
        for _ in 0..READS_MAX {
            if self.len > TAIL_BYTES / 2 {
                let from = self.len - TAIL_BYTES / 2;
                self.bytes.copy_within(from..self.len, 0);
                self.len = TAIL_BYTES / 2;
            }
            let room = &mut self.bytes[self.len..];
            // SAFETY: the room is live and of that length.
            let read = unsafe { libc::read(descriptor, room.as_mut_ptr().cast(), room.len()) };
            match read {
                0 => return false,
                1.. => self.len += read as usize,
                _ => return true,
            }
        }
        true
    }

    /// The last line that is not blank; empty where there is none.
    pub fn last_line(&self) -> &str {
        let bytes = &self.bytes[..self.len];
        let lines = bytes.split(|byte| *byte == b'\n').rev();
        let line = lines.map(<[u8]>::trim_ascii).find(|line| !line.is_empty()).unwrap_or(b"");
        match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Whether its end says that memory was refused, in the words of the usual allocators.
    pub fn speaks_of_memory(&self) -> bool {
        const WORDS: [&[u8]; 7] = [
            b"MemoryError",
            b"std::bad_alloc",
            b"ut of memory",
            b"Cannot allocate memory",
            b"memory allocation of",
            b"memory exhausted",
            b"cannot allocate",
        ];
        let bytes = &self.bytes[..self.len];
        WORDS.iter().any(|word| bytes.windows(word.len()).any(|window| window == *word))
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_last_line_is_kept_whatever_came_before() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        // SAFETY: no pointers.
        unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut tail = Tail::new();
        assert_eq!(tail.last_line(), "");
        writer.write_all(&[b'x'; 9000]).expect("it fits");
        assert!(tail.drain(reader.as_raw_fd()));
        writer.write_all("\nvorletzte\nMemoryError: zäh\n\n".as_bytes()).expect("it fits");
        drop(writer);
        assert!(!tail.drain(reader.as_raw_fd()), "its end was seen");
        assert_eq!(tail.last_line(), "MemoryError: zäh");
        assert!(tail.speaks_of_memory());
    }
}
