//! Invocation methods: a function is made ready, called, and let go.

use std::path::Path;
use std::time::{Duration, Instant};

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, InvocationMethodBox, InvokeContext, Outcome};
use tempos_abi::module::PluginModuleRef;
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{Descriptor, Options, PluginError, QosLevel};

use super::is_one_sentence;
use crate::report::Report;
use crate::resources::{Folder, descriptors};
use crate::{Settings, options};

const OUTPUT_BYTES: usize = 4096;
const WORKERS: u32 = 4;
/// How long what a method let go of may take to be gone.
const SETTLING: Duration = Duration::from_secs(5);

/// Runs the suite.
pub fn check(report: &mut Report, module: &PluginModuleRef, descriptor: &Descriptor, settings: &Settings) {
    let ROption::RSome(factory) = module.invocation_method() else { return };
    let method = match factory() {
        RResult::ROk(method) => method,
        RResult::RErr(error) => {
            return report.failed("its factory makes a method", error.message.into_string());
        }
    };
    report.passed("its factory makes a method");
    let sane = match options::read(descriptor, &settings.options) {
        Ok(options) => options,
        Err(sentence) => return report.failed("its options can be read", sentence),
    };
    report.judge("a file that is no function is refused with one sentence", no_function(&method, &sane));
    let Some(file) = &settings.function else {
        return report.skipped("a function runs", "say with --function FILE which");
    };
    let bad = options::garbage(descriptor, &sane).into_iter().try_for_each(|(what, options)| {
        match prepare(&method, file, &options) {
            Ok(function) => {
                function.retire(0);
                Ok(())
            }
            Err(error) => is_one_sentence(&error).map_err(|found| format!("with {what}: {found}")),
        }
    });
    report.judge("wrong options are refused with one sentence, without a panic", bad);
    match prepare(&method, file, &sane) {
        Ok(function) => {
            report.passed("a function is made ready");
            report.judge("it runs on events of every size, also several at once", runs(&function));
            report.judge("an output that is too large is not cut but refused", small_output(&function));
            function.cancel(0);
            function.cancel(u32::MAX);
            function.retire(0);
            report.passed("it is let go");
        }
        Err(error) => report.failed("a function is made ready", error.message.into_string()),
    }
    report.judge("50 preparations leave no descriptor behind", leaks(&method, file, &sane));
}

fn prepare(method: &InvocationMethodBox, file: &Path, options: &Options) -> Result<FunctionBox, PluginError> {
    let spec = FunctionSpec {
        name: "conformance".into(),
        file: file.display().to_string().into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: WORKERS,
        output_bytes_max: OUTPUT_BYTES as u32,
        deadline_ns: 0,
        memory_bytes: 0,
        options: options.clone(),
        counters: RArc::default(),
        reserved: [0; 4],
    };
    match method.prepare(&spec) {
        RResult::ROk(function) => Ok(function),
        RResult::RErr(error) => Err(error),
    }
}

fn no_function(method: &InvocationMethodBox, options: &Options) -> Result<(), String> {
    let folder = Folder::new().map_err(|error| error.to_string())?;
    let place = |name: &str, bytes: &[u8]| {
        let path = folder.0.join(name);
        std::fs::write(&path, bytes).map(|()| path).map_err(|error| error.to_string())
    };
    let text = place("text", b"this is not a function")?;
    let empty = place("empty", b"")?;
    let cut = place("cut", b"\x7fELF\x02\x01\x01")?;
    for file in [text, empty, cut, folder.0.clone(), folder.0.join("missing")] {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match prepare(method, &file, options) {
            Ok(_) => return Err(format!("{name} was taken for a function")),
            Err(error) => is_one_sentence(&error).map_err(|found| format!("{name}: {found}"))?,
        }
    }
    Ok(())
}

fn invoke(
    function: &FunctionBox,
    payload: &[u8],
    worker: u32,
    output_bytes: usize,
) -> Result<Outcome, String> {
    let event = EventView {
        id: 1,
        topic: RStr::from_str("conformance"),
        level: QosLevel::STRICT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&[]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = (vec![0; output_bytes], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker, flags: 0, deadline_ns: 0, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    let ill = [Outcome::PANICKED, Outcome::NOT_STARTED, Outcome::CRASHED, Outcome::LATE, Outcome::KILLED];
    if ill.contains(&outcome) || !(-8..=255).contains(&outcome.0) {
        return Err(format!(
            "an invocation ended as {} ({}): {}",
            outcome.word(),
            outcome.0,
            output.explanation()
        ));
    }
    if output.emitted().is_some_and(|length| length > output_bytes) {
        return Err(String::from("the output is longer than its buffer"));
    }
    Ok(outcome)
}

fn runs(function: &FunctionBox) -> Result<(), String> {
    let payloads: Vec<Vec<u8>> = [0, 1, 64, 1000, 60_000].map(|length| vec![b'7'; length]).into();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let payloads = &payloads;
                scope.spawn(move || {
                    (0..200).try_for_each(|round| {
                        let payload = &payloads[round % payloads.len()];
                        invoke(function, payload, worker, OUTPUT_BYTES).map(|_| ())
                    })
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(String::from("a panic came out of an invocation")))
        })
    })
}

fn small_output(function: &FunctionBox) -> Result<(), String> {
    let outcome = invoke(function, b"value=1", 0, 0)?;
    let fine = outcome == Outcome::OUTPUT_TOO_LARGE || outcome.0 >= 0;
    if fine { Ok(()) } else { Err(format!("without room for an output it ended as {}", outcome.word())) }
}

fn leaks(method: &InvocationMethodBox, file: &Path, options: &Options) -> Result<(), String> {
    let once =
        || prepare(method, file, options).map(|f| f.retire(0)).map_err(|error| error.message.into_string());
    once()?;
    let before = descriptors();
    (0..50).try_for_each(|_| once())?;
    // A thread of the method's own may end a process or close a file a moment after `retire`; a leak stays.
    let end = Instant::now() + SETTLING;
    while descriptors() > before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    match descriptors() {
        after if after > before => {
            Err(format!("{} descriptors are open that were not before", after - before))
        }
        _ => Ok(()),
    }
}
