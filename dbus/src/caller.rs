//! Finding out who calls: from the kernel on the peer socket, from the bus on a bus.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use tokio::time::timeout;
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;
use zbus::zvariant::Value;

use crate::access::Caller;
use crate::limits::{BUS_ANSWER, POLKIT};

/// More groups than any process has here (NGROUPS_MAX is 65,536; setgroups(2)).
const GROUPS_MAX: usize = 65_536;

/// The process at the other end of a connected unix socket (SO_PEERCRED and SO_PEERGROUPS, unix(7)).
///
/// # Errors
/// The kernel's.
pub fn of_socket(socket: &tokio::net::UnixStream) -> io::Result<Caller> {
    use std::os::fd::AsFd as _;
    let credentials = socket.peer_cred()?;
    let mut gids = peer_groups(socket.as_fd())?;
    gids.push(credentials.gid());
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok(Caller { uid: credentials.uid(), gids, pid })
}

fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut capacity = 64;
    loop {
        let mut gids: Vec<libc::gid_t> = vec![0; capacity];
        let mut bytes = (capacity * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: the pointer and the length describe `gids`, which lives through the call; the kernel
        // writes at most `bytes` bytes there and sets `bytes` to what it wrote or would have written.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                gids.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if result == 0 {
            gids.truncate(count);
            return Ok(gids);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ERANGE) if count > capacity && count <= GROUPS_MAX => capacity = count,
            _ => return Err(error),
        }
    }
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
