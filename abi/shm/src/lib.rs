//! Events to a TEMPOS node of the same machine, and from it, over shared memory: what a program needs for the
//! adapter `shm`, and what that adapter is made of. Its mirror for C is `abi/include/tempos_shm.h`.
//!
//! A [`Producer`] connects to an ingress channel, a [`Consumer`] to an egress channel. Each connection has a
//! ring of its own in sealed, nameless memory that the node hands over: there is nothing to clean up after
//! anybody who dies. While events flow no system call is made; a side that waits is woken once.
//!
//! ```
//! use tempos_shm::{Error, Producer};
//!
//! let mut producer = Producer::new("@no-node-is-there")?;
//! assert!(matches!(producer.try_send(b"x"), Err(Error::Disconnected)));
//! # Ok::<(), Error>(())
//! ```
//!
//! It depends on libc alone. It refuses to know what is in a frame, topics, and plugins. The modules are for
//! adapters; nothing in them trusts what the other side wrote.

pub mod connector;
mod consumer;
mod error;
mod link;
pub mod memory;
mod producer;
pub mod protocol;
pub mod ring;
pub mod wire;

pub use consumer::Consumer;
pub use error::Error;
pub use producer::Producer;

#[cfg(test)]
mod tests;
