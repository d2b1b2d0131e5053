//! From checked fields to specs: one function for each constructor.

use mlua::{LightUserData, Value};
use tempos_control::schema::constructor;
use tempos_control::workflow::{BACKOFF_NS, RETRY_DEFAULT};
use tempos_control::{
    CallSpec, CanarySpec, ChannelSpec, EndpointSpec, EventFormat, Origin, OverRate, Pick, RetrySpec,
    TopicSpec, WorkflowSpec, names,
};

use crate::draft::{ChannelDraft, Draft, GroupDraft, Kind, Token, TopicDraft};
use crate::fields::{Fields, Reader};
use crate::hooks::{EVENTS, HOLD_NS, HOOKS_MAX, Hook};
use crate::level;
use crate::request::request;

/// Builds what the pending constructor `handle` declares; the answer is what the script gets for it.
pub(crate) fn finish(draft: &mut Draft, handle: usize, table: &Value) -> Token {
    let Some(pending) = draft.pending.get_mut(handle) else { return Token::Wrong };
    let (kind, name, origin) = (pending.kind, pending.name.clone(), pending.origin.clone());
    let folder = pending.folder.clone();
    let again = std::mem::replace(&mut pending.finished, true);
    if pending.refused {
        spill(draft, table);
        return Token::Wrong;
    }
    if kind == Kind::Channel {
        return channel(draft, &name, table, origin);
    }
    let subject = format!("{} {name:?}", kind.word());
    if again && kind != Kind::Group {
        draft.mistakes.note(&origin, format!("{subject}: it was given a second table"));
        spill(draft, table);
        return Token::Wrong;
    }
    let mut wrong = Vec::new();
    if let Err(sentence) = names::check(kind.word(), &name) {
        wrong.push(sentence);
    }
    let mut fields = read(draft, kind.word(), &subject, table, &mut wrong);
    let token = match kind {
        Kind::Qos => {
            let level = level::build(&name, &subject, &mut fields, &origin, &mut wrong);
            draft.levels.push(level);
            Token::Wrong
        }
        Kind::Topic => {
            let topic = topic(&name, &mut fields, &origin);
            draft.topics.push(topic);
            Token::Wrong
        }
        Kind::Workflow => {
            let folder = folder.as_deref();
            let workflow = workflow(&name, &subject, &mut fields, &origin, folder, &mut wrong);
            draft.workflows.push(workflow);
            Token::Wrong
        }
        Kind::Group | Kind::Channel => {
            let pick = match fields.text("pick").as_deref() {
                Some("least-loaded") => Pick::LeastLoaded,
                Some("hash") => Pick::Hash,
                Some("sticky") => Pick::Sticky,
                _ => Pick::RoundRobin,
            };
            let stall_ns = fields.quantity("stall").unwrap_or(tempos_control::topic::STALL_NS);
            let members = tokens(std::mem::take(&mut fields.list));
            for inner in members.iter().filter(|member| matches!(member, Token::Group(_))) {
                wrong.push(format!("{subject}: a member is a group, it must be a channel"));
                draft.refuse(*inner);
            }
            draft.groups.push(GroupDraft {
                name,
                members,
                pick,
                stall_ns,
                origin: origin.clone(),
                used: None,
                refused: false,
            });
            Token::Group(draft.groups.len() - 1)
        }
    };
    note_all(draft, &origin, wrong);
    token
}

/// Builds a channel.
pub(crate) fn channel(draft: &mut Draft, adapter: &str, table: &Value, origin: Origin) -> Token {
    let subject = format!("{adapter} channel");
    let mut wrong = Vec::new();
    if let Err(sentence) = names::check("adapter", adapter) {
        wrong.push(sentence);
    }
    let mut fields = read(draft, "channel", &subject, table, &mut wrong);
    let name = fields.text("name");
    if let Some(Err(sentence)) = name.as_deref().map(|name| names::check("channel", name)) {
        wrong.push(sentence);
    }
    let format = match fields.text("format").as_deref() {
        Some("event") => EventFormat::Event,
        _ => EventFormat::Raw,
    };
    let spec = ChannelSpec {
        name: name.unwrap_or_default(),
        adapter: adapter.into(),
        qos: fields.text("qos"),
        format,
        endpoint: endpoint(&mut fields, format, &subject, &mut wrong),
        options: std::mem::take(&mut fields.options),
        origin: origin.clone(),
    };
    draft.channels.push(ChannelDraft { spec, used: None, refused: false });
    note_all(draft, &origin, wrong);
    Token::Channel(draft.channels.len() - 1)
}

