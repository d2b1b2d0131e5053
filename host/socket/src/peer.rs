//! Who is at the other end of a Unix socket: the kernel says so.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd};

use tokio::net::UnixStream;

/// More groups than any process has here (NGROUPS_MAX is 65,536; setgroups(2)).
const GROUPS_MAX: usize = 65_536;

/// The process at the other end of a connected Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its number, where the kernel says it.
    pub process: Option<u32>,
    /// All its groups.
    pub gids: Vec<u32>,
}

impl Peer {
    /// Asks the kernel (SO_PEERCRED and SO_PEERGROUPS, unix(7)).
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(socket: &UnixStream) -> io::Result<Self> {
        let credentials = socket.peer_cred()?;
        let mut gids = peer_groups(socket.as_fd())?;
        gids.push(credentials.gid());
        let process = credentials.pid().and_then(|process| u32::try_from(process).ok());
        Ok(Peer { uid: credentials.uid(), process, gids })
    }
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
