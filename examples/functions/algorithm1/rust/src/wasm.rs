//! The door for the method `wasm`: a core module.

#[link(wasm_import_module = "tempos")]
unsafe extern "C" {
    fn write(data: *const u8, bytes: usize) -> i32;
    fn explain(sentence: *const u8, bytes: usize);
}

/// Room for an event.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(bytes: usize) -> *mut u8 {
    Box::leak(vec![0; bytes].into_boxed_slice()).as_mut_ptr()
}

/// Works on the event that was put where `alloc` said.
#[unsafe(no_mangle)]
pub extern "C" fn handle(event: *mut u8, bytes: usize) -> i32 {
    // SAFETY: `alloc` gave this room out for this event.
    let event = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(event, bytes)) };
    match crate::algorithm::main(&event) {
        Ok(answer) => {
            // SAFETY: the text is live. An output that does not fit is the node's to report.
            unsafe { write(answer.as_ptr(), answer.len()) };
            0
        }
        Err((code, sentence)) => {
            // SAFETY: the text is live.
            unsafe { explain(sentence.as_ptr(), sentence.len()) };
            code.into()
        }
    }
}
