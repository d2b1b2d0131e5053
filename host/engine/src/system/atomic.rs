//! The atomics of what lanes, controller and supervisor share: the standard library's. The models in
//! `host/engine/models` build the same files with others in their place, which try every order.

pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
