//! A resident worker: its process, its pipes, and one exchange of frames at a time.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::Outcome;

use crate::clock::{now_ns, polled, wait};
use crate::each::{do_not_block, pipe, stopped};
use crate::frame::{self, ANSWER_HEAD_BYTES, AnswerHead};
use crate::memory::resident_bytes;
use crate::process::{Ended, Process};
use crate::program::Stdio;
use crate::running::Running;
use crate::source::Source;
use crate::tail::Tail;
use crate::verdict::{self, Memory, explain};

/// How often the memory of a worker is looked at while it works: when it has ended, nobody can tell any more.
const SAMPLE_NS: u64 = 2_000_000;
const BUFFER_BYTES: usize = 4096;
/// How long a worker that has closed its pipes is given to end, so that its end can be told.
const END_NS: u64 = 20_000_000;
/// How often a start looks whether it is still wanted.
const LOOK_NS: u64 = 20_000_000;
/// Descriptors of frames start here: not among those that a worker gets them as.
const LOWEST: RawFd = 16;

/// A worker that is ready, or is about to be.
#[derive(Debug)]
pub struct Instance {
    process: Process,
    requests: OwnedFd,
    answers: OwnedFd,
    errors: OwnedFd,
    tail: Tail,
    calls: u64,
    /// The file that its process has as standard input, where that is to be filled later.
    pub input: Option<File>,
    /// Events that it has answered.
    pub served: u32,
    /// Since when it has had nothing to do (CLOCK_MONOTONIC, ns).
    pub idle_since_ns: u64,
    buffer: Box<[u8; BUFFER_BYTES]>,
    filled: usize,
    /// Whether its memory is bounded, and the most that it was seen to have in the event under way.
    bounded: bool,
    resident_bytes: u64,
}

