//! The wiring as a whole: what is declared twice, what names something that is not there, and what was
//! built but never used. Ends in the commands.

use std::collections::HashMap;

use tempos_control::level::{BEST_EFFORT, LEVELS_MAX, STRICT};
use tempos_control::{ChannelSpec, Command, GroupSpec, Origin, Pick, names};

use crate::draft::{Draft, Mistakes, Token, TopicDraft};

/// Near names are looked for this many times in a run: with ten thousand topics it is not free.
const HINTS_MAX: usize = 16;

/// Checks everything and makes the commands: levels, then topics, then workflows, each in the order of
/// their declaration.
///
/// `whole` is false where a script did not reach its end: then what is missing is not looked for,
/// because the rest of that script may have declared it.
pub(crate) fn commands(mut draft: Draft, whole: bool) -> (Vec<Command>, Mistakes) {
    let mut mistakes = std::mem::take(&mut draft.mistakes);
    twice("qos", draft.levels.iter().map(|l| (l.name.as_str(), &l.origin)), &mut mistakes);
    twice("topic", draft.topics.iter().map(|t| (t.spec.name.as_str(), &t.spec.origin)), &mut mistakes);
    twice("workflow", draft.workflows.iter().map(|w| (w.name.as_str(), &w.origin)), &mut mistakes);
    let own: Vec<_> = draft.levels.iter().filter(|l| l.name != STRICT && l.name != BEST_EFFORT).collect();
    if let Some(level) = own.get(LEVELS_MAX - 2) {
        let sentence = format!(
            "qos {:?}: a node has at most {LEVELS_MAX} levels, strict and best-effort included",
            level.name
        );
        mistakes.note(&level.origin, sentence);
    }
    for workflow in &draft.workflows {
        for sentence in workflow.mistakes() {
            mistakes.note(&workflow.origin, format!("workflow {:?}: {sentence}", workflow.name));
        }
    }
    if whole {
        references(&draft, &mut mistakes);
        for pending in draft.pending.iter().filter(|pending| !pending.finished) {
            let (word, name) = (pending.kind.word(), &pending.name);
            let form = match pending.kind {
                crate::draft::Kind::Channel => format!("tempos.channel({name:?}, {{ … }})"),
                _ => format!("tempos.{word} {name:?} {{ … }}"),
            };
            mistakes.note(&pending.origin, format!("{word} {name:?} has no table; write {form}"));
        }
    }
    let mut commands: Vec<Command> =
        std::mem::take(&mut draft.levels).into_iter().map(Command::DeclareLevel).collect();
    for topic in std::mem::take(&mut draft.topics) {
        let topic = assemble(&mut draft, topic, &mut mistakes);
        commands.push(Command::DeclareTopic(topic));
    }
    if whole {
        unused(&draft, &mut mistakes);
    }
    let channels = commands.iter().flat_map(|command| match command {
        Command::DeclareTopic(topic) => {
            let egress = topic.egress.iter().flat_map(|group| &group.members);
            topic.ingress.iter().chain(egress).map(|c| (c.name.as_str(), &c.origin)).collect()
        }
        _ => Vec::new(),
    });
    twice("channel", channels, &mut mistakes);
    commands.extend(std::mem::take(&mut draft.workflows).into_iter().map(Command::DeclareWorkflow));
    (commands, mistakes)
}

fn twice<'a>(what: &str, all: impl Iterator<Item = (&'a str, &'a Origin)>, mistakes: &mut Mistakes) {
    let mut first: HashMap<&str, &Origin> = HashMap::new();
    for (name, origin) in all {
        match first.get(name) {
            Some(before) => {
                mistakes.note(origin, format!("{what} {name:?} is declared twice, first at {before}"))
            }
            None => {
                first.insert(name, origin);
            }
        }
    }
}

fn references(draft: &Draft, mistakes: &mut Mistakes) {
    let levels: Vec<&str> =
        [STRICT, BEST_EFFORT].into_iter().chain(draft.levels.iter().map(|l| l.name.as_str())).collect();
    let topics: std::collections::HashSet<&str> = draft.topics.iter().map(|t| t.spec.name.as_str()).collect();
    let mut hints = 0;
    let mut unknown =
        |origin: &Origin, subject: String, key: &str, what: &str, name: &str, known: Vec<&str>| {
            hints += 1;
            let hint = if hints <= HINTS_MAX { names::hint(name, known) } else { String::new() };
            mistakes.note(origin, format!("{subject}: {key} names the unknown {what} {name:?}{hint}"));
        };
    for topic in &draft.topics {
        let (spec, name) = (&topic.spec, &topic.spec.qos);
        if !levels.contains(&name.as_str()) {
            unknown(&spec.origin, format!("topic {:?}", spec.name), "qos", "level", name, levels.clone());
        }
        for rule in spec.rules.iter().filter(|rule| !levels.contains(&rule.qos.as_str())) {
            let subject = format!("topic {:?}", spec.name);
            unknown(&spec.origin, subject, "a rule", "level", &rule.qos, levels.clone());
        }
    }
    for channel in &draft.channels {
        let spec = &channel.spec;
        for (key, name) in [("qos", spec.qos.as_deref()), ("qos_max", spec.endpoint.qos_max.as_deref())] {
            if let Some(name) = name.filter(|name| !levels.contains(name)) {
                let subject = format!("{} channel", spec.adapter);
                unknown(&spec.origin, subject, key, "level", name, levels.clone());
            }
        }
    }
    for workflow in &draft.workflows {
        let subject = || format!("workflow {:?}", workflow.name);
        // An empty `from` has already been reported as missing.
        let from = Some((String::from("from"), workflow.from.as_str())).filter(|(_, name)| !name.is_empty());
        for (key, name) in
            from.into_iter().chain(workflow.targets()).filter(|(_, name)| !topics.contains(name))
        {
            unknown(&workflow.origin, subject(), &key, "topic", name, topics.iter().copied().collect());
        }
    }
}

