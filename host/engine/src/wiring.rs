//! The desired wiring: what was declared, whether it is sound in itself, and what differs between two.
//!
//! Pure: no plugin, no socket, no clock.

mod asked;
mod chains;

use std::collections::{BTreeMap, BTreeSet};

use tempos_control::level::{BEST_EFFORT, LEVELS_MAX, STRICT};
use tempos_control::{
    ChannelSpec, Command, LevelSpec, Mistake, Origin, Scheduler, TopicSpec, WorkflowSpec, names,
};

/// The most topics of a node.
pub const TOPICS_MAX: usize = 65_536;
/// The most channels of a node.
pub const CHANNELS_MAX: usize = 65_536;
/// The most topics that one sentence names.
const NAMED_MAX: usize = 8;

/// Everything that was declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wiring {
    /// Levels by name; `strict` and `best-effort` are always there.
    pub levels: BTreeMap<String, LevelSpec>,
    /// Topics by name.
    pub topics: BTreeMap<String, TopicSpec>,
    /// Workflows by name.
    pub workflows: BTreeMap<String, WorkflowSpec>,
}

impl Wiring {
    /// The wiring of a node that was told nothing but its levels.
    pub fn new(levels: &[LevelSpec]) -> Self {
        let mut wiring = Wiring::default();
        for level in [LevelSpec::strict(), LevelSpec::best_effort()].iter().chain(levels) {
            wiring.levels.insert(level.name.clone(), level.clone());
        }
        wiring
    }

    /// This wiring after the commands. `whole`: they start from `base` instead, so that what they do not
    /// declare is gone.
    ///
    /// # Errors
    /// All mistakes, with their places.
    pub fn after(&self, base: &Wiring, commands: &[Command], whole: bool) -> Result<Wiring, Vec<Mistake>> {
        let mut wiring = if whole { base.clone() } else { self.clone() };
        let mut mistakes = Vec::new();
        for command in commands {
            match command {
                Command::DeclareLevel(level) => {
                    wiring.levels.insert(level.name.clone(), level.clone());
                }
                Command::DeclareTopic(topic) => {
                    wiring.topics.insert(topic.name.clone(), topic.clone());
                }
                Command::DeclareWorkflow(workflow) => {
                    wiring.workflows.insert(workflow.name.clone(), workflow.clone());
                }
                Command::RemoveLevel(name) if matches!(name.as_str(), STRICT | BEST_EFFORT) => {
                    mistakes
                        .push(call_mistake(format!("level {name:?} always exists and cannot be removed")));
                }
                Command::RemoveLevel(name) => remove(&mut wiring.levels, "level", name, &mut mistakes),
                Command::RemoveTopic(name) => remove(&mut wiring.topics, "topic", name, &mut mistakes),
                Command::RemoveWorkflow(name) => {
                    remove(&mut wiring.workflows, "workflow", name, &mut mistakes)
                }
                _ => mistakes.push(call_mistake(String::from("this node does not know that command"))),
            }
        }
        mistakes.extend(wiring.check());
        if mistakes.is_empty() { Ok(wiring) } else { Err(mistakes) }
    }

