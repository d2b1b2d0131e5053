//! The thread that keeps one interface: it hears links, disciplines and the clock, and looks at the gates and asks ptp4l
//! ten times a second. The kernel tells a program of its own changes too; they change nothing, and so nothing follows.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempos_qdisc::{Change, Link, LinkMonitor};

use crate::bell::Bell;
use crate::clock::ClockWatch;
use crate::ear::{Call, Ear};
use crate::owner::Owner;
use crate::repair::{Found, Standing};
use crate::urgent::Urgent;
use crate::watchdog::Watchdog;

/// What was refused is tried again so often.
const RETRY: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);
/// After so many repairs within [`BUSY`] somebody else wants other gates, and there is one each [`PACE`] at most.
const REPAIRS_MAX: u32 = 10;
const BUSY: Duration = Duration::from_secs(10);
/// Long enough for the watchdog to see whether the gates work as they were left.
const PACE: Duration = Duration::from_secs(2);

/// The keeper of one interface, seen from outside.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    standing: Mutex<Standing>,
    ends: AtomicBool,
    call: Arc<Call>,
}

impl Keeper {
    /// Starts keeping.
    ///
    /// # Errors
    /// What the system says (EMFILE, EAGAIN).
    pub fn start(standing: Standing) -> io::Result<Self> {
        let call = Arc::new(Call { bell: Bell::new()?, thread: AtomicI32::new(0) });
        let Link { index, name, .. } = &standing.link;
        let ear = Ear::start(*index, name, Arc::clone(&standing.changing), Arc::clone(&call))?;
        // Here, not in the thread: what happens from now on is heard.
        let (monitor, clock) = (LinkMonitor::new()?, ClockWatch::new()?);
        let name = format!("gates-{}", standing.link.name);
        let shared = Arc::new(Shared { standing: Mutex::new(standing), ends: AtomicBool::new(false), call });
        let eyes = Eyes {
            shared: Arc::clone(&shared),
            ear,
            monitor,
            clock,
            dog: None,
            barked: None,
            changed: false,
            repairs: 0,
            since: Instant::now(),
            repaired: Instant::now(),
            retry_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || eyes.keep())?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// What stands there.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.shared.standing)
    }

    /// Ends, and puts back what stood before.
    pub fn end(mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.call.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in it has said what it had to say.
            let _ = thread.join();
        }
        self.standing().put_back();
    }
}

fn lock(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Eyes {
    shared: Arc<Shared>,
    ear: Ear,
    monitor: LinkMonitor,
    clock: ClockWatch,
    dog: Option<(Watchdog, crate::ladder::Shape)>,
    /// When gates were silent and were set again.
    barked: Option<Instant>,
    /// Disciplines changed and have not been looked at.
    changed: bool,
    repairs: u32,
    since: Instant,
    repaired: Instant,
    retry_at: Instant,
}

impl Eyes {
    fn keep(mut self) {
        // SAFETY: gettid(2) cannot fail.
        self.shared.call.thread.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        let mut look = Instant::now();
        while !self.shared.ends.load(Ordering::Relaxed) {
            self.wait(look.saturating_duration_since(Instant::now()));
            if self.shared.ends.load(Ordering::Relaxed) {
                return;
            }
            if let Some(step) = self.clock.stepped() {
                lock(&self.shared.standing).clock_stepped(step);
                self.forgive();
            }
            self.hear();
            let now = Instant::now();
            if now >= look {
                look = now + TICK;
                self.look(now);
            }
        }
    }

    fn wait(&self, time: Duration) {
        let of = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut all =
            [of(self.shared.call.bell.as_raw_fd()), of(self.monitor.as_raw_fd()), of(self.clock.as_raw_fd())];
        let wait = time.as_millis().min(1_000) as libc::c_int + 1;
        // SAFETY: the array is live for the call and of the length given.
        unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, wait) };
        self.shared.call.bell.silence();
    }

    /// What the kernel has told.
    fn hear(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut standing = lock(&shared.standing);
        if self.ear.has_heard() {
            standing.hold();
            self.ear.taken_over();
        }
        let index = standing.link.index;
        // What is left is heard the next time.
        for _ in 0..1024 {
            match self.monitor.next_change() {
                Ok(Some(Change::Link(link))) if link.index == index => standing.link_changed(link),
                Ok(Some(Change::Qdisc { index: at, .. } | Change::QdiscGone { index: at, .. })) => {
                    self.changed |= at == index;
                }
                Ok(Some(Change::Lost)) => {
                    self.changed = true;
                    // A link that went and came back may be among what was lost.
                    let mut now = standing.link.clone();
                    if now.refresh().is_ok() {
                        let gone = tempos_qdisc::Link { carrier: false, ..now.clone() };
                        standing.link_changed(gone);
                        standing.link_changed(now);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    // Deaf: a new one, and what stands there is looked at.
                    if let Ok(monitor) = LinkMonitor::new() {
                        self.monitor = monitor;
                    }
                    self.changed = true;
                    break;
                }
            }
        }
        self.judge(&mut standing);
        drop(standing);
        Urgent::give_back();
        if self.ear.has_heard() {
            // What was lent for that has just been given back.
            Urgent::lend(self.shared.call.thread.load(Ordering::SeqCst));
        }
    }

    /// Looks at the disciplines where some have changed.
    fn judge(&mut self, standing: &mut Standing) {
        if self.since.elapsed() > BUSY {
            self.repairs = 0;
        }
        if !self.changed {
            standing.release();
            return;
        }
        let may_mend = self.repairs < REPAIRS_MAX || self.repaired.elapsed() >= PACE;
        match standing.disciplines_changed(may_mend) {
            Found::Broken => {
                standing.hold();
                return;
            }
            Found::Mended => {
                self.repaired = Instant::now();
                if self.repairs == 0 {
                    self.since = self.repaired;
                }
                self.repairs += 1;
            }
            Found::Whole => {}
        }
        self.changed = false;
        standing.release();
    }

    /// Looks at everything that nobody tells of.
    fn look(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut standing = lock(&shared.standing);
        standing.look_at_clocks(now);
        if standing.owner.is_none() {
            self.inherit(&mut standing);
            return;
        }
        if !(standing.link.up && standing.link.carrier) {
            self.dog = None;
            return;
        }
        let Some(shape) = standing.shape.clone() else { return };
        self.judge(&mut standing);
        if standing.trouble.is_some() && now >= self.retry_at {
            self.retry_at = now + RETRY;
            standing.retry();
        }
        if self.dog.as_ref().is_none_or(|(_, of)| *of != shape) {
            let dog = Watchdog::new(&standing.link, &standing.schedule, shape.root, &shape.launch);
            self.dog = dog.ok().map(|dog| (dog, shape));
        }
        let Some((dog, _)) = &mut self.dog else { return };
        let silent = dog.silent(&standing.link, now);
        if silent.is_empty() {
            return;
        }
        // Where that did not help they are set from nothing.
        let again = self.barked.is_some_and(|at| now.saturating_duration_since(at) < BUSY);
        standing.silent(&silent, again);
        self.changed = false;
        self.barked = (!again).then_some(now);
        dog.forgive(now);
    }

    /// Another copy of this plugin has held the interface so far.
    fn inherit(&mut self, standing: &mut Standing) {
        if let Ok(Some(owner)) = Owner::take(standing.link.index) {
            standing.owner = Some(owner);
            if let Err(why) = standing.set() {
                standing.trouble = Some(why);
            }
        }
    }

    fn forgive(&mut self) {
        if let Some((dog, _)) = &mut self.dog {
            dog.forgive(Instant::now());
        }
    }
}
