//! The proof that the node runs, from outside: what the tests share.
//!
//! A test starts a real `temposd` with folders of its own and, where it wants one, a bus of its own,
//! and talks to it as a user would: sockets, signals, `temposctl`, `busctl`, files dropped into folders.
//! This room knows the public faces and the built files; it never looks into a room of the house.
//!
//! ```no_run
//! use tempos_tests::NodeSetup;
//! let node = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]).wiring("").start();
//! assert_eq!(node.ctl_json(["status"])["State"], "running");
//! ```

pub mod browser;
pub mod built;
pub mod bus;
pub mod capture;
pub mod child;
pub mod engine;
pub mod figures;
pub mod fixture;
pub mod function;
pub mod http;
pub mod metadata;
pub mod network;
pub mod newer;
pub mod node;
pub mod numbered;
pub mod port;
pub mod producer;
pub mod ready;
pub mod sequence;
pub mod setup;
pub mod signals;
pub mod sink;
pub mod thread;
pub mod wait;

pub use bus::PrivateBus;
pub use child::Child;
pub use node::Node;
pub use numbered::Numbered;
pub use producer::Producer;
pub use sequence::Ledger;
pub use setup::NodeSetup;
pub use signals::Signals;
pub use sink::Sink;
pub use wait::{LIVENESS, eventually, settled};
