//! What adapters over Linux sockets share: frames in batches from and to the host's buffers, control
//! messages, buffer sizes, the kernel's drop counter, what a channel waits for, what is not yet acknowledged;
//! the marks of what leaves, the way that it takes, and what they mean on Wi-Fi and VLANs;
//! and of unix sockets their names, their files, and how a channel hands its connections to its successor.
//!
//! It knows recvmmsg(2), sendmmsg(2), socket(7), ip(7) and unix(7); it refuses to know which protocol is spoken, who
//! connects to whom, and what an error means to a channel. Nothing that an event passes allocates.

mod access;
mod bundle;
pub mod carrier;
mod descriptor;
pub mod marking;
mod name;
mod place;
mod poller;
mod receiver;
mod route;
mod sender;
pub mod wifi;
mod window;

pub use access::Access;
pub use bundle::BundleReceiver;
pub use descriptor::{Buffer, duplicate, kernel_drops, resize_buffer, set_option};
pub use name::Name;
pub use place::Place;
pub use poller::Poller;
pub use receiver::{Arrival, Receiver, Want};
pub use sender::Sender;
pub use window::{ACK, Heard, NAK, WINDOW_MAX, Window};