/// Notes a hook; its function stays in Lua.
pub(crate) fn hook(draft: &mut Draft, event: &Value, options: &Value, origin: &Origin) {
    let mut wrong = Vec::new();
    let given = match event {
        Value::String(text) => text.to_string_lossy(),
        other => crate::sentence::render(other, 0),
    };
    let found = EVENTS.iter().find(|known| **known == given);
    if found.is_none() {
        let hint = names::hint(&given, EVENTS.iter().copied());
        let known = EVENTS.join(", ");
        wrong.push(format!("tempos.on knows no event {given:?}{hint}; known: {known}"));
    }
    let subject = format!("tempos.on({given:?})");
    let mut fields = read(draft, "on", &subject, options, &mut wrong);
    if draft.hooks.len() >= HOOKS_MAX {
        wrong.push(format!("{subject}: a wiring has at most {HOOKS_MAX} hooks"));
    } else {
        draft.hooks.push(Hook {
            event: found.copied().unwrap_or_default(),
            name: fields.text("name"),
            hold_ns: fields.quantity("hold").unwrap_or(HOLD_NS),
            origin: origin.clone(),
            folder: draft.folder.clone(),
        });
    }
    note_all(draft, origin, wrong);
}

/// What an ingress channel lets in. Whether the channel is one is known once a topic holds it.
fn endpoint(
    fields: &mut Fields,
    format: EventFormat,
    subject: &str,
    wrong: &mut Vec<String>,
) -> EndpointSpec {
    let endpoint = EndpointSpec {
        qos_max: fields.text("qos_max"),
        rate: fields.small("rate"),
        producer_rate: fields.small("producer_rate"),
        burst: fields.small("burst"),
        over_rate: match fields.text("over_rate").as_deref() {
            Some("drop") => OverRate::Drop,
            _ => OverRate::Wait,
        },
        in_flight: fields.small("in_flight"),
        event_bytes_max: fields.quantity("event_max").map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
        drops_duplicates: fields.text("duplicates").as_deref() == Some("drop"),
        drops_older: fields.text("order").as_deref() == Some("newer"),
    };
    let unbounded = endpoint.rate.is_none() && endpoint.producer_rate.is_none();
    if unbounded && endpoint.burst.is_some()
        || endpoint.rate.is_none() && endpoint.over_rate == OverRate::Drop
    {
        wrong.push(format!("{subject}: burst and over_rate go with rate; write rate = EVENTS_PER_SECOND"));
    }
    if (endpoint.drops_duplicates || endpoint.drops_older) && format != EventFormat::Event {
        wrong.push(format!(
            "{subject}: duplicates and order look at event ids, which bare payloads have not; write format = \"event\""
        ));
    }
    endpoint
}

fn topic(name: &str, fields: &mut Fields, origin: &Origin) -> TopicDraft {
    let mut spec = TopicSpec::named(name, origin);
    match fields.text("qos") {
        Some(qos) => spec.qos = qos,
        None => spec.qos_is_free = !fields.refused("qos"),
    }
    spec.request = request(fields);
    if let Some(rank) = fields.small("rank") {
        spec.rank = rank;
    }
    if let Some(weight) = fields.small("weight") {
        spec.weight = weight;
    }
    if let Some(share) = fields.small("share") {
        spec.share_percent = share;
    }
    spec.deadline_ns = fields.quantity("deadline");
    spec.time_to_live_ns = fields.quantity("ttl");
    spec.drops_late = fields.text("late").as_deref() == Some("drop");
    spec.takes_replies = fields.flag("replies").unwrap_or(false);
    spec.rules = fields.rules("rules").unwrap_or_default();
    TopicDraft {
        spec,
        ingress: fields.tokens("ingress").map(tokens).unwrap_or_default(),
        egress: fields.tokens("egress").map(tokens).unwrap_or_default(),
    }
}

