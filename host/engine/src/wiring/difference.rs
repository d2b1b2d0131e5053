//! What differs between two wirings, one line for each object, as a person would say it.
//!
//! Fields are found by the names under which the declarations are written down: one that is added later is told
//! without a word here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use tempos_control::request::show_share;
use tempos_control::units::{show_bytes, show_ns};
use tempos_control::{ChannelSpec, LevelSpec, Rate, TopicSpec};

use super::{Channels as _, Wiring, same_channel, same_topic, same_workflow};

/// The most differences that are told of one object.
const TOLD_MAX: usize = 8;
/// The longest value that is shown, in characters.
const SHOWN_MAX: usize = 60;
/// What is told in other ways, or is nobody's doing.
const SILENT: &[&str] = &["origin", "name", "ingress", "egress", "qos_is_free", "qos_given_up"];
/// What users call it, where that is not the name of the field.
const WORDS: &[(&str, &str)] = &[
    ("qos", "level"),
    ("event_bytes_max", "event_max"),
    ("output_bytes_max", "output_max"),
    ("takes_replies", "replies"),
    ("queue capacity_events", "queue capacity"),
    ("queue capacity_bytes", "queue bytes"),
];

impl Wiring {
    /// What changes from this wiring to `next`, one line each.
    pub fn difference(&self, next: &Wiring) -> Vec<String> {
        let mut lines = Vec::new();
        let same_level =
            |a: &LevelSpec, b: &LevelSpec| LevelSpec { origin: a.origin.clone(), ..b.clone() } == *a;
        differ("level", &self.levels, &next.levels, same_level, told, &mut lines);
        differ("topic", &self.topics, &next.topics, same_topic, topic, &mut lines);
        differ("workflow", &self.workflows, &next.workflows, same_workflow, told, &mut lines);
        lines
    }
}

fn differ<T>(
    what: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
    tell: impl Fn(&T, &T) -> Vec<String>,
    lines: &mut Vec<String>,
) {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        lines.push(format!("- {what} {name:?} goes"));
    }
    for (name, spec) in new {
        match old.get(name) {
            None => lines.push(format!("+ {what} {name:?} is new")),
            Some(before) if !same(before, spec) => {
                let mut told = tell(before, spec);
                if told.len() > TOLD_MAX {
                    let more = told.len() - TOLD_MAX;
                    told.truncate(TOLD_MAX);
                    told.push(format!("and {more} more"));
                }
                lines.push(match told.is_empty() {
                    true => format!("~ {what} {name:?} changes"),
                    false => format!("~ {what} {name:?}: {}", told.join("; ")),
                });
            }
            Some(_) => {}
        }
    }
}

/// A topic: its own fields, its channels by number, its groups by name.
fn topic(a: &TopicSpec, b: &TopicSpec) -> Vec<String> {
    let mut said = told(a, b);
    let by_name = |t: &TopicSpec| -> BTreeMap<String, ChannelSpec> {
        t.channels().map(|channel| (channel.name.clone(), channel.clone())).collect()
    };
    let (before, after) = (by_name(a), by_name(b));
    let more = after.keys().filter(|name| !before.contains_key(*name)).count();
    let fewer = before.keys().filter(|name| !after.contains_key(*name)).count();
    if more > 0 {
        said.push(format!("{} more", channels(more)));
    }
    if fewer > 0 {
        said.push(format!("{} fewer", channels(fewer)));
    }
    let changed = after.iter().filter_map(|(name, channel)| Some((name, before.get(name)?, channel)));
    for (name, old, new) in changed.filter(|(_, old, new)| !same_channel(old, new)) {
        let fields = told(old, new);
        said.push(match fields.is_empty() {
            true => format!("channel {name:?} changes"),
            false => format!("channel {name:?}: {}", fields.join(", ")),
        });
    }
    let groups = |t: &TopicSpec| -> BTreeMap<String, Value> {
        let bare =
            |g: &tempos_control::GroupSpec| serde_json::json!({ "pick": g.pick, "stall_ns": g.stall_ns });
        t.egress.iter().map(|group| (group.name.clone(), bare(group))).collect()
    };
    let (before, after) = (groups(a), groups(b));
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        said.push(format!("group {name:?} is new"));
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        said.push(format!("group {name:?} goes"));
    }
    for (name, new) in &after {
        if let Some(old) = before.get(name).filter(|old| *old != new) {
            said.push(format!("group {name:?}: {}", told(old, new).join(", ")));
        }
    }
    said
}

fn channels(count: usize) -> String {
    if count == 1 { String::from("1 channel") } else { format!("{count} channels") }
}

