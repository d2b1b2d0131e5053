//! One connection, from its first byte to its last, within its bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tower_service::Service as _;

use crate::gate::Peer;
use crate::limits::{HEAD, HEAD_BYTES, HEADERS};
use crate::problem::raw;
use crate::shared::Shared;
use crate::slow::Bounded;

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
    let heard = Arc::new(AtomicBool::new(false));
    let answer = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        // A router is a handle; it is always ready.
        let answered = service.router.clone().call(request.map(Body::new));
        let heard = heard.clone();
        async move {
            let response = answered.await;
            heard.store(false, Ordering::Relaxed);
            response
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Bounded::new(stream, heard.clone())), answer);
    let ended = (&mut connection).await;
    // How a connection ends is the other end's business; only one who began a request is told that it took too long.
    if ended.is_err_and(|error| error.is_timeout()) && heard.load(Ordering::Relaxed) {
        let mut stream = connection.into_parts().io.into_inner();
        let late = format!("the head of the request did not come within {} s", HEAD.as_secs());
        let _ = stream.write_all(&raw(408, "Request Timeout", "TooSlow", &late)).await;
        let _ = stream.shutdown().await;
    }
}