    /// What is wrong with it, apart from what only plugins know.
    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        self.check_levels(&mut mistakes);
        self.check_topics(&mut mistakes);
        self.check_workflows(&mut mistakes);
        self.check_requests(&mut mistakes);
        mistakes
    }

    fn check_levels(&self, mistakes: &mut Vec<Mistake>) {
        if self.levels.len() > LEVELS_MAX {
            let origin =
                self.levels.values().last().map_or_else(Origin::builtin, |level| level.origin.clone());
            let count = self.levels.len();
            mistakes.push(Mistake::new(
                &origin,
                format!("{count} levels are declared; a node has at most {LEVELS_MAX}"),
            ));
        }
        for level in self.levels.values() {
            let mut wrong = |sentence: String| {
                mistakes.push(Mistake::new(&level.origin, format!("level {:?}: {sentence}", level.name)));
            };
            if let Err(sentence) = names::check("level", &level.name) {
                wrong(sentence);
            }
            match level.scheduler {
                Scheduler::Fifo { priority } | Scheduler::RoundRobin { priority } => {
                    if !(1..=99).contains(&priority) {
                        wrong(format!(
                            "priority {priority} is out of range; 1 to 98 are real-time priorities"
                        ));
                    } else if priority == 99 && !level.forced {
                        wrong(String::from(
                            "priority 99 belongs to the kernel's watchdogs; use 1 to 98, or set force = true",
                        ));
                    }
                }
                Scheduler::Deadline { runtime_ns, deadline_ns, period_ns } => {
                    if runtime_ns == 0 || runtime_ns > deadline_ns || deadline_ns > period_ns {
                        wrong(String::from("a deadline scheduler needs 0 < runtime <= deadline <= period"));
                    }
                }
                Scheduler::Other { nice } => {
                    if !(-20..=19).contains(&nice) {
                        wrong(format!("nice {nice} is out of range; -20 to 19 are nice values"));
                    }
                }
            }
            let bounds = [
                ("workers", u64::from(level.workers), 1, 64),
                ("batch", u64::from(level.batch), 1, 128),
                ("event_max", u64::from(level.event_bytes_max), 64, 16 << 20),
                ("queue capacity", u64::from(level.queue.capacity_events), 1, 1 << 20),
                ("share", u64::from(level.share_percent), 0, 50),
                ("queue bytes", level.queue.capacity_bytes, 64 << 10, 4 << 30),
            ];
            for (what, value, least, most) in bounds {
                if !(least..=most).contains(&value) {
                    wrong(format!("{what} is {value}; {least} to {most} are allowed"));
                }
            }
        }
    }

    fn check_topics(&self, mistakes: &mut Vec<Mistake>) {
        if self.topics.len() > TOPICS_MAX {
            mistakes.push(call_mistake(format!(
                "{} topics are declared; a node has at most {TOPICS_MAX}",
                self.topics.len()
            )));
        }
        let mut channels: BTreeMap<&str, &Origin> = BTreeMap::new();
        for topic in self.topics.values() {
            if let Err(sentence) = names::check("topic", &topic.name) {
                mistakes.push(Mistake::new(&topic.origin, sentence));
            }
            self.check_level(&topic.qos, &format!("topic {:?}", topic.name), &topic.origin, mistakes);
            for rule in &topic.rules {
                let what = format!("topic {:?}: a rule", topic.name);
                self.check_level(&rule.qos, &what, &topic.origin, mistakes);
            }
            let mut groups = BTreeSet::new();
            for group in &topic.egress {
                if !groups.insert(group.name.as_str()) {
                    let sentence = format!("topic {:?}: two groups are named {:?}", topic.name, group.name);
                    mistakes.push(Mistake::new(&group.origin, sentence));
                }
            }
            for channel in topic.channels() {
                if let Err(sentence) = names::check("channel", &channel.name) {
                    mistakes.push(Mistake::new(&channel.origin, sentence));
                }
                if let Some(first) = channels.insert(&channel.name, &channel.origin) {
                    let sentence =
                        format!("two channels are named {:?}; the other is at {first}", channel.name);
                    mistakes.push(Mistake::new(&channel.origin, sentence));
                }
                for qos in channel.qos.iter().chain(&channel.endpoint.qos_max) {
                    self.check_level(qos, &format!("channel {:?}", channel.name), &channel.origin, mistakes);
                }
            }
        }
        if channels.len() > CHANNELS_MAX {
            mistakes.push(call_mistake(format!(
                "{} channels are declared; a node has at most {CHANNELS_MAX}",
                channels.len()
            )));
        }
        self.check_shares(mistakes);
    }

    /// A lane cannot promise its topics more than the whole.
    fn check_shares(&self, mistakes: &mut Vec<Mistake>) {
        let sharing: Vec<&TopicSpec> = self.topics.values().filter(|t| t.share_percent > 0).collect();
        if sharing.is_empty() {
            return;
        }
        let reach = self.levels_of_topics();
        for level in self.levels.keys() {
            let here: Vec<&TopicSpec> = sharing
                .iter()
                .copied()
                .filter(|topic| reach[topic.name.as_str()].contains(level.as_str()))
                .collect();
            let sum: u32 = here.iter().map(|topic| u32::from(topic.share_percent)).sum();
            if let Some(last) = here.last().filter(|_| sum > 100) {
                let named: Vec<String> = here
                    .iter()
                    .take(NAMED_MAX)
                    .map(|topic| format!("{:?} ({} %)", topic.name, topic.share_percent))
                    .collect();
                let more = if here.len() > NAMED_MAX { ", …" } else { "" };
                let sentence = format!(
                    "level {level:?}: the shares of its topics make {sum} %, the whole is 100 %: {}{more}",
                    named.join(", ")
                );
                mistakes.push(Mistake::new(&last.origin, sentence));
            }
        }
    }

    fn check_level(&self, level: &str, what: &str, origin: &Origin, mistakes: &mut Vec<Mistake>) {
        if !self.levels.contains_key(level) {
            let hint = names::hint(level, self.levels.keys().map(String::as_str));
            mistakes.push(Mistake::new(origin, format!("{what}: unknown QoS level {level:?}{hint}")));
        }
    }

    fn check_workflows(&self, mistakes: &mut Vec<Mistake>) {
        for workflow in self.workflows.values() {
            if let Err(sentence) = names::check("workflow", &workflow.name) {
                mistakes.push(Mistake::new(&workflow.origin, sentence));
            }
            for sentence in workflow.mistakes() {
                let sentence = format!("workflow {:?}: {sentence}", workflow.name);
                mistakes.push(Mistake::new(&workflow.origin, sentence));
            }
            let from = [(String::from("from"), workflow.from.as_str())];
            let named = from.into_iter().chain(workflow.targets());
            for (key, topic) in named.filter(|(_, topic)| !self.topics.contains_key(*topic)) {
                let hint = names::hint(topic, self.topics.keys().map(String::as_str));
                let sentence =
                    format!("workflow {:?}: {key} names an unknown topic {topic:?}{hint}", workflow.name);
                mistakes.push(Mistake::new(&workflow.origin, sentence));
            }
        }
        let takes_replies = self.topics.values().any(|topic| topic.takes_replies);
        for workflow in self.workflows.values().filter(|workflow| workflow.replies && !takes_replies) {
            let sentence = format!(
                "workflow {:?}: it replies, but no topic takes replies; declare one with replies = true",
                workflow.name
            );
            mistakes.push(Mistake::new(&workflow.origin, sentence));
        }
        if let Some(workflow) = self.workflows.values().find(|workflow| self.comes_back(workflow)) {
            let sentence = format!(
                "workflow {:?}: its output comes back to its own topic {:?}; such a circle never ends",
                workflow.name, workflow.from
            );
            mistakes.push(Mistake::new(&workflow.origin, sentence));
        }
    }

    /// The levels that rules and senders may give to the events of a topic.
    pub fn levels_by_rule<'a>(&'a self, topic: &'a TopicSpec) -> BTreeSet<&'a str> {
        let rank = |name: &str| self.levels.get(name).map_or(0, |level| level.rank);
        let mut levels: BTreeSet<&str> = topic.rules.iter().map(|rule| rule.qos.as_str()).collect();
        let asked = topic.ingress.iter().filter_map(|channel| channel.endpoint.qos_max.as_deref());
        if let Some(highest) = asked.map(rank).max() {
            levels.extend(self.levels.values().filter(|l| l.rank <= highest).map(|l| l.name.as_str()));
        }
        levels
    }

    /// The levels at which events reach each topic: its own, its endpoints', those that rules and senders may
    /// give, and those of the topics whose workflows lead to it.
    pub fn levels_of_topics(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut levels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for topic in self.topics.values() {
            let own = levels.entry(&topic.name).or_default();
            own.insert(&topic.qos);
            own.extend(topic.ingress.iter().filter_map(|channel| channel.qos.as_deref()));
            own.extend(self.levels_by_rule(topic));
        }
        // Workflows make no circles: as many rounds as there are workflows settle everything.
        for _ in 0..=self.workflows.len() {
            let mut grown = false;
            for workflow in self.workflows.values() {
                let Some(from) = levels.get(workflow.from.as_str()).cloned() else { continue };
                for to in self.targets(workflow) {
                    if let Some(reached) = levels.get_mut(to) {
                        let before = reached.len();
                        reached.extend(from.iter().copied());
                        grown |= reached.len() > before;
                    }
                }
            }
            if !grown {
                break;
            }
        }
        levels
    }

    /// What changes from this wiring to `next`, one line each, as a person would say it.
    pub fn difference(&self, next: &Wiring) -> Vec<String> {
        let mut lines = Vec::new();
        differ(
            "level",
            &self.levels,
            &next.levels,
            |a, b| LevelSpec { origin: a.origin.clone(), ..b.clone() } == *a,
            &mut lines,
        );
        differ("topic", &self.topics, &next.topics, same_topic, &mut lines);
        differ("workflow", &self.workflows, &next.workflows, same_workflow, &mut lines);
        lines
    }
}

