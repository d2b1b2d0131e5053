//! A peer's bytes, looked at before zbus reads them, as a bus daemon would have done. zbus makes a buffer
//! of whatever size the first 16 bytes of a message name (up to 128 MiB), and panics where a header field
//! is not the name or path that it should be.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split};
use zbus::fdo::ConnectionCredentials;
use zbus::names::{BusName, ErrorName, InterfaceName, MemberName, UniqueName};
use zbus::zvariant::serialized::{Context, Data};
use zbus::zvariant::{Endian, ObjectPath, Value};

use crate::limits::{HANDSHAKE_BYTES, HEADER_BYTES, MESSAGE_BYTES};

/// The bytes before a message's header fields, their length among them.
const HEAD: usize = 16;
/// Where the array of header fields begins, with its length.
const FIELDS: usize = 12;

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
    Head { bytes: Vec<u8> },
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
                    if *seen == 1 {
                        continue;
                    }
                    if *first != b'\n' {
                        line.push(*first);
                    } else if line.pop() != Some(b'\r') {
                        return Err("a line of the authentication does not end in CR LF");
                    } else if line == b"BEGIN" {
                        *self = Watch::Head { bytes: Vec::new() };
                    } else {
                        line.clear();
                    }
                }
                Watch::Head { bytes: head } => {
                    let wanted = if head.len() < HEAD { HEAD } else { lengths(head)?.0 };
                    let take = (wanted - head.len()).min(bytes.len());
                    head.extend_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    if head.len() >= HEAD {
                        let (header, rest) = lengths(head)?;
                        if head.len() == header {
                            check_fields(head)?;
                            *self = Watch::Rest { left: rest };
                        }
                    }
                }
                Watch::Rest { left } => {
                    let take = (*left).min(bytes.len());
                    *left -= take;
                    bytes = &bytes[take..];
                }
            }
            if let Watch::Rest { left: 0 } = self {
                *self = Watch::Head { bytes: Vec::new() };
            }
        }
        Ok(())
    }
}

fn endian(head: &[u8]) -> Result<Endian, &'static str> {
    match head.first() {
        Some(b'l') => Ok(Endian::Little),
        Some(b'B') => Ok(Endian::Big),
        _ => Err("a message begins with its byte order, l or B"),
    }
}

/// The length of the header with its fields, and of what follows with the padding before it (D-Bus
/// specification, "Message Format").
fn lengths(head: &[u8]) -> Result<(usize, usize), &'static str> {
    let endian = endian(head)?;
    let word = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        match endian {
            Endian::Little => u32::from_le_bytes(bytes) as usize,
            Endian::Big => u32::from_be_bytes(bytes) as usize,
        }
    };
    let (fields, body) = (word(FIELDS), word(4));
    if fields > HEADER_BYTES {
        return Err("the header of the message is longer than the door takes");
    }
    if body > MESSAGE_BYTES {
        return Err("the message is longer than the door takes");
    }
    Ok((HEAD + fields, fields.next_multiple_of(8) - fields + body))
}

/// Checks that each header field is of its type and form (D-Bus specification, "Header Fields").
fn check_fields(head: &[u8]) -> Result<(), &'static str> {
    let data = Data::new(&head[FIELDS..], Context::new_dbus(endian(head)?, FIELDS));
    let (fields, _): (Vec<(u8, Value<'_>)>, usize) =
        data.deserialize().map_err(|_| "the header fields of the message are not readable")?;
    let sound = fields.iter().all(|(code, value)| match (code, value) {
        (1, Value::ObjectPath(path)) => ObjectPath::try_from(path.as_str()).is_ok(),
        (2, Value::Str(name)) => InterfaceName::try_from(name.as_str()).is_ok(),
        (3, Value::Str(name)) => MemberName::try_from(name.as_str()).is_ok(),
        (4, Value::Str(name)) => ErrorName::try_from(name.as_str()).is_ok(),
        (5, Value::U32(serial)) => *serial != 0,
        (6, Value::Str(name)) => BusName::try_from(name.as_str()).is_ok(),
        (7, Value::Str(name)) => UniqueName::try_from(name.as_str()).is_ok(),
        (8, Value::Signature(_)) | (9, Value::U32(_)) => true,
        // The specification has unknown fields ignored; zbus has not, and no client sends any.
        _ => false,
    });
    if sound { Ok(()) } else { Err("a header field of the message is not of its form") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: u32, body: u32) -> Vec<u8> {
        let mut bytes = b"l\x01\x00\x01".to_vec();
        bytes.extend(body.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(fields.to_le_bytes());
        bytes
    }

    /// A call of that method, as zbus writes it, with a body of that length.
    fn message(member: &str, body: usize) -> Vec<u8> {
        let message = zbus::Message::method_call("/a", member).expect("a name").build(&vec![7u8; body]);
        message.expect("a message").data().to_vec()
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let mut stream = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec();
        for (member, body) in [("A", 5), ("Ab", 0), ("Publish", 40), ("GetManagedObjects", 301)] {
            stream.extend(message(member, body));
        }
        for step in 1..stream.len() {
            let mut watch = Watch::default();
            for part in stream.chunks(step) {
                watch.see(part).expect("well formed");
            }
            assert!(matches!(&watch, Watch::Head { bytes } if bytes.is_empty()), "step {step}: {watch:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_malformed_ends_the_connection() {
        let begun = || {
            let mut watch = Watch::default();
            watch.see(b"\0BEGIN\r\n").expect("begins");
            watch
        };
        assert!(begun().see(&head(0, MESSAGE_BYTES as u32 + 1)).is_err());
        assert!(begun().see(&head(u32::MAX, u32::MAX)).is_err());
        assert!(begun().see(&head(HEADER_BYTES as u32 + 1, 0)).is_err());
        assert!(begun().see(&head(0, MESSAGE_BYTES as u32)).is_ok());
        let good = message("Publish", 3);
        assert!(begun().see(&good).is_ok());
        let mut path = good.clone();
        let at = path.windows(3).position(|w| w == b"/a\0").expect("the path");
        path[at + 1] = b'-';
        assert!(begun().see(&path).is_err(), "no object has this path");
        assert!(begun().see(&[b'x'; HEAD]).is_err());
        assert!(Watch::default().see(b"GET / HTTP/1.1\r\n").is_err());
        assert!(Watch::default().see(b"\0\n").is_err());
        assert!(Watch::default().see(&[0; HANDSHAKE_BYTES + 1]).is_err());
    }
}
