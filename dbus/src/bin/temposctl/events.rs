//! `pub` and `sub`: one event in, events out.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::envelope::Envelope;
use zbus::zvariant::{OwnedFd, Value};

use crate::args::{Publish, Subscribe};
use crate::client::Client;
use crate::exit::{DATA, Failing, UNAVAILABLE};
use crate::output::{Mark, Output, tame};

/// The largest payload that is read from a file or from standard input.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;
/// As much of a payload as a line shows.
const SHOWN_BYTES: usize = 160;

/// `pub`
pub async fn publish(client: &Client, output: &mut Output, args: &Publish) -> Result<u8, Failing> {
    let payload = payload(&args.payload)?;
    let mut attributes: BTreeMap<&str, Value<'_>> =
        args.attributes.iter().map(|(key, value)| (key.as_str(), attribute(value))).collect();
    if let Some(reply_to) = &args.reply_to {
        attributes.insert("reply-to", Value::from(reply_to.as_str()));
        let timeout_ms = u32::try_from(client.limit.as_millis()).unwrap_or(u32::MAX);
        let body = (args.topic.as_str(), attributes, payload, timeout_ms);
        // The node says itself that no reply came.
        let limit = client.limit + Duration::from_secs(5);
        let reply: Vec<u8> = client.call_within(limit, "Request", &body).await?;
        match (output.json, std::str::from_utf8(&reply)) {
            (true, Ok(text)) => output.value(&json!({ "payload": text }), false)?,
            (true, Err(_)) => output.value(&json!({ "payload_hex": hex(&reply) }), false)?,
            (false, _) => output.bytes(&reply)?,
        }
        return Ok(0);
    }
    let id: u64 = client.call("Publish", &(args.topic.as_str(), attributes, payload)).await?;
    if output.json {
        output.value(&json!({ "event_id": id }), false)?;
    } else {
        output.line(&id.to_string())?;
    }
    Ok(0)
}

fn payload(given: &str) -> Result<Vec<u8>, Failing> {
    let mut payload = Vec::new();
    let mut read = |source: &mut dyn std::io::Read, what: &str| {
        source.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut payload).map_err(|e| {
            let failing = Failing::from(e);
            Failing { sentence: format!("{what}: {}", failing.sentence), ..failing }
        })
    };
    match given.strip_prefix('@') {
        _ if given == "-" => read(&mut std::io::stdin(), "standard input")?,
        Some(path) => {
            let open = std::fs::File::open(path);
            let mut file = open.map_err(|e| {
                let failing = Failing::from(e);
                Failing { sentence: format!("{path}: {}", failing.sentence), ..failing }
            })?;
            read(&mut file, path)?
        }
        None => return Ok(given.as_bytes().to_vec()),
    };
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(Failing::new(DATA, format!("the payload is longer than {PAYLOAD_BYTES_MAX} bytes")));
    }
    Ok(payload)
}

fn attribute(text: &str) -> Value<'_> {
    match (text, text.parse::<i64>()) {
        ("true", _) => Value::from(true),
        ("false", _) => Value::from(false),
        (_, Ok(number)) => Value::from(number),
        _ => Value::from(text),
    }
}

/// `sub`
pub async fn subscribe(client: &Client, output: &mut Output, args: &Subscribe) -> Result<u8, Failing> {
    let socket: OwnedFd = client.call("Subscribe", &args.topic.as_str()).await?;
    // Receiving is the same call for datagrams and for sequenced packets (unix(7)).
    let socket = UnixDatagram::from(std::os::fd::OwnedFd::from(socket));
    socket.set_nonblocking(false)?;
    let mut packet = vec![0; PAYLOAD_BYTES_MAX as usize];
    let mut left = args.count;
    while left != Some(0) {
        let len = socket.recv(&mut packet)?;
        if len == 0 {
            output.flush()?;
            return match args.count {
                // The node ended it, as it does when it drains.
                None => Ok(0),
                Some(_) => Err(Failing::new(UNAVAILABLE, "the node ended the subscription")),
            };
        }
        let event = Envelope::decode(&packet[..len])
            .map_err(|e| Failing::new(DATA, format!("the node sent an event that is not readable: {e}")))?;
        show(output, &event, args.payload)?;
        // One event, one line, at once: a reader in a pipe must not wait for a full buffer.
        output.flush()?;
        left = left.map(|left| left - 1);
    }
    Ok(0)
}

fn show(output: &mut Output, event: &Envelope<'_>, bare: bool) -> std::io::Result<()> {
    if bare {
        return output.bytes(event.payload);
    }
    let attributes: Map<String, Json> = Attributes::new(event.attributes)
        .map(|(key, value)| (key.to_owned(), attribute_json(value)))
        .collect();
    if output.json {
        let mut value = json!({
            "event_id": event.event_id,
            "topic": event.topic,
            "level": event.level.0,
            "source_time_ns": event.source_time_ns,
            "deadline_ns": event.deadline_ns,
            "attributes": attributes,
        });
        match std::str::from_utf8(event.payload) {
            Ok(text) => value["payload"] = Json::from(text),
            Err(_) => value["payload_hex"] = Json::from(hex(event.payload)),
        }
        return output.value(&value, true);
    }
    let id = output.paint(Mark::Bold, &format!("#{}", event.event_id));
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| format!("{}={value}", tame(key))).collect();
    let attributes = output.paint(Mark::Faint, &attributes.join(" "));
    let parts = [id, tame(event.topic), shown(event.payload), attributes];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    output.line(&parts.join("  "))
}

/// A payload on one line: a text as it is, anything else in hexadecimal, both cut.
fn shown(payload: &[u8]) -> String {
    let cut = &payload[..payload.len().min(SHOWN_BYTES)];
    let rest = payload.len() - cut.len();
    let mut shown = match std::str::from_utf8(payload) {
        Ok(text) => tame(&text.trim_end().chars().take(SHOWN_BYTES).collect::<String>()),
        Err(_) => hex(cut),
    };
    if rest > 0 {
        shown.push_str(&format!("… ({} bytes)", payload.len()));
    }
    shown
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn attribute_json(value: AttributeValue<'_>) -> Json {
    match value {
        AttributeValue::Text(text) => Json::from(text),
        AttributeValue::Unsigned(n) => Json::from(n),
        AttributeValue::Signed(n) => Json::from(n),
        AttributeValue::Address(&[a, b, c, d, high, low]) => {
            let ip = std::net::Ipv4Addr::new(a, b, c, d);
            Json::from(format!("{ip}:{}", u16::from_be_bytes([high, low])))
        }
        AttributeValue::Bytes(bytes) | AttributeValue::Address(bytes) => Json::from(hex(bytes)),
        _ => Json::Null,
    }
}
