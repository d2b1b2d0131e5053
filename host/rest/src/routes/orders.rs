//! Orders beside those about the wiring: events, instances, plugins, the drain, the look at the system.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempos_control::{Order, Reply, Value as Attribute, Verdict};
use utoipa::ToSchema;

use super::progress::{Report, carry};
use super::rights::{Calibrate, Doctor, Drain, LoadPlugin, May, Prewarm, Publish};
use super::wiring::absolute;
use crate::body::{Name, json, media_type, read};
use crate::limits::{DRAIN_MS_MAX, PAYLOAD_BYTES};
use crate::problem::Problem;
use crate::shared::Shared;

/// An event to be put into a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Event {
    /// Its attributes: texts, flags and numbers.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, AttributeValue>>)]
    attributes: BTreeMap<String, Value>,
    /// Its payload; empty by default.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    payload: String,
    /// How the payload is written; `text` by default.
    #[serde(default)]
    #[schema(value_type = Option<Encoding>)]
    encoding: Encoding,
}

/// The value of an attribute.
#[derive(Debug, ToSchema)]
#[schema(as = Attribute)]
#[allow(dead_code, reason = "only its schema is used: the sentences about wrong values are the door's own")]
#[serde(untagged)]
pub enum AttributeValue {
    /// A flag.
    Flag(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// How a payload is written in JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is, in UTF-8.
    #[default]
    Text,
    /// In base64 (RFC 4648, section 4).
    Base64,
}

/// A published event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Published {
    /// Its id: a text, for it may be larger than the whole numbers that readers of JSON keep.
    event_id: String,
}

/// How many instances are wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Instances {
    /// How many.
    instances: u32,
}

/// How long a drain may take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct DrainLimit {
    /// The limit in milliseconds; 0 leaves what is queued.
    #[schema(minimum = 0, maximum = 600_000)]
    timeout_ms: u32,
}

/// How long to measure.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CalibrationTime {
    /// About how many milliseconds, 1000 to 600000; 0 leaves that to the node.
    time_ms: u32,
}

/// A plugin file on the node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PluginPath {
    /// The full path of the `.so`.
    path: String,
}

/// What the system grants to real-time threads.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Findings {
    /// The findings.
    findings: Vec<Finding>,
}

/// One finding.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// What was looked at.
    check: String,
    /// `good`, `poor` (it costs latency or safety) or `bad` (a level does not get what it asks for).
    verdict: String,
    /// What was found.
    finding: String,
    /// How to mend it.
    mend: String,
}

/// Puts an event into a topic.
///
/// The body is the payload itself as `application/octet-stream`, or an object with the attributes too.
#[utoipa::path(post, path = "/v1/topics/{name}/events", tag = "Orders",
    params(("name" = String, Path, description = "The topic, percent-encoded: `/` is `%2F`.", example = "press")),
    request_body(description = "The event.", content((Event = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "It is in the topic.", body = Published)))]
pub async fn publish(
    State(shared): State<Arc<Shared>>,
    May { caller, .. }: May<Publish>,
    Name(topic): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, Problem> {
    let (attributes, payload) = match media_type(&headers).as_deref() {
        Some("application/json") => {
            let Event { attributes, payload, encoding } = json(&shared, &headers, body).await?;
            let payload = match encoding {
                Encoding::Text => payload.into_bytes(),
                Encoding::Base64 => STANDARD
                    .decode(&payload)
                    .map_err(|error| Problem::arguments(format!("the payload is not base64: {error}")))?,
            };
            (attributes.into_iter().map(attribute).collect::<Result<_, _>>()?, payload)
        }
        Some("application/octet-stream") => (Vec::new(), read(&shared, body, PAYLOAD_BYTES).await?.into()),
        other => {
            let other = other.unwrap_or("nothing said");
            return Err(Problem::media(format!(
                "{other:?} is no event: send its payload as \"application/octet-stream\", or an object as \"application/json\""
            )));
        }
    };
    let order = Order::Publish { topic, attributes, payload };
    match shared.carry_out(&caller, order).await? {
        Reply::EventId(event_id) => Ok(Json(Published { event_id: event_id.to_string() })),
        _ => Err(Problem::internal("the node's answer to Publish is of another kind")),
    }
}

/// Makes instances of a workflow's function ready.
#[utoipa::path(post, path = "/v1/workflows/{name}/prewarm", tag = "Orders",
    params(("name" = String, Path, description = "The workflow, percent-encoded: `/` is `%2F`.", example = "detect")),
    request_body = Instances,
    responses((status = 200, description = "They are.", content((Report = "application/json"), (String = "text/event-stream")))))]
