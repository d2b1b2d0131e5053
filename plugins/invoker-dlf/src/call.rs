//! One call: an event goes in, an outcome comes out.

use std::mem::size_of;

use crate::isolation::now_ns;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_function::raw::{OUTPUT_EMITTED, OUTPUT_OVERFLOWED, RawEvent, RawHandle, RawOutput};

const SENTENCE_BYTES_MAX: usize = 256;

/// Calls the function on an event and says how it went. Allocates nothing.
pub fn call(
    handle: RawHandle,
    event: &EventView<'_>,
    output: &mut Output<'_>,
    context: &InvokeContext,
) -> Outcome {
    let raw_event = RawEvent {
        struct_bytes: size_of::<RawEvent>() as u32,
        level: u32::from(event.level.0),
        id: event.id,
        source_time_ns: event.source_time_ns,
        arrival_ns: event.arrival_ns,
        deadline_ns: event.deadline_ns,
        topic: event.topic.as_str().as_ptr(),
        topic_bytes: event.topic.len(),
        payload: event.payload.as_ptr(),
        payload_bytes: event.payload.len(),
        attributes: event.attribute_block.as_ptr(),
        attributes_bytes: event.attribute_block.len(),
    };
    let mut sentence = [0u8; SENTENCE_BYTES_MAX];
    let capacity = output.capacity();
    let mut raw_output = RawOutput {
        struct_bytes: size_of::<RawOutput>() as u32,
        flags: 0,
        data: output.buffer_mut().as_mut_ptr(),
        capacity,
        length: 0,
        error: sentence.as_mut_ptr(),
        error_capacity: SENTENCE_BYTES_MAX,
        error_length: 0,
    };
    // SAFETY: both structs are live and as tempos_function.h says; the symbol is a function of this type.
    let code = unsafe { handle(&raw const raw_event, &raw mut raw_output) };
    let (flags, length) = (raw_output.flags, raw_output.length);
    explain(output, &sentence[..raw_output.error_length.min(SENTENCE_BYTES_MAX)]);
    if flags & OUTPUT_OVERFLOWED != 0 || length > capacity {
        let _ = output.commit(capacity + 1);
        return Outcome::OUTPUT_TOO_LARGE;
    }
    match code {
        0 => {}
        1..=255 => return Outcome::failed(code as u8),
        _ => {
            output.explain("the function answered a code that is not within 0 to 255");
            return Outcome::BAD_OUTPUT;
        }
    }
    if flags & OUTPUT_EMITTED != 0 || length > 0 {
        let _ = output.commit(length);
    }
    if context.deadline_ns != 0 && now_ns() > context.deadline_ns { Outcome::LATE } else { Outcome::DONE }
}

/// Hands a sentence on, as far as it is a text.
pub fn explain(output: &mut Output<'_>, sentence: &[u8]) {
    let text = match std::str::from_utf8(sentence) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&sentence[..error.valid_up_to()]).unwrap_or(""),
    };
    if !text.is_empty() {
        output.explain(text);
    }
}
