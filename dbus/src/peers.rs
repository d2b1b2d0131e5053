//! The node's own socket: a file that clients connect to, with or without a bus on the machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempos_socket::Listener;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zbus::{Connection, Guid, MessageStream, connection};

use crate::access::Caller;
use crate::caller;
use crate::guard::GuardedStream;
use crate::limits::{HANDSHAKE, PEERS, PEERS_OF_A_USER, PEERS_RESERVED};
use crate::link::{self, Link};
use crate::shared::{Shared, lock};

/// Takes connections for as long as it is polled; they end with it.
pub async fn listen(shared: Arc<Shared>, listener: Listener) {
    let guid = Guid::generate();
    let places = Arc::new(Places::default());
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = peers.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(caller) = caller::of_socket(&stream) else { continue };
                    // Over the bound: closed at once, which the client sees.
                    let Some(place) = places.take(caller.uid, shared.house.owns(caller.uid)) else { continue };
                    let (shared, guid) = (shared.clone(), guid.to_owned());
                    peers.spawn(async move {
                        if let Ok(Ok(stream)) = timeout(HANDSHAKE, greet(stream, guid.into())).await {
                            serve(&shared, stream, caller).await;
                        }
                        drop(place);
                    });
                }
                // Out of descriptors or memory: the waiting client is taken when there is room again.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn greet(stream: UnixStream, guid: zbus::OwnedGuid) -> zbus::Result<MessageStream> {
    let builder = connection::Builder::socket(GuardedStream(stream)).server(guid)?.p2p();
    builder.build_message_stream().await
}

async fn serve(shared: &Arc<Shared>, stream: MessageStream, caller: Caller) {
    let connection = Connection::from(&stream);
    let (link, signals) = Link::from_peer(shared.next_link(), connection, caller);
    link::serve(shared, &link, stream, signals).await;
}

/// The places for connections, by user.
#[derive(Default)]
struct Places {
    taken: Mutex<HashMap<u32, usize>>,
}

impl Places {
    fn take(self: &Arc<Self>, uid: u32, owner: bool) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let all: usize = taken.values().sum();
        let own = taken.entry(uid).or_default();
        let bound = if owner { PEERS + PEERS_RESERVED } else { PEERS };
        if all >= bound || (!owner && *own >= PEERS_OF_A_USER) {
            if *own == 0 {
                taken.remove(&uid);
            }
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), uid })
    }
}

struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_can_take_all_places() {
        let places = Arc::new(Places::default());
        let first: Vec<_> = (0..PEERS).map_while(|_| places.take(1000, false)).collect();
        assert_eq!(first.len(), PEERS_OF_A_USER);
        let second: Vec<_> = (0..PEERS).map_while(|_| places.take(1001, false)).collect();
        assert_eq!(first.len() + second.len(), PEERS);
        assert!(places.take(1002, false).is_none());
        assert!(places.take(0, true).is_some(), "root still gets in");
        drop(first);
        assert!(places.take(1002, false).is_some());
        drop(second);
        assert!(lock(&places.taken).is_empty(), "every place comes back");
    }
}
