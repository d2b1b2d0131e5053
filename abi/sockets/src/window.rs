//! Events that were sent and not yet acknowledged: a bounded row, in the order in which they left.
//!
//! The receiver of a stream sends back one byte for each frame, in their order: [`ACK`] or [`NAK`]. Any other
//! byte, or one for which nothing is under way, is not the protocol. Where time enters, it is handed in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use tempos_abi::adapter::Receipt;

/// The receiver has taken the frame.
pub const ACK: u8 = 6;
/// The receiver has refused the frame.
pub const NAK: u8 = 21;
/// The most events under way at once.
pub const WINDOW_MAX: usize = 1024;

/// What the host knows of an event under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was told that the event was taken.
    Taken,
    /// It has not asked again since the last byte left.
    Open,
    /// It gave the event up meanwhile: no receipt is wanted.
    GivenUp,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    event_id: u64,
    known: Known,
    since: Instant,
}

/// What came of looking for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Answers: [`Window::receipts`] has something to say.
    Some,
    /// None are here.
    Nothing,
    /// The connection has ended.
    Ended,
    /// More at once than can ever be under way.
    Malformed,
}

/// The row.
#[derive(Debug)]
pub struct Window {
    row: VecDeque<UnderWay>,
    most: usize,
    timeout: Duration,
    /// Their connection has ended: nothing new is taken before the host has heard of all.
    lost: bool,
    /// Answers that were read and not looked at.
    heard: Box<[u8]>,
    at: usize,
    end: usize,
    /// The answer for the event that the host has not asked for again.
    early: Option<i32>,
    /// A receipt that waited for the host to ask.
    late: Option<Receipt>,
}

impl Window {
    /// For up to `most` events, each to be acknowledged within `timeout`. All memory is reserved here.
    pub fn new(most: usize, timeout: Duration) -> Self {
        let most = most.clamp(1, WINDOW_MAX);
        Window {
            row: VecDeque::with_capacity(most),
            most,
            timeout,
            lost: false,
            heard: vec![0; WINDOW_MAX + 1].into_boxed_slice(),
            at: 0,
            end: 0,
            early: None,
            late: None,
        }
    }

    /// How many more events may be sent now.
    pub fn room(&self) -> usize {
        if self.lost || self.late.is_some() { 0 } else { self.most - self.row.len() }
    }

    /// The last byte of an event has left, and the host knows it as taken.
    pub fn sent(&mut self, event_id: u64, now: Instant) {
        self.push(UnderWay { event_id, known: Known::Taken, since: now });
    }

    /// The last byte of an event has left, and the host will hear of it when it asks again
    /// ([`Window::told`]). There is one such event at most.
    pub fn sent_untold(&mut self, event_id: u64, now: Instant) {
        self.early = None;
        self.push(UnderWay { event_id, known: Known::Open, since: now });
    }

    /// The host asked for the open event again, or came with another one and has given it up.
    pub fn told(&mut self, event_id: u64, again: bool) {
        if let Some(open) = self.row.iter_mut().rev().find(|one| one.known == Known::Open) {
            open.known = if again { Known::Taken } else { Known::GivenUp };
        } else if let Some(verdict) = self.early.take()
            && again
        {
            self.late = Some(Receipt { event_id, verdict, reserved: 0 });
        }
    }

    /// The connection has ended: what is under way will not be acknowledged any more. Answers that came before
    /// the end still count.
    pub fn lose(&mut self) {
        self.row.iter_mut().filter(|one| one.known == Known::Open).for_each(|one| {
            one.known = Known::GivenUp;
        });
        self.early = None;
        self.lost = !self.row.is_empty();
        if !self.lost {
            (self.at, self.end) = (0, 0);
        }
    }

    /// Drops what was heard and not looked at: it makes no sense.
    pub fn forget_heard(&mut self) {
        (self.at, self.end) = (0, 0);
    }

    /// Whether [`Window::receipts`] has something to say without reading any more.
    pub fn owes(&self) -> bool {
        self.late.is_some() || self.lost || self.at < self.end
    }

