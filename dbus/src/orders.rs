//! The methods of `org.tempos.Host1.Node`: each becomes one `Order`, and its reply one answer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempos_control::{Generation, Order, Reply, Value as Attribute, Verdict, Who};
use zbus::Message;
use zbus::zvariant::{OwnedFd, Value};

use crate::call::{Call, unreadable};
use crate::failure::Failure;
use crate::property::text;
use crate::{request, terms};

/// Carries out a method whose caller and arguments' types were checked.
pub async fn answer(call: &Call<'_>, method: &str, who: Who) -> Result<Message, Failure> {
    if method == "Request" {
        let body = call.message.body();
        let (topic, attributes, payload, timeout_ms): (String, BTreeMap<String, Value<'_>>, &[u8], u32) =
            body.deserialize().map_err(unreadable)?;
        let attributes = attributes.into_iter().map(attribute).collect::<Result<_, _>>()?;
        return request::answer(call, who, topic, attributes, payload.to_vec(), timeout_ms).await;
    }
    if method == "Generations" {
        // As everybody may ask, it waits with those that read, not with those that give orders.
        let list = call.shared.read(|node| node.carry_out(Order::Generations)).await??;
        let Reply::Generations(list) = list else {
            return Err(Failure::internal("the node's answer to Generations is of another kind"));
        };
        return call.reply(&list.iter().map(generation).collect::<Vec<_>>());
    }
    let order = order(call.message, method)?;
    let reply = call.shared.carry_out(who, order).await?;
    match (method, reply) {
        ("Apply" | "ApplyText" | "Plan", Reply::Report(report)) => call.reply(&text(&report)),
        ("Apply" | "ApplyText" | "Plan", Reply::Done) => call.reply(&""),
        ("ApplyWith" | "ApplyTextWith" | "Rollback", Reply::Applied { generation, report }) => {
            call.reply(&(text(&report), generation))
        }
        ("Publish", Reply::EventId(id)) => call.reply(&id),
        ("Subscribe", Reply::Subscription(socket)) => call.reply(&OwnedFd::from(socket)),
        ("Doctor", Reply::Findings(findings)) => {
            let rows: Vec<_> = findings
                .iter()
                .map(|f| (text(&f.check), verdict(f.verdict), text(&f.finding), text(&f.mend)))
                .collect();
            call.reply(&rows)
        }
        (
            "Reload" | "Drain" | "LoadPlugin" | "Prewarm" | "Confirm" | "Calibrate",
            Reply::Done | Reply::Report(_),
        ) => call.reply(&()),
        (method, _) => Err(Failure::internal(format!("the node's answer to {method} is of another kind"))),
    }
}

fn order(message: &Message, method: &str) -> Result<Order, Failure> {
    let body = message.body();
    Ok(match method {
        "Apply" | "Plan" => {
            let path = absolute(body.deserialize().map_err(unreadable)?)?;
            Order::ApplyPath { path, dry_run: method == "Plan" }
        }
        "ApplyText" => {
            let (chunk_name, lua) = body.deserialize().map_err(unreadable)?;
            Order::ApplyText { chunk_name, lua, dry_run: false }
        }
        "ApplyWith" => {
            let (path, terms): (String, Given<'_>) = body.deserialize().map_err(unreadable)?;
            on_terms(Order::ApplyPath { path: absolute(path)?, dry_run: false }, terms)?
        }
        "ApplyTextWith" => {
            let (chunk_name, lua, terms): (String, String, Given<'_>) =
                body.deserialize().map_err(unreadable)?;
            on_terms(Order::ApplyText { chunk_name, lua, dry_run: false }, terms)?
        }
        "Rollback" => {
            let (number, terms): (u64, Given<'_>) = body.deserialize().map_err(unreadable)?;
            on_terms(Order::Rollback { to: (number > 0).then_some(number) }, terms)?
        }
        "Confirm" => {
            let number: u64 = body.deserialize().map_err(unreadable)?;
            Order::Confirm { generation: (number > 0).then_some(number) }
        }
        "Reload" => Order::Reload,
        "Drain" => Order::Drain { timeout_ms: body.deserialize().map_err(unreadable)? },
        "Publish" => {
            let (topic, attributes, payload): (String, BTreeMap<String, Value<'_>>, &[u8]) =
                body.deserialize().map_err(unreadable)?;
            let attributes = attributes.into_iter().map(attribute).collect::<Result<_, _>>()?;
            Order::Publish { topic, attributes, payload: payload.to_vec() }
        }
        "Subscribe" => Order::Subscribe { topic: body.deserialize().map_err(unreadable)? },
        "LoadPlugin" => Order::LoadPlugin { path: absolute(body.deserialize().map_err(unreadable)?)? },
        "Prewarm" => {
            let (workflow, instances) = body.deserialize().map_err(unreadable)?;
            Order::Prewarm { workflow, instances }
        }
        "Doctor" => Order::Doctor,
        "Calibrate" => Order::Calibrate { time_ms: body.deserialize().map_err(unreadable)? },
        other => return Err(Failure::internal(format!("{other} is announced but not served"))),
    })
}

/// Terms as they are given.
type Given<'a> = BTreeMap<String, Value<'a>>;

fn on_terms(order: Order, given: Given<'_>) -> Result<Order, Failure> {
    Ok(Order::Change { order: Box::new(order), terms: terms::read(given)? })
}

/// A generation as a dictionary, so that what is known of one may grow.
fn generation(generation: &Generation) -> BTreeMap<&'static str, Value<'static>> {
    let mut shown = BTreeMap::from([
        ("number", Value::from(generation.number)),
        ("at", Value::from(generation.at_us)),
        ("door", Value::from(text(&generation.who.door))),
        ("order", Value::from(text(&generation.what))),
        ("report", Value::from(text(&generation.report))),
        ("keeping", Value::from(generation.keeping.word())),
        ("in-force", Value::from(generation.is_in_force)),
        ("can-return", Value::from(generation.can_return)),
    ]);
    let who = &generation.who;
    shown.extend(who.user.map(|user| ("user", Value::from(user))));
    shown.extend(who.process.map(|process| ("process", Value::from(process))));
    shown.extend(who.name.as_deref().map(|name| ("name", Value::from(text(name)))));
    shown
}

/// A path that means the same for the caller and the daemon.
fn absolute(path: String) -> Result<PathBuf, Failure> {
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(Failure::arguments(format!(
            "the path {path:?} is not absolute: the daemon's folder is not the caller's"
        )))
    }
}

fn attribute((key, value): (String, Value<'_>)) -> Result<(String, Attribute), Failure> {
    let value = match &value {
        Value::Bool(v) => Attribute::Flag(*v),
        Value::U8(v) => Attribute::Integer(i64::from(*v)),
        Value::I16(v) => Attribute::Integer(i64::from(*v)),
        Value::U16(v) => Attribute::Integer(i64::from(*v)),
        Value::I32(v) => Attribute::Integer(i64::from(*v)),
        Value::U32(v) => Attribute::Integer(i64::from(*v)),
        Value::I64(v) => Attribute::Integer(*v),
        Value::U64(v) => Attribute::Integer(i64::try_from(*v).map_err(|_| {
            Failure::arguments(format!(
                "attribute {key:?}: {v} is over {}, the largest whole number",
                i64::MAX
            ))
        })?),
        Value::F64(v) => Attribute::Number(*v),
        Value::Str(v) => Attribute::Text(v.to_string()),
        other => {
            return Err(Failure::arguments(format!(
                "attribute {key:?} is of the type {:?}; an attribute is a text, a flag or a number",
                other.value_signature().to_string()
            )));
        }
    };
    Ok((key, value))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Poor => "poor",
        Verdict::Bad => "bad",
    }
}
