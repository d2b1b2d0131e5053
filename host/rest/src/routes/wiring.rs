//! The wiring: which one is in force, and another one in its place.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tempos_control::{Order, Terms};
use utoipa::{IntoParams, ToSchema};

use super::progress::{Report, carry, tag};
use super::rights::{Apply, Get, May, Reload};
use crate::body::{json, media_type, query, read};
use crate::limits::TEXT_BYTES;
use crate::problem::{Problem, ProblemDetails};
use crate::shared::Shared;

/// The wiring in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Wiring {
    /// Its number: each wiring that is applied has the next one.
    generation: u64,
}

/// A wiring that lies on the node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct WiringPath {
    /// A `.lua` file, or a folder of them; a full path, opened by the daemon.
    path: String,
}

/// How a wiring is to be applied.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApplyQuery {
    /// Only says what would change.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    dry_run: bool,
    /// The name under which mistakes in the script are told; `request` by default.
    chunk_name: Option<String>,
    /// The change does not outlive a restart.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    until_restart: bool,
    /// It is rolled back where something of it fails within so many milliseconds.
    #[param(minimum = 1, maximum = 3_600_000)]
    probe_ms: Option<u64>,
    /// And where nobody confirms it within that time.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    confirm: bool,
}

impl From<&ApplyQuery> for Terms {
    fn from(query: &ApplyQuery) -> Self {
        terms(query.until_restart, query.probe_ms, query.confirm)
    }
}

/// On which terms the wiring is changed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TermsQuery {
    /// The change does not outlive a restart.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    until_restart: bool,
    /// It is rolled back where something of it fails within so many milliseconds.
    #[param(minimum = 1, maximum = 3_600_000)]
    probe_ms: Option<u64>,
    /// And where nobody confirms it within that time.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    confirm: bool,
}

impl From<&TermsQuery> for Terms {
    fn from(query: &TermsQuery) -> Self {
        terms(query.until_restart, query.probe_ms, query.confirm)
    }
}

fn terms(until_restart: bool, probe_ms: Option<u64>, confirm: bool) -> Terms {
    let probe_ns = probe_ms.map(|ms| ms.saturating_mul(1_000_000));
    Terms { until_restart, probe_ns, confirm, only_if: None }
}

/// Which wiring is in force.
#[utoipa::path(get, path = "/v1/wiring", tag = "Wiring",
    responses((status = 200, description = "Its generation, also as its tag.", body = Wiring,
        headers(("ETag" = String, description = "The generation, for `If-Match`.")))))]
pub async fn show(State(shared): State<Arc<Shared>>, _: May<Get>) -> Result<Response, Problem> {
    let generation = shared.generation().await?;
    let mut response = Json(Wiring { generation }).into_response();
    response.headers_mut().extend([tag(generation)]);
    Ok(response)
}

