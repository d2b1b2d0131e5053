//! Processing: an event runs a function, and its output is an event again (section III.D of the paper).
//!
//! A lane's queue worker hands events to its function workers, threads one step below it, over bounded
//! rings; a function that is declared inline runs on the queue worker itself. Each call into a function is
//! watched by the supervisor: what does not come back is demoted, reported and replaced.

pub mod canary;
pub mod deadline;
pub mod function_worker;
pub mod invoker;
pub mod retry;
pub mod workflow;
