//! The door as a whole: opened by the daemon, closed when the node is drained.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempos_control::Node;
use tempos_socket::{Listener, group_id};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::House;
use crate::limits::{BUS_AT_START, NOTICES_WAITING};
use crate::shared::Shared;
use crate::{bus, herald, peers};

/// The bus on which the node is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// The session bus of the daemon's user.
    Session,
    /// A bus at a D-Bus address, such as `unix:path=/run/bus`.
    Address(String),
    /// None: only the peer socket.
    None,
}

impl std::str::FromStr for Bus {
    type Err = String;

    /// Reads the value of `--bus`: `system`, `session`, `none`, or an address.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "system" => Ok(Bus::System),
            "session" => Ok(Bus::Session),
            "none" => Ok(Bus::None),
            address if address.contains(':') => Ok(Bus::Address(address.into())),
            other => Err(format!(
                "{other:?} is not a bus: it is \"system\", \"session\", \"none\", or an address such as \
                 \"unix:path=/run/bus\""
            )),
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bus::System => f.write_str("the system bus"),
            Bus::Session => f.write_str("the session bus"),
            Bus::Address(address) => write!(f, "the bus at {address}"),
            Bus::None => f.write_str("no bus"),
        }
    }
}

/// How the door is to be opened.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// The bus.
    pub bus: Bus,
    /// Where the peer socket is to be, usually `/run/tempos/control.sock`; its folder must exist.
    pub peer_socket: Option<PathBuf>,
    /// The mode of the peer socket's file. What a caller may do is decided for each call; the mode says
    /// who may connect.
    pub peer_socket_mode: u32,
    /// The group whose members may give orders; it need not exist.
    pub allow_group: Option<String>,
    /// Whether polkit is asked for callers that would otherwise be refused; only ever on the system bus.
    pub polkit: bool,
}

impl Default for DoorConfig {
    fn default() -> Self {
        DoorConfig {
            bus: Bus::System,
            peer_socket: Some("/run/tempos/control.sock".into()),
            peer_socket_mode: 0o660,
            allow_group: Some("tempos".into()),
            polkit: true,
        }
    }
}

/// Why the door could not be opened. A bus that is not there is no such reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DoorError {
    /// The peer socket could not be set up.
    PeerSocket(String),
    /// A thread could not be started.
    Thread(String),
}

impl fmt::Display for DoorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DoorError::PeerSocket(sentence) => write!(f, "the control socket: {sentence}"),
            DoorError::Thread(sentence) => write!(f, "the thread that carries notices: {sentence}"),
        }
    }
}

impl std::error::Error for DoorError {}

/// The open door. Dropping it closes it at once.
pub struct Door {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    peer_socket: Option<PathBuf>,
}

impl Door {
    /// Opens the door to `node`, on the tokio runtime that polls this. Waits for the first attempt at the
    /// bus, three seconds at most; where there is no bus the door is open all the same, `degraded` says
    /// so, and the bus is tried again.
    ///
    /// # Errors
    /// The peer socket could not be set up: another node listens there, or its folder is not there.
    pub async fn open(config: DoorConfig, node: Arc<dyn Node>) -> Result<Door, DoorError> {
        let notices = node.notices();
        let house = House {
            own_uid: nix::unistd::geteuid().as_raw(),
            group: match config.allow_group {
                Some(name) => Some((name.clone(), group_id(name).await)),
                None => None,
            },
        };
        let gid = house.group.as_ref().and_then(|(_, gid)| *gid);
        let listener = match &config.peer_socket {
            Some(path) => {
                Some(Listener::bind(path, config.peer_socket_mode, gid).map_err(DoorError::PeerSocket)?)
            }
            None => None,
        };
        let (tell, told) = mpsc::channel(NOTICES_WAITING);
        let polkit = config.polkit && config.bus == Bus::System;
        let shared = Arc::new(Shared::new(node, house, polkit, tell.clone()));
        herald::carry(notices, tell).map_err(|e| DoorError::Thread(e.to_string()))?;

        let mut tasks = JoinSet::new();
        tasks.spawn(herald::run(shared.clone(), told));
        if let Some(listener) = listener {
            tasks.spawn(peers::listen(shared.clone(), listener));
        }
        if config.bus != Bus::None {
            let (first, attempted) = oneshot::channel();
            tasks.spawn(bus::keep(shared.clone(), config.bus.clone(), first));
            if timeout(BUS_AT_START, attempted).await.is_err() {
                shared.set_amiss("bus", Some(format!("{} does not answer, it is tried again", config.bus)));
            }
        }
        Ok(Door { shared, tasks, peer_socket: config.peer_socket })
    }

    /// What is amiss at the door, one sentence each; also part of the node's property `Degraded`.
    pub fn degraded(&self) -> Vec<String> {
        self.shared.amiss()
    }

    /// Where the peer socket is.
    pub fn peer_socket(&self) -> Option<&Path> {
        self.peer_socket.as_deref()
    }

    /// Closes the door: no call is taken any more, the name is given back, the socket's file goes.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}
