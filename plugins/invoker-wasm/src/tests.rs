//! What the tests of whole functions share, and the tests of how invocations end.

mod cached;
mod components;
mod refused;
mod sandboxed;
mod snapshots;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempos_abi::attributes::{AttributeValue, AttributeWriter};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome, Scheduling};
use tempos_abi::std_types::{RArc, RSlice, RStr};
use tempos_abi::{OptionValue, Options, PluginError, QosLevel};

use crate::clock::now_ns;
use crate::method::{Wasm, WasmFunction};

/// A folder of its own for each test, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tempos-wasm-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Folder(folder)
    }

    pub fn place(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// A module or component from its text.
    pub fn wat(&self, name: &str, text: &str) -> PathBuf {
        self.place(&format!("{name}.wasm"), &wat::parse_str(text).expect("it is WebAssembly"))
    }

    pub fn probe(&self) -> PathBuf {
        self.wat("probe", include_str!("../guests/probe.wat"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.into())
}

/// What a test asks for.
#[derive(Clone, Default)]
pub struct Wanted {
    pub options: Options,
    pub deadline_ns: u64,
    pub memory_bytes: u64,
    pub recycle_after: u32,
    pub warm: u32,
}

impl Wanted {
    pub fn with(mut self, key: &str, value: OptionValue) -> Self {
        self.options.set(key, value);
        self
    }

    pub fn prepare(&self, file: &Path) -> Result<WasmFunction, PluginError> {
        self.spec(file, |spec| Wasm.prepare(spec))
    }

    pub fn spec<R>(&self, file: &Path, then: impl FnOnce(&FunctionSpec) -> R) -> R {
        let instances = tempos_abi::invoker::Instances {
            recycle_after: self.recycle_after,
            ..tempos_abi::invoker::Instances::default()
        };
        then(&FunctionSpec {
            name: "detect".into(),
            file: file.display().to_string().into(),
            level: QosLevel::STRICT,
            warm: self.warm,
            concurrency: 2,
            output_bytes_max: 64,
            deadline_ns: self.deadline_ns,
            memory_bytes: self.memory_bytes,
            options: self.options.clone(),
            counters: RArc::default(),
            reserved: FunctionSpec::reserved_for(Scheduling::default(), instances),
        })
    }
}

/// Outcome, output where there is one, sentence.
pub fn invoke(
    function: &WasmFunction,
    payload: &[u8],
    deadline_ns: u64,
) -> (Outcome, Option<Vec<u8>>, String) {
    let mut block = [0; 128];
    let mut writer = AttributeWriter::new(&mut block);
    writer.put("unit", AttributeValue::Text("mm/s"));
    writer.put("peer.uid", AttributeValue::Unsigned(1234));
    writer.put("peer", AttributeValue::Address(&[127, 0, 0, 1, 0, 80]));
    let attributes = writer.len();
    let event = EventView {
        id: 42,
        topic: RStr::from_str("press/vibration"),
        level: QosLevel::BEST_EFFORT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&block[..attributes]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 64], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    let (length, said) = (output.emitted(), output.explanation());
    (outcome, length.map(|length| buffer[..length].to_vec()), said)
}

pub fn done(function: &WasmFunction, payload: &[u8]) -> Option<String> {
    let (outcome, output, said) = invoke(function, payload, 0);
    assert_eq!((outcome, &said[..]), (Outcome::DONE, ""));
    output.map(|output| String::from_utf8_lossy(&output).into_owned())
}

#[test]
fn a_module_sees_its_event_and_its_outcome_is_understood() {
    let folder = Folder::new("outcome");
    let file = folder.probe();
    for instances in ["fresh", "reuse"] {
        let function = Wanted::default().with("instances", text(instances)).prepare(&file).expect("prepared");
        let said = |payload| done(&function, payload);
        assert_eq!(said(b""), None);
        assert_eq!(said(b"n"), None);
        assert_eq!(said(b"z").as_deref(), Some(""));
        assert_eq!(said(b"echo").as_deref(), Some("echo"));
        assert_eq!(said(b"a").as_deref(), Some("mm/s"));
        assert_eq!(said(b"u").as_deref(), Some("1234"));
        assert_eq!(said(b"p").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(said(b"k").as_deref(), Some("press/vibration"));
        assert_eq!(invoke(&function, b"x", 0).1.as_deref(), Some(&1234u64.to_le_bytes()[..]));
        assert_eq!(invoke(&function, b"j", 0).1.as_deref(), Some(&42u64.to_le_bytes()[..]));
        let long = vec![b'7'; 200_000];
        assert_eq!(said(&long).as_deref(), Some("7777777777777777"));
        let fails = "the bearing is not known".to_owned();
        assert_eq!(invoke(&function, b"f", 0), (Outcome::failed(7), None, fails));
        let (outcome, _, sentence) = invoke(&function, b"b", 0);
        assert_eq!(
            (outcome, &sentence[..]),
            (Outcome::BAD_OUTPUT, "it answered 300, which is not within 0 to 255")
        );
        assert_eq!(invoke(&function, b"l", 0), (Outcome::OUTPUT_TOO_LARGE, None, String::new()));
        let late = invoke(&function, b"echo", 1).0;
        assert!([Outcome::LATE, Outcome::KILLED].contains(&late), "its deadline was past before it began");
        assert_eq!(invoke(&function, b"echo", u64::MAX).0, Outcome::DONE);
    }
}

#[test]
fn traps_say_what_they_were_and_the_next_event_is_served() {
    let folder = Folder::new("traps");
    let file = folder.probe();
    for instances in ["fresh", "reuse"] {
        let function = Wanted::default().with("instances", text(instances)).prepare(&file).expect("prepared");
        for (payload, words) in [
            (b"t", "unreachable"),
            (b"d", "divide by zero"),
            (b"o", "out of bounds"),
            (b"s", "call stack exhausted"),
            (b"w", "tempos.write was called with 1000 bytes at 4294967280, which is not within its memory"),
        ] {
            let (outcome, output, sentence) = invoke(&function, payload, 0);
            assert_eq!((outcome, output), (Outcome::CRASHED, None), "{sentence}");
            assert!(sentence.starts_with("it trapped") && sentence.contains(words), "{sentence}");
            assert_eq!(done(&function, b"c").as_deref(), Some("1"), "a new instance serves after {words}");
        }
    }
}

#[test]
fn a_fresh_instance_remembers_nothing_and_a_reused_one_does_until_it_is_replaced() {
    let folder = Folder::new("state");
    let file = folder.probe();
    let counts = |wanted: Wanted| {
        let function = wanted.prepare(&file).expect("prepared");
        [0; 5].map(|_| done(&function, b"c").expect("an output")).concat()
    };
    assert_eq!(counts(Wanted::default()), "11111");
    assert_eq!(counts(Wanted::default().with("instances", text("reuse"))), "12345");
    let recycled = Wanted { recycle_after: 2, warm: 1, ..Wanted::default() };
    assert_eq!(counts(recycled.with("instances", text("reuse"))), "12121");
}

#[test]
fn a_guest_that_never_ends_is_stopped_at_its_deadline() {
    let folder = Folder::new("loop");
    let file = folder.probe();
    let deadline_ns = 20_000_000;
    for instances in ["fresh", "reuse"] {
        let wanted = Wanted { deadline_ns, ..Wanted::default() }.with("instances", text(instances));
        let function = wanted.prepare(&file).expect("prepared");
        for _ in 0..5 {
            let begun = Instant::now();
            let (outcome, output, sentence) = invoke(&function, b"i", now_ns() + deadline_ns);
            assert_eq!((outcome, output), (Outcome::KILLED, None));
            assert_eq!(sentence, "it was stopped at its deadline");
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert_eq!(done(&function, b"c").as_deref(), Some("1"));
        }
    }
}

#[test]
fn one_without_a_deadline_can_be_cancelled() {
    let folder = Folder::new("cancel");
    let function = Wanted::default().prepare(&folder.probe()).expect("prepared");
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| invoke(&function, b"i", 0));
        while !guest.is_finished() {
            function.cancel(1);
            function.cancel(0);
            std::thread::sleep(Duration::from_millis(1));
        }
        let (outcome, _, sentence) = guest.join().expect("no panic");
        assert_eq!((outcome, &sentence[..]), (Outcome::KILLED, "it was stopped: the node asked for it"));
    });
    assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
}

