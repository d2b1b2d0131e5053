//! What adapters over Linux sockets share: frames in batches from and to the host's buffers, control
//! messages, buffer sizes, the kernel's drop counter.
//!
//! It knows recvmmsg(2), sendmmsg(2) and socket(7); it refuses to know which protocol is spoken, who
//! connects to whom, and what an error means to a channel. Nothing here allocates.

mod bundle;
mod descriptor;
mod receiver;
mod sender;

pub use bundle::BundleReceiver;
pub use descriptor::{Buffer, duplicate, kernel_drops, resize_buffer, set_option};
pub use receiver::{Arrival, Receiver, Want};
pub use sender::Sender;
