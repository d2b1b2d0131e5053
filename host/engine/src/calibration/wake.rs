//! How long a thread takes from being woken to running: another one, scheduled likewise, writes to an eventfd that it
//! waits for, as whoever hands a lane an event does: from each CPU in turn, for one that sleeps is woken from another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{Bench, Samples};
use crate::system::clock::monotonic_ns;
use crate::system::scheduling::{self, ThreadId};

/// How long a wake-up is waited for; then it is counted as that.
const LIMIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// An event in each of these would have been woken for (ns): about as often as is measured.
const INTERVAL_NS: u64 = 2 * super::PAUSE.as_nanos() as u64;
/// How long the waker waits for its turn before it looks whether there is still one to come.
const TURN: Duration = Duration::from_millis(100);

struct Shared {
    bell: OwnedFd,
    rung_ns: AtomicU64,
    asked: AtomicBool,
    gone: AtomicBool,
}

/// The bench.
pub struct Wake {
    shared: Arc<Shared>,
    waker: Option<JoinHandle<()>>,
}

impl Wake {
    /// Starts the waker, an ordinary thread as most senders are.
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rung_ns: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let other = Arc::clone(&shared);
        let body = move || {
            let cpus = scheduling::allowed_cpus(ThreadId::current());
            let mut turn = cpus.iter().cycle();
            while !other.gone.load(Ordering::Acquire) {
                if !other.asked.swap(false, Ordering::AcqRel) {
                    std::thread::park_timeout(TURN);
                    continue;
                }
                if let Some(cpu) = turn.next() {
                    let _ = scheduling::pin(ThreadId::current(), &[*cpu]);
                }
                // Until the other one is surely asleep.
                std::thread::sleep(super::PAUSE);
                other.rung_ns.store(monotonic_ns(), Ordering::Release);
                let _ = rustix::io::write(&other.bell, &1_u64.to_ne_bytes());
            }
        };
        let waker = std::thread::Builder::new().name("calibration-waker".into()).spawn(body)?;
        Ok(Wake { shared, waker: Some(waker) })
    }
}

impl Bench for Wake {
    fn burst(&mut self, samples: &mut Samples) {
        self.shared.asked.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker.thread().unpark();
        }
        let mut fds = [PollFd::new(&self.shared.bell, PollFlags::IN)];
        let rung = poll(&mut fds, Some(&LIMIT)).is_ok_and(|ready| ready > 0);
        let now = monotonic_ns();
        if rung {
            let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
            let waited = now.saturating_sub(self.shared.rung_ns.load(Ordering::Acquire));
            samples.add_wait("wake", waited, INTERVAL_NS);
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        if let Some(waker) = self.waker.take() {
            waker.thread().unpark();
            let _ = waker.join();
        }
    }
}
