//! The connection to a node: over a bus, or straight to its own socket, which speaks enough of a bus that
//! the two need no distinction.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tempos_control::Kind;
use tempos_dbus::path;
use tokio::time::timeout;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::zvariant::{DynamicType, OwnedObjectPath};
use zbus::{Connection, Proxy, connection};

use crate::exit::{Failing, PERMISSION, TEMPORARY, UNAVAILABLE, USAGE};
use crate::object::{Object, Properties};

const SOCKET: &str = "/run/tempos/control.sock";
const NODE: &str = "org.tempos.Host1.Node";
/// What a bus says of a name that nobody has.
const NOBODY: [&str; 3] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
];

/// A node.
pub struct Client {
    connection: Connection,
    bus: String,
    /// How long an answer may take.
    pub limit: Duration,
}

impl Client {
    /// Connects. `bus`: what `--bus` says.
    pub async fn connect(bus: Option<&str>, limit: Duration) -> Result<Self, Failing> {
        let bus = match bus {
            Some(bus) => bus.to_owned(),
            None => std::env::var("TEMPOS_BUS").ok().filter(|b| !b.is_empty()).unwrap_or_else(default_bus),
        };
        let builder = match bus.as_str() {
            "system" => connection::Builder::system(),
            "session" => connection::Builder::session(),
            address if address.contains(':') => connection::Builder::address(address),
            other => {
                return Err(Failing::new(
                    USAGE,
                    format!(
                        "{other:?} is not a bus: it is system, session, or an address such as unix:path={SOCKET}"
                    ),
                ));
            }
        };
        let builder =
            builder.map_err(|e| Failing::new(USAGE, format!("{bus:?} is not a D-Bus address: {e}")))?;
        let unreachable =
            |why: String| Failing::new(UNAVAILABLE, format!("no node can be reached at {bus}: {why}"));
        let connection = match timeout(limit, builder.build()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(zbus::Error::Connection(e, _))) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Failing::new(PERMISSION, format!("{bus} does not let this user in: {e}")));
            }
            Ok(Err(zbus::Error::Connection(e, _))) => return Err(unreachable(e.to_string())),
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("no answer in time".into())),
        };
        Ok(Client { connection, bus, limit })
    }

    /// Calls a method of the node.
    pub async fn call<B, R>(&self, method: &str, body: &B) -> Result<R, Failing>
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        self.call_within(self.limit, method, body).await
    }

    /// The same with another limit.
    pub async fn call_within<B, R>(&self, limit: Duration, method: &str, body: &B) -> Result<R, Failing>
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        self.call_on(limit, NODE, method, body).await
    }

    async fn call_on<B, R>(
        &self,
        limit: Duration,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, Failing>
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        let call = async {
            let proxy: Proxy<'_> = zbus::proxy::Builder::new(&self.connection)
                .destination(tempos_dbus::NAME)?
                .path(path::ROOT)?
                .interface(interface)?
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            // A person at the terminal may be asked by polkit.
            proxy.call_with_flags(method, MethodFlags::AllowInteractiveAuth.into(), body).await
        };
        match timeout(limit, call).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(Failing::new(TEMPORARY, "the node sent no answer")),
            // The bus answers in the node's place.
            Ok(Err(zbus::Error::MethodError(name, _, _))) if NOBODY.contains(&name.as_str()) => {
                Err(Failing::new(UNAVAILABLE, format!("no node is on {}: is temposd running?", self.bus)))
            }
            Ok(Err(error)) => Err(Failing::from(error)),
            Err(_) => Err(Failing::new(TEMPORARY, format!("{method} was not answered within {limit:?}"))),
        }
    }

    /// The node's own properties.
    pub async fn node(&self) -> Result<Object, Failing> {
        let properties: Properties =
            self.call_on(self.limit, "org.freedesktop.DBus.Properties", "GetAll", &NODE).await?;
        let name = String::new();
        let mut node = Object { name, properties };
        node.name = node.text("NodeId").to_owned();
        Ok(node)
    }

    /// All objects below the node.
    pub async fn objects(&self) -> Result<Vec<(Kind, Object)>, Failing> {
        type Managed = HashMap<OwnedObjectPath, HashMap<String, Properties>>;
        let managed: Managed =
            self.call_on(self.limit, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &()).await?;
        let mut objects: Vec<_> = managed
            .into_iter()
            .filter_map(|(at, interfaces)| match path::place(&at)? {
                path::Place::Object(kind, name) => {
                    let properties = interfaces.into_values().flatten().collect();
                    Some((kind, Object { name, properties }))
                }
                _ => None,
            })
            .collect();
        objects.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
        Ok(objects)
    }

    /// The objects of one kind, by name.
    pub async fn objects_of(&self, kind: Kind) -> Result<Vec<Object>, Failing> {
        let all = self.objects().await?;
        Ok(all.into_iter().filter(|(k, _)| *k == kind).map(|(_, object)| object).collect())
    }
}

/// The node's own socket where it is there and lets us in, else the system bus, where everyone may read.
fn default_bus() -> String {
    match std::os::unix::net::UnixStream::connect(SOCKET) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => "system".into(),
        _ if Path::new(SOCKET).exists() => format!("unix:path={SOCKET}"),
        _ => "system".into(),
    }
}