    /// When the oldest one is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        if self.lost { None } else { self.row.front().map(|oldest| oldest.since + self.timeout) }
    }

    /// How long each event may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads answers off a connection, without waiting, where none are left of the last time.
    pub fn hear(&mut self, socket: BorrowedFd<'_>) -> Heard {
        if self.at < self.end {
            return Heard::Some;
        }
        let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: the bytes are live and of the length given.
        let read = unsafe { libc::recv(fd, self.heard.as_mut_ptr().cast(), self.heard.len(), flags) };
        match usize::try_from(read) {
            Ok(0) => Heard::Ended,
            // One packet, or what a stream has: never more than one answer for each event under way.
            Ok(bytes) if bytes > self.row.len() => Heard::Malformed,
            Ok(bytes) => {
                (self.at, self.end) = (0, bytes);
                Heard::Some
            }
            Err(_) => match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
                _ => Heard::Ended,
            },
        }
    }

    /// Fills in what is known; how many, and whether an answer was no answer: the connection is then to be
    /// closed.
    pub fn receipts(&mut self, receipts: &mut [Receipt]) -> (usize, bool) {
        let mut filled = 0;
        if let Some(place) = receipts.first_mut()
            && let Some(late) = self.late.take()
        {
            *place = late;
            filled = 1;
        }
        while filled < receipts.len() {
            let verdict = match self.heard.get(self.at..self.end).and_then(<[u8]>::first) {
                Some(&ACK) => Receipt::DELIVERED,
                Some(&NAK) => Receipt::LOST,
                Some(_) => return (filled, true),
                None if self.lost => Receipt::LOST,
                None => break,
            };
            let answered = self.at < self.end;
            let Some(one) = self.row.pop_front() else {
                self.lost = false;
                if answered {
                    return (filled, true);
                }
                break;
            };
            self.at += usize::from(answered);
            match one.known {
                Known::Taken => {
                    receipts[filled] = Receipt { event_id: one.event_id, verdict, reserved: 0 };
                    filled += 1;
                }
                Known::Open => self.early = Some(verdict),
                Known::GivenUp => {}
            }
        }
        self.lost &= !self.row.is_empty();
        (filled, false)
    }

    fn push(&mut self, one: UnderWay) {
        debug_assert!(self.row.len() < self.most, "the caller asks for room first");
        if self.row.len() < self.most {
            self.row.push_back(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(ids: std::ops::Range<u64>) -> Window {
        let mut window = Window::new(8, Duration::from_secs(1));
        ids.for_each(|id| window.sent(id, Instant::now()));
        window
    }

    fn hears(window: &mut Window, bytes: &[u8]) {
        window.heard[..bytes.len()].copy_from_slice(bytes);
        (window.at, window.end) = (0, bytes.len());
    }

    fn said(window: &mut Window, most: usize) -> (Vec<(u64, i32)>, bool) {
        let mut receipts = vec![Receipt::empty(); most];
        let (count, malformed) = window.receipts(&mut receipts);
        (receipts[..count].iter().map(|receipt| (receipt.event_id, receipt.verdict)).collect(), malformed)
    }

    const DELIVERED: i32 = Receipt::DELIVERED;
    const LOST: i32 = Receipt::LOST;

    #[test]
    fn answers_are_told_in_order_also_where_the_host_asks_for_few() {
        let mut window = window(1..5);
        assert_eq!(window.room(), 4);
        hears(&mut window, &[ACK, NAK, ACK]);
        assert_eq!(said(&mut window, 2), (vec![(1, DELIVERED), (2, LOST)], false));
        assert!(window.owes());
        assert_eq!(said(&mut window, 2), (vec![(3, DELIVERED)], false));
        assert_eq!((window.owes(), window.room()), (false, 7));
    }

    #[test]
    fn at_the_end_of_a_connection_all_are_lost_after_what_was_answered() {
        let mut window = window(1..5);
        hears(&mut window, &[ACK]);
        window.lose();
        assert_eq!(window.room(), 0, "nothing new before all are told");
        assert_eq!(said(&mut window, 3), (vec![(1, DELIVERED), (2, LOST), (3, LOST)], false));
        assert!(window.owes());
        assert_eq!(said(&mut window, 3), (vec![(4, LOST)], false));
        assert_eq!((window.owes(), window.room()), (false, 8));
    }

    #[test]
    fn what_is_no_answer_is_said_so() {
        let mut with_text = window(1..5);
        hears(&mut with_text, &[ACK, b'x']);
        assert_eq!(said(&mut with_text, 8), (vec![(1, DELIVERED)], true));
        let mut with_more = window(1..2);
        hears(&mut with_more, &[ACK, ACK]);
        assert_eq!(said(&mut with_more, 8), (vec![(1, DELIVERED)], true));
    }

    #[test]
    fn an_answer_may_be_there_before_the_host_knows_that_the_event_left() {
        for again in [true, false] {
            let mut window = window(0..0);
            window.sent_untold(7, Instant::now());
            hears(&mut window, &[ACK]);
            assert_eq!(said(&mut window, 8), (Vec::new(), false));
            window.told(7, again);
            let expected = if again { vec![(7, DELIVERED)] } else { Vec::new() };
            assert_eq!((window.owes(), said(&mut window, 8)), (again, (expected, false)));
        }
        let mut given_up = window(0..0);
        given_up.sent_untold(7, Instant::now());
        given_up.told(7, false);
        given_up.sent(8, Instant::now());
        hears(&mut given_up, &[ACK, ACK]);
        assert_eq!(said(&mut given_up, 8), (vec![(8, DELIVERED)], false));
    }

    #[test]
    fn garbage_is_never_taken_for_more_answers_than_events() {
        let mut state = 7u64;
        for _ in 0..100_000u32 {
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let count = draw(9);
            let mut window = window(0..count);
            let bytes: Vec<u8> =
                (0..draw(12)).map(|_| [ACK, NAK, draw(256) as u8][draw(3) as usize]).collect();
            let answers = bytes.iter().take_while(|byte| matches!(**byte, ACK | NAK)).count();
            hears(&mut window, &bytes);
            let (told, malformed) = said(&mut window, 16);
            assert_eq!(told.len(), answers.min(count as usize));
            assert_eq!(malformed, answers < bytes.len() || answers > count as usize);
        }
    }
}
