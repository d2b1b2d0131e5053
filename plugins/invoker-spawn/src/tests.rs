use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempos_abi::attributes::{AttributeValue, AttributeWriter};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{
    Function, FunctionSpec, Instances, InvocationMethod, InvokeContext, Outcome, Scheduling,
};
use tempos_abi::std_types::{RArc, RSlice, RStr};
use tempos_abi::{OptionValue, Options, PluginError, QosLevel};
use tempos_process::clock::now_ns;

use crate::method::{Spawn, SpawnFunction};

mod each;
mod granted;
mod residents;
mod sources;

/// Long enough for anything that is to end well, on a machine that does much else.
const LIVENESS_NS: u64 = 20_000_000_000;

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tempos-spawn-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        Folder(folder)
    }

    fn place(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }

    /// A shell script.
    fn script(&self, body: &str) -> PathBuf {
        self.place("function.sh", &format!("#!/bin/sh\n{body}\n"))
    }

    /// A program in C.
    fn program(&self, source: &str) -> PathBuf {
        let (c, program) = (self.place("function.c", source), self.0.join("function"));
        let built = Command::new("cc").args(["-O1", "-Wall", "-Werror", "-o"]).args([&program, &c]).status();
        assert!(built.expect("cc runs: Rust itself needs it").success());
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.into())
}

fn texts(list: &[&str]) -> OptionValue {
    OptionValue::Texts(list.iter().map(|text| (*text).into()).collect())
}

fn spec(file: &Path, options: &[(&str, OptionValue)]) -> FunctionSpec {
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, value.clone()));
    FunctionSpec {
        name: "detect".into(),
        file: file.display().to_string().into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: 4,
        output_bytes_max: 4096,
        deadline_ns: 0,
        memory_bytes: 0,
        options: table,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn prepare(spec: &FunctionSpec) -> SpawnFunction {
    Spawn.prepare(spec).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(spec: &FunctionSpec) -> PluginError {
    match Spawn.prepare(spec) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

/// What came of an invocation.
#[derive(Debug, PartialEq, Eq)]
struct Result {
    outcome: Outcome,
    output: Option<Vec<u8>>,
    said: String,
}

impl Result {
    fn text(&self) -> &str {
        std::str::from_utf8(self.output.as_deref().unwrap_or(b"no output")).expect("a text")
    }
}

fn invoke_within(function: &SpawnFunction, worker: u32, payload: &[u8], within_ns: u64) -> Result {
    let mut block = [0; 256];
    let mut writer = AttributeWriter::new(&mut block);
    writer.put("unit", AttributeValue::Text("mm/s"));
    writer.put("peer.uid", AttributeValue::Unsigned(1234));
    writer.put("offset", AttributeValue::Signed(-5));
    writer.put("peer.address", AttributeValue::Address(&[127, 0, 0, 1, 1, 0]));
    let attributes = writer.len();
    let event = EventView {
        id: 42,
        topic: RStr::from_str("press/vibration"),
        level: QosLevel::BEST_EFFORT,
        source_time_ns: 17,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&block[..attributes]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 4096], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker, flags: 0, deadline_ns: now_ns() + within_ns, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    let (length, said) = (output.emitted(), output.explanation());
    Result { outcome, output: length.map(|length| buffer[..length].to_vec()), said }
}

fn invoke(function: &SpawnFunction, payload: &[u8]) -> Result {
    invoke_within(function, 0, payload, LIVENESS_NS)
}

/// Waits for what must come.
fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ask() {
        assert!(start.elapsed() < Duration::from_nanos(LIVENESS_NS), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process is there, and not just its status.
fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

/// The children of this process whose arguments name a path, zombies among them (which have none).
fn children_of(path: &Path) -> Vec<i32> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
            let stat = read("stat").unwrap_or_default();
            let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
            let (state, parent) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            let named = read("cmdline").unwrap_or_default().contains(&path.display().to_string());
            named || (state == "Z" && parent == own)
        })
        .collect()
}
