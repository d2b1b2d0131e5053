//! One connection, from its first byte to its last, within its bounds.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service as _;

use crate::gate::Peer;
use crate::limits::{HEAD, HEAD_BYTES, HEADERS};
use crate::shared::Shared;
use crate::slow::Impatient;

/// What all connections are served with.
pub struct Service {
    /// The shared part of the door.
    pub shared: Arc<Shared>,
    /// The resources.
    pub router: Router,
}

/// Serves a connection until it ends, from either side.
pub async fn serve<S>(service: &Service, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        // A router is a handle; it is always ready.
        service.router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Impatient::new(stream)), answer);
    // How a connection ends is the other end's business.
    let _ = connection.await;
}
