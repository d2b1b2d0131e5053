//! What invocation methods share whose functions are processes: how one is started, scheduled, bounded, followed,
//! ended with its whole group and reaped; resident workers and their framed protocol; the launcher `tempos-exec`,
//! which takes away what a function may not have, or enters a container, and then becomes the function.
//!
//! It knows posix_spawn(3), process groups, pidfds, limits, control groups, setns(2); it refuses to know options,
//! topics, workflows, and where a program comes from. Methods call it: `prepare` off the event's road, the rest by a
//! lane's workers. The node never forks: a thread of the function's own, scheduled as its level, starts its
//! processes.

pub mod ahead;
pub mod clock;
pub mod control_group;
pub mod each;
pub mod environment;
pub mod frame;
pub mod guard;
pub mod instance;
pub mod launcher;
pub mod limits;
mod memory;
pub mod pool;
pub mod process;
pub mod program;
pub mod running;
pub mod runtime;
pub mod scheduling;
pub mod seccomp;
pub mod source;
pub mod spawner;
pub mod tail;
pub mod verdict;
pub mod warm;
