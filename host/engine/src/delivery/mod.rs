//! Delivery: ingress → queue → egress (section III.B of the paper).
//!
//! The queue policy decides who goes next; each subscription group of the topic then gets the event once,
//! through one of its members. Nothing here waits for a receiver: what one cannot take now waits in its
//! own bounded list, and where that is full the topic is put on hold (one group) or the copy is lost and
//! counted (several groups: the others are not to wait).

pub mod admission;
pub mod dispatch;
pub mod group;
pub mod health;
pub mod member;
pub mod outlet;
