//! Waits, with everything else done, for the word to become the function: the variables of the event that it is for.

use core::ffi::c_char;

use crate::system::{self, call, number};
use crate::{done, fail};

const BYTES_MAX: usize = 4096 + 4;
const VARIABLES_MAX: usize = 512;

/// Room for the word, and for the environment that comes of it.
pub struct Word {
    bytes: [u8; BYTES_MAX],
    list: [*const c_char; VARIABLES_MAX],
}

impl Word {
    pub fn new() -> Self {
        Word { bytes: [0; BYTES_MAX], list: [core::ptr::null(); VARIABLES_MAX] }
    }

    /// Says on the standard output that it is ready, as a resident worker does, and waits on a descriptor: four bytes
    /// of length, and texts that end with a zero each. Without a word it ends.
    pub fn wait(&mut self, from: usize, environment: *const *const c_char) -> *const *const c_char {
        // Length, status, call (8 bytes), explanation, output: an answer to call 0.
        let ready = [20u32, 0, 0, 0, 0, 0];
        done(call(number::WRITE, [1, ready.as_ptr() as usize, 24, 0, 0]), "cannot say that it is ready");
        let mut filled = 0;
        while filled < 4 || filled < 4 + self.length() {
            const EINTR: isize = -4;
            let room = &mut self.bytes[filled..];
            let read = call(number::READ, [from, room.as_mut_ptr() as usize, room.len(), 0, 0]);
            match read.0 {
                0 => system::exit(0),
                1.. => filled += read.0 as usize,
                EINTR => {}
                _ => fail("cannot read what it is to do", read),
            }
            if filled >= 4 && self.length() > BYTES_MAX - 4 {
                fail("was told more than it has room for", system::Code(0));
            }
        }
        call(number::CLOSE, [from, 0, 0, 0, 0]);
        let mut count = 0;
        let mut add = |text: *const c_char| {
            // The last place stays the null at the end.
            if count < VARIABLES_MAX - 1 {
                self.list[count] = text;
                count += 1;
            }
        };
        let mut at = environment;
        // SAFETY: a list of texts that ends with a null.
        while !unsafe { *at }.is_null() {
            // SAFETY: as above, and not its end.
            unsafe {
                add(*at);
                at = at.add(1);
            }
        }
        let texts = &self.bytes[4..filled];
        let mut start = 0;
        for (end, byte) in texts.iter().enumerate() {
            if *byte == 0 {
                add(texts[start..].as_ptr().cast());
                start = end + 1;
            }
        }
        self.list.as_ptr()
    }

    fn length(&self) -> usize {
        let [a, b, c, d, ..] = self.bytes;
        u32::from_le_bytes([a, b, c, d]) as usize
    }
}
