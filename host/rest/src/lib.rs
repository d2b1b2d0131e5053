//! The REST door of a TEMPOS node, and the read-only page that shows it live.
//!
//! Requests become orders of `tempos_control`, objects are what the node says they are at the moment of asking,
//! and what happens is told as server-sent events. The door decides who may do what; what an order means, and
//! how an event is treated, it refuses to know: of the node it has the trait `Node` and nothing else. It knows
//! neither the engine, nor Lua, nor the door for D-Bus, which it says the same words as.
//! The daemon opens it. Resources, rights and bounds are listed in `README.md` beside this crate.

mod access;
mod body;
mod caller;
mod door;
mod gate;
mod limits;
mod live;
mod object;
mod page;
mod places;
mod problem;
mod rate;
mod routes;
mod serve;
mod shared;
mod slow;
mod tcp;
mod tls;
mod tokens;
mod unix;

pub use door::{Door, DoorConfig, Tcp, Told};
