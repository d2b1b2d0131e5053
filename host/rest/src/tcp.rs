//! The TCP socket, for who is not on this machine: with TLS where it is set up, never without tokens or certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::door::Told;
use crate::gate::Peer;
use crate::limits::{HANDSHAKE, LISTEN_RETRY, PEERS, PEERS_OF_ONE};
use crate::places::{Places, Taker};
use crate::serve::{Service, serve};

/// Listens at an address for as long as it is polled. Where that cannot be had it says so, and tries again: events
/// matter more than this door.
/// `first` is what the first attempt came to.
pub async fn keep(
    service: Arc<Service>,
    listen: SocketAddr,
    first: std::io::Result<TcpListener>,
    tls: Option<TlsAcceptor>,
    amiss: Told,
) {
    let mut attempt = first;
    loop {
        match attempt {
            Ok(listener) => {
                amiss(None);
                take(&service, &listener, tls.as_ref()).await;
            }
            Err(error) => {
                amiss(Some(format!("REST cannot listen at {listen}, it is tried again: {error}")));
                sleep(LISTEN_RETRY).await;
            }
        }
        attempt = TcpListener::bind(listen).await;
    }
}

async fn take(service: &Arc<Service>, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
    let places = Arc::new(Places::default());
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = peers.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let from = from.ip().to_canonical();
                    let Some(place) = places.take(Taker::Address(from), PEERS, PEERS_OF_ONE) else { continue };
                    let (service, tls) = (service.clone(), tls.cloned());
                    peers.spawn(async move {
                        greet(&service, stream, Peer::Remote(from), tls).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn greet(service: &Arc<Service>, stream: TcpStream, peer: Peer, tls: Option<TlsAcceptor>) {
    // Answers are small: they must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(service, stream, peer).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
                serve(service, stream, peer).await;
            }
        }
    }
}