fn workflow(
    name: &str,
    subject: &str,
    fields: &mut Fields,
    origin: &Origin,
    folder: Option<&std::path::Path>,
    wrong: &mut Vec<String>,
) -> WorkflowSpec {
    let group = fields.text("group");
    if let Some(Err(sentence)) = group.as_deref().map(|group| names::check("group", group)) {
        wrong.push(format!("{subject}: {sentence}"));
    }
    let mut call = CallSpec::new("", "", origin);
    if let Some(mut given) = fields.nested("call") {
        if let Some(method) = given.text("method") {
            if let Err(sentence) = names::check("method", &method) {
                wrong.push(format!("{subject}: call: {sentence}"));
            }
            call.method = method;
        }
        match given.text("file").map(|file| Draft::absolute(&file, folder)) {
            Some(Ok(file)) => call.file = file,
            Some(Err(sentence)) => wrong.push(format!("{subject}: call: {sentence}")),
            None => {}
        }
        call.warm = given.small("warm").unwrap_or(call.warm);
        call.warm_max = given.small("warm_max");
        call.idle_ns = given.quantity("idle");
        call.recycle_after = given.small("recycle");
        call.concurrency = given.small("concurrency").unwrap_or(call.concurrency);
        call.inline = given.flag("inline").unwrap_or(call.inline);
        call.deadline_ns = given.quantity("deadline");
        call.memory_bytes = given.quantity("memory");
        if let Some(bytes) = given.quantity("output_max") {
            match u32::try_from(bytes) {
                Ok(bytes) => call.output_bytes_max = bytes,
                Err(_) => wrong.push(format!("{subject}: call: output_max must be less than 4GiB")),
            }
        }
        call.retry = given.nested("retry").map(|mut fields| retry(&mut fields, subject, wrong));
        if let Some(mut fields) = given.nested("canary") {
            match fields.text("file").map(|file| Draft::absolute(&file, folder)) {
                Some(Ok(file)) => {
                    let share_percent = fields.small("share").unwrap_or(10);
                    call.canary = Some(CanarySpec { file, share_percent });
                }
                Some(Err(sentence)) => wrong.push(format!("{subject}: call: canary: {sentence}")),
                None => {}
            }
        }
        call.options = std::mem::take(&mut given.options);
    }
    let branches =
        if fields.has_branches("to") { fields.branches("to").unwrap_or_default() } else { Vec::new() };
    let default = branches.iter().find(|(name, _)| name == "default").map(|(_, topic)| topic.clone());
    WorkflowSpec {
        name: name.into(),
        from: fields.text("from").unwrap_or_default(),
        to: default.or_else(|| fields.text("to")),
        branches,
        replies: fields.flag("reply").unwrap_or(false),
        group,
        request: request(fields),
        call,
        origin: origin.clone(),
    }
}

/// What is tried again, and how often.
fn retry(fields: &mut Fields, subject: &str, wrong: &mut Vec<String>) -> RetrySpec {
    let mut codes = Vec::new();
    for code in fields.integers("codes").unwrap_or_default() {
        match u8::try_from(code) {
            Ok(code) if code > 0 => codes.push(code),
            _ => wrong.push(format!("{subject}: call: retry: codes holds {code}, it must be 1 to 255")),
        }
    }
    let outcomes = fields.words("outcomes").unwrap_or_default();
    let default = outcomes.is_empty() && codes.is_empty();
    RetrySpec {
        times: fields.small("times").unwrap_or(1),
        backoff_ns: fields.quantity("backoff").unwrap_or(BACKOFF_NS),
        outcomes: if default {
            RETRY_DEFAULT.iter().map(|word| (*word).to_owned()).collect()
        } else {
            outcomes
        },
        codes,
    }
}

fn read(draft: &mut Draft, kind: &str, subject: &str, table: &Value, wrong: &mut Vec<String>) -> Fields {
    let Some(spec) = constructor(kind) else { return Fields::default() };
    let mut spilled = Vec::new();
    let mut reader = Reader {
        subject: subject.into(),
        listing: kind == "group",
        mistakes: wrong,
        bytes: &mut draft.text_bytes,
        bytes_max: draft.limits.memory_bytes,
        spilled: &mut spilled,
        walked: 0,
    };
    let fields = reader.read(table, spec);
    for token in tokens(spilled) {
        draft.refuse(token);
    }
    fields
}

/// What a refused constructor was given has been used, only not well.
pub(crate) fn spill(draft: &mut Draft, table: &Value) {
    let (mut spilled, mut mistakes, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut reader = Reader {
        subject: String::new(),
        listing: false,
        mistakes: &mut mistakes,
        bytes: &mut bytes,
        bytes_max: 0,
        spilled: &mut spilled,
        walked: 0,
    };
    reader.spill(table, 0);
    for token in tokens(spilled) {
        draft.refuse(token);
    }
}

fn tokens(list: Vec<LightUserData>) -> Vec<Token> {
    list.into_iter().map(Token::from_lua).collect()
}

fn note_all(draft: &mut Draft, origin: &Origin, sentences: Vec<String>) {
    for sentence in sentences {
        draft.mistakes.note(origin, crate::sentence::one_line(&sentence));
    }
}
