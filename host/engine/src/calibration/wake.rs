//! How long a thread takes from being woken to running: another one, scheduled likewise, writes to an eventfd that it
//! waits for, as whoever hands a lane an event does: from each CPU in turn, for one that sleeps is woken from another.
//!
//! And how long several wake-ups in a row take, to and fro between two threads as between a queue worker and a function
//! worker: what keeps a CPU from one of them may keep it from the next as well, or not, so their sum is measured and not
//! reckoned.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tempos_control::Scheduler;

use super::{Bench, Samples};
use crate::system::clock::monotonic_ns;
use crate::system::scheduling::{self, ThreadId};

/// How long a wake-up is waited for; then it is counted as that.
const LIMIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// An event in each of these would have been woken for (ns): about as often as is measured.
const INTERVAL_NS: u64 = 2 * super::PAUSE.as_nanos() as u64;
/// How long the waker waits for its turn before it looks whether there is still one to come.
const TURN: Duration = Duration::from_millis(100);
/// The same of the one that is woken in between.
const TURN_OF_PARTNER: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Rows of so many wake-ups, by their names; the first is the one that everything has.
const ROWS: [&str; 3] = ["wake", "wake-3", "wake-5"];

struct Shared {
    bell: OwnedFd,
    /// The partner's, and by which it answers.
    there: OwnedFd,
    back: OwnedFd,
    rung_ns: AtomicU64,
    asked: AtomicBool,
    gone: AtomicBool,
}

/// The bench.
pub struct Wake {
    shared: Arc<Shared>,
    waker: Option<JoinHandle<()>>,
    partner: Option<JoinHandle<()>>,
    orders: [SyncSender<Scheduler>; 2],
}

impl Wake {
    /// Starts the waker and the partner.
    pub fn new() -> io::Result<Self> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            bell: bell()?,
            there: bell()?,
            back: bell()?,
            rung_ns: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let (orders, ordered) = sync_channel::<Scheduler>(4);
        let (orders_of_partner, ordered_of_partner) = sync_channel::<Scheduler>(4);
        let other = Arc::clone(&shared);
        let body = move || {
            let cpus = scheduling::allowed_cpus(ThreadId::current());
            let mut turn = cpus.iter().cycle();
            while !other.gone.load(Ordering::Acquire) {
                if !other.asked.swap(false, Ordering::AcqRel) {
                    std::thread::park_timeout(TURN);
                    continue;
                }
                follow(&ordered);
                if let Some(cpu) = turn.next() {
                    let _ = scheduling::pin(ThreadId::current(), &[*cpu]);
                }
                // Until the other one is surely asleep.
                std::thread::sleep(super::PAUSE);
                other.rung_ns.store(monotonic_ns(), Ordering::Release);
                ring(&other.bell);
            }
        };
        let waker = std::thread::Builder::new().name("calibration-waker".into()).spawn(body)?;
        // Dropped where the partner cannot be started: then the waker ends.
        let mut wake =
            Wake { shared, waker: Some(waker), partner: None, orders: [orders, orders_of_partner] };
        let other = Arc::clone(&wake.shared);
        let body = move || {
            while !other.gone.load(Ordering::Acquire) {
                follow(&ordered_of_partner);
                if heard(&other.there, &TURN_OF_PARTNER) {
                    ring(&other.back);
                }
            }
        };
        wake.partner = Some(std::thread::Builder::new().name("calibration-partner".into()).spawn(body)?);
        Ok(wake)
    }
}

/// Runs as was said last.
fn follow(ordered: &Receiver<Scheduler>) {
    for scheduler in ordered.try_iter() {
        let _ = scheduling::apply(ThreadId::current(), &scheduler);
    }
}

fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Waits for a bell.
fn heard(bell: &OwnedFd, limit: &Timespec) -> bool {
    let mut fds = [PollFd::new(bell, PollFlags::IN)];
    let rung = poll(&mut fds, Some(limit)).is_ok_and(|ready| ready > 0);
    rung && rustix::io::read(bell, &mut [0; 8]).is_ok()
}

impl Bench for Wake {
    fn begin(&mut self, scheduler: &Scheduler) {
        let [waker, partner] = &self.orders;
        let _ = waker.try_send(scheduler.clone());
        // As a lane's function workers.
        let _ = partner.try_send(scheduling::for_functions(scheduler, None));
        // It hears of it before the first sample.
        std::thread::sleep(TURN);
    }

    fn burst(&mut self, samples: &mut Samples) {
        // What was late for the last row is none of this one.
        let _ = rustix::io::read(&self.shared.back, &mut [0; 8]);
        self.shared.asked.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker.thread().unpark();
        }
        for (at, row) in ROWS.into_iter().enumerate() {
            if at > 0 {
                ring(&self.shared.there);
            }
            if !heard(if at == 0 { &self.shared.bell } else { &self.shared.back }, &LIMIT) {
                return;
            }
            let waited = monotonic_ns().saturating_sub(self.shared.rung_ns.load(Ordering::Acquire));
            samples.add_wait(row, waited, INTERVAL_NS);
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        ring(&self.shared.there);
        if let Some(waker) = self.waker.take() {
            waker.thread().unpark();
            let _ = waker.join();
        }
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}
