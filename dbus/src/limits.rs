//! The bounds of the door. None of them can be set from outside: a caller must not be able to widen them.

use std::time::Duration;

/// Orders that the node carries out at once for all callers together.
pub const ORDERS_AT_ONCE: usize = 16;
/// Calls of `Drain` at once, apart from the others: a busy node can still be drained.
pub const DRAINS_AT_ONCE: usize = 2;
/// Calls of `Doctor` at once: everyone may ask, and nobody may keep the operators waiting with it.
pub const DOCTORS_AT_ONCE: usize = 2;
/// Readings of all objects at once.
pub const WALKS_AT_ONCE: usize = 2;
/// Reads (properties, names) at once.
pub const READS_AT_ONCE: usize = 8;
/// How long an order waits for its turn before it is refused as overloaded.
pub const TURN_WAIT: Duration = Duration::from_secs(1);

/// Calls that one client may have under way; a peer's next ones stay in its socket, a bus client's are
/// refused as overloaded.
pub const CALLS_OF_A_CLIENT: usize = 32;
/// Calls under way on a bus connection, for all its clients together.
pub const CALLS_OF_A_BUS: usize = 256;

/// Connections to the peer socket.
pub const PEERS: usize = 64;
/// Further connections, for root and the daemon's own user only.
pub const PEERS_RESERVED: usize = 4;
/// Connections of one user other than those two.
pub const PEERS_OF_A_USER: usize = 32;
/// How long a new peer may take to authenticate.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// The most bytes a peer may send before its first message.
pub const HANDSHAKE_BYTES: usize = 4096;
/// The longest header fields of a peer's message: a path, three names and a signature.
pub const HEADER_BYTES: usize = 4096;
/// The largest message that a peer may send.
pub const MESSAGE_BYTES: usize = 16 << 20;
/// How long a peer may leave an answer or a signal unread before it is let go.
pub const UNREAD: Duration = Duration::from_secs(10);
/// Match rules of one peer.
pub const MATCH_RULES: usize = 64;

/// Signals waiting for one connection.
pub const SIGNALS_WAITING: usize = 1024;
/// Notices waiting between the node and the herald.
pub const NOTICES_WAITING: usize = 4096;
/// Signals a second that tell of single events (`DeadlineMissed`, `FunctionFailed`, `EventsDropped`): what
/// goes beyond is in the counters of the objects.
pub const EVENT_SIGNALS_PER_SECOND: u32 = 200;
/// New objects that are read and announced in one go, so that calls get their turn in between.
pub const ANNOUNCED_AT_ONCE: usize = 64;

/// How long the start waits for the bus before it goes on without.
pub const BUS_AT_START: Duration = Duration::from_secs(3);
/// The first and the longest pause before the bus is tried again.
pub const BUS_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long the bus may take to say who a caller is.
pub const BUS_ANSWER: Duration = Duration::from_secs(5);
/// How long polkit may take, and how long where it asks a person.
pub const POLKIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// The longest error message, in bytes.
pub const SENTENCE_BYTES: usize = 64 << 10;
