//! A method, loaded from its built `.so` as the node loads it, and a function that it has prepared.

use std::path::Path;
use std::time::Duration;

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{
    FunctionBox, FunctionSpec, Instances, InvocationMethodBox, InvokeContext, Outcome, Scheduling,
};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};
use tempos_tests::built;

/// What every call is given.
pub const PAYLOAD: [u8; 256] = [b'e'; 256];
/// No function of the bench takes that long.
const DEADLINE_NS: u64 = 10_000_000_000;

/// A method of a plugin.
pub struct Loaded(InvocationMethodBox);

impl Loaded {
    /// Loads the plugin of that folder.
    pub fn new(folder: &str) -> Self {
        let module =
            loader::load(&built::plugin(folder)).unwrap_or_else(|(sentence, _)| panic!("{sentence}"));
        let ROption::RSome(factory) = module.invocation_method() else {
            panic!("it is an invocation method")
        };
        match factory() {
            RResult::ROk(method) => Loaded(method),
            RResult::RErr(error) => panic!("{error}"),
        }
    }

    /// Prepares a function with so many instances ready.
    ///
    /// # Errors
    /// The method's own sentence.
    pub fn prepare(&self, file: &Path, options: &[(&str, &str)], warm: u32) -> Result<Prepared, String> {
        let mut table = Options::new();
        options.iter().for_each(|(key, value)| table.set(key, OptionValue::Text((*value).into())));
        let spec = FunctionSpec {
            name: "bench".into(),
            file: file.display().to_string().into(),
            level: QosLevel::STRICT,
            warm,
            concurrency: 1,
            output_bytes_max: 4096,
            deadline_ns: DEADLINE_NS,
            memory_bytes: 0,
            options: table,
            counters: RArc::default(),
            reserved: FunctionSpec::reserved_for(Scheduling::default(), Instances::default()),
        };
        match self.0.prepare(&spec) {
            RResult::ROk(function) => Ok(Prepared(function)),
            RResult::RErr(error) => Err(error.message.into_string()),
        }
    }
}

/// A function.
pub struct Prepared(FunctionBox);

impl Prepared {
    /// One event that comes back as it was.
    ///
    /// # Panics
    /// Where it does not.
    pub fn echo(&self) {
        let mut buffer = [0; 4096];
        let (outcome, bytes, said) = self.call(&mut buffer, Duration::from_nanos(DEADLINE_NS));
        assert_eq!((outcome, bytes), (Outcome::DONE, Some(PAYLOAD.len())), "{said}");
        assert_eq!(buffer[..PAYLOAD.len()], PAYLOAD);
    }

    /// How an event ends within that time.
    pub fn end(&self, within: Duration) -> (Outcome, String) {
        let (outcome, _, said) = self.call(&mut [0; 4096], within);
        (outcome, said)
    }

    fn call(&self, buffer: &mut [u8], within: Duration) -> (Outcome, Option<usize>, String) {
        let event = EventView {
            id: 1,
            topic: RStr::from_str("bench"),
            level: QosLevel::STRICT,
            source_time_ns: 0,
            arrival_ns: 0,
            deadline_ns: 0,
            payload: RSlice::from_slice(&PAYLOAD),
            attribute_block: RSlice::from_slice(&[]),
            reserved: [0; 4],
        };
        let mut sentence = [0; 256];
        let mut output = Output::new(buffer, &mut sentence);
        let deadline_ns = now_ns() + within.as_nanos() as u64;
        let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
        let outcome = self.0.invoke(&event, &mut output, &context);
        (
            outcome,
            output.emitted(),
            if outcome == Outcome::DONE { String::new() } else { output.explanation() },
        )
    }

    /// Lets go of it.
    pub fn stop(self) {
        self.0.retire(0);
    }
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
