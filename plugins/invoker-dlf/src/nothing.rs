//! A function that does nothing, in this library itself: what the method costs beside a function's own body is
//! measured with it (`temposctl calibrate`, `symbol = "tempos_nothing"`).

use tempos_function::raw::{RawEvent, RawOutput};

/// Ends well, without an output.
#[unsafe(no_mangle)]
pub extern "C" fn tempos_nothing(_event: *const RawEvent, _output: *mut RawOutput) -> i32 {
    0
}
