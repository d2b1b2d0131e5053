//! The way to ptp4l: a unix datagram socket with a name of its own, which answers come back to. Nothing waits.
//!
//! ptp4l does wait where an asker does not read, and such a socket holds ten datagrams: whoever asks has read all that
//! was there before, and asks little.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::message::{ANSWER_BYTES_MAX, Answer, Identity, Question, decode, question};

/// The first half of a clock identity that is none of a card (IEEE 1588-2019, 7.5.2.2).
const OWN: [u8; 4] = [0xff, 0xff, 0xff, 0xfe];

/// A socket that asks.
#[derive(Debug)]
pub struct Client {
    socket: UnixDatagram,
    own: PathBuf,
    ptp4l: PathBuf,
    identity: Identity,
}

impl Client {
    /// Makes the socket, under a name of its own in a folder: ptp4l must be able to reach it, and nobody else who is
    /// neither this user nor root. ptp4l need not run.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub fn new(ptp4l: &Path, folder: &Path) -> io::Result<Client> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let own = folder.join(format!("ptp-{process}-{number}.sock"));
        // One of that name is left from a process that had this number and was killed.
        let _ = std::fs::remove_file(&own);
        let socket = UnixDatagram::bind(&own)?;
        let mut identity = Identity([0; 8]);
        identity.0[..4].copy_from_slice(&OWN);
        identity.0[4..].copy_from_slice(&process.to_be_bytes());
        let client = Client { socket, own, ptp4l: ptp4l.to_owned(), identity };
        std::fs::set_permissions(&client.own, PermissionsExt::from_mode(0o600))?;
        client.socket.set_nonblocking(true)?;
        Ok(client)
    }

    /// Readable when an answer is there.
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Asks; the answer comes later.
    ///
    /// # Errors
    /// Nobody is there (ENOENT, ECONNREFUSED), or what else the system says.
    pub fn ask(&self, what: Question, sequence: u16, domain: u8, sdo: u8) -> io::Result<()> {
        let bytes = question(what, sequence, domain, sdo, (self.identity, 1));
        self.socket.send_to(&bytes, &self.ptp4l).map(drop)
    }

    /// The next answer, and `Some(None)` for something that is none; `None` where nothing waits.
    pub fn next(&self) -> Option<Option<Answer>> {
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(decode(&bytes[..length]))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.own);
    }
}
