//! The page that shows the node live: three files in the binary, nothing from anywhere else. It only reads; what it shows
//! comes from `/v1/live`.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::shared::Shared;

/// What a browser may do for this page: fetch from this node, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, media type, contents.
const PARTS: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Whether a path is part of the page.
pub fn is_part(path: &str) -> bool {
    PARTS.iter().any(|(part, _, _)| *part == path)
}

/// The page.
pub fn router() -> Router<Arc<Shared>> {
    PARTS.iter().fold(Router::new(), |router, (path, kind, contents)| {
        router.route(path, get(move || async move { part(kind, contents) }))
    })
}

fn part(kind: &'static str, contents: &'static str) -> Response {
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (fields, contents).into_response()
}