/// All channels of a topic.
pub trait Channels {
    /// Ingress first.
    fn channels(&self) -> Box<dyn Iterator<Item = &ChannelSpec> + '_>;
}

impl Channels for TopicSpec {
    fn channels(&self) -> Box<dyn Iterator<Item = &ChannelSpec> + '_> {
        Box::new(self.ingress.iter().chain(self.egress.iter().flat_map(|group| group.members.iter())))
    }
}

/// Whether two channels are the same but for the place of their declaration.
pub fn same_channel(a: &ChannelSpec, b: &ChannelSpec) -> bool {
    ChannelSpec { origin: a.origin.clone(), ..b.clone() } == *a
}

fn same_topic(a: &TopicSpec, b: &TopicSpec) -> bool {
    let bare = |t: &TopicSpec| TopicSpec {
        ingress: Vec::new(),
        egress: Vec::new(),
        origin: Origin::builtin(),
        ..t.clone()
    };
    let groups = |t: &TopicSpec| {
        t.egress.iter().map(|g| (g.name.clone(), g.pick, g.stall_ns, g.members.len())).collect::<Vec<_>>()
    };
    bare(a) == bare(b)
        && a.ingress.len() == b.ingress.len()
        && groups(a) == groups(b)
        && a.channels().zip(b.channels()).all(|(a, b)| same_channel(a, b))
}

