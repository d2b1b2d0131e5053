//! One connection, to a bus or from a peer: takes its calls, within bounds, and sends its signals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use futures_util::StreamExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use zbus::message::{Flags, Type};
use zbus::{Connection, MatchRule, Message, MessageStream};

use crate::access::Caller;
use crate::call::{self, Call};
use crate::failure::Failure;
use crate::limits::{CALLS_OF_A_BUS, CALLS_OF_A_CLIENT, SIGNALS_WAITING, UNREAD};
use crate::shared::{Shared, lock};

/// The unique name that the door has on every peer connection.
pub const OWN_PEER_NAME: &str = ":1.0";

/// What is at the other end.
pub enum Side {
    /// A bus with its many clients.
    Bus {
        /// Calls under way, by client.
        calls: Mutex<HashMap<String, usize>>,
    },
    /// One client, without a bus in between.
    Peer(Peer),
}

/// A client on the peer socket.
pub struct Peer {
    /// Who it is, from the kernel.
    pub caller: Caller,
    /// The unique name that it was given.
    pub name: String,
    /// How it began.
    manner: AtomicU8,
    /// Whether its `Hello` was answered.
    pub greeted: AtomicBool,
    /// The signals that it asked for.
    pub rules: Mutex<Vec<MatchRule<'static>>>,
}

/// It has not said anything yet, and is told nothing: libraries take a signal before the answer to their
/// `Hello` for a fault of the bus (sd-bus: EIO).
const SILENT: u8 = 0;
/// It began with `Hello`, as clients of a bus do: it gets the signals that it asks for.
const GUEST: u8 = 1;
/// It began with another call, as one end of a plain connection does: it gets all signals.
const PLAIN: u8 = 2;

impl Peer {
    /// Takes note of how a client begins.
    fn began_with(&self, member: Option<&str>) {
        let manner = if member == Some("Hello") { GUEST } else { PLAIN };
        let _ = self.manner.compare_exchange(SILENT, manner, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A connection.
pub struct Link {
    /// Its number.
    pub id: u64,
    /// The connection itself.
    pub connection: Connection,
    /// What is at the other end.
    pub side: Side,
    calls: Arc<Semaphore>,
    signals: mpsc::Sender<Message>,
    ended: Notify,
}

impl Link {
    /// A connection to a bus.
    pub fn to_bus(id: u64, connection: Connection) -> (Arc<Self>, mpsc::Receiver<Message>) {
        Link::new(id, connection, Side::Bus { calls: Mutex::default() }, CALLS_OF_A_BUS)
    }

    /// A connection from a peer.
    pub fn from_peer(
        id: u64,
        connection: Connection,
        caller: Caller,
    ) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let peer = Peer {
            caller,
            name: format!(":1.{id}"),
            manner: AtomicU8::new(SILENT),
            greeted: AtomicBool::new(false),
            rules: Mutex::default(),
        };
        Link::new(id, connection, Side::Peer(peer), CALLS_OF_A_CLIENT)
    }

    fn new(
        id: u64,
        connection: Connection,
        side: Side,
        calls: usize,
    ) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (signals, receiver) = mpsc::channel(SIGNALS_WAITING);
        let calls = Arc::new(Semaphore::new(calls));
        (Arc::new(Link { id, connection, side, calls, signals, ended: Notify::new() }), receiver)
    }

    /// The peer at the other end, where it is one.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.side {
            Side::Peer(peer) => Some(peer),
            Side::Bus { .. } => None,
        }
    }

    /// The sender that messages carry: a bus writes its own.
    pub fn sender(&self) -> Option<&'static str> {
        self.peer().map(|_| OWN_PEER_NAME)
    }

    /// Whether the other end wants this signal. A bus sorts that out for its clients.
    pub fn wants(&self, signal: &Message) -> bool {
        self.peer().is_none_or(|peer| match peer.manner.load(Ordering::Acquire) {
            SILENT => false,
            GUEST => lock(&peer.rules).iter().any(|rule| rule.matches(signal).unwrap_or(false)),
            _ => true,
        })
    }

    /// Whether the other end listens to any signal at all.
    pub fn listens(&self) -> bool {
        self.peer().is_none_or(|peer| match peer.manner.load(Ordering::Acquire) {
            SILENT => false,
            GUEST => !lock(&peer.rules).is_empty(),
            _ => true,
        })
    }

    /// Hands over a signal. A connection that leaves its signals unread for long is ended: it must not
    /// hold up the others, and it must not believe that nothing happened.
    pub async fn signal(&self, signal: Message) {
        if timeout(UNREAD / 10, self.signals.send(signal)).await.is_err() {
            self.end();
        }
    }

    /// Ends the connection.
    pub fn end(&self) {
        self.ended.notify_one();
    }

    /// Sends a message; ends the connection where the other end does not read.
    async fn send(&self, message: &Message) -> zbus::Result<()> {
        match timeout(UNREAD, self.connection.send(message)).await {
            Ok(result) => result,
            Err(_) => {
                self.end();
                Ok(())
            }
        }
    }
}

