//! The door from outside: a node that is not one behind the real door, a real bus daemon, the real socket,
//! the real `busctl` and the real `temposctl`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod access;
mod bounds;
mod calls;
mod ctl;
mod fuzz;
mod lives;
mod many;
mod node;
mod scene;
mod signals;
