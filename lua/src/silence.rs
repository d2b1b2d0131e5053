//! Whether a script that gives no sign of life is stuck, or only gets no CPU because others want it more.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::budget::Pulse;

/// A thread that wants to run and is not let counts as stuck all the same after so many times the bound.
const PATIENCE: u32 = 5;
/// One that has used so much of the time that it was silent for has run.
const PART: u32 = 4;

/// What is known since the last sign of life.
#[derive(Debug)]
pub(crate) struct Silence {
    beats: u64,
    since: Instant,
    cpu: Option<Duration>,
}

impl Silence {
    /// Begins to wait.
    pub fn begin(pulse: &Pulse) -> Silence {
        Silence { beats: pulse.beats.load(Ordering::Relaxed), since: Instant::now(), cpu: cpu_of(pulse) }
    }

    /// Whether it has lasted too long. A busy machine does not make a good script fail.
    pub fn is_over(&mut self, pulse: &Pulse, bound: Duration) -> bool {
        if pulse.beats.load(Ordering::Relaxed) != self.beats {
            *self = Silence::begin(pulse);
            return false;
        }
        let elapsed = self.since.elapsed();
        elapsed > bound && (elapsed > bound * PATIENCE || !self.is_starved(pulse, bound))
    }

    fn is_starved(&self, pulse: &Pulse, bound: Duration) -> bool {
        let thread = pulse.thread.load(Ordering::Relaxed);
        if thread == 0 {
            // It has not even begun.
            return true;
        }
        let used = match (self.cpu, cpu_of(pulse)) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            // It had not begun when the wait did: all that it has used counts.
            (None, Some(now)) => now,
            (_, None) => return false,
        };
        used < bound / PART && wants_to_run(thread)
    }
}

/// The CPU time of the script's thread (schedstat of proc(5): its first number, in nanoseconds).
fn cpu_of(pulse: &Pulse) -> Option<Duration> {
    let thread = pulse.thread.load(Ordering::Relaxed);
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Whether the thread is on a run queue (stat of proc(5): the letter behind the name).
fn wants_to_run(thread: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    const BOUND: Duration = Duration::from_millis(40);

    /// How long it takes until a thread that does that is taken for stuck.
    fn taken_for_stuck_after(work: impl Fn() + Send + 'static) -> Duration {
        let (pulse, stop) = (Arc::new(Pulse::default()), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (pulse, stop) = (pulse.clone(), stop.clone());
            move || {
                let own = rustix::thread::gettid().as_raw_nonzero().get();
                pulse.thread.store(own, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            }
        });
        while pulse.thread.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let mut silence = Silence::begin(&pulse);
        while !silence.is_over(&pulse, BOUND) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = silence.since.elapsed();
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("it ends");
        after
    }

    #[test]
    fn who_sleeps_or_spins_is_stuck_after_the_bound() {
        let works: [fn(); 2] = [|| std::thread::sleep(Duration::from_millis(5)), std::hint::spin_loop];
        for work in works {
            assert!(taken_for_stuck_after(work) > BOUND);
        }
    }

    #[test]
    fn who_has_not_begun_is_waited_for_and_not_for_ever() {
        let pulse = Pulse::default();
        let mut silence = Silence::begin(&pulse);
        silence.since -= BOUND * 2;
        assert!(!silence.is_over(&pulse, BOUND));
        silence.since -= BOUND * PATIENCE;
        assert!(silence.is_over(&pulse, BOUND));
        pulse.beats.fetch_add(1, Ordering::Relaxed);
        assert!(!silence.is_over(&pulse, BOUND), "a sign of life begins it anew");
    }
}