/// Serves a connection until it ends, from either side.
pub async fn serve(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    stream: MessageStream,
    signals: mpsc::Receiver<Message>,
) {
    shared.add_link(link);
    let listed = Listed(shared, link.id);
    tokio::select! {
        () = send_signals(link, signals) => {}
        () = take_calls(shared, link, stream) => {}
        () = link.ended.notified() => {}
    }
    drop(listed);
    let _ = timeout(UNREAD / 10, link.connection.clone().close()).await;
}

/// A place in the list of connections; left also where the task is cancelled.
struct Listed<'a>(&'a Shared, u64);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.remove_link(self.1);
    }
}

async fn send_signals(link: &Link, mut signals: mpsc::Receiver<Message>) {
    while let Some(signal) = signals.recv().await {
        if link.send(&signal).await.is_err() {
            return;
        }
    }
}

async fn take_calls(shared: &Arc<Shared>, link: &Arc<Link>, mut stream: MessageStream) {
    // An error of the stream is the end of the connection.
    while let Some(Ok(message)) = stream.next().await {
        if message.message_type() != Type::MethodCall {
            continue;
        }
        if let Some(peer) = link.peer() {
            peer.began_with(message.header().member().map(|member| member.as_str()));
        }
        match admit(link, &message).await {
            Ok(turn) => {
                let (shared, link) = (shared.clone(), link.clone());
                tokio::spawn(async move {
                    answer(&shared, &link, &message).await;
                    drop(turn);
                });
            }
            Err(failure) => {
                if let Ok(reply) = call::refusal(link, &message, &failure) {
                    let _ = link.send(&reply).await;
                }
            }
        }
    }
}

/// A place among the calls under way. On a bus nothing waits here: the answers of the bus itself come
/// through the same stream, and a call that waits for one would wait for ever.
async fn admit(link: &Arc<Link>, message: &Message) -> Result<Turn, Failure> {
    let Side::Bus { calls } = &link.side else {
        let place =
            link.calls.clone().acquire_owned().await.map_err(|_| Failure::internal("the door is closed"))?;
        return Ok(Turn { _place: place, of: None });
    };
    let Ok(place) = link.calls.clone().try_acquire_owned() else {
        return Err(Failure::overloaded("too many calls are under way: await some answers, then try again"));
    };
    let sender = message.header().sender().map(ToString::to_string).unwrap_or_default();
    let mut calls = lock(calls);
    let count = calls.entry(sender.clone()).or_default();
    if *count >= CALLS_OF_A_CLIENT {
        return Err(Failure::overloaded(format!(
            "this client has {CALLS_OF_A_CLIENT} calls under way: await some answers, then try again"
        )));
    }
    *count += 1;
    Ok(Turn { _place: place, of: Some((link.clone(), sender)) })
}

/// The place of one call; given back when it is answered.
struct Turn {
    _place: OwnedSemaphorePermit,
    of: Option<(Arc<Link>, String)>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((link, sender)) = &self.of
            && let Side::Bus { calls } = &link.side
        {
            let mut calls = lock(calls);
            if let Some(count) = calls.get_mut(sender) {
                *count -= 1;
                if *count == 0 {
                    calls.remove(sender);
                }
            }
        }
    }
}

async fn answer(shared: &Arc<Shared>, link: &Arc<Link>, message: &Message) {
    let result = call::answer(&Call { shared, link, message }).await;
    if message.primary_header().flags().contains(Flags::NoReplyExpected) {
        return;
    }
    let reply = match result {
        Ok(reply) => Ok(reply),
        Err(failure) => call::refusal(link, message, &failure),
    };
    let sent = match reply {
        Ok(reply) => link.send(&reply).await,
        Err(error) => Err(error),
    };
    // Such as a file descriptor for a client that did not agree to take them.
    if let Err(error) = sent
        && let Ok(reply) = call::refusal(link, message, &Failure::from(error))
    {
        let _ = link.send(&reply).await;
    }
}