#[test]
fn memory_ends_at_its_limit() {
    let folder = Folder::new("memory");
    let file = folder.probe();
    for instances in ["fresh", "reuse"] {
        let wanted = Wanted { memory_bytes: 4 << 20, ..Wanted::default() }.with("instances", text(instances));
        let function = wanted.prepare(&file).expect("prepared");
        let (outcome, _, sentence) = invoke(&function, b"m", 0);
        assert_eq!(outcome, Outcome::OVER_MEMORY, "{sentence}");
        assert!(sentence.contains("more than its 4194304 bytes"), "{sentence}");
        assert_eq!(done(&function, b"M").as_deref(), Some("fine"), "who copes with it goes on");
        assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
    }
    let small = Wanted { memory_bytes: 1000, ..Wanted::default() };
    let error = small.prepare(&file).map(|_| ()).expect_err("a page is 64 KiB");
    assert!(error.message.contains("more than its 1000 bytes of memory while it was starting"), "{error}");
}

#[test]
fn fuel_is_used_up_at_the_same_place_each_time() {
    let folder = Folder::new("fuel");
    let wanted = Wanted::default().with("fuel", OptionValue::Integer(10_000));
    for instances in ["fresh", "reuse"] {
        let function =
            wanted.clone().with("instances", text(instances)).prepare(&folder.probe()).expect("prepared");
        for _ in 0..3 {
            let (outcome, _, sentence) = invoke(&function, b"i", 0);
            assert_eq!(
                (outcome, &sentence[..]),
                (Outcome::KILLED, "it was stopped: its fuel of 10000 is used up")
            );
            assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
        }
    }
    let error = Wanted::default().with("fuel", OptionValue::Integer(-1)).prepare(&folder.probe());
    assert!(error.is_err_and(|error| error.message.contains("fuel = -1 is not within 0 to 2^62")));
}