/// Puts a wiring in the place of the one in force.
///
/// The body is the text of a wiring script, or names a file or folder of the node. The whole of it is checked and the
/// difference applied in one step, or nothing changes and every mistake is told. With `If-Match` only where the
/// wiring in force is still of that generation.
#[utoipa::path(put, path = "/v1/wiring", tag = "Wiring",
    params(ApplyQuery, ("If-Match" = Option<String>, Header, description = "The tag of the wiring that is to be replaced, or `*`.")),
    request_body(description = "A wiring script, or where it lies.", content(
        (String = "text/x-lua"), (String = "text/plain"), (WiringPath = "application/json"))),
    responses(
        (status = 200, description = "What changed, or what would.",
            content((Report = "application/json"), (String = "text/event-stream")),
            headers(("ETag" = String, description = "The generation now in force."))),
        (status = 412, description = "The wiring in force is another one.", body = ProblemDetails<'_>, content_type = "application/problem+json")))]
pub async fn apply(
    State(shared): State<Arc<Shared>>,
    may: May<Apply>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let asked: ApplyQuery = query(&uri)?;
    let dry_run = asked.dry_run;
    let terms = Terms::from(&asked);
    let order = match media_type(&headers).as_deref() {
        kind @ (None | Some("text/x-lua" | "text/plain")) => {
            let lua = read(&shared, body, TEXT_BYTES).await?;
            // A wiring of nothing takes everything away: who means it says of what kind it is.
            if kind.is_none() && lua.is_empty() {
                return Err(Problem::arguments(
                    "a wiring script is needed; to take everything away send an empty one as \"text/x-lua\"",
                ));
            }
            let lua = String::from_utf8(lua.into())
                .map_err(|_| Problem::arguments("a wiring script must be UTF-8"))?;
            Order::ApplyText {
                chunk_name: asked.chunk_name.unwrap_or_else(|| "request".into()),
                lua,
                dry_run,
            }
        }
        Some("application/json") => {
            let WiringPath { path } = json(&shared, &headers, body).await?;
            Order::ApplyPath { path: absolute(path)?, dry_run }
        }
        Some(other) => {
            return Err(Problem::media(format!(
                "{other:?} is no wiring: send a script as \"text/x-lua\", or {{\"Path\": \"/full/path\"}} as \"application/json\""
            )));
        }
    };
    let order = on_terms(&shared, &headers, order, terms, dry_run).await?;
    carry(&shared, may, &headers, order).await
}

/// Reads the configured wiring again.
#[utoipa::path(post, path = "/v1/wiring/reload", tag = "Wiring",
    params(TermsQuery, ("If-Match" = Option<String>, Header, description = "The tag of the wiring that is to be replaced, or `*`.")),
    responses(
        (status = 200, description = "What changed.",
            content((Report = "application/json"), (String = "text/event-stream")),
            headers(("ETag" = String, description = "The generation now in force."))),
        (status = 412, description = "The wiring in force is another one.", body = ProblemDetails<'_>, content_type = "application/problem+json")))]
pub async fn reload(
    State(shared): State<Arc<Shared>>,
    may: May<Reload>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let terms = Terms::from(&query::<TermsQuery>(&uri)?);
    let order = on_terms(&shared, &headers, Order::Reload, terms, false).await?;
    carry(&shared, may, &headers, order).await
}

/// A path that means the same for the caller and the daemon.
pub fn absolute(path: String) -> Result<PathBuf, Problem> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(path.into())
    } else {
        Err(Problem::arguments(format!(
            "the path {path:?} is not absolute: the daemon's folder is not the caller's"
        )))
    }
}

/// Puts an order on terms, and makes it depend on the generation that `If-Match` names (RFC 9110, 13.1.1).
pub async fn on_terms(
    shared: &Shared,
    headers: &HeaderMap,
    order: Order,
    mut terms: Terms,
    dry_run: bool,
) -> Result<Order, Problem> {
    if let Some(tags) = tags(headers)? {
        terms.only_if = match tags[..] {
            // The node looks, in one step with the change.
            [Some(generation)] if !dry_run => Some(generation),
            _ => {
                let generation = shared.generation().await?;
                if !tags.contains(&Some(generation)) {
                    return Err(Problem::stale(format!(
                        "the change was meant for another generation than {generation}, which is in force"
                    )));
                }
                Some(generation)
            }
        };
    }
    Ok(if dry_run { order } else { Order::Change { order: Box::new(order), terms } })
}

/// The generations that `If-Match` names, `None` for a tag that no wiring ever has; nothing where any will do.
fn tags(headers: &HeaderMap) -> Result<Option<Vec<Option<u64>>>, Problem> {
    let fields: Vec<_> =
        headers.get_all(header::IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    if fields.is_empty() || fields == ["*"] {
        return Ok(None);
    }
    let mut tags = Vec::new();
    for tag in fields.into_iter().flat_map(|field| field.split(',')) {
        let tag = tag.trim();
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        let Some(inner) = strong.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) else {
            return Err(Problem::arguments(format!(
                "If-Match is {tag:?}; a tag in quotes must stand there, such as \"\\\"4\\\"\", or *"
            )));
        };
        // A weak tag never matches here (RFC 9110, 8.8.3.2), nor do digits that are not written as the node does.
        let number = inner.parse::<u64>().ok();
        tags.push(number.filter(|number| tag == strong && number.to_string() == inner));
    }
    Ok(Some(tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn tags_are_read_as_the_standard_has_them() {
        let read = |values: &[&'static str]| {
            let fields = values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_static(value)));
            tags(&fields.collect())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["*"]), Ok(None));
        assert_eq!(read(&["\"4\""]), Ok(Some(vec![Some(4)])));
        assert_eq!(read(&["\"4\", W/\"5\"", "\"x\",\"06\""]), Ok(Some(vec![Some(4), None, None, None])));
        for wrong in ["4", "", "\"4", "*, \"4\""] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }
}
