//! Sending: at a rate by absolute times, or as fast as the socket takes it.

use std::io::ErrorKind;

use crate::clock::{ask_for_fifo, now_ns, sleep_until, until_phase_ns};
use crate::latency::show_ns;
use crate::options::Produce;
use crate::socket::Socket;
use crate::vitals::Vitals;

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    name: String,
    events: u64,
    /// Events that the socket refused because nobody listened or its buffers were full.
    refused: u64,
    elapsed_ns: u64,
    /// How far behind its schedule an event was at worst.
    behind_ns: u64,
    fifo: Option<bool>,
}

/// Sends until the time or the count is reached.
///
/// # Errors
/// The place cannot be reached at all.
pub fn run(order: &Produce) -> Result<Sent, String> {
    let socket = Socket::to(&order.to)?;
    let mut vitals = Vitals::open();
    let mut line = String::with_capacity(512);
    let mut sent = Sent { name: order.name.clone(), fifo: order.fifo.map(ask_for_fifo), ..Sent::default() };
    let period_ns = order.rate.map(|rate| 1e9 / f64::from(rate));
    let start_ns = now_ns() + order.phase_ns.map_or(0, until_phase_ns);
    let end_ns = start_ns.saturating_add(u64::try_from(order.limit.as_nanos()).unwrap_or(u64::MAX));
    for sequence in 0..order.count {
        if let Some(period_ns) = period_ns {
            let due_ns = start_ns + (sequence as f64 * period_ns) as u64;
            if due_ns >= end_ns {
                break;
            }
            sleep_until(due_ns);
            sent.behind_ns = sent.behind_ns.max(now_ns().saturating_sub(due_ns));
        }
        let counters_ns = now_ns();
        if period_ns.is_none() && counters_ns >= end_ns {
            break;
        }
        let counters = vitals.at(counters_ns);
        // Stamped after the counters are read: the time is that of the sending.
        counters.render(&mut line, &order.name, sequence, now_ns());
        match socket.send(line.as_bytes()) {
            Ok(()) => {}
            Err(error) => match error.kind() {
                // Nobody listens yet or any more, or the interface's queue is full: the event is lost and
                // counted; the next one may find the way.
                ErrorKind::ConnectionRefused | ErrorKind::WouldBlock | ErrorKind::NotFound => {
                    sent.refused += 1;
                }
                _ if error.raw_os_error() == Some(libc::ENOBUFS) => sent.refused += 1,
                _ => return Err(format!("event {sequence} cannot be sent to {}: {error}", order.to)),
            },
        }
        sent.events += 1;
    }
    sent.elapsed_ns = now_ns() - start_ns;
    Ok(sent)
}

impl Sent {
    /// The report, one line.
    pub fn render(&self, json: bool) -> String {
        let Sent { name, events, refused, elapsed_ns, behind_ns, fifo } = self;
        let rate = *events as f64 * 1e9 / (*elapsed_ns).max(1) as f64;
        if json {
            return format!(
                "{{\"producer\":\"{name}\",\"sent\":{events},\"refused\":{refused},\"elapsed_ns\":{elapsed_ns},\
                 \"behind_ns\":{behind_ns},\"fifo\":{}}}\n",
                fifo.is_some_and(|granted| granted)
            );
        }
        format!(
            "{name}: sent {events} events in {} ({rate:.0}/s), {refused} refused by the socket, at most {} \
             behind schedule{}\n",
            show_ns(*elapsed_ns),
            show_ns(*behind_ns),
            if *fifo == Some(false) { ", without the real-time priority asked for" } else { "" }
        )
    }
}
