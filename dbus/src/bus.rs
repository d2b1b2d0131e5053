//! The bus: connects, takes the name, and comes back with growing pauses when the bus went away.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use zbus::fdo::{RequestNameFlags, RequestNameReply};
use zbus::{Connection, MessageStream, connection};

use crate::door::Bus;
use crate::limits::{BUS_ANSWER, BUS_RETRY};
use crate::link::{self, Link};
use crate::shared::Shared;

/// Keeps the node on the bus for as long as it is polled. `first` hears of the first attempt.
pub async fn keep(shared: Arc<Shared>, bus: Bus, first: oneshot::Sender<()>) {
    let mut first = Some(first);
    let mut pause = BUS_RETRY.0;
    loop {
        match join(&bus).await {
            Ok(stream) => {
                shared.set_amiss("bus", None);
                pause = BUS_RETRY.0;
                first.take().map(|first| first.send(()));
                let (link, signals) = Link::to_bus(shared.next_link(), Connection::from(&stream));
                link::serve(&shared, &link, stream, signals).await;
                shared.set_amiss("bus", Some(format!("the connection to {bus} was lost; it is tried again")));
            }
            Err(sentence) => {
                shared.set_amiss("bus", Some(sentence));
                first.take().map(|first| first.send(()));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(BUS_RETRY.1);
    }
}

async fn join(bus: &Bus) -> Result<MessageStream, String> {
    let fails = |error: zbus::Error| format!("{bus} cannot be reached, it is tried again: {error}");
    let builder = match bus {
        Bus::System => connection::Builder::system(),
        Bus::Session => connection::Builder::session(),
        Bus::Address(address) => connection::Builder::address(address.as_str()),
        Bus::None => return Err("no bus was asked for".into()),
    };
    let connect = builder.map_err(fails)?.build_message_stream();
    let no_answer = || format!("{bus} does not answer, it is tried again");
    let stream = timeout(BUS_ANSWER, connect).await.map_err(|_| no_answer())?.map_err(fails)?;
    // Calls can only come with the name, and the stream is there before it: none is missed.
    let connection = Connection::from(&stream);
    let request = connection.request_name_with_flags(crate::NAME, RequestNameFlags::DoNotQueue.into());
    match timeout(BUS_ANSWER, request).await.map_err(|_| no_answer())? {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => Ok(stream),
        Ok(_) | Err(zbus::Error::NameTaken) => {
            Err(format!("another process has the name {} on {bus}; it is tried again", crate::NAME))
        }
        Err(error) => {
            Err(format!("{bus} does not give the name {}; it is tried again: {error}", crate::NAME))
        }
    }
}