/// Puts the channels and groups of a topic in their places and names those that have no name.
fn assemble(draft: &mut Draft, topic: TopicDraft, mistakes: &mut Mistakes) -> tempos_control::TopicSpec {
    // A sign of life: a large wiring takes its time, and is not stuck.
    crate::budget::beat();
    let TopicDraft { mut spec, ingress, egress } = topic;
    for (index, token) in (1..).zip(ingress) {
        match token {
            Token::Channel(at) => {
                let name = format!("{}/in/{index}", spec.name);
                spec.ingress.extend(take_channel(draft, at, name, &spec.origin, mistakes));
            }
            Token::Group(at) => {
                let group = draft.groups.get_mut(at);
                let name = group.map(|group| {
                    group.used = Some(spec.origin.clone());
                    group.name.clone()
                });
                let name = name.unwrap_or_default();
                mistakes.note(
                    &spec.origin,
                    format!("topic {:?}: ingress holds the group {name:?}, it must hold channels", spec.name),
                );
            }
            Token::Wrong => {}
        }
    }
    for (index, token) in (1..).zip(egress) {
        match token {
            Token::Channel(at) => {
                let group = index.to_string();
                let name = format!("{}/{group}/1", spec.name);
                if let Some(channel) = take_channel(draft, at, name, &spec.origin, mistakes) {
                    let origin = channel.origin.clone();
                    let members = vec![channel];
                    spec.egress.push(GroupSpec {
                        name: group,
                        members,
                        pick: Pick::default(),
                        stall_ns: tempos_control::topic::STALL_NS,
                        origin,
                    });
                }
            }
            Token::Group(at) => {
                let group = take_group(draft, at, &spec.name, &spec.origin, mistakes);
                spec.egress.extend(group);
            }
            Token::Wrong => {}
        }
    }
    for channel in spec.egress.iter().flat_map(|group| &group.members) {
        if channel.endpoint != tempos_control::EndpointSpec::default() {
            let sentence = format!(
                "{} channel {:?}: qos_max, rate, producer_rate, burst, over_rate, in_flight, event_max, duplicates and order \
                 are for ingress channels only; leave them out",
                channel.adapter, channel.name
            );
            mistakes.note(&channel.origin, sentence);
        }
    }
    let groups = spec.egress.iter().map(|group| (group.name.as_str(), &group.origin));
    twice(&format!("topic {:?}: group", spec.name), groups, mistakes);
    spec
}

fn take_group(
    draft: &mut Draft,
    at: usize,
    topic: &str,
    user: &Origin,
    mistakes: &mut Mistakes,
) -> Option<GroupSpec> {
    let group = draft.groups.get_mut(at)?;
    if let Some(before) = group.used.replace(user.clone()) {
        let sentence = format!("group {:?} is used twice, at {before} and at {user}", group.name);
        mistakes.note(&group.origin, sentence);
        return None;
    }
    let (name, pick, stall_ns, origin) =
        (group.name.clone(), group.pick, group.stall_ns, group.origin.clone());
    let tokens = std::mem::take(&mut group.members);
    let mut members = Vec::with_capacity(tokens.len());
    for (index, token) in (1..).zip(tokens) {
        if let Token::Channel(at) = token {
            members.extend(take_channel(draft, at, format!("{topic}/{name}/{index}"), &origin, mistakes));
        }
    }
    Some(GroupSpec { name, members, pick, stall_ns, origin })
}

fn take_channel(
    draft: &mut Draft,
    at: usize,
    name: String,
    user: &Origin,
    mistakes: &mut Mistakes,
) -> Option<ChannelSpec> {
    let channel = draft.channels.get_mut(at)?;
    if channel.used.is_some() && mistakes.is_full() {
        // Only counted: the same list of channels may stand in a hundred thousand topics.
        mistakes.uncounted += 1;
        return None;
    }
    if let Some(before) = channel.used.replace(user.clone()) {
        let sentence = format!("{} channel is used twice, at {before} and at {user}", channel.spec.adapter);
        mistakes.note(&channel.spec.origin, sentence);
        return None;
    }
    let mut spec = channel.spec.clone();
    if spec.name.is_empty() {
        if let Err(sentence) = names::check("channel", &name) {
            mistakes.note(
                &spec.origin,
                format!("{} channel: {sentence}; give it a shorter one with name", spec.adapter),
            );
        }
        spec.name = name;
    }
    Some(spec)
}

/// A declared thing is never silently left out.
fn unused(draft: &Draft, mistakes: &mut Mistakes) {
    for group in draft.groups.iter().filter(|group| group.used.is_none() && !group.refused) {
        let sentence =
            format!("group {:?} was built but is not used; put it into a topic's egress", group.name);
        mistakes.note(&group.origin, sentence);
        // Its members would only repeat the sentence.
    }
    let in_groups: std::collections::HashSet<usize> = draft
        .groups
        .iter()
        .flat_map(|group| &group.members)
        .filter_map(|member| if let Token::Channel(at) = member { Some(*at) } else { None })
        .collect();
    for (at, channel) in draft.channels.iter().enumerate() {
        if channel.used.is_none() && !channel.refused && !in_groups.contains(&at) {
            let sentence = format!(
                "{} channel was built but is not used; put it into a topic's ingress or egress, or into a group",
                channel.spec.adapter
            );
            mistakes.note(&channel.spec.origin, sentence);
        }
    }
}
