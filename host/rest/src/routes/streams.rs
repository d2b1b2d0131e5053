//! Streams of server-sent events: what happens, and the figures of the node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::rights::{Get, May};
use crate::access::Caller;
use crate::limits::{KEEP_ALIVE, STREAM, STREAMS, STREAMS_OF_ONE};
use crate::places::{Place, Taker};
use crate::problem::Problem;
use crate::shared::Shared;

/// What happens, as it happens.
///
/// Each event has the name of a D-Bus signal: `WiringApplied`, `WiringRejected`, `PluginStateChanged`,
/// `DeadlineMissed`, `EventsDropped`, `FunctionFailed`; or `ObjectsChanged`, `StateChanged`, `ClockChanged`. Its data is an object with
/// the signal's arguments. `Lost` says how many a reader has missed that did not keep up. A stream ends after ten
/// minutes: open it again.
#[utoipa::path(get, path = "/v1/notices", tag = "Streams",
    responses((status = 200, description = "Server-sent events.", body = String, content_type = "text/event-stream")))]
pub async fn notices(
    State(shared): State<Arc<Shared>>,
    May { caller, .. }: May<Get>,
) -> Result<Response, Problem> {
    let place = place(&shared, &caller)?;
    let state = (shared.live.notices(), place, Instant::now() + STREAM);
    Ok(answer(stream::unfold(state, |(mut notices, place, end)| async move {
        let event = match timeout_at(end, notices.recv()).await {
            Ok(Ok((name, data))) => Event::default().event(name).data(data),
            Ok(Err(RecvError::Lagged(count))) => {
                Event::default().event("Lost").data(format!("{{\"Count\":{count}}}"))
            }
            Ok(Err(RecvError::Closed)) | Err(_) => return None,
        };
        Some((Ok(event), (notices, place, end)))
    })))
}

/// The figures of the node, once in a second.
///
/// Each event `figures` holds `Node`, and `Levels`, `Topics`, `Workflows`, `Channels`, `Plugins` and `Adapters`: the first
/// hundred of each, as the lists have them; `LeftOut` says how many there are beyond. A stream ends after ten minutes:
/// open it again.
#[utoipa::path(get, path = "/v1/live", tag = "Streams",
    responses((status = 200, description = "Server-sent events.", body = String, content_type = "text/event-stream")))]
pub async fn live(
    State(shared): State<Arc<Shared>>,
    May { caller, .. }: May<Get>,
) -> Result<Response, Problem> {
    let place = place(&shared, &caller)?;
    let state = (shared.live.figures(), place, Instant::now() + STREAM);
    Ok(answer(stream::unfold(state, |(mut figures, place, end)| async move {
        timeout_at(end, figures.changed()).await.ok()?.ok()?;
        let data = figures.borrow_and_update().clone();
        Some((Ok(Event::default().event("figures").data(data)), (figures, place, end)))
    })))
}

/// A place for a stream of this caller.
///
/// # Errors
/// That there is none.
pub fn place(shared: &Shared, caller: &Caller) -> Result<Place, Problem> {
    shared.streams.take(Taker::from(caller), STREAMS, STREAMS_OF_ONE).ok_or_else(|| {
        Problem::overloaded(format!(
            "as many streams are open as may be: {STREAMS}, {STREAMS_OF_ONE} of them for one caller; close some"
        ))
    })
}

fn answer(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let first = Event::default().retry(Duration::from_secs(1));
    let stream = futures_util::StreamExt::chain(stream::iter([Ok(first)]), stream);
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
