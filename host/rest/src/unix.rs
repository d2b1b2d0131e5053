//! The Unix socket: a file that only processes of this machine reach, and of which the kernel says who they are.

use std::sync::Arc;
use std::time::Duration;

use tempos_socket::Listener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::access::Caller;
use crate::caller;
use crate::gate::Peer;
use crate::limits::{PEERS, PEERS_OF_ONE, PEERS_RESERVED};
use crate::places::{Places, Taker};
use crate::serve::{Service, serve};

/// Takes connections for as long as it is polled; they end with it.
pub async fn listen(service: Arc<Service>, listener: Listener) {
    let places = Arc::new(Places::default());
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = peers.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(caller) = caller::of_socket(&stream) else { continue };
                    let Caller::Local { uid, .. } = caller else { continue };
                    let (all, each) = match service.shared.house.owns(uid) {
                        true => (PEERS + PEERS_RESERVED, PEERS + PEERS_RESERVED),
                        false => (PEERS, PEERS_OF_ONE),
                    };
                    // Over the bound: closed at once, which the client sees.
                    let Some(place) = places.take(Taker::User(uid), all, each) else { continue };
                    let service = service.clone();
                    peers.spawn(async move {
                        serve(&service, stream, Peer::Local(caller)).await;
                        drop(place);
                    });
                }
                // Out of descriptors or memory: the waiting client is taken when there is room again.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
