//! A function that is compiled and fits its contract: what starts instances of it and calls them. Core modules
//! and components are its two kinds.

use std::future::Future;

use tempos_abi::event::EventView;
use tempos_abi::invoker::Outcome;
use wasmtime::Store;

use crate::fault::Fault;
use crate::guest::Guest;

/// A compiled function. Guests that may wait (for the clock, for a file) run on a stack of their own, so that
/// they can be left where they are at their deadline; the others run on the caller's.
pub trait Program: Send + Sync + 'static {
    /// What is called in an instance.
    type Exports: Send + 'static;

    /// Whether its guests may wait.
    fn waits(&self) -> bool;

    /// Starts an instance in an empty store.
    ///
    /// # Errors
    /// Why it did not start.
    fn start(&self, store: &mut Store<Guest>) -> Result<Self::Exports, Fault>;

    /// As [`Program::start`], for guests that may wait.
    fn start_waiting(&self, store: &mut Store<Guest>) -> impl Future<Output = Result<Self::Exports, Fault>>;

    /// Works on the event that the guest was lent.
    ///
    /// # Errors
    /// Why it did not come to an answer.
    fn call(
        &self,
        store: &mut Store<Guest>,
        exports: &Self::Exports,
        event: &EventView<'_>,
    ) -> Result<Outcome, Fault>;

    /// As [`Program::call`], for guests that may wait.
    fn call_waiting(
        &self,
        store: &mut Store<Guest>,
        exports: &Self::Exports,
        event: &EventView<'_>,
    ) -> impl Future<Output = Result<Outcome, Fault>>;
}
