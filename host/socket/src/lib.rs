//! The socket file that programs of this machine come in by: made with its mode and group, taken away again, and who is
//! at its other end. It knows no protocol, no order, and not who may do what: that is the doors' part.

mod group;
mod listener;
mod peer;

pub use group::group_id;
pub use listener::Listener;
pub use peer::Peer;
