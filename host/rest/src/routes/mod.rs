//! The resources: which there are, who may use them, and the document that describes them.

mod document;
mod generations;
mod objects;
mod orders;
mod progress;
mod rights;
mod streams;
mod wiring;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::gate::{self, Gate};
use crate::page;
use crate::problem::Problem;
use crate::shared::Shared;

/// All resources behind the gate.
pub fn router(gate: Arc<Gate>) -> Router {
    let shared = gate.shared.clone();
    let (router, api) = described().split_for_parts();
    let document: Arc<str> = document::finish(api).into();
    let document = get(move |_: rights::May<rights::Get>| async move {
        ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
    });
    router
        .route("/openapi.json", document)
        .merge(page::router())
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(gate, gate::pass))
        .with_state(shared)
}

fn described() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(document::head())
        .routes(routes!(objects::node))
        .routes(routes!(objects::levels))
        .routes(routes!(objects::level))
        .routes(routes!(objects::topics))
        .routes(routes!(objects::topic))
        .routes(routes!(objects::workflows))
        .routes(routes!(objects::workflow))
        .routes(routes!(objects::channels))
        .routes(routes!(objects::channel))
        .routes(routes!(objects::adapters))
        .routes(routes!(objects::adapter))
        .routes(routes!(objects::plugins, orders::load_plugin))
        .routes(routes!(objects::plugin))
        .routes(routes!(wiring::show, wiring::apply))
        .routes(routes!(wiring::reload))
        .routes(routes!(generations::list))
        .routes(routes!(generations::rollback))
        .routes(routes!(generations::confirm))
        .routes(routes!(orders::publish))
        .routes(routes!(orders::prewarm))
        .routes(routes!(orders::drain))
        .routes(routes!(orders::calibrate))
        .routes(routes!(orders::doctor))
        .routes(routes!(streams::notices))
        .routes(routes!(streams::live))
}

async fn unknown(uri: Uri) -> Response {
    let path = uri.path();
    Problem::new(
        StatusCode::NOT_FOUND,
        "UnknownPath",
        format!("there is nothing at {path:?}; /openapi.json lists what there is"),
    )
    .into_response()
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!("{:?} does not take {method}; /openapi.json says what it takes", uri.path()),
    )
    .into_response()
}
