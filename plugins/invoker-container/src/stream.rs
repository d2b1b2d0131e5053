//! What a process that an engine has started writes comes on one connection, each part behind a head of eight bytes: a
//! thread takes it apart into pipes, which a resident worker is followed by like any other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tempos_process::clock::{polled, wait};
use tempos_process::each::pipe;
use tempos_process::spawner::thread_for;

const HEAD_BYTES: usize = 8;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;

/// The node's ends: what is written to the process, its output, its errors.
pub struct Ends {
    /// To the process.
    pub requests: OwnedFd,
    /// Its output.
    pub answers: OwnedFd,
    /// Its errors.
    pub errors: OwnedFd,
}

/// Takes a connection apart, of which these first bytes have come already. The thread ends with the connection, or when
/// nobody listens any more.
///
/// # Errors
/// What the system refuses.
pub fn apart(stream: UnixStream, first: Vec<u8>, function: &str) -> io::Result<Ends> {
    stream.set_read_timeout(None)?;
    stream.set_nonblocking(true)?;
    let requests = OwnedFd::from(stream.try_clone()?);
    let ((answers, to_answers), (errors, to_errors)) = (pipe()?, pipe()?);
    let mut splitter = Splitter::new(to_answers.into(), to_errors.into());
    thread_for("stream", function).spawn(move || {
        // Errors are the end: whoever follows the worker sees it by its pipes.
        let _ = splitter.take(&first).and_then(|()| splitter.run(stream));
    })?;
    Ok(Ends { requests, answers, errors })
}

struct Splitter {
    answers: File,
    errors: File,
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Of the part under way.
    left: usize,
}

impl Splitter {
    fn new(answers: File, errors: File) -> Self {
        Splitter { answers, errors, head: [0; HEAD_BYTES], filled: 0, left: 0 }
    }

    fn run(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let mut room = [0; 16 << 10];
        loop {
            let mut entries = [
                polled(stream.as_raw_fd(), libc::POLLIN),
                // Only that its other end is closed: that worker is given up.
                polled(self.answers.as_raw_fd(), 0),
            ];
            wait(&mut entries, 0);
            if entries[1].revents != 0 {
                return Ok(());
            }
            match stream.read(&mut room) {
                Ok(0) => return Ok(()),
                Ok(count) => self.take(&room[..count])?,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands on what has come. A pipe that is full is waited for: so is the process then.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let count = bytes.len().min(HEAD_BYTES - self.filled);
                self.head[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                self.filled += count;
                bytes = &bytes[count..];
                if self.filled == HEAD_BYTES {
                    self.filled = 0;
                    let [kind, .., a, b, c, d] = self.head;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    if kind > ERRORS {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
                continue;
            }
            let count = bytes.len().min(self.left);
            let to = if self.head[0] == OUTPUT { &mut self.answers } else { &mut self.errors };
            to.write_all(&bytes[..count])?;
            self.left -= count;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_together_however_they_come() {
        let part =
            |kind: u8, text: &[u8]| [&[kind, 0, 0, 0][..], &(text.len() as u32).to_be_bytes(), text].concat();
        let whole = [part(1, b"one"), part(2, b"wrong"), part(1, b""), part(1, b" two")].concat();
        for step in 1..=whole.len() {
            let ((mut answers, to_answers), (mut errors, to_errors)) =
                (io::pipe().expect("a pipe"), io::pipe().expect("a pipe"));
            let mut splitter =
                Splitter::new(OwnedFd::from(to_answers).into(), OwnedFd::from(to_errors).into());
            whole.chunks(step).for_each(|bytes| splitter.take(bytes).expect("taken"));
            drop(splitter);
            let (mut said, mut wrong) = (String::new(), String::new());
            answers.read_to_string(&mut said).expect("a text");
            errors.read_to_string(&mut wrong).expect("a text");
            assert_eq!((said.as_str(), wrong.as_str()), ("one two", "wrong"), "{step}");
        }
        let ((_a, to_answers), (_b, to_errors)) = (io::pipe().expect("a pipe"), io::pipe().expect("a pipe"));
        let mut splitter = Splitter::new(OwnedFd::from(to_answers).into(), OwnedFd::from(to_errors).into());
        assert!(splitter.take(&part(3, b"x")).is_err());
    }
}
