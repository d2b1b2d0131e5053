//! Where a function puts its output.

use std::fmt;

use crate::raw::{OUTPUT_EMITTED, OUTPUT_OVERFLOWED, RawOutput};

/// A buffer of the node, of the workflow's largest output. `write!` works on it too.
#[derive(Debug)]
pub struct Output<'a> {
    raw: &'a mut RawOutput,
}

impl<'a> Output<'a> {
    /// The output behind the raw struct.
    ///
    /// # Safety
    /// Its pointers are to live memory of the capacities given, which nobody else uses while `'a` lasts.
    pub unsafe fn new(raw: &'a mut RawOutput) -> Self {
        Output { raw }
    }

    /// Appends to the output; `false` where it does not fit, and the invocation then fails. Without any
    /// write there is no output event; an empty write makes an empty one.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.room() {
            self.raw.flags |= OUTPUT_OVERFLOWED;
            return false;
        }
        if !bytes.is_empty() {
            // SAFETY: the range was just checked; see `Output::new`.
            unsafe {
                self.raw.data.add(self.raw.length).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        self.raw.length += bytes.len();
        self.raw.flags |= OUTPUT_EMITTED;
        true
    }

    /// The bytes that still fit.
    pub fn room(&self) -> usize {
        self.raw.capacity.saturating_sub(self.raw.length)
    }

    /// Names the branch by which the output goes, of those in the workflow's `to`. It counts where the function
    /// ends well.
    pub fn send_to(&mut self, branch: &str) {
        self.explain(branch);
    }

    /// Puts down the sentence for the operator, cut where it does not fit.
    pub(crate) fn explain(&mut self, sentence: &str) {
        let mut bytes = sentence.len().min(self.raw.error_capacity);
        while !sentence.is_char_boundary(bytes) {
            bytes -= 1;
        }
        // SAFETY: `bytes` is within both; see `Output::new`.
        unsafe { self.raw.error.copy_from_nonoverlapping(sentence.as_ptr(), bytes) };
        self.raw.error_length = bytes;
    }
}

impl fmt::Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.write(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}
