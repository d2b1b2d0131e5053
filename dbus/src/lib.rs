//! The D-Bus door of a TEMPOS node: `org.tempos.Host1` on a bus, and always on the node's own socket.
//!
//! Calls become orders of `tempos_control`, the node's notices become signals, and objects are what the
//! node says they are at the moment of asking. The door decides who may give orders; what an order means,
//! and how an event is treated, it refuses to know: of the node it has the trait `Node` and nothing else.
//! The daemon opens it. The names, properties and rights are listed in `README.md` beside this crate.

mod access;
mod bus;
mod call;
mod caller;
mod door;
mod face;
mod failure;
mod guard;
mod herald;
mod introspect;
mod limits;
mod link;
mod orders;
pub mod path;
mod peers;
mod property;
mod request;
mod shared;
mod stub;
mod terms;

pub use door::{Bus, Door, DoorConfig, DoorError};

/// The well-known name.
pub const NAME: &str = "org.tempos.Host1";