/// Whether two workflows are the same but for the place of their declaration.
pub fn same_workflow(a: &WorkflowSpec, b: &WorkflowSpec) -> bool {
    let bare = |w: &WorkflowSpec| {
        let mut w = w.clone();
        w.origin = Origin::builtin();
        w.call.origin = Origin::builtin();
        w
    };
    bare(a) == bare(b)
}

fn differ<T>(
    what: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
    lines: &mut Vec<String>,
) {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        lines.push(format!("- {what} {name:?} goes"));
    }
    for (name, spec) in new {
        match old.get(name) {
            None => lines.push(format!("+ {what} {name:?} is new")),
            Some(before) if !same(before, spec) => lines.push(format!("~ {what} {name:?} changes")),
            Some(_) => {}
        }
    }
}

fn remove<T>(table: &mut BTreeMap<String, T>, what: &str, name: &str, mistakes: &mut Vec<Mistake>) {
    if table.remove(name).is_none() {
        let hint = names::hint(name, table.keys().map(String::as_str));
        mistakes.push(call_mistake(format!("there is no {what} {name:?} to remove{hint}")));
    }
}

fn call_mistake(sentence: String) -> Mistake {
    Mistake::new(&Origin::new("call", 0), sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::CallSpec;

    fn topic(name: &str, qos: &str) -> Command {
        Command::DeclareTopic(TopicSpec {
            qos: qos.into(),
            ..TopicSpec::named(name, &Origin::new("w.lua", 3))
        })
    }

    fn workflow(name: &str, from: &str, to: Option<&str>) -> Command {
        let origin = Origin::new("w.lua", 9);
        Command::DeclareWorkflow(WorkflowSpec {
            name: name.into(),
            from: from.into(),
            to: to.map(Into::into),
            branches: Vec::new(),
            replies: false,
            group: None,
            request: None,
            call: CallSpec::new("dlf", "/f.so", &origin),
            origin,
        })
    }

    #[test]
    fn a_level_spreads_along_workflows() {
        let base = Wiring::new(&[]);
        let commands = [
            topic("a", "strict"),
            topic("b", "best-effort"),
            topic("c", "best-effort"),
            workflow("w", "a", Some("b")),
            workflow("v", "b", Some("c")),
        ];
        let wiring = base.after(&base, &commands, true).expect("sound");
        let levels = wiring.levels_of_topics();
        assert_eq!(levels["c"], BTreeSet::from(["best-effort", "strict"]));
        assert_eq!(levels["a"], BTreeSet::from(["strict"]));
    }

    #[test]
    fn every_mistake_names_its_line() {
        let base = Wiring::new(&[]);
        let commands = [
            topic("a", "gold"),
            workflow("w", "a", Some("x")),
            topic("b", "strict"),
            workflow("round", "b", Some("b")),
        ];
        let mistakes = base.after(&base, &commands, true).expect_err("mistakes");
        let text = mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n");
        assert!(
            text.contains("w.lua:3: topic \"a\": unknown QoS level \"gold\"; known: best-effort, strict"),
            "{text}"
        );
        assert!(text.contains("w.lua:9: workflow \"w\": to names an unknown topic \"x\""), "{text}");
        assert!(text.contains("such a circle never ends"), "{text}");
    }

    #[test]
    fn the_difference_is_said_in_words() {
        let base = Wiring::new(&[]);
        let one = base.after(&base, &[topic("a", "strict"), topic("b", "strict")], true).expect("sound");
        let two = one.after(&base, &[topic("a", "best-effort"), topic("c", "strict")], true).expect("sound");
        assert_eq!(
            one.difference(&two),
            ["- topic \"b\" goes", "~ topic \"a\" changes", "+ topic \"c\" is new"]
        );
        assert_eq!(two.difference(&two), Vec::<String>::new());
    }
}
