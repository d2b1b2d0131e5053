//! The generations of the wiring: those that were in force, and the way back to one of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tempos_control::{Order, Reply, Terms};
use utoipa::ToSchema;

use super::progress::{Report, carry};
use super::rights::{Confirm, Get, May, Rollback};
use super::wiring::{TermsQuery, on_terms};
use crate::body::{json, query};
use crate::problem::{Problem, ProblemDetails};
use crate::shared::Shared;

/// The generations that the node remembers, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Generations {
    /// They.
    generations: Vec<Generation>,
}

/// A wiring that was in force, or is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Generation {
    /// Its number, which never comes again.
    number: u64,
    /// When it came into force: microseconds since the epoch.
    at: u64,
    /// Who gave it, and through which door.
    who: String,
    /// What was ordered.
    what: String,
    /// What changed with it, one line each.
    report: String,
    /// How long it lasts: `kept`, `until restart`, `on probe` or `rolled back`.
    keeping: String,
    /// Whether it is the one in force.
    in_force: bool,
    /// Whether the node still has its wiring, and can go back to it.
    can_return: bool,
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct RollbackTo {
    /// The generation; the one before the one in force by default.
    to: Option<u64>,
}

/// What is to stay.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Confirmed {
    /// The generation; whichever is on probe by default.
    generation: Option<u64>,
}

/// The generations of the wiring.
#[utoipa::path(get, path = "/v1/generations", tag = "Wiring",
    responses((status = 200, description = "They, the oldest first.", body = Generations)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    May { caller, .. }: May<Get>,
) -> Result<Json<Generations>, Problem> {
    let Reply::Generations(list) = shared.carry_out(&caller, Order::Generations).await? else {
        return Err(Problem::internal("the node's answer to Generations is of another kind"));
    };
    let generations = list.into_iter().map(|one| Generation {
        number: one.number,
        at: one.at_us,
        who: one.who.to_string(),
        what: one.what,
        report: one.report,
        keeping: one.keeping.word().to_owned(),
        in_force: one.is_in_force,
        can_return: one.can_return,
    });
    Ok(Json(Generations { generations: generations.collect() }))
}

/// Brings an earlier wiring back into force, as a new generation.
#[utoipa::path(post, path = "/v1/generations/rollback", tag = "Wiring",
    params(TermsQuery, ("If-Match" = Option<String>, Header, description = "The tag of the wiring that is to be replaced, or `*`.")),
    request_body = RollbackTo,
    responses(
        (status = 200, description = "What changed.",
            content((Report = "application/json"), (String = "text/event-stream")),
            headers(("ETag" = String, description = "The generation now in force."))),
        (status = 412, description = "The wiring in force is another one.", body = ProblemDetails<'_>, content_type = "application/problem+json")))]
pub async fn rollback(
    State(shared): State<Arc<Shared>>,
    may: May<Rollback>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let terms = Terms::from(&query::<TermsQuery>(&uri)?);
    let RollbackTo { to } = json(&shared, &headers, body).await?;
    let order = on_terms(&shared, &headers, Order::Rollback { to }, terms, false).await?;
    carry(&shared, may, &headers, order).await
}

/// Says that the wiring on probe is to stay.
#[utoipa::path(post, path = "/v1/generations/confirm", tag = "Wiring",
    request_body = Confirmed,
    responses((status = 200, description = "It stays.", content((Report = "application/json"), (String = "text/event-stream")))))]
pub async fn confirm(
    State(shared): State<Arc<Shared>>,
    may: May<Confirm>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Confirmed { generation } = json(&shared, &headers, body).await?;
    carry(&shared, may, &headers, Order::Confirm { generation }).await
}
