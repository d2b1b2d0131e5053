//! Keeps a panic on its own side of the border.
//!
//! abi_stable ends the process when a panic reaches an exported function. Every entry of a plugin
//! therefore runs inside [`Guard::run`]: the panic becomes an answer, and the instance is poisoned,
//! so that its half-changed state is never used again.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::PluginError;

/// One instance's guard.
#[derive(Debug, Default)]
pub struct Guard {
    poisoned: AtomicBool,
}

impl Guard {
    /// Runs `call`; where it panics, or an earlier call did, the answer is `on_panic`.
    pub fn run<R>(&self, on_panic: R, call: impl FnOnce() -> R) -> R {
        if self.poisoned.load(Ordering::Relaxed) {
            return on_panic;
        }
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(answer) => answer,
            Err(payload) => {
                self.poisoned.store(true, Ordering::Relaxed);
                forget_payload(payload);
                on_panic
            }
        }
    }

    /// The same for calls of the order's road, which answer with a sentence.
    pub fn run_cold<R>(
        &self,
        plugin: &str,
        what: &str,
        call: impl FnOnce() -> Result<R, PluginError>,
    ) -> Result<R, PluginError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(PluginError::new(
                PluginError::PANICKED,
                format!("plugin {plugin} panicked earlier and is not used again"),
            ));
        }
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
            self.poisoned.store(true, Ordering::Relaxed);
            let said = payload
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| String::from("no message"));
            forget_payload(payload);
            Err(PluginError::new(
                PluginError::PANICKED,
                format!("plugin {plugin} panicked in {what}: {said}"),
            ))
        })
    }
}

/// What an author made, kept so that a panic in its destructor ends here as well.
#[derive(Debug)]
pub struct Kept<T> {
    inner: ManuallyDrop<T>,
}

impl<T> Kept<T> {
    /// Keeps it.
    pub fn new(inner: T) -> Self {
        Kept { inner: ManuallyDrop::new(inner) }
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: this is the only drop of it, and nobody sees it afterwards.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.inner) }));
        if let Err(payload) = dropped {
            forget_payload(payload);
        }
    }
}

/// A payload's own destructor may panic too, outside any guard: it is leaked instead.
fn forget_payload(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_answer_and_poisons_the_instance() {
        let guard = Guard::default();
        assert_eq!(guard.run(-1, || 5), 5);
        assert_eq!(guard.run(-1, || panic!("planted")), -1);
        assert_eq!(guard.run(-1, || 5), -1);
        let guard = Guard::default();
        let error = guard.run_cold::<()>("udp", "open", || panic!("planted {}", 1)).expect_err("panicked");
        assert_eq!(error.message.as_str(), "plugin udp panicked in open: planted 1");
    }
}
