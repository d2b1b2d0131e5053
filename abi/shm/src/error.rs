//! What may go wrong, each with its sentence.

use std::io;

/// Why a call did not do what it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The ring is full: the node, or who reads from it, is behind.
    Full,
    /// The frame is longer than the channel carries.
    TooLarge {
        /// The frame in bytes.
        length: usize,
        /// The largest frame in bytes.
        most: usize,
    },
    /// Nobody serves there now. The next calls look again, ten times a second at the most.
    Disconnected,
    /// The node is there and says no.
    Refused(String),
    /// The other side wrote what makes no sense; the connection was closed.
    Broken,
    /// What the system says.
    System(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Full => f.write_str("the ring is full: its reader is behind"),
            Error::TooLarge { length, most } => {
                write!(f, "a frame of {length} bytes; the channel carries at most {most}")
            }
            Error::Disconnected => f.write_str("nobody serves there now"),
            Error::Refused(sentence) => f.write_str(sentence),
            Error::Broken => {
                f.write_str("the other side wrote what makes no sense; the connection is closed")
            }
            Error::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<crate::protocol::Broken> for Error {
    fn from(_: crate::protocol::Broken) -> Self {
        Error::Broken
    }
}
