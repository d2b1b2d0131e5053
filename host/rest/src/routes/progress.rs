//! Orders that may take their time: answered when they are done or, where the caller accepts a stream, with their
//! progress until then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use tempos_control::{Figure, Kind, Order, Reply};
use tokio::sync::mpsc;
use tokio::time::interval;
use utoipa::ToSchema;

use super::rights::{May, Verb};
use super::streams;
use crate::access::Caller;
use crate::limits::PROGRESS;
use crate::problem::Problem;
use crate::shared::Shared;

/// What came of an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// What changed, one line each; empty where there is nothing to tell.
    report: String,
    /// The wiring in force now.
    generation: u64,
}

impl Report {
    /// The answer, with the wiring's generation as its tag.
    fn answer(&self) -> Response {
        let mut response = Json(self).into_response();
        response.headers_mut().extend([tag(self.generation)]);
        response
    }
}

/// The tag of a wiring (ETag): its generation.
pub fn tag(generation: u64) -> (header::HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&format!("\"{generation}\""));
    // Quotes and digits are always a value.
    (header::ETAG, value.unwrap_or(HeaderValue::from_static("\"\"")))
}

/// Carries out an order.
pub async fn carry<V: Verb>(
    shared: &Arc<Shared>,
    May { caller, .. }: May<V>,
    headers: &HeaderMap,
    order: Order,
) -> Result<Response, Problem> {
    if !wants_stream(headers) {
        return Ok(finish(shared, &caller, V::NAME, order).await?.answer());
    }
    let place = streams::place(shared, &caller)?;
    let (tell, told) = mpsc::channel(16);
    let shared = shared.clone();
    tokio::spawn(async move {
        let _place = place;
        let began = Instant::now();
        let mut ticks = interval(PROGRESS);
        let work = finish(&shared, &caller, V::NAME, order);
        tokio::pin!(work);
        let last = loop {
            tokio::select! {
                result = &mut work => break match result {
                    Ok(report) => Event::default().event("done").data(json!(report).to_string()),
                    Err(problem) => Event::default().event("failed").data(problem.json()),
                },
                _ = ticks.tick() => {
                    let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let data = json!({"ElapsedMs": elapsed, "Queued": queued(&shared).await});
                    // Who does not keep up misses a step, and who has gone misses all of them.
                    let _ = tell.try_send(Event::default().event("progress").data(data.to_string()));
                }
            }
        };
        let _ = tell.send(last).await;
    });
    let stream = futures_util::stream::unfold(told, |mut told| async {
        let event = told.recv().await?;
        Some((Ok::<_, Infallible>(event), told))
    });
    Ok(Sse::new(stream).into_response())
}

async fn finish(shared: &Shared, caller: &Caller, verb: &str, order: Order) -> Result<Report, Problem> {
    let report = match shared.carry_out(caller, order).await? {
        Reply::Applied { generation, report } => return Ok(Report { report, generation }),
        Reply::Report(report) => report,
        Reply::Done => String::new(),
        _ => return Err(Problem::internal(format!("the node's answer to {verb} is of another kind"))),
    };
    Ok(Report { report, generation: shared.generation().await? })
}

/// How many events are queued on all levels.
async fn queued(shared: &Shared) -> u64 {
    let sum = shared.read(|node| {
        let levels = node.names(Kind::QosLevel);
        let states = levels.iter().filter_map(|name| node.observe(Kind::QosLevel, name));
        states
            .filter_map(|level| match level.figures.get("Queued") {
                Some(Figure::Count(count)) => Some(*count),
                _ => None,
            })
            .sum()
    });
    sum.await.unwrap_or_default()
}

/// Whether the caller would rather have a stream.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().is_some_and(|range| range.trim() == "text/event-stream"))
}