/// Why an exchange cannot go on, and the worker with it.
enum Broken {
    /// Its deadline came, or it was told to end.
    Stopped,
    /// It closed its end of a pipe; most often because it has ended.
    Closed(&'static str),
    /// It does not keep to the protocol.
    Wrong(&'static str),
}

/// What of a frame was not written yet.
struct Sending<'a> {
    parts: [&'a [u8]; 4],
    sent: usize,
}

impl Instance {
    /// Starts a worker; `aside`: its frames are not on its standard input and output.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn start(source: &dyn Source, aside: bool) -> io::Result<Self> {
        let (of_worker, requests) = io::pipe()?;
        let (answers, to_answers) = pipe()?;
        let (errors, to_errors) = pipe()?;
        do_not_block(requests.as_raw_fd())?;
        let from_us = raised(of_worker.into())?;
        let (to_answers, to_errors) = (raised(to_answers)?, raised(to_errors)?);
        let stdio = if aside {
            Stdio::Aside {
                requests: from_us.as_raw_fd(),
                answers: to_answers.as_raw_fd(),
                errors: to_errors.as_raw_fd(),
            }
        } else {
            Stdio::Plain {
                input: from_us.as_raw_fd(),
                output: to_answers.as_raw_fd(),
                errors: to_errors.as_raw_fd(),
            }
        };
        let process = source.start(None, &stdio)?;
        Ok(Instance::new(process, requests.into(), answers, errors))
    }

    /// A worker that was started in another way: frames go to `requests`, answers and errors come from the other
    /// two, and none of them blocks.
    pub fn new(process: Process, requests: OwnedFd, answers: OwnedFd, errors: OwnedFd) -> Self {
        Instance {
            process,
            requests,
            answers,
            errors,
            tail: Tail::new(),
            calls: frame::READY,
            input: None,
            served: 0,
            idle_since_ns: 0,
            buffer: Box::new([0; BUFFER_BYTES]),
            filled: 0,
            bounded: false,
            resident_bytes: 0,
        }
    }

    /// What it consists of: its process, the way to it, its output and its errors. Nothing has been read that is not
    /// taken.
    pub fn apart(self) -> (Process, OwnedFd, OwnedFd, OwnedFd) {
        (self.process, self.requests, self.answers, self.errors)
    }

    /// Its process group.
    pub fn group(&self) -> i32 {
        self.process.pid()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// One sentence without its subject: why it will not be.
    pub fn wait_until_ready(mut self, until_ns: u64, stop: &AtomicBool) -> Result<Self, String> {
        let running = Running::default();
        let mut nothing = Sending { parts: [&[]; 4], sent: 0 };
        loop {
            let look = until_ns.min(now_ns() + LOOK_NS);
            let broken = match self.read_head(&mut nothing, look, &running, frame::READY) {
                Ok(AnswerHead { status: 0, explanation_bytes: 0, payload_bytes: 0 }) if self.filled == 0 => {
                    self.tail.drain(self.errors.as_raw_fd());
                    self.tail.clear();
                    return Ok(self);
                }
                Ok(_) => Broken::Wrong("its first frame does not say that it is ready"),
                Err(broken) => broken,
            };
            match broken {
                Broken::Stopped if now_ns() < until_ns && !stop.load(Ordering::Relaxed) => {}
                Broken::Stopped => return Err("it did not say in time that it is ready".into()),
                Broken::Wrong(what) | Broken::Closed(what) => return Err(self.why_not_ready(what)),
            }
        }
    }

    fn why_not_ready(mut self, what: &str) -> String {
        let ended = if self.process.has_ended(now_ns() + END_NS) { self.process.reap() } else { None };
        self.tail.drain(self.errors.as_raw_fd());
        let line = self.tail.last_line();
        let colon = if line.is_empty() { "" } else { ": " };
        match ended {
            Some(Ended { code: Some(code), .. }) => {
                format!("it ended with code {code} before it was ready{colon}{line}")
            }
            Some(Ended { signal, .. }) if signal > 0 => {
                format!("signal {signal} ended it before it was ready{colon}{line}")
            }
            _ => format!("{what}{colon}{line}"),
        }
    }

    /// Whether it lives and has said nothing since its last answer.
    pub fn is_at_rest(&self) -> bool {
        let mut descriptors =
            [polled(self.answers.as_raw_fd(), libc::POLLIN), polled(self.process.handle(), libc::POLLIN)];
        // SAFETY: a live array of two.
        unsafe { libc::poll(descriptors.as_mut_ptr(), 2, 0) == 0 }
    }

    /// Has it work on an event. It comes back where it can take another one. Allocates nothing.
    pub fn exchange(
        mut self,
        event: &EventView<'_>,
        output: &mut Output<'_>,
        deadline_ns: u64,
        running: &Running,
        memory: Memory,
    ) -> (Outcome, Option<Self>) {
        self.calls += 1;
        self.filled = 0;
        self.bounded = memory.limit_bytes > 0;
        self.resident_bytes = 0;
        self.tail.clear();
        running.enter(self.group());
        let head = frame::event_head(event, self.calls, deadline_ns);
        let (topic, block) = (event.topic.as_str().as_bytes(), event.attribute_block.as_slice());
        let mut sending = Sending { parts: [&head, topic, block, event.payload.as_slice()], sent: 0 };
        let answered = self.answer(&mut sending, output, deadline_ns, running);
        // Nobody signals the group once its number may be another's.
        running.leave();
        match answered {
            Ok(outcome) => {
                self.served = self.served.saturating_add(1);
                (outcome, Some(self))
            }
            Err(broken) => (self.give_up(&broken, output, deadline_ns, running, memory), None),
        }
    }

    /// Takes the answer to the call under way.
    fn answer(
        &mut self,
        sending: &mut Sending<'_>,
        output: &mut Output<'_>,
        deadline_ns: u64,
        running: &Running,
    ) -> Result<Outcome, Broken> {
        let head = self.read_head(sending, deadline_ns, running, self.calls)?;
        while self.filled < head.explanation_bytes {
            self.read_more(sending, deadline_ns, running)?;
        }
        let said = &self.buffer[..head.explanation_bytes];
        let valid = std::str::from_utf8(said).map_or_else(|error| error.valid_up_to(), str::len);
        if valid > 0 {
            output.explain(std::str::from_utf8(&said[..valid]).unwrap_or(""));
        }
        self.consume(head.explanation_bytes);
        if head.payload_bytes > output.capacity() {
            let mut left = head.payload_bytes;
            loop {
                let here = left.min(self.filled);
                self.consume(here);
                left -= here;
                if left == 0 {
                    break;
                }
                self.read_more(sending, deadline_ns, running)?;
            }
            self.expect_the_end(sending)?;
            let _ = output.commit(output.capacity() + 1);
            return Ok(Outcome::OUTPUT_TOO_LARGE);
        }
        let here = head.payload_bytes.min(self.filled);
        output.buffer_mut()[..here].copy_from_slice(&self.buffer[..here]);
        self.consume(here);
        let mut at = here;
        while at < head.payload_bytes {
            self.wait_for_answer(sending, deadline_ns, running)?;
            at += read(&self.answers, &mut output.buffer_mut()[at..head.payload_bytes])?;
        }
        self.expect_the_end(sending)?;
        let late = deadline_ns != 0 && now_ns() > deadline_ns;
        Ok(match head.status {
            0 => {
                let _ = output.commit(head.payload_bytes);
                if late { Outcome::LATE } else { Outcome::DONE }
            }
            frame::DONE_WITHOUT_OUTPUT if late => Outcome::LATE,
            frame::DONE_WITHOUT_OUTPUT => Outcome::DONE,
            frame::CRASHED => Outcome::CRASHED,
            frame::OVER_MEMORY => Outcome::OVER_MEMORY,
            frame::BAD_OUTPUT => Outcome::BAD_OUTPUT,
            code => Outcome::failed(code.min(255) as u8),
        })
    }

    /// The head of the answer to a call; it is taken off the buffer.
    fn read_head(
        &mut self,
        sending: &mut Sending<'_>,
        until_ns: u64,
        running: &Running,
        call: u64,
    ) -> Result<AnswerHead, Broken> {
        loop {
            if let Some(head) = self.buffer[..self.filled].first_chunk() {
                let head = AnswerHead::read(head, call).map_err(Broken::Wrong)?;
                self.consume(ANSWER_HEAD_BYTES);
                return Ok(head);
            }
            self.read_more(sending, until_ns, running)?;
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    fn read_more(
        &mut self,
        sending: &mut Sending<'_>,
        until_ns: u64,
        running: &Running,
    ) -> Result<(), Broken> {
        self.wait_for_answer(sending, until_ns, running)?;
        self.filled += read(&self.answers, &mut self.buffer[self.filled..])?;
        Ok(())
    }

    fn expect_the_end(&self, sending: &Sending<'_>) -> Result<(), Broken> {
        if self.filled > 0 {
            Err(Broken::Wrong("it wrote more than its answer"))
        } else if !sending.is_done() {
            Err(Broken::Wrong("it answered an event that it had not read to its end"))
        } else {
            Ok(())
        }
    }

    /// Writes what is left of the event as there is room, until there is something to read.
    fn wait_for_answer(
        &mut self,
        sending: &mut Sending<'_>,
        until_ns: u64,
        running: &Running,
    ) -> Result<(), Broken> {
        loop {
            if !sending.is_done() {
                sending.go_on(self.requests.as_raw_fd())?;
            }
            let to_send = if sending.is_done() { -1 } else { self.requests.as_raw_fd() };
            let mut descriptors = [
                polled(self.answers.as_raw_fd(), libc::POLLIN),
                polled(self.process.handle(), libc::POLLIN),
                polled(self.errors.as_raw_fd(), libc::POLLIN),
                polled(to_send, libc::POLLOUT),
            ];
            let look = if self.bounded { now_ns() + SAMPLE_NS } else { until_ns };
            let look = if until_ns == 0 { look } else { look.min(until_ns) };
            if !wait(&mut descriptors, look) && self.bounded {
                self.resident_bytes = self.resident_bytes.max(resident_bytes(self.group()));
            }
            let [answers, process, errors, _] = descriptors.map(|entry| entry.revents);
            if answers & libc::POLLIN != 0 {
                return Ok(());
            }
            if answers != 0 {
                return Err(Broken::Closed("it closed its output"));
            }
            if process != 0 {
                return Err(Broken::Closed("it ended"));
            }
            if errors & libc::POLLIN != 0 {
                self.tail.drain(self.errors.as_raw_fd());
            } else if errors != 0 {
                // Closed by the worker. Waiting on it would wake at once from now on.
                self.errors = never().map_err(|_| Broken::Closed("it closed its standard error"))?;
            }
            if running.is_cancelled() || (until_ns != 0 && now_ns() >= until_ns) {
                return Err(Broken::Stopped);
            }
        }
    }

    /// Ends a worker whose exchange cannot go on, and says how the event's invocation ended.
    fn give_up(
        mut self,
        broken: &Broken,
        output: &mut Output<'_>,
        deadline_ns: u64,
        running: &Running,
        memory: Memory,
    ) -> Outcome {
        let half = self.filled > 0;
        let late = || deadline_ns != 0 && now_ns() >= deadline_ns;
        let what = match broken {
            Broken::Stopped if running.is_cancelled() => {
                output.explain("it was told to end early");
                return Outcome::KILLED;
            }
            Broken::Stopped => return stopped(output),
            Broken::Wrong(what) => {
                output.explain(what);
                return Outcome::BAD_OUTPUT;
            }
            Broken::Closed(what) => what,
        };
        let until = if deadline_ns == 0 { u64::MAX } else { deadline_ns };
        let by_itself = self.process.has_ended(until.min(now_ns() + END_NS));
        let ended = self.process.reap();
        self.tail.drain(self.errors.as_raw_fd());
        match ended {
            Some(ended) if by_itself && ended.signal == libc::SIGKILL && running.is_cancelled() => {
                output.explain("it was told to end early");
                Outcome::KILLED
            }
            // The kernel ends a real-time process by itself soon after its deadline.
            Some(ended) if by_itself && ended.signal == libc::SIGKILL && late() => stopped(output),
            Some(ended) if by_itself && (ended.code != Some(0)) => {
                // What it touched in its whole life says nothing of this event.
                let ended = Ended { touched_bytes: self.resident_bytes, ..ended };
                match verdict::of_bad_end(&ended, &self.tail, memory, output) {
                    outcome if outcome.0 > 0 => Outcome::CRASHED,
                    outcome => outcome,
                }
            }
            Some(_) if by_itself && half => {
                output.explain("it ended after half an answer");
                Outcome::BAD_OUTPUT
            }
            Some(_) if by_itself => {
                output.explain("it ended in the middle of an event");
                Outcome::CRASHED
            }
            _ => {
                explain(output, format_args!("{what} in the middle of an event, but goes on"));
                Outcome::BAD_OUTPUT
            }
        }
    }

    /// Lets it end by itself: its input ends. It is killed where it is still there at that time.
    pub fn end(self, until_ns: u64) {
        // A socket is also held by who reads its answers.
        // SAFETY: no pointers; a pipe refuses it, and is closed below.
        unsafe { libc::shutdown(self.requests.as_raw_fd(), libc::SHUT_WR) };
        drop(self.requests);
        self.process.has_ended(until_ns);
    }
}

impl Sending<'_> {
    fn is_done(&self) -> bool {
        self.sent == self.parts.iter().map(|part| part.len()).sum()
    }

    /// Writes as much as there is room for.
    fn go_on(&mut self, descriptor: RawFd) -> Result<(), Broken> {
        let mut skip = self.sent;
        let rest = self.parts.map(|part| {
            let from = skip.min(part.len());
            skip -= from;
            let part = &part[from..];
            libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
        });
        // SAFETY: the parts are live; writev(2) only reads them.
        let written = unsafe { libc::writev(descriptor, rest.as_ptr(), rest.len() as i32) };
        if written >= 0 {
            self.sent += written as usize;
            return Ok(());
        }
        match io::Error::last_os_error().kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
            _ => Err(Broken::Closed("it closed its input")),
        }
    }
}

/// Reads once; 0 where there is nothing yet.
fn read(answers: &OwnedFd, room: &mut [u8]) -> Result<usize, Broken> {
    // SAFETY: the room is live and of that length.
    let read = unsafe { libc::read(answers.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
    match read {
        0 => Err(Broken::Closed("it closed its output")),
        1.. => Ok(read as usize),
        _ => Ok(0),
    }
}

/// The same descriptor under a number that a worker does not get frames as.
///
/// # Errors
/// What the system refuses (EMFILE).
pub fn raised(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let raised = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST) };
    if raised < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raised) })
}

/// A descriptor on which nothing ever happens.
fn never() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
