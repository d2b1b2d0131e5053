//! Bridging: an outside signal becomes an event (section III.C of the paper).
//!
//! The queue worker lends buffers to an endpoint's channel and makes an event of each frame. The level is
//! the endpoint's, never a sender's byte.

pub mod endpoint;
pub mod rules;
pub mod sequences;
pub mod shaper;
pub mod trigger;
