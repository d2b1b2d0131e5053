//! How a handler becomes the symbol that the node looks up.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::event::Event;
use crate::output::Output;
use crate::raw::{RawEvent, RawOutput};

/// The code of a function that panicked.
const PANICKED: u8 = 255;

/// Why a function failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The function's own number, 1 to 255; 0 counts as 1.
    pub code: u8,
    /// One sentence for the operator.
    pub sentence: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(code: u8, sentence: impl Into<String>) -> Self {
        Failure { code, sentence: sentence.into() }
    }
}

/// What an author writes.
pub type Handler = fn(&Event<'_>, &mut Output<'_>) -> Result<(), Failure>;

/// Runs a handler on what the node handed over; called by the macro.
///
/// # Safety
/// Both pointers are to live structs that keep the promises of [`Event::new`] and [`Output::new`].
pub unsafe fn run(handler: Handler, event: *const RawEvent, output: *mut RawOutput) -> i32 {
    // SAFETY: as the caller says.
    let (event, mut output) = unsafe { (Event::new(&*event), Output::new(&mut *output)) };
    let failure = match catch_unwind(AssertUnwindSafe(|| handler(&event, &mut output))) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let said = payload.downcast_ref::<&str>().copied().map(str::to_owned);
            let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
            // A payload's own destructor may panic too: it is leaked instead.
            std::mem::forget(payload);
            Failure::new(PANICKED, format!("the function panicked: {}", said.unwrap_or_default()))
        }
    };
    output.explain(&failure.sentence);
    i32::from(failure.code.max(1))
}

/// Exports a handler, `fn(&Event, &mut Output) -> Result<(), Failure>`, as `tempos_handle`, or under the
/// name that is given after it (the node's option `symbol`).
#[macro_export]
macro_rules! tempos_function {
    ($handler:path) => {
        $crate::tempos_function!($handler, "tempos_handle");
    };
    ($handler:path, $symbol:literal) => {
        const _: () = {
            #[unsafe(export_name = $symbol)]
            unsafe extern "C" fn exported_entry(
                event: *const $crate::raw::RawEvent,
                output: *mut $crate::raw::RawOutput,
            ) -> i32 {
                // SAFETY: the node hands over live structs (tempos_function.h).
                unsafe { $crate::run($handler, event, output) }
            }
        };
    };
}
