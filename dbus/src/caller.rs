//! Finding out who calls: from the kernel on the peer socket, from the bus on a bus.

use std::collections::HashMap;

use tempos_socket::Peer;
use tokio::time::timeout;
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;
use zbus::zvariant::Value;

use crate::access::Caller;
use crate::limits::{BUS_ANSWER, POLKIT};

/// The process at the other end of the node's own socket.
///
/// # Errors
/// The kernel's.
pub fn of_socket(socket: &tokio::net::UnixStream) -> std::io::Result<Caller> {
    let Peer { uid, process, gids } = Peer::of(socket)?;
    Ok(Caller { uid, gids, pid: process })
}

/// The client of that unique name.
///
/// # Errors
/// One sentence: without an answer the caller is nobody.
pub async fn of_bus(bus: &Connection, sender: &str) -> Result<Caller, String> {
    let call = bus.call_method(
        Some("org.freedesktop.DBus"),
        "/org/freedesktop/DBus",
        Some("org.freedesktop.DBus"),
        "GetConnectionCredentials",
        &sender,
    );
    let reply = match timeout(BUS_ANSWER, call).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(format!("the bus does not say who {sender} is: {error}")),
        Err(_) => return Err(format!("the bus does not say who {sender} is: no answer in time")),
    };
    let credentials: ConnectionCredentials = reply
        .body()
        .deserialize()
        .map_err(|e| format!("the bus's answer about {sender} is not readable: {e}"))?;
    let uid = credentials.unix_user_id().ok_or_else(|| format!("the bus knows no user of {sender}"))?;
    let pid = credentials.process_id();
    Ok(Caller { uid, gids: credentials.into_unix_group_ids().unwrap_or_default(), pid })
}

/// Whether polkit grants the action to a client of the system bus. `interactive`: it may ask a person.
pub async fn polkit_grants(bus: &Connection, sender: &str, action: &str, interactive: bool) -> bool {
    let subject = ("system-bus-name", HashMap::from([("name", Value::from(sender))]));
    let details: HashMap<&str, &str> = HashMap::new();
    let arguments = (subject, action, details, u32::from(interactive), "");
    let call = bus.call_method(
        Some("org.freedesktop.PolicyKit1"),
        "/org/freedesktop/PolicyKit1/Authority",
        Some("org.freedesktop.PolicyKit1.Authority"),
        "CheckAuthorization",
        &arguments,
    );
    let limit = if interactive { POLKIT.1 } else { POLKIT.0 };
    match timeout(limit, call).await {
        // Without polkit the decision by user and group stands.
        Err(_) | Ok(Err(_)) => false,
        Ok(Ok(reply)) => reply
            .body()
            .deserialize::<((bool, bool, HashMap<String, String>),)>()
            .is_ok_and(|((authorized, _, _),)| authorized),
    }
}
