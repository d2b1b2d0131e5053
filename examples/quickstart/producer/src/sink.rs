//! Counting what comes out of a node: which events, in which order, how long they were under way.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::clock::{ask_for_fifo, now_ns};
use crate::latency::{Latencies, show_ns};
use crate::options::{NAME_BYTES_MAX, Sink};
use crate::sequence::Account;
use crate::socket::Socket;

/// The most producers that are told apart; events of others are counted as foreign.
const PRODUCERS_MAX: usize = 64;
/// No producer lives long enough to send so many: a number that is higher is noise.
const SEQUENCE_MAX: u64 = 1 << 62;
/// The largest datagram.
const BUFFER_BYTES: usize = 64 << 10;
/// How often the clock is looked at while nothing comes.
const LOOK_MS: libc::c_int = 100;

/// What came.
#[derive(Debug, Default)]
pub struct Counts {
    producers: BTreeMap<String, (Account, Latencies)>,
    /// Datagrams that are no events of a producer of this program.
    foreign: u64,
}

/// Counts until the time is up or a signal comes.
///
/// # Errors
/// The place cannot be listened on.
pub fn run(order: &Sink) -> Result<Counts, String> {
    let signals = Signals::block()?;
    let socket = Socket::on(&order.listen)?;
    order.fifo.map(ask_for_fifo);
    let end_ns = order.limit.map(|limit| now_ns() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX / 2));
    let mut counts = Counts::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if !signals.wait_with(&socket) || end_ns.is_some_and(|end| now_ns() >= end) {
            // What is there already is still counted: a sink is ended after its producers.
            counts.take_all(&socket, &mut buffer, u64::MAX)?;
            return Ok(counts);
        }
        // Bounded, so that signals and the clock get their turn in a flood.
        counts.take_all(&socket, &mut buffer, 1024)?;
    }
}

impl Counts {
    fn take_all(&mut self, socket: &Socket, buffer: &mut [u8], most: u64) -> Result<(), String> {
        for _ in 0..most {
            match socket.take(buffer) {
                Ok(len) => self.book(&buffer[..len], now_ns()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("nothing can be received: {error}")),
            }
        }
        Ok(())
    }

    fn book(&mut self, event: &[u8], now_ns: u64) {
        let Some((producer, sequence, sent_ns)) = fields(event) else {
            self.foreign += 1;
            return;
        };
        if !self.producers.contains_key(producer) {
            if self.producers.len() >= PRODUCERS_MAX {
                self.foreign += 1;
                return;
            }
            self.producers.insert(producer.to_owned(), Default::default());
        }
        if let Some((account, latencies)) = self.producers.get_mut(producer) {
            account.book(sequence);
            latencies.add(now_ns.saturating_sub(sent_ns));
        }
    }

    /// The report, one line for each producer.
    pub fn render(&self, json: bool) -> String {
        let mut text = String::new();
        for (name, (account, latencies)) in &self.producers {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| latencies.quantile(share));
            let (received, lost) = (account.received, account.lost());
            let (mean, max) = (latencies.mean_ns(), latencies.max_ns());
            let (duplicated, reordered) = (account.duplicated, account.reordered);
            text += &if json {
                format!(
                    "{{\"producer\":\"{name}\",\"received\":{received},\"lost\":{lost},\
                     \"duplicated\":{duplicated},\"reordered\":{reordered},\
                     \"latency_ns\":{{\"mean\":{mean},\"p50\":{p50},\"p99\":{p99},\"p99.9\":{p999},\"max\":{max}}}}}\n"
                )
            } else {
                let [mean, p50, p99, p999, max] = [mean, p50, p99, p999, max].map(show_ns);
                format!(
                    "{name}: received {received}, lost {lost}, duplicated {duplicated}, reordered {reordered}; \
                     end to end mean {mean}, p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}\n"
                )
            };
        }
        match (json, self.foreign) {
            (_, 0) => {}
            (true, foreign) => text += &format!("{{\"foreign\":{foreign}}}\n"),
            (false, foreign) => text += &format!("{foreign} datagrams were no events of a producer\n"),
        }
        if text.is_empty() && !json {
            text.push_str("nothing came\n");
        }
        text
    }
}

/// Producer, sequence number and time of an event: words of its line, in any order, among any others. A
/// function on the way may add to the line or leave counters out.
fn fields(event: &[u8]) -> Option<(&str, u64, u64)> {
    let text = std::str::from_utf8(event).ok()?;
    let (mut producer, mut sequence, mut sent_ns) = (None, None, None);
    for word in text.split_ascii_whitespace() {
        match word.split_once('=') {
            Some(("producer", name)) => producer = Some(name),
            Some(("seq", number)) => sequence = number.parse().ok(),
            Some(("t_ns", number)) => sent_ns = number.parse().ok(),
            _ => continue,
        }
        if producer.is_some() && sequence.is_some() && sent_ns.is_some() {
            break;
        }
    }
    let plain = |name: &&str| {
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    Some((producer.filter(plain)?, sequence.filter(|number| *number < SEQUENCE_MAX)?, sent_ns?))
}

/// SIGTERM and SIGINT as something to poll.
struct Signals(libc::c_int);

impl Signals {
    fn block() -> Result<Signals, String> {
        // SAFETY: sigset_t is plain data that sigemptyset fills; the calls get pointers to it that live
        // across them. The process has one thread, so its mask is the process's.
        let descriptor = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)
        };
        match descriptor {
            0.. => Ok(Signals(descriptor)),
            _ => Err(format!("signals cannot be heard: {}", std::io::Error::last_os_error())),
        }
    }

    /// Waits for an event or for a while; `false`: a signal came.
    fn wait_with(&self, socket: &Socket) -> bool {
        let mut polled =
            [self.0, socket.descriptor()].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // SAFETY: the pointer and count are those of an array that lives across the call.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, LOOK_MS) };
        polled[0].revents == 0
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used afterwards.
        unsafe { libc::close(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_among_the_words_of_a_function() {
        assert_eq!(fields(b"mean=3 seq=7 producer=vitals t_ns=99 cpu_user=1"), Some(("vitals", 7, 99)));
        for foreign in [
            &b""[..],
            b"seq=7 t_ns=99",
            b"producer=a seq=18446744073709551615 t_ns=1",
            b"producer=a seq=x t_ns=1",
            b"\xff",
            b"producer=\" seq=1 t_ns=1",
        ] {
            assert_eq!(fields(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn the_report_tells_what_came() {
        let mut counts = Counts::default();
        for sequence in [0, 1, 3] {
            counts.book(format!("producer=vitals seq={sequence} t_ns=1000").as_bytes(), 3_000);
        }
        counts.book(b"noise", 0);
        assert_eq!(
            counts.render(false),
            "vitals: received 3, lost 1, duplicated 0, reordered 0; end to end mean 2.0 µs, p50 2.0 µs, p99 2.0 \
             µs, p99.9 2.0 µs, max 2.0 µs\n1 datagrams were no events of a producer\n"
        );
        assert!(counts.render(true).starts_with("{\"producer\":\"vitals\",\"received\":3,\"lost\":1,"));
    }
}
