//! Opening again what panicked: soon at first, then ever more rarely, so that a channel that fails at once
//! each time costs next to nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::controller::Controller;
use crate::plugin::LogLevel;
use crate::transaction::Strictness;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);
/// What held for so long starts again from the first pause.
const FORGIVEN: Duration = Duration::from_secs(60);
/// The most names remembered.
const NAMES_MAX: usize = 4096;

#[derive(Debug)]
struct Entry {
    pause: Duration,
    due: Option<Instant>,
    last: Instant,
}

/// Who is to be opened again, and when.
#[derive(Debug, Default)]
pub struct Restarts {
    entries: HashMap<String, Entry>,
}

impl Restarts {
    /// A channel or workflow failed.
    pub fn ask(&mut self, name: &str) {
        let now = Instant::now();
        if self.entries.len() >= NAMES_MAX {
            self.entries.retain(|_, entry| entry.due.is_some());
        }
        let entry =
            self.entries.entry(name.to_owned()).or_insert(Entry { pause: FIRST, due: None, last: now });
        if entry.due.is_none() {
            entry.pause = if now.duration_since(entry.last) > FORGIVEN { FIRST } else { entry.pause };
            entry.due = Some(now + entry.pause);
            entry.pause = (entry.pause * 2).min(LONGEST);
            entry.last = now;
        }
    }

    /// Whether nobody is waiting.
    pub fn is_empty(&self) -> bool {
        self.entries.values().all(|entry| entry.due.is_none())
    }

    /// Those whose time has come.
    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        due.map(|(name, entry)| {
            entry.due = None;
            name.clone()
        })
        .collect()
    }
}

impl Controller {
    /// Opens again what failed, where its time has come.
    pub(crate) fn restart_failed(&mut self) {
        if self.draining {
            return;
        }
        let due = self.restarts.take_due(Instant::now());
        if due.is_empty() {
            return;
        }
        let wiring = self.wiring.clone();
        if let Err(refusal) = self.bring_into_force(wiring, Strictness::Part) {
            self.say(LogLevel::ERROR, "wiring", &refusal.message);
        }
        // What could not be opened, for want of a descriptor perhaps, is tried again.
        for name in due.iter().filter(|name| self.failed.contains_key(*name)) {
            self.restarts.ask(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_as_the_one_before() {
        let mut restarts = Restarts::default();
        restarts.ask("a");
        assert!(restarts.take_due(Instant::now()).is_empty());
        assert_eq!(restarts.take_due(Instant::now() + FIRST), ["a"]);
        assert!(restarts.is_empty());
        restarts.ask("a");
        assert!(restarts.take_due(Instant::now() + FIRST).is_empty());
        assert_eq!(restarts.take_due(Instant::now() + FIRST * 2), ["a"]);
    }
}
