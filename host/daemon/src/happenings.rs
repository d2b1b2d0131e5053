//! What has happened to which object, and when a hook is to be told of it: pure bookkeeping, with time handed in.
//!
//! A hook is told at once that something begins, then at most once in its hold that it goes on, and that it is over:
//! when the object says so, or, for what comes as single events (drops, missed deadlines), after a hold without one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempos_control::units::show_ns;
use tempos_control::{Kind, Notice};
use tempos_lua::{Happening, Hook};

/// The most objects that are kept in mind at a time, over all hooks.
pub const OBJECTS_MAX: usize = 1024;
/// Why events are dropped where there are too many of them; copies lost by one group alone begin with `copy-`.
const OVERLOAD: &[&str] =
    &["queue-full", "evicted", "no-buffer", "expired", "slow-consumer", "over-rate", "lane-full"];

/// Something that hooks may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The event's name.
    pub event: &'static str,
    /// The object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Why.
    pub reason: String,
    /// It is over.
    pub is_over: bool,
}

/// What a notice means for hooks. `condition` is the state and the reason of an object now.
pub fn fact(notice: &Notice, condition: impl Fn(Kind, &str) -> Option<(String, String)>) -> Option<Fact> {
    let fact = |event, kind: Kind, name: &str, count, reason: String, is_over| {
        Some(Fact { event, kind: kind.word(), name: name.to_owned(), count, reason, is_over })
    };
    match notice {
        Notice::DeadlineMissed { topic, late_ns, .. } => {
            fact("deadline-missed", Kind::Topic, topic, 1, format!("{} late", show_ns(*late_ns)), false)
        }
        Notice::EventsDropped { topic, reason, count } => {
            let bare = reason.strip_prefix("copy-").unwrap_or(reason);
            if !OVERLOAD.contains(&bare) {
                return None;
            }
            fact("overload", Kind::Topic, topic, *count, reason.clone(), false)
        }
        Notice::PluginStateChanged { name, state, report } => match state.as_str() {
            "failed" => fact("plugin-failed", Kind::Plugin, name, 1, report.clone(), false),
            "started" => fact("plugin-failed", Kind::Plugin, name, 0, report.clone(), true),
            _ => None,
        },
        Notice::ClockChanged { clock, granted, reason } => {
            fact("clock-lost", Kind::Node, clock, 1, reason.clone(), *granted)
        }
        Notice::StateChanged { kind: Kind::Channel, name } => {
            let (state, reason) = condition(Kind::Channel, name)?;
            fact("channel-down", Kind::Channel, name, 1, reason, state != "failed")
        }
        Notice::StateChanged { kind: kind @ (Kind::QosLevel | Kind::Topic | Kind::Workflow), name } => {
            let (state, reason) = condition(*kind, name)?;
            fact("grant-changed", *kind, name, 1, reason, !matches!(state.as_str(), "failed" | "degraded"))
        }
        _ => None,
    }
}

/// Whether it is over after a hold without a further one.
fn ends_by_silence(event: &str) -> bool {
    matches!(event, "deadline-missed" | "overload")
}

#[derive(Debug)]
struct Entry {
    count: u64,
    reason: String,
    /// The hook has been told.
    is_told: bool,
    /// Something it has not been told of.
    is_new: bool,
    is_over: bool,
    called_at: Instant,
    noticed_at: Instant,
}

/// What hooks have been told, and are to be told.
#[derive(Debug, Default)]
pub struct Happenings {
    entries: BTreeMap<(usize, &'static str, String), Entry>,
    /// Facts that found no room.
    pub forgotten: u64,
}

impl Happenings {
    /// Takes note of a fact for all hooks that it concerns.
    pub fn note(&mut self, hooks: &[Hook], fact: &Fact, now: Instant) {
        let concerned = |hook: &&(usize, &Hook)| {
            let hook = hook.1;
            hook.event == fact.event && hook.name.as_ref().is_none_or(|name| *name == fact.name)
        };
        for (at, _) in hooks.iter().enumerate().collect::<Vec<_>>().iter().filter(concerned) {
            let key = (*at, fact.kind, fact.name.clone());
            let full = self.entries.len() >= OBJECTS_MAX;
            let Some(entry) = self.entries.get_mut(&key) else {
                if fact.is_over {
                    continue;
                }
                if full {
                    self.forgotten += 1;
                    continue;
                }
                let (count, reason) = (fact.count, fact.reason.clone());
                let entry = Entry {
                    count,
                    reason,
                    is_told: false,
                    is_new: true,
                    is_over: false,
                    called_at: now,
                    noticed_at: now,
                };
                self.entries.insert(key, entry);
                continue;
            };
            entry.is_over = fact.is_over;
            entry.noticed_at = now;
            entry.reason.clone_from(&fact.reason);
            if !fact.is_over {
                entry.count += fact.count;
                entry.is_new = true;
            }
        }
    }

