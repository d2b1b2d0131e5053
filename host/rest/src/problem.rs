//! Why a request was not answered: a problem in JSON (RFC 9457), with the sentence that every other door gives.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tempos_control::{Refusal, RefusalKind};
use utoipa::ToSchema;

use crate::limits::SENTENCE_BYTES;

/// The media type.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What the types of problems begin with (RFC 4151); the name that follows is the title.
const TYPES: &str = "tag:tempos.org,2026:Host1/";

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    field: Option<(HeaderName, HeaderValue)>,
}

/// What a refused request is told, as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails<'a> {
    /// A name that does not change: `tag:tempos.org,2026:Host1/NAME`, with the NAME of the D-Bus error where
    /// there is one.
    r#type: String,
    /// That name alone.
    title: &'a str,
    /// The status code.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong and what would be right: one sentence, or one line for each mistake.
    detail: &'a str,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, title, detail: bounded(detail.into()), field: None }
    }

    /// With one more header field.
    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.field = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// The request is not what this resource takes.
    pub fn arguments(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "InvalidArguments", detail)
    }

    /// Nothing is there.
    pub fn no_object(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "NoSuchObject", detail)
    }

    /// It is not said who calls.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "NotAuthenticated", detail)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"tempos\"")
    }

    /// The caller may not do that.
    pub fn not_authorized(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "NotAuthorized", detail)
    }

    /// A bound of the node is reached.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", detail).with(header::RETRY_AFTER, "1")
    }

    /// The caller's own bound is reached.
    pub fn too_fast(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", detail).with(header::RETRY_AFTER, "1")
    }

    /// The wiring is not the one that was named.
    pub fn stale(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::PRECONDITION_FAILED, "OutOfDate", detail)
    }

    /// The body is too large.
    pub fn too_large(bytes_max: usize) -> Self {
        let most = tempos_control::units::show_bytes(bytes_max as u64);
        let detail = format!("the body is larger than {most}, the most that is taken here");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", detail)
    }

    /// The body is of a kind that is not taken here.
    pub fn media(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", detail)
    }

    /// Something that should not happen did.
    pub fn internal(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Failed", detail)
    }

    /// As the text of a server-sent event.
    pub fn json(&self) -> String {
        json(self.status.as_u16(), self.title, &self.detail)
    }
}

fn json(status: u16, title: &str, detail: &str) -> String {
    let details = ProblemDetails { r#type: format!("{TYPES}{title}"), title, status, detail };
    // Texts and a number: they can always be written.
    serde_json::to_string(&details).unwrap_or_default()
}

/// A whole answer, for what is refused before it is a request. The connection ends with it.
pub fn raw(status: u16, reason: &str, title: &str, detail: &str) -> Vec<u8> {
    let body = json(status, title, detail);
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, title) = match refusal.kind {
            RefusalKind::InvalidWiring => (StatusCode::UNPROCESSABLE_ENTITY, "InvalidWiring"),
            RefusalKind::NoSuchObject => (StatusCode::NOT_FOUND, "NoSuchObject"),
            RefusalKind::QosNotGrantable => (StatusCode::CONFLICT, "QosNotGrantable"),
            RefusalKind::PluginRejected => (StatusCode::UNPROCESSABLE_ENTITY, "PluginRejected"),
            RefusalKind::Overloaded => return Problem::overloaded(refusal.message),
            RefusalKind::NotAuthorized => return Problem::not_authorized(refusal.message),
            // Not 503: this node comes back only when it is started anew.
            RefusalKind::ShuttingDown => (StatusCode::CONFLICT, "ShuttingDown"),
            RefusalKind::OutOfDate => return Problem::stale(refusal.message),
            RefusalKind::System => (StatusCode::INTERNAL_SERVER_ERROR, "System"),
            _ => return Problem::internal(refusal.message),
        };
        Problem::new(status, title, refusal.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.field);
        response
    }
}

/// The sentence, of bounded length.
fn bounded(mut sentence: String) -> String {
    if sentence.len() > SENTENCE_BYTES {
        let cut = (0..=SENTENCE_BYTES).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        sentence.truncate(cut);
        sentence.push('…');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_the_refusal_said() {
        let refusal = Refusal::new(RefusalKind::InvalidWiring, "a.lua:1: no\na.lua:2: neither");
        let problem: serde_json::Value = serde_json::from_str(&Problem::from(refusal).json()).expect("JSON");
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "tag:tempos.org,2026:Host1/InvalidWiring",
                "title": "InvalidWiring",
                "status": 422,
                "detail": "a.lua:1: no\na.lua:2: neither",
            })
        );
    }

    #[test]
    fn a_sentence_is_bounded() {
        assert!(Problem::arguments("é".repeat(SENTENCE_BYTES)).detail.len() <= SENTENCE_BYTES + 4);
    }
}
