//! What an invocation method takes beside the function's own body: it calls functions that do nothing.

use std::path::Path;
use std::sync::Arc;

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{InvokeContext, Outcome};
use tempos_abi::level::QosLevel;
use tempos_abi::private::abi_stable::std_types::{RSlice, RStr};
use tempos_control::{CallSpec, LevelSpec, Origin, Value};

use super::{Bench, EVENT_BYTES, Samples};
use crate::opening::{self, Prepared};
use crate::plugin::Plugin;
use crate::system::clock::monotonic_ns;

/// A module that exports `memory`, `alloc` (always 1024) and `handle` (always 0).
const MODULE: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x0c\x02\x60\x01\x7f\x01\x7f\x60\x02\x7f\x7f\x01\x7f\
    \x03\x03\x02\x00\x01\
    \x05\x03\x01\x00\x01\
    \x07\x1b\x03\x06memory\x02\x00\x05alloc\x00\x00\x06handle\x00\x01\
    \x0a\x0c\x02\x05\x00\x41\x80\x08\x0b\x04\x00\x41\x00\x0b";
/// The most that a call may take (ns).
const DEADLINE_NS: u64 = 1_000_000_000;

struct Method {
    what: String,
    prepared: Prepared,
    payload: Vec<u8>,
    output: Vec<u8>,
    sentence: Vec<u8>,
}

/// Makes a function ready that does nothing.
///
/// # Errors
/// Why the method cannot be measured.
pub fn open(plugin: &Arc<Plugin>, scratch: &Path) -> Result<Box<dyn Bench>, String> {
    let method = plugin.info.name.as_str();
    let (file, options) = match method {
        // Its own library has one.
        "dlf" => (plugin.path.clone(), vec![("symbol", "tempos_nothing")]),
        "wasm" => {
            let file = scratch.join("nothing.wasm");
            std::fs::write(&file, MODULE).map_err(|error| format!("{}: {error}", file.display()))?;
            (file, Vec::new())
        }
        "spawn" => {
            let programs = ["/bin/true", "/usr/bin/true"].map(std::path::PathBuf::from);
            let there = programs.into_iter().find(|path| path.exists());
            (there.ok_or("there is no program \"true\" here")?, Vec::new())
        }
        _ => return Err(String::from("there is no function of it that is known to do nothing")),
    };
    let mut call = CallSpec::new(method, &file.display().to_string(), &Origin::builtin());
    call.deadline_ns = Some(DEADLINE_NS);
    call.options =
        options.into_iter().map(|(key, value)| (key.to_owned(), Value::Text(value.to_owned()))).collect();
    let level = LevelSpec::strict();
    let prepared = opening::prepare(plugin, "calibration", &call, &level, QosLevel::STRICT)
        .map_err(|all| all.join("; "))?;
    let mut bench = Method {
        what: format!("method/{method}"),
        prepared,
        payload: vec![0x5a; EVENT_BYTES],
        output: vec![0; 4096],
        sentence: vec![0; 256],
    };
    match bench.call() {
        Outcome::DONE => Ok(Box::new(bench)),
        outcome => {
            let said = String::from_utf8_lossy(&bench.sentence);
            let said = said.trim_end_matches('\0');
            Err(format!("a function that does nothing ended as {} {said}", outcome.word()))
        }
    }
}

impl Method {
    fn call(&mut self) -> Outcome {
        let now = monotonic_ns();
        let event = EventView {
            id: 1,
            topic: RStr::from_str("calibration"),
            level: QosLevel::STRICT,
            source_time_ns: 0,
            arrival_ns: now,
            deadline_ns: 0,
            payload: RSlice::from_slice(&self.payload),
            attribute_block: RSlice::from_slice(&[]),
            reserved: [0; 4],
        };
        let context = InvokeContext { worker: 0, flags: 0, deadline_ns: now + DEADLINE_NS, reserved: [0; 2] };
        let mut output = Output::new(&mut self.output, &mut self.sentence);
        self.prepared.function.invoke(&event, &mut output, &context)
    }
}

impl Bench for Method {
    fn burst(&mut self, samples: &mut Samples) {
        // What a process for each event takes is not this thread's CPU time: the clock on the wall counts.
        let begun = monotonic_ns();
        let outcome = self.call();
        let took = monotonic_ns().saturating_sub(begun);
        if outcome == Outcome::DONE {
            samples.add(&self.what, took);
        }
    }
}

impl Drop for Method {
    fn drop(&mut self) {
        self.prepared.function.retire(monotonic_ns() + DEADLINE_NS);
    }
}
