//! The bounds of the door. None of them can be set from outside: a caller must not be able to widen them.

use std::time::Duration;

/// Orders that the node carries out at once for all callers together.
pub const ORDERS_AT_ONCE: usize = 16;
/// Drains at once, apart from the others: a busy node can still be drained.
pub const DRAINS_AT_ONCE: usize = 2;
/// Looks at the system's real time at once.
pub const DOCTORS_AT_ONCE: usize = 2;
/// Reads at once.
pub const READS_AT_ONCE: usize = 8;
/// Readings of all objects of a kind at once; the short reads do not wait for them.
pub const WALKS_AT_ONCE: usize = 2;
/// How long an order or a read waits for its turn before it is refused as overloaded.
pub const TURN_WAIT: Duration = Duration::from_secs(1);

/// Connections to each socket.
pub const PEERS: usize = 64;
/// Further ones to the Unix socket, for root and the daemon's own user only.
pub const PEERS_RESERVED: usize = 4;
/// Connections of one user other than those two, or from one address.
pub const PEERS_OF_ONE: usize = 32;
/// How long a peer may take for its TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a request may take, and an idle connection may stay open.
pub const HEAD: Duration = Duration::from_secs(10);
/// The largest head of a request.
pub const HEAD_BYTES: usize = 16 << 10;
/// The most header fields.
pub const HEADERS: usize = 64;
/// How long the body of a request may take.
pub const BODY: Duration = Duration::from_secs(20);
/// How long a peer may leave an answer unread before it is let go.
pub const UNREAD: Duration = Duration::from_secs(10);

/// The largest body that is a wiring, or JSON.
pub const TEXT_BYTES: usize = 1 << 20;
/// The largest body that is the payload of an event.
pub const PAYLOAD_BYTES: usize = 16 << 20;
/// Bodies larger than `SMALL_BYTES` that are in memory at once.
pub const LARGE_BODIES: usize = 4;
/// A body of this size needs no turn.
pub const SMALL_BYTES: usize = 64 << 10;

/// Streams of server-sent events at once.
pub const STREAMS: usize = 32;
/// Of them for one caller.
pub const STREAMS_OF_ONE: usize = 8;
/// Notices that wait for a stream that does not keep up; then it is told how many it has lost.
pub const NOTICES_WAITING: usize = 1024;
/// How often the live figures are read while somebody watches.
pub const LIVE: Duration = Duration::from_secs(1);
/// The most objects of a kind in the live figures.
pub const LIVE_OBJECTS: usize = 100;
/// How often a stream says that it is there where nothing else is to be said.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a stream lasts: whoever opens it again is asked again who he is.
pub const STREAM: Duration = Duration::from_secs(600);
/// How often the progress of an order is told.
pub const PROGRESS: Duration = Duration::from_millis(200);

/// Requests of one caller in a second, and at once after a pause.
pub const REQUESTS_PER_SECOND: u32 = 200;
/// The same for one address that shows no valid token.
pub const STRANGERS_PER_SECOND: u32 = 20;
/// Callers whose rate is kept at once.
pub const RATES: usize = 1024;

/// The most objects in one answer, and how many there are by default.
pub const LIST: (usize, usize) = (1000, 100);
/// The longest drain that may be asked for.
pub const DRAIN_MS_MAX: u32 = 600_000;
/// The longest sentence of a problem, in bytes.
pub const SENTENCE_BYTES: usize = 64 << 10;

/// The pause before an address that cannot be listened at is tried again.
pub const LISTEN_RETRY: Duration = Duration::from_secs(2);
/// The largest token file, in bytes.
pub const TOKEN_FILE_BYTES: u64 = 1 << 20;
/// The most tokens in it.
pub const TOKENS: usize = 256;
/// The fewest bytes of a token: 128 bits, however they are written.
pub const TOKEN_BYTES_MIN: usize = 32;
