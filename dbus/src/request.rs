//! `Request`: an event that asks for an answer, and the answer. Two orders that exist anyway, a subscription of
//! the topic that the reply is to come to and a publication, and a wait that is bounded.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::envelope::Envelope;
use tempos_control::{Order, Reply, Value as Attribute, Who};
use tokio::net::UnixDatagram;
use zbus::Message;

use crate::call::Call;
use crate::failure::Failure;

/// The attribute that names the topic of the reply.
const REPLY_TO: &str = "reply-to";
/// The attribute by which a reply is known: it has the one of the event that it answers.
const CORRELATION_ID: &str = "correlation-id";
/// The longest wait.
const TIMEOUT_MS_MAX: u32 = 60_000;
/// The largest frame of a subscription: the largest event of any level, and its header.
const FRAME_BYTES_MAX: usize = (16 << 20) + 2048;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Publishes an event and answers with the payload of its reply.
pub async fn answer(
    call: &Call<'_>,
    who: Who,
    topic: String,
    mut attributes: Vec<(String, Attribute)>,
    payload: Vec<u8>,
    timeout_ms: u32,
) -> Result<Message, Failure> {
    if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Err(Failure::arguments(format!(
            "the timeout is {timeout_ms} ms; 1 to {TIMEOUT_MS_MAX} are allowed"
        )));
    }
    let Some((_, Attribute::Text(reply_to))) = attributes.iter().find(|(key, _)| key == REPLY_TO).cloned()
    else {
        return Err(Failure::arguments(format!(
            "a request needs the attribute {REPLY_TO:?}: the topic that its reply comes to"
        )));
    };
    if attributes.iter().any(|(key, _)| key == CORRELATION_ID) {
        return Err(Failure::arguments(format!("{CORRELATION_ID:?} is given by the node; leave it out")));
    }
    // Unique among all who ask this node, whatever else they call their own.
    let id = format!("dbus/{}/{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    attributes.push((CORRELATION_ID.to_owned(), Attribute::Text(id.clone())));
    let subscription =
        call.shared.carry_out(who.clone(), Order::Subscribe { topic: reply_to.clone() }).await?;
    let Reply::Subscription(socket) = subscription else {
        return Err(Failure::internal(String::from("a subscription brought no socket")));
    };
    call.shared.carry_out(who, Order::Publish { topic, attributes, payload }).await?;
    let limit = Duration::from_millis(u64::from(timeout_ms));
    match tokio::time::timeout(limit, reply(socket, &id)).await {
        Ok(Ok(payload)) => call.reply(&payload),
        Ok(Err(error)) => Err(Failure::internal(format!("the subscription of {reply_to:?} ended: {error}"))),
        Err(_) => Err(Failure::new(
            "org.freedesktop.DBus.Error.Timeout",
            format!("no reply came to {reply_to:?} within {timeout_ms} ms"),
        )),
    }
}

/// Waits for the event that carries the id.
async fn reply(socket: OwnedFd, id: &str) -> std::io::Result<Vec<u8>> {
    // Receiving is the same call for datagrams and for sequenced packets (unix(7)).
    let socket = std::os::unix::net::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    // Zeroed pages are only touched as far as a frame is long.
    let mut frame = vec![0; FRAME_BYTES_MAX];
    loop {
        let len = socket.recv(&mut frame).await?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Ok(event) = Envelope::decode(&frame[..len]) else { continue };
        if Attributes::new(event.attributes).get(CORRELATION_ID) == Some(AttributeValue::Text(id)) {
            return Ok(event.payload.to_vec());
        }
    }
}
