//! Where processes and resident workers come from: a method says how one is started, this crate when.

use std::io;

use crate::environment::Variables;
use crate::instance::Instance;
use crate::process::Process;
use crate::program::{Program, Stdio};

/// Starts processes, on the thread that is there for it.
pub trait Source: Send + Sync + 'static {
    /// Starts one with these descriptors, and the variables of an event where it is for one.
    ///
    /// # Errors
    /// What the system refuses, or a sentence without its subject.
    fn start(&self, variables: Option<&Variables>, stdio: &Stdio) -> io::Result<Process>;
}

impl Source for Program {
    fn start(&self, variables: Option<&Variables>, stdio: &Stdio) -> io::Result<Process> {
        Program::start(self, variables, stdio, None)
    }
}

/// Starts resident workers, on the pool's thread.
pub trait Workers: Send + Sync + 'static {
    /// Starts one; it has not said yet that it is ready.
    ///
    /// # Errors
    /// What the system refuses, or a sentence without its subject.
    fn start(&self) -> io::Result<Instance>;
}

/// Workers that are processes of a source, with pipes to and from them.
pub struct Piped<S> {
    /// What starts them.
    pub source: S,
    /// Their frames are not on their standard input and output: see [`Stdio::Aside`].
    pub aside: bool,
}

impl<S: Source> Workers for Piped<S> {
    fn start(&self) -> io::Result<Instance> {
        Instance::start(&self.source, self.aside)
    }
}
