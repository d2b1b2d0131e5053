//! Where a function runs: its container as long as that runs, and the thread that notices when it has stopped and
//! looks for it until it is back. Everything that asks the engine happens there or when the function is made ready.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_process::clock::{now_ns, polled, wait};
use tempos_process::spawner::{locked, thread_for};

use crate::inside::Place;

const BACK_OFF_FIRST_NS: u64 = 50_000_000;
const BACK_OFF_MOST_NS: u64 = 5_000_000_000;
/// How long the end of the thread is waited for; one that waits for an engine is left to end by itself.
const END_MS: u64 = 100;

/// The place that is there now.
pub struct Seat(Mutex<Result<Arc<Place>, String>>);

impl Seat {
    /// Of a place that was found.
    pub fn new(place: Place) -> Self {
        Seat(Mutex::new(Ok(Arc::new(place))))
    }

    /// The place.
    ///
    /// # Errors
    /// Not connected, with the reason: its container does not run.
    pub fn place(&self) -> io::Result<Arc<Place>> {
        match &*locked(&self.0) {
            Ok(place) if place.container.has_ended() => {
                let what = format!("container {:?} has stopped", place.container.name);
                Err(io::Error::new(io::ErrorKind::NotConnected, what))
            }
            Ok(place) => Ok(Arc::clone(place)),
            Err(reason) => Err(io::Error::new(io::ErrorKind::NotConnected, reason.clone())),
        }
    }

    fn set(&self, to: Result<Arc<Place>, String>) {
        let before = std::mem::replace(&mut *locked(&self.0), to);
        // It may end processes: not under the lock.
        drop(before);
    }
}

/// The thread.
pub struct Watcher {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches a seat. `find` looks for the place, `changed` is called when it has gone and when it is back.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn start(
        function: &str,
        seat: Arc<Seat>,
        find: impl Fn() -> Result<Place, String> + Send + 'static,
        changed: impl Fn() + Send + 'static,
    ) -> io::Result<Watcher> {
        let (stopped, stop) = io::pipe()?;
        let subject = format!("function of workflow \"{function}\"");
        let thread = thread_for("watch", function)
            .spawn(move || watch(&subject, &seat, &stopped.into(), &find, &changed))?;
        Ok(Watcher { stop: Some(stop.into()), thread: Some(thread) })
    }

    /// Ends the thread.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            for _ in 0..END_MS {
                if thread.is_finished() {
                    let _ = thread.join();
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(
    subject: &str,
    seat: &Seat,
    stopped: &OwnedFd,
    find: &dyn Fn() -> Result<Place, String>,
    changed: &dyn Fn(),
) {
    let say = |level: LogLevel, what: &str| {
        tempos_abi::export::log(level, "container", &format!("{subject}: {what}"));
    };
    let stops_within = |pause_ns: u64| {
        let until = now_ns() + pause_ns;
        let mut entry = [polled(stopped.as_raw_fd(), libc::POLLIN)];
        while !wait(&mut entry, until) {
            if now_ns() >= until {
                return false;
            }
        }
        true
    };
    loop {
        if let Ok(place) = seat.place() {
            let mut entries =
                [polled(place.container.handle(), libc::POLLIN), polled(stopped.as_raw_fd(), libc::POLLIN)];
            while !wait(&mut entries, 0) {}
            if entries[1].revents != 0 {
                return;
            }
            let name = &place.container.name;
            say(
                LogLevel::WARNING,
                &format!("{} has stopped, and its workers with it", place.container.shown()),
            );
            seat.set(Err(format!("container {name:?} has stopped")));
            drop(place);
            changed();
        }
        let mut pause = BACK_OFF_FIRST_NS;
        loop {
            if stops_within(pause) {
                return;
            }
            match find() {
                Ok(place) => {
                    say(LogLevel::INFO, &place.greeting());
                    seat.set(Ok(Arc::new(place)));
                    changed();
                    break;
                }
                Err(reason) => seat.set(Err(reason)),
            }
            pause = (2 * pause).min(BACK_OFF_MOST_NS);
        }
    }
}