/// The fields that differ: `level best-effort → strict`.
fn told<T: Serialize>(a: &T, b: &T) -> Vec<String> {
    let fields = |spec: &T| {
        let mut fields = BTreeMap::new();
        // A declaration is plain data, which can always be written down.
        if let Ok(value) = serde_json::to_value(spec) {
            flatten("", "", &value, &mut fields);
        }
        fields
    };
    let (a, b) = (fields(a), fields(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let none = String::from("none");
    keys.into_iter()
        .filter_map(|key| {
            let (old, new) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
            let word = WORDS.iter().find(|(name, _)| name == key).map_or(key.as_str(), |(_, word)| word);
            match (old == new, short(old), short(new)) {
                (true, ..) => None,
                // Long texts that differ only where they are cut off.
                (_, old, new) if old == new => Some(format!("{word} changes")),
                (_, old, new) => Some(format!("{word} {old} → {new}")),
            }
        })
        .collect()
}

/// The fields of a declaration as texts, those of its parts by the names of both.
fn flatten(above: &str, key: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    let named = [above, key].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
    match value {
        Value::Object(parts) if !is_variant(parts) => {
            // A workflow's call and a topic's request are what it is all about: their parts stand alone.
            let above = if matches!(key, "call" | "request" | "endpoint" | "network") { "" } else { &named };
            for (key, part) in parts.iter().filter(|(key, _)| !SILENT.contains(&key.as_str())) {
                flatten(above, key, part, fields);
            }
        }
        Value::Array(pairs) if key == "options" => {
            for pair in pairs {
                if let (Some(name), Some(value)) = (pair.get(0).and_then(Value::as_str), pair.get(1)) {
                    fields.insert(name.to_owned(), text(value));
                }
            }
        }
        value => {
            let (name, text) = match (key, value.as_u64()) {
                ("per_hour", Some(per_hour)) => (above.to_owned(), Rate { per_hour }.show()),
                _ => with_unit(&named, value),
            };
            fields.insert(name, text);
        }
    }
}

/// Whether it is one choice of several that carries something: `{"Fifo": {"priority": 45}}`.
fn is_variant(parts: &serde_json::Map<String, Value>) -> bool {
    parts.len() == 1 && parts.keys().all(|key| key.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// A field without the unit in its name, and its value with it.
fn with_unit(name: &str, value: &Value) -> (String, String) {
    if let Some(bare) = name.strip_suffix("_ns") {
        return (bare.to_owned(), value.as_u64().map_or_else(|| text(value), show_ns));
    }
    if let Some(bare) = name.strip_suffix("_ppm") {
        let share = value.as_u64().and_then(|ppm| u32::try_from(ppm).ok());
        return (bare.to_owned(), share.map_or_else(|| text(value), show_share));
    }
    if let Some(bare) = name.strip_suffix("_percent") {
        return (bare.to_owned(), value.as_u64().map_or_else(|| text(value), |share| format!("{share} %")));
    }
    let is_size = name.ends_with("_bytes") || name.ends_with("bytes_max");
    match value.as_u64().filter(|_| is_size) {
        Some(bytes) if WORDS.iter().any(|(known, _)| *known == name) => (name.to_owned(), show_bytes(bytes)),
        Some(bytes) => (name.strip_suffix("_bytes").unwrap_or(name).to_owned(), show_bytes(bytes)),
        None => (
            name.strip_suffix("_bytes").filter(|_| is_size && !name.contains(' ')).unwrap_or(name).to_owned(),
            text(value),
        ),
    }
}

/// A value in words.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::from("none"),
        Value::String(word) => word.clone(),
        Value::Array(items) if items.is_empty() => String::from("none"),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        // What a user wrote for an option, or a choice with what belongs to it.
        Value::Object(parts) if is_variant(parts) => {
            let Some((word, inner)) = parts.iter().next() else { return String::new() };
            match inner {
                Value::Object(inner) => {
                    let inner: Vec<String> = inner
                        .iter()
                        .map(|(key, value)| {
                            let (name, text) = with_unit(key, value);
                            if name == "priority" { text } else { format!("{name} {text}") }
                        })
                        .collect();
                    format!("{} {}", kebab(word), inner.join(", "))
                }
                other => text(other),
            }
        }
        Value::Object(parts) => {
            let parts: Vec<String> = parts
                .iter()
                .filter(|(key, _)| !SILENT.contains(&key.as_str()))
                .map(|(key, value)| {
                    let (name, text) = with_unit(key, value);
                    format!("{name} {text}")
                })
                .collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}

/// `DropOldest` as users write it: `drop-oldest`.
fn kebab(word: &str) -> String {
    let mut kebab = String::with_capacity(word.len() + 4);
    for (at, c) in word.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN_MAX - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::{
        CallSpec, EndpointSpec, EventFormat, GroupSpec, Origin, Pick, Scheduler, WorkflowSpec,
    };

    fn origin(line: u32) -> Origin {
        Origin::new("w.lua", line)
    }

    fn channel(name: &str, port: u16) -> ChannelSpec {
        ChannelSpec {
            name: name.into(),
            adapter: "udp".into(),
            qos: None,
            format: EventFormat::Raw,
            endpoint: EndpointSpec::default(),
            options: vec![("bind".into(), format!("127.0.0.1:{port}").as_str().into())],
            origin: origin(7),
        }
    }

    fn of_topic(change: impl FnOnce(&mut TopicSpec)) -> Vec<String> {
        let mut before = TopicSpec::named("door", &origin(1));
        before.ingress.push(channel("door/in/1", 5501));
        let mut after = before.clone();
        after.origin = origin(9);
        change(&mut after);
        let wiring = |topic: TopicSpec| Wiring {
            topics: BTreeMap::from([(String::from("door"), topic)]),
            ..Wiring::new(&[])
        };
        wiring(before).difference(&wiring(after))
    }

    #[test]
    fn a_topic_says_what_changes_of_it() {
        assert_eq!(of_topic(|_| {}), [""; 0], "another line in the file is no change");
        let said = of_topic(|topic| {
            topic.qos = "strict".into();
            topic.ingress.push(channel("door/in/2", 5502));
        });
        assert_eq!(said, ["~ topic \"door\": level best-effort → strict; 1 channel more"]);
        let said = of_topic(|topic| {
            topic.deadline_ns = Some(2_000_000);
            topic.ingress[0] = channel("door/in/1", 5503);
            topic.ingress[0].endpoint.rate = Some(10);
        });
        assert_eq!(
            said,
            ["~ topic \"door\": deadline none → 2.00 ms; \
              channel \"door/in/1\": bind 127.0.0.1:5501 → 127.0.0.1:5503, rate none → 10"]
        );
        let said = of_topic(|topic| {
            topic.ingress.clear();
            let members = vec![channel("door/a/1", 1), channel("door/a/2", 2)];
            let (name, pick) = (String::from("a"), Pick::LeastLoaded);
            topic.egress.push(GroupSpec { name, members, pick, stall_ns: 1, origin: origin(3) });
        });
        assert_eq!(said, ["~ topic \"door\": 2 channels more; 1 channel fewer; group \"a\" is new"]);
    }

    #[test]
    fn levels_and_workflows_say_it_in_the_words_of_their_scripts() {
        let level = |change: fn(&mut LevelSpec)| {
            let mut after = Wiring::new(&[]);
            after.levels.get_mut("strict").into_iter().for_each(change);
            Wiring::new(&[]).difference(&after)
        };
        let said = level(|level| {
            level.scheduler = Scheduler::RoundRobin { priority: 40 };
            level.queue.capacity_bytes *= 2;
            level.queue.full = tempos_control::FullQueue::DropOldest;
            level.cpus = vec![0, 1];
        });
        assert_eq!(
            said,
            [
                "~ level \"strict\": cpus none → 0, 1; queue bytes 4 MiB → 8 MiB; queue full drop-new → drop-oldest; \
              scheduler fifo 45 → round-robin 40"
            ]
        );
        let workflow = |file: &str, memory| {
            let mut call = CallSpec::new("wasm", file, &origin(4));
            call.memory_bytes = memory;
            let workflow = WorkflowSpec {
                name: "w".into(),
                from: "a".into(),
                to: None,
                branches: Vec::new(),
                replies: false,
                group: None,
                request: None,
                call,
                origin: origin(4),
            };
            Wiring { workflows: BTreeMap::from([(String::from("w"), workflow)]), ..Wiring::new(&[]) }
        };
        let said = workflow("/a.wasm", None).difference(&workflow("/b.wasm", Some(16 << 20)));
        assert_eq!(said, ["~ workflow \"w\": file /a.wasm → /b.wasm; memory none → 16 MiB"]);
    }

    #[test]
    fn many_and_long_differences_are_cut() {
        let long = |c: &str| format!("/{}", c.repeat(100));
        let said = of_topic(|topic| {
            topic.ingress[0].options =
                vec![("bind".into(), long("a").as_str().into()), ("x".into(), "y".into())];
        });
        assert!(said[0].contains('…') && said[0].chars().count() < 300, "{said:?}");
        let said = of_topic(|topic| {
            topic.rank = 1;
            topic.weight = 2;
            topic.share_percent = 3;
            topic.deadline_ns = Some(4);
            topic.time_to_live_ns = Some(5);
            topic.drops_late = true;
            topic.takes_replies = true;
            topic.qos = "strict".into();
            topic.ingress.clear();
            topic.egress.push(GroupSpec {
                name: "g".into(),
                members: Vec::new(),
                pick: Pick::Hash,
                stall_ns: 1,
                origin: origin(3),
            });
        });
        assert!(said[0].ends_with("; and 2 more"), "{said:?}");
    }
}
