//! What a TEMPOS function in Rust is built with, for the invocation method `dlf`.
//!
//! It mirrors `abi/include/tempos_function.h` ([`raw`]), wraps it in types that cannot be misused
//! ([`Event`], [`Output`]), and exports a handler with [`tempos_function!`], which keeps a panic inside.
//! It depends on nothing, and refuses to know plugins and the node.
//!
//! ```
//! use tempos_function::{Event, Failure, Output, tempos_function};
//!
//! fn handle(event: &Event<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
//!     let text = std::str::from_utf8(event.payload()).map_err(|_| Failure::new(1, "not a text"))?;
//!     output.write(text.to_uppercase().as_bytes());
//!     Ok(())
//! }
//!
//! tempos_function!(handle);
//! ```

mod event;
mod export;
mod output;
pub mod raw;

pub use event::{Event, Value};
pub use export::{Failure, Handler, run};
pub use output::Output;