    /// The next call that is due: the hook's place and what it is told. Ask until there is none.
    pub fn take_due(&mut self, hooks: &[Hook], now: Instant) -> Option<(usize, Happening)> {
        let (key, state) = self.entries.iter().find_map(|(key, entry)| {
            let (at, state) = due(entry, hooks.get(key.0)?)?;
            (at <= now).then(|| (key.clone(), state))
        })?;
        let entry = self.entries.get_mut(&key)?;
        let happening = Happening {
            event: hooks.get(key.0)?.event,
            kind: key.1,
            name: key.2.clone(),
            state,
            count: std::mem::take(&mut entry.count),
            reason: entry.reason.clone(),
        };
        entry.is_told = true;
        entry.is_new = false;
        entry.called_at = now;
        if state == "ended" {
            self.entries.remove(&key);
        }
        Some((key.0, happening))
    }

    /// When the next call is due, where one is.
    pub fn next(&self, hooks: &[Hook]) -> Option<Instant> {
        self.entries.iter().filter_map(|(key, entry)| Some(due(entry, hooks.get(key.0)?)?.0)).min()
    }
}

/// When an entry's hook is to be called, and with which state.
fn due(entry: &Entry, hook: &Hook) -> Option<(Instant, &'static str)> {
    let hold = Duration::from_nanos(hook.hold_ns);
    let held = entry.called_at + hold;
    if !entry.is_told {
        return Some((entry.noticed_at, "begins"));
    }
    if entry.is_over {
        return Some((held, "ended"));
    }
    if entry.is_new {
        return Some((held, "goes on"));
    }
    ends_by_silence(hook.event).then(|| (held.max(entry.noticed_at + hold), "ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::Origin;

    const SECOND: Duration = Duration::from_secs(1);

    fn hook(event: &'static str, name: Option<&str>) -> Hook {
        Hook::new(event, name, 1_000_000_000, Origin::new("w.lua", 1))
    }

    fn drops(topic: &str, count: u64) -> Fact {
        let notice =
            Notice::EventsDropped { topic: topic.into(), reason: String::from("copy-queue-full"), count };
        fact(&notice, |_, _| None).expect("an overload")
    }

    #[test]
    fn it_begins_at_once_goes_on_once_in_a_hold_and_ends_after_one_without_any() {
        let hooks = [hook("overload", None)];
        let (mut all, start) = (Happenings::default(), Instant::now());
        let mut told = Vec::new();
        let mut tell = |all: &mut Happenings, now| {
            while let Some((_, happening)) = all.take_due(&hooks, now) {
                told.push((happening.state, happening.count));
            }
        };
        for tenth in 0..25u32 {
            let now = start + SECOND * tenth / 10;
            all.note(&hooks, &drops("a", 2), now);
            tell(&mut all, now);
        }
        let mut now = start + SECOND * 25 / 10;
        while let Some(next) = all.next(&hooks) {
            now = now.max(next);
            tell(&mut all, now);
        }
        assert_eq!(told, [("begins", 2), ("goes on", 20), ("goes on", 20), ("goes on", 8), ("ended", 0)]);
        assert!(now <= start + SECOND * 45 / 10);
    }

    #[test]
    fn a_state_lasts_until_it_is_another() {
        let hooks = [hook("channel-down", Some("c"))];
        let (mut all, start) = (Happenings::default(), Instant::now());
        let notice = |name: &str| Notice::StateChanged { kind: Kind::Channel, name: name.into() };
        let state = |word: &'static str| move |_: Kind, _: &str| Some((word.to_owned(), String::from("so")));
        for name in ["c", "another"] {
            all.note(&hooks, &fact(&notice(name), state("failed")).expect("down"), start);
        }
        assert_eq!(
            all.take_due(&hooks, start).map(|(_, told)| (told.name, told.state)),
            Some(("c".into(), "begins"))
        );
        assert_eq!((all.take_due(&hooks, start), all.next(&hooks)), (None, None), "it stays down");
        let later = start + 10 * SECOND;
        all.note(&hooks, &fact(&notice("c"), state("started")).expect("up"), later);
        assert_eq!(all.take_due(&hooks, later).map(|(_, told)| told.state), Some("ended"));
        all.note(&hooks, &fact(&notice("c"), state("started")).expect("up"), later);
        assert_eq!(all.take_due(&hooks, later), None, "what never began does not end");
    }

    #[test]
    fn the_number_of_objects_is_bounded_and_what_is_no_overload_is_none() {
        let hooks = [hook("overload", None)];
        let (mut all, now) = (Happenings::default(), Instant::now());
        for number in 0..OBJECTS_MAX + 10 {
            all.note(&hooks, &drops(&number.to_string(), 1), now);
        }
        assert_eq!((all.entries.len(), all.forgotten), (OBJECTS_MAX, 10));
        let removed = Notice::EventsDropped { topic: "a".into(), reason: "removed".into(), count: 1 };
        assert_eq!(fact(&removed, |_, _| None), None);
    }
}
