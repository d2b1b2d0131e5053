//! A flow of numbered events from a socket through the node to another socket: shows whether one was lost,
//! doubled or overtaken.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait::{LIVENESS, eventually};

/// What the two ends share.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    stop: AtomicBool,
}

/// The flow: one thread sends an event every so often, one receives and keeps the numbers.
#[derive(Debug)]
pub struct Numbered {
    counts: Arc<Counts>,
    producer: Option<JoinHandle<()>>,
    consumer: Option<JoinHandle<Vec<u64>>>,
}

/// A socket for what comes out of the node: bound before the node sends.
///
/// # Panics
/// When it cannot be bound.
pub fn outlet(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket in the test's own folder");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    socket
}

impl Numbered {
    /// Starts one: into the socket at `inlet`, out at a socket made by [`outlet`].
    pub fn start(inlet: PathBuf, outlet: UnixDatagram, every: Duration) -> Numbered {
        let counts = Arc::new(Counts::default());
        let of_consumer = Arc::clone(&counts);
        let consumer = std::thread::spawn(move || receive(&outlet, &of_consumer));
        let of_producer = Arc::clone(&counts);
        let producer = std::thread::spawn(move || send(&inlet, every, &of_producer));
        Numbered { counts, producer: Some(producer), consumer: Some(consumer) }
    }

    /// How many were sent so far.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Acquire)
    }

    /// How many came out so far.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Acquire)
    }

    /// Waits until so many more have come out.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_for_more(&self, events: u64) {
        let goal = self.received() + events;
        eventually("the flow to go on", || (self.received() >= goal).then_some(()));
    }

    /// Ends the producer, waits for what is under way, and gives back the numbers in the order in which they
    /// came out, and how many were sent. What has not come after a while of silence never will.
    ///
    /// # Panics
    /// When one of the two ends has.
    pub fn end(mut self) -> (Vec<u64>, u64) {
        if let Some(producer) = self.producer.take() {
            self.counts.stop.store(true, Ordering::Release);
            producer.join().expect("the producer ends");
        }
        let numbers = self.consumer.take().map(|consumer| consumer.join().expect("the consumer ends"));
        (numbers.unwrap_or_default(), self.sent())
    }

    /// As [`end`](Self::end), for a flow that must be whole.
    ///
    /// # Panics
    /// When an event was lost, doubled or overtaken.
    pub fn end_whole(self) -> u64 {
        let (numbers, sent) = self.end();
        for (at, number) in numbers.iter().enumerate() {
            let at = at as u64;
            assert!(*number == at, "event {at} of {sent} was lost or overtaken: {number} came in its place");
        }
        assert_eq!(numbers.len() as u64, sent, "the last events did not come out");
        sent
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Release);
    }
}

fn send(inlet: &Path, every: Duration, counts: &Counts) {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.set_write_timeout(Some(Duration::from_millis(50))).expect("a limit");
    let mut number = 0u64;
    while !counts.stop.load(Ordering::Acquire) {
        match socket.send_to(&number.to_le_bytes(), inlet) {
            Ok(_) => {
                number += 1;
                counts.sent.store(number, Ordering::Release);
                std::thread::sleep(every);
            }
            // The node's socket is full, or not there at the moment: the event is sent again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn receive(outlet: &UnixDatagram, counts: &Counts) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut buffer = [0; 64];
    let mut silent_since = Instant::now();
    loop {
        if let Ok(len) = outlet.recv(&mut buffer) {
            let number = buffer[..len].try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
            numbers.push(number);
            counts.received.store(numbers.len() as u64, Ordering::Release);
            silent_since = Instant::now();
        } else if counts.stop.load(Ordering::Acquire) {
            let whole = numbers.len() as u64 >= counts.sent.load(Ordering::Acquire);
            let silent = silent_since.elapsed();
            if silent > LIVENESS / 6 || whole && silent > Duration::from_millis(100) {
                return numbers;
            }
        }
    }
}