pub async fn prewarm(
    State(shared): State<Arc<Shared>>,
    may: May<Prewarm>,
    Name(workflow): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Instances { instances } = json(&shared, &headers, body).await?;
    carry(&shared, may, &headers, Order::Prewarm { workflow, instances }).await
}

/// Drains the node: ingress stops, and what is queued is finished within the limit.
///
/// The node takes no more events then, until it is started anew.
#[utoipa::path(post, path = "/v1/drain", tag = "Orders",
    request_body = DrainLimit,
    responses((status = 200, description = "The counts.", content((Report = "application/json"), (String = "text/event-stream")))))]
pub async fn drain(
    State(shared): State<Arc<Shared>>,
    may: May<Drain>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let DrainLimit { timeout_ms } = json(&shared, &headers, body).await?;
    if timeout_ms > DRAIN_MS_MAX {
        return Err(Problem::arguments(format!(
            "TimeoutMs is {timeout_ms}; 0 to {DRAIN_MS_MAX} are allowed"
        )));
    }
    carry(&shared, may, &headers, Order::Drain { timeout_ms }).await
}

/// Begins to measure what hops cost on this machine.
///
/// How far it is stands in `Calibrating` and `CalibrationPercent` of the node, also in `/v1/live`; grants rest on it once
/// it is done.
#[utoipa::path(post, path = "/v1/calibrate", tag = "Orders",
    request_body = CalibrationTime,
    responses((status = 200, description = "It has begun.", content((Report = "application/json"), (String = "text/event-stream")))))]
pub async fn calibrate(
    State(shared): State<Arc<Shared>>,
    may: May<Calibrate>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let CalibrationTime { time_ms } = json(&shared, &headers, body).await?;
    carry(&shared, may, &headers, Order::Calibrate { time_ms }).await
}

/// Loads a plugin from outside the plugin folders.
///
/// Only root and the daemon's own user may, over the Unix socket: it is code that runs with the daemon's rights.
#[utoipa::path(post, path = "/v1/plugins", tag = "Orders",
    request_body = PluginPath,
    responses((status = 200, description = "It is loaded.", content((Report = "application/json"), (String = "text/event-stream")))))]
pub async fn load_plugin(
    State(shared): State<Arc<Shared>>,
    may: May<LoadPlugin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let PluginPath { path } = json(&shared, &headers, body).await?;
    carry(&shared, may, &headers, Order::LoadPlugin { path: absolute(path)? }).await
}

/// Looks at what the system grants to real-time threads, and at what it costs where it does not.
#[utoipa::path(get, path = "/v1/doctor", tag = "Orders",
    responses((status = 200, description = "The findings.", body = Findings)))]
pub async fn doctor(
    State(shared): State<Arc<Shared>>,
    May { caller, .. }: May<Doctor>,
) -> Result<Json<Findings>, Problem> {
    let Reply::Findings(found) = shared.carry_out(&caller, Order::Doctor).await? else {
        return Err(Problem::internal("the node's answer to Doctor is of another kind"));
    };
    let findings = found.into_iter().map(|f| Finding {
        check: f.check,
        verdict: String::from(match f.verdict {
            Verdict::Good => "good",
            Verdict::Poor => "poor",
            Verdict::Bad => "bad",
        }),
        finding: f.finding,
        mend: f.mend,
    });
    Ok(Json(Findings { findings: findings.collect() }))
}

fn attribute((key, value): (String, Value)) -> Result<(String, Attribute), Problem> {
    let value = match &value {
        Value::Bool(v) => Attribute::Flag(*v),
        Value::String(v) => Attribute::Text(v.clone()),
        Value::Number(v) => match (v.as_i64(), v.as_u64(), v.as_f64()) {
            (Some(v), _, _) => Attribute::Integer(v),
            (None, Some(v), _) => {
                return Err(Problem::arguments(format!(
                    "attribute {key:?}: {v} is over {}, the largest whole number",
                    i64::MAX
                )));
            }
            (None, None, v) => Attribute::Number(v.unwrap_or_default()),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(Problem::arguments(format!(
                "attribute {key:?} is {value}; an attribute is a text, a flag or a number"
            )));
        }
    };
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attributes_are_texts_flags_and_numbers() {
        let read = |value| attribute(("a".into(), value)).map(|(_, value)| value);
        assert_eq!(read(json!("x")), Ok(Attribute::Text("x".into())));
        assert_eq!(read(json!(true)), Ok(Attribute::Flag(true)));
        assert_eq!(read(json!(-3)), Ok(Attribute::Integer(-3)));
        assert_eq!(read(json!(1.5)), Ok(Attribute::Number(1.5)));
        for wrong in [json!(null), json!([1]), json!({}), json!(u64::MAX)] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
