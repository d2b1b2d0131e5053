//! The Unix socket: a file that only processes of this machine reach, and of which the kernel says who they are.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::access::Caller;
use crate::caller;
use crate::gate::Peer;
use crate::limits::{PEERS, PEERS_OF_ONE, PEERS_RESERVED};
use crate::places::{Places, Taker};
use crate::serve::{Service, serve};

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode, so that only our own file is removed.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path` with that mode and group. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// One sentence.
    pub fn bind(path: &Path, mode: u32, gid: Option<u32>) -> Result<Self, String> {
        let fails = |what: &str, error: io::Error| format!("{what} {}: {error}", path.display());
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(format!("{} is there and is not a socket: it is left alone", path.display()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(format!("another node listens at {}", path.display()));
            }
            _ => {}
        }
        // Under another name first: a client must never meet the socket before it has its mode.
        let mut early = path.as_os_str().to_owned();
        early.push(format!(".{}", std::process::id()));
        let early = PathBuf::from(early);
        let _ = std::fs::remove_file(&early);
        let socket = UnixListener::bind(&early).map_err(|e| fails("cannot listen at", e))?;
        let settled = std::fs::set_permissions(&early, std::fs::Permissions::from_mode(mode))
            .and_then(|()| match gid {
                // A daemon that is neither root nor a member may not: its own group stays.
                Some(gid) => std::os::unix::fs::chown(&early, None, Some(gid)).or(Ok(())),
                None => Ok(()),
            })
            .and_then(|()| std::fs::rename(&early, path))
            .and_then(|()| std::fs::symlink_metadata(path));
        match settled {
            Ok(found) => Ok(Listener { socket, path: path.to_owned(), file: (found.dev(), found.ino()) }),
            Err(error) => {
                let _ = std::fs::remove_file(&early);
                Err(fails("cannot set up", error))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes connections for as long as it is polled; they end with it.
pub async fn listen(service: Arc<Service>, listener: Listener) {
    let places = Arc::new(Places::default());
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = peers.join_next() => {}
            accepted = listener.socket.accept() => match accepted {
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