/// A module that answers as the other form of the contract does.
const PACKED: &str = r#"(module
  (memory (export "memory") 1)
  (global $freed (mut i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "free") (param i32 i32) (global.set $freed (i32.add (global.get $freed) (i32.const 1))))
  (func (export "handle") (param $at i32) (param $bytes i32) (result i64)
    (local $what i32)
    (local.set $what (i32.load8_u (local.get $at)))
    (if (i32.eq (local.get $what) (i32.const 110)) (then (return (i64.const 0))))
    (if (i32.eq (local.get $what) (i32.const 102)) (then (return (i64.const -7))))
    (if (i32.eq (local.get $what) (i32.const 98)) (then (return (i64.const -300))))
    (if (i32.eq (local.get $what) (i32.const 119)) (then (return (i64.const 0x7fffffff00001000))))
    (if (i32.eq (local.get $what) (i32.const 122)) (then (return (i64.const 4096))))
    (if (i32.eq (local.get $what) (i32.const 99))
      (then
        (i32.store8 (i32.const 100) (i32.add (i32.const 48) (global.get $freed)))
        (return (i64.const 0x100000064))))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $bytes)) (i64.const 32)) (i64.extend_i32_u (local.get $at)))))"#;

#[test]
fn an_output_may_be_answered_as_place_and_length() {
    let folder = Folder::new("packed");
    let file = folder.wat("packed", PACKED);
    let function = Wanted::default().with("instances", text("reuse")).prepare(&file).expect("prepared");
    assert_eq!(done(&function, b"n"), None);
    assert_eq!(done(&function, b"c").as_deref(), Some("1"), "the event before was given back");
    assert_eq!(done(&function, b"c").as_deref(), Some("3"), "and its output, too");
    assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
    assert_eq!(done(&function, b"z").as_deref(), Some(""));
    assert_eq!(invoke(&function, b"f", 0).0, Outcome::failed(7));
    for (payload, words) in [(b"b", "it answered -300"), (b"w", "is not within its memory")] {
        let (outcome, output, sentence) = invoke(&function, payload, 0);
        assert_eq!((outcome, output), (Outcome::BAD_OUTPUT, None));
        assert!(sentence.contains(words), "{sentence}");
    }
    assert_eq!(invoke(&function, &[b'x'; 100], 0).0, Outcome::OUTPUT_TOO_LARGE);
}
