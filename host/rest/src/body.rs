//! The body of a request, read within its bounds after the caller's right was checked.

use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::limits::{BODY, SMALL_BYTES, TEXT_BYTES};
use crate::problem::Problem;
use crate::shared::Shared;

/// Reads a body of at most so many bytes.
///
/// # Errors
/// It is too large, comes too slowly or not whole, or there is no room for it now.
pub async fn read(shared: &Shared, mut body: Body, most: usize) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > most as u64 {
        return Err(Problem::too_large(most));
    }
    let whole = async {
        let mut turn = None;
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| Problem::arguments(format!("the body does not come whole: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(Problem::too_large(most));
            }
            if bytes.len() + data.len() > SMALL_BYTES && turn.is_none() {
                turn = Some(shared.large_body().await?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    timeout(BODY, whole).await.unwrap_or_else(|_| {
        Err(Problem::new(
            axum::http::StatusCode::REQUEST_TIMEOUT,
            "TooSlow",
            format!("the body did not come within {} s", BODY.as_secs()),
        ))
    })
}

/// Reads a body in JSON.
///
/// # Errors
/// It is not JSON, or says something else than is taken here.
pub async fn json<T: DeserializeOwned>(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    if media_type(headers).as_deref() != Some("application/json") {
        return Err(Problem::media(
            "the body must be JSON: send the field \"Content-Type: application/json\"",
        ));
    }
    let bytes = read(shared, body, TEXT_BYTES).await?;
    // serde would take the fields of an object from a list, too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::arguments("the body is not what is taken here: an object must stand there"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::arguments(format!("the body is not what is taken here: {error}")))
}

/// The media type of a body, without its parameters.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The query of a request.
///
/// # Errors
/// It says something else than is taken here.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::<T>::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Problem::arguments(format!("the query: {}", rejection.body_text()))),
    }
}

/// The name of an object, out of the path.
#[derive(Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<String>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(name)) => Ok(Name(name)),
            Err(_) => Err(Problem::arguments("the name in the path is not UTF-8, percent-encoded")),
        }
    }
}
