//! A peer's bytes, looked at before zbus reads them: zbus takes the length of a message from its first 16
//! bytes and makes a buffer of that size (up to 128 MiB), and waits for the end of a line for ever.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split};
use zbus::fdo::ConnectionCredentials;

use crate::limits::{HANDSHAKE_BYTES, MESSAGE_BYTES};

/// The bytes before a message's header fields.
const HEAD: usize = 16;

/// A unix stream whose incoming messages are bounded.
#[derive(Debug)]
pub struct GuardedStream(pub UnixStream);

impl Socket for GuardedStream {
    type ReadHalf = GuardedRead;
    type WriteHalf = OwnedWriteHalf;

    fn split(self) -> Split<GuardedRead, OwnedWriteHalf> {
        let (inner, write) = self.0.into_split();
        Split::new(GuardedRead { inner, watch: Watch::default() }, write)
    }
}

/// The reading half.
#[derive(Debug)]
pub struct GuardedRead {
    inner: OwnedReadHalf,
    watch: Watch,
}

#[async_trait::async_trait]
impl ReadHalf for GuardedRead {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let (len, fds) = self.inner.recvmsg(buffer).await?;
        self.watch.see(&buffer[..len]).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        Ok((len, fds))
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        ReadHalf::peer_credentials(&mut self.inner).await
    }
}

/// Follows the stream: the lines of the handshake, then the lengths of the messages.
#[derive(Debug)]
enum Watch {
    Handshake { seen: usize, line: Vec<u8> },
    Head { bytes: [u8; HEAD], have: usize },
    Rest { left: usize },
}

impl Default for Watch {
    fn default() -> Self {
        Watch::Handshake { seen: 0, line: Vec::new() }
    }
}

impl Watch {
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let [first, tail @ ..] = bytes {
            match self {
                Watch::Handshake { seen, line } => {
                    *seen += 1;
                    if *seen == 1 && *first != 0 {
                        return Err("the first byte of a D-Bus client is NUL");
                    }
                    if *seen > HANDSHAKE_BYTES {
                        return Err("the authentication is too long");
                    }
                    bytes = tail;
                    if *first != b'\n' {
                        line.push(*first);
                    } else if line.pop() != Some(b'\r') {
                        return Err("a line of the authentication does not end in CR LF");
                    } else if line == b"BEGIN" {
                        *self = Watch::Head { bytes: [0; HEAD], have: 0 };
                    } else {
                        line.clear();
                    }
                }
                Watch::Head { bytes: head, have } => {
                    let take = (HEAD - *have).min(bytes.len());
                    head[*have..*have + take].copy_from_slice(&bytes[..take]);
                    *have += take;
                    bytes = &bytes[take..];
                    if *have == HEAD {
                        *self = Watch::Rest { left: rest_of_message(head)? };
                    }
                }
                Watch::Rest { left } => {
                    let take = (*left).min(bytes.len());
                    *left -= take;
                    bytes = &bytes[take..];
                }
            }
            if let Watch::Rest { left: 0 } = self {
                *self = Watch::Head { bytes: [0; HEAD], have: 0 };
            }
        }
        Ok(())
    }
}

/// The bytes after the first 16 (D-Bus specification, "Message Format").
fn rest_of_message(head: &[u8; HEAD]) -> Result<usize, &'static str> {
    let word = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        match head[0] {
            b'l' => Ok(u32::from_le_bytes(bytes) as usize),
            b'B' => Ok(u32::from_be_bytes(bytes) as usize),
            _ => Err("a message begins with its byte order, l or B"),
        }
    };
    let rest = word(12)?.next_multiple_of(8).saturating_add(word(4)?);
    if rest > MESSAGE_BYTES { Err("the message is longer than the door takes") } else { Ok(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: u32, body: u32) -> Vec<u8> {
        let mut bytes = b"l\x01\x00\x01".to_vec();
        bytes.extend(body.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(fields.to_le_bytes());
        bytes
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let mut stream = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec();
        for (fields, body) in [(3u32, 5u32), (8, 0), (0, 0), (17, 40)] {
            stream.extend(message(fields, body));
            stream.extend(vec![b'B'; fields.next_multiple_of(8) as usize + body as usize]);
        }
        for step in 1..stream.len() {
            let mut watch = Watch::default();
            for part in stream.chunks(step) {
                watch.see(part).expect("well formed");
            }
            assert!(matches!(watch, Watch::Head { have: 0, .. }), "step {step}: {watch:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_malformed_ends_the_connection() {
        let begun = || {
            let mut watch = Watch::default();
            watch.see(b"\0BEGIN\r\n").expect("begins");
            watch
        };
        assert!(begun().see(&message(0, MESSAGE_BYTES as u32 + 1)).is_err());
        assert!(begun().see(&message(u32::MAX, u32::MAX)).is_err());
        assert!(begun().see(&message(0, MESSAGE_BYTES as u32)).is_ok());
        assert!(begun().see(&[b'x'; HEAD]).is_err());
        assert!(Watch::default().see(b"GET / HTTP/1.1\r\n").is_err());
        assert!(Watch::default().see(b"\0\n").is_err());
        assert!(Watch::default().see(&[0; HANDSHAKE_BYTES + 1]).is_err());
    }
}
