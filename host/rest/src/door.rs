//! The door as a whole: opened by the daemon, closed when the node is drained.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempos_control::{Mistake, Node, Origin};
use tempos_socket::{Listener, group_id};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::House;
use crate::gate::Gate;
use crate::live::{self, Live};
use crate::serve::Service;
use crate::shared::Shared;
use crate::tokens::Tokens;
use crate::{routes, tcp, tls, unix};

/// Takes the sentence about what is amiss at the door, or that nothing is.
pub type Told = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// The way in over TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Where to listen; nowhere by default.
    pub listen: Option<SocketAddr>,
    /// The token file.
    pub tokens: Option<PathBuf>,
    /// The file of the node's certificate, with those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The file of its private key.
    pub key: Option<PathBuf>,
    /// The file of the authority whose clients may come in.
    pub authority: Option<PathBuf>,
}

impl Tcp {
    /// What is wrong between these settings, with the name of the setting that it is about.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let Some(listen) = self.listen else {
            for (name, file) in [
                ("tokens", &self.tokens),
                ("certificate", &self.certificate),
                ("key", &self.key),
                ("authority", &self.authority),
            ] {
                if file.is_some() {
                    wrong.push((name, "it is of no use without listen, the address to come in at".into()));
                }
            }
            return wrong;
        };
        if self.certificate.is_some() != self.key.is_some() {
            let (name, other) =
                if self.key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
            wrong.push((name, format!("certificate and key go together; give {other} too")));
        }
        let has_tls = self.certificate.is_some() && self.key.is_some();
        if self.authority.is_some() && self.certificate.is_none() && self.key.is_none() {
            wrong.push(("authority", "it needs certificate and key, the files of the node's own".into()));
        }
        if self.tokens.is_none() && self.authority.is_none() {
            wrong.push((
                "listen",
                "over TCP the door is opened only with tokens, a token file, or with authority, for clients with a certificate"
                    .into(),
            ));
        } else if !has_tls && !listen.ip().is_loopback() && wrong.is_empty() {
            wrong.push((
                "listen",
                format!(
                    "{listen} is reached from other machines, and tokens would travel in the clear: give certificate and key too"
                ),
            ));
        }
        wrong
    }

    /// Reads the files that are named.
    ///
    /// # Errors
    /// Their mistakes.
    fn read(&self) -> Result<(Option<Tokens>, Option<TlsAcceptor>), Vec<Mistake>> {
        let wrong = self.mistakes();
        if !wrong.is_empty() {
            let origin = Origin::new("[rest]", 0);
            return Err(wrong
                .into_iter()
                .map(|(name, sentence)| Mistake::new(&origin, format!("{name}: {sentence}")))
                .collect());
        }
        let mut mistakes = Vec::new();
        let tokens = self.tokens.as_deref().map(Tokens::read).transpose().unwrap_or_else(|wrong| {
            mistakes.extend(wrong);
            None
        });
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                tls::server(certificate, key, self.authority.as_deref()).map(Some).unwrap_or_else(|wrong| {
                    mistakes.push(wrong);
                    None
                })
            }
            _ => None,
        };
        if mistakes.is_empty() { Ok((tokens, config.map(TlsAcceptor::from))) } else { Err(mistakes) }
    }
}

/// How the door is to be opened.
pub struct DoorConfig {
    /// Where the Unix socket is to be; its folder must exist.
    pub socket: Option<PathBuf>,
    /// The mode of its file. What a caller may do is decided for each request; the mode says who may connect.
    pub socket_mode: u32,
    /// The way in over TCP.
    pub tcp: Tcp,
    /// The group whose members may give orders; it need not exist.
    pub allow_group: Option<String>,
    /// Is told what is amiss, such as an address that cannot be had.
    pub amiss: Told,
}

/// The open door. Dropping it closes it at once.
pub struct Door {
    tasks: JoinSet<()>,
    socket: Option<PathBuf>,
}

impl Door {
    /// Whether the files that the door needs are right.
    ///
    /// # Errors
    /// Their mistakes.
    pub fn check(tcp: &Tcp) -> Result<(), Vec<Mistake>> {
        tcp.read().map(|_| ())
    }

    /// Opens the door to `node`, on the tokio runtime that polls this.
    ///
    /// # Errors
    /// A file holds mistakes, or the Unix socket could not be set up. An address that cannot be had is no reason:
    /// it is tried again.
    pub async fn open(config: DoorConfig, node: Arc<dyn Node>) -> Result<Door, Vec<Mistake>> {
        let (tokens, tls) = config.tcp.read()?;
        let house = House {
            own_uid: nix::unistd::geteuid().as_raw(),
            group: match config.allow_group {
                Some(name) => Some((name.clone(), group_id(name).await)),
                None => None,
            },
        };
        let gid = house.group.as_ref().and_then(|(_, gid)| *gid);
        let wrong = |what: &str, sentence: String| vec![Mistake::new(&Origin::new(what, 0), sentence)];
        let listener = match &config.socket {
            Some(path) => Some(
                Listener::bind(path, config.socket_mode, gid)
                    .map_err(|sentence| wrong("the REST socket", sentence))?,
            ),
            None => None,
        };
        let notices = node.notices();
        let shared = Arc::new(Shared::new(node, house, Live::default()));
        live::carry(notices, Arc::downgrade(&shared))
            .map_err(|error| wrong("the thread that carries notices", error.to_string()))?;
        let gate = Arc::new(Gate { shared: shared.clone(), tokens });
        let service = Arc::new(Service { router: routes::router(gate), shared: shared.clone() });
        let mut tasks = JoinSet::new();
        tasks.spawn(live::read(shared));
        if let Some(listener) = listener {
            tasks.spawn(unix::listen(service.clone(), listener));
        }
        if let Some(listen) = config.tcp.listen {
            // Once the door is open it can be come in at, where the address can be had at all.
            let first = TcpListener::bind(listen).await;
            tasks.spawn(tcp::keep(service, listen, first, tls, config.amiss));
        }
        Ok(Door { tasks, socket: config.socket })
    }

    /// Where the Unix socket is.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Closes the door: no request is taken any more, connections end, the socket's file goes.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_in_over_tcp_without_proof_of_who_comes() {
        let file = || Some(PathBuf::from("/f"));
        let local = "127.0.0.1:80".parse().ok();
        let open = "0.0.0.0:80".parse().ok();
        let tcp =
            |listen, tokens, certificate, key, authority| Tcp { listen, tokens, certificate, key, authority };
        let about = |tcp: Tcp| tcp.mistakes().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(about(Tcp::default()), [""; 0]);
        assert_eq!(about(tcp(local, None, None, None, None)), ["listen"]);
        assert_eq!(about(tcp(local, None, file(), file(), None)), ["listen"]);
        assert_eq!(about(tcp(local, file(), None, None, None)), [""; 0]);
        assert_eq!(about(tcp(open, file(), None, None, None)), ["listen"]);
        assert_eq!(about(tcp(open, file(), file(), file(), None)), [""; 0]);
        assert_eq!(about(tcp(open, None, file(), file(), file())), [""; 0]);
        assert_eq!(about(tcp(open, None, None, None, file())), ["authority"]);
        assert_eq!(about(tcp(local, file(), file(), None, None)), ["certificate"]);
        assert_eq!(about(tcp(None, file(), None, None, None)), ["tokens"]);
    }
}
