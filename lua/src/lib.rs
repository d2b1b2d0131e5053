//! Wiring scripts: Lua in, commands out.
//!
//! A script declares QoS levels, topics, groups and workflows; [`evaluate`] turns what it declared into
//! `tempos_control` commands, or into all of its mistakes at once. Nothing here runs on an event's road,
//! and nothing is applied: this room does not know the engine, nor what is loaded beyond the names that
//! it is told. The rules of the sandbox are in the README of this folder.

mod budget;
mod build;
mod check;
mod draft;
mod evaluate;
mod fields;
mod hooks;
mod level;
mod limits;
mod module;
mod pattern;
mod request;
mod require;
mod rules;
mod sentence;
mod silence;
mod source;
mod strings;
mod stubs;
mod targets;

pub use evaluate::{ABANDONED_MAX, Known, Wiring, abandoned, evaluate, evaluate_logged, evaluate_wiring};
pub use hooks::{Called, HOLD_NS, Happening, Hook, Hooks};
pub use limits::Limits;
pub use source::{Script, Source, read_scripts};
pub use stubs::{manual, stubs};
