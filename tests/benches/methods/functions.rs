//! The functions of the bench, built when it runs: each method's own kind of echo, loop and piece of work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempos_tests::built::source_root;
use tempos_tests::function::{ECHO, function};

/// A resident worker in C: it answers each event with its payload after `WORK`.
const WORKER: &str = r#"
#include <stdint.h>
#include <unistd.h>
static int get(void *to, size_t count)
{
    for (size_t at = 0; at < count; ) {
        ssize_t got = read(0, (char *)to + at, count - at);
        if (got <= 0) return 0;
        at += got;
    }
    return 1;
}
int main(void)
{
    struct { uint32_t length; uint16_t topic, attributes; uint64_t call, id, source, deadline;
             uint8_t level, none[3]; uint32_t payload; } head;
    static struct { uint32_t length, status; uint64_t call; uint32_t said, bytes; char payload[1 << 16]; } answer;
    static char rest[1 << 17];
    answer.length = 20;
    if (write(1, &answer, 24) < 0) return 1;
    while (get(&head, sizeof head) && get(rest, head.topic + head.attributes)) {
        if (head.payload > sizeof answer.payload || !get(answer.payload, head.payload)) return 1;
        { WORK }
        answer.length = 20 + head.payload;
        answer.call = head.call;
        answer.bytes = head.payload;
        if (write(1, &answer, 24 + head.payload) < 0) return 1;
    }
    return 0;
}
"#;

/// A process for each event.
const EACH: &str = r"
#include <unistd.h>
int main(void)
{
    static char bytes[1 << 16];
    ssize_t got = read(0, bytes, sizeof bytes);
    { WORK }
    return got < 0 || write(1, bytes, got) != got;
}
";

/// A core module: `alloc`, `handle`, and work in between.
const MODULE: &str = r#"(module
  (import "tempos" "write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $sink (mut f64) (f64.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "handle") (param $at i32) (param $bytes i32) (result i32) (local $n i32)
    WORK
    (call $write (local.get $at) (local.get $bytes))))"#;

/// The paper's alternation of powers and roots, so often that it takes one to two milliseconds. Where a root would need
/// a library, a quotient takes its place.
const POWERS: u32 = 400_000;

/// Files of functions.
pub struct Functions {
    /// For the method `dlf`.
    pub library: PathBuf,
    /// The same in a file of its own: a library that is open is not opened again.
    pub closed_library: PathBuf,
    /// For `spawn`, a process for each event.
    pub each: PathBuf,
    /// For `spawn`, a resident worker.
    pub worker: PathBuf,
    /// For `spawn`, in Python.
    pub python: PathBuf,
    /// For `spawn`, in JavaScript.
    pub javascript: PathBuf,
    /// For `wasm`, a core module.
    pub module: PathBuf,
    /// For `wasm`, a component.
    pub component: PathBuf,
    /// Loops of `dlf`, `spawn` for each event, `spawn` resident, and `wasm`.
    pub loops: [PathBuf; 4],
    /// Pieces of work of the same, and in Python.
    pub works: [PathBuf; 5],
}

impl Functions {
    /// Builds them.
    pub fn build(folder: &Path) -> Self {
        let c = |name: &str, text: &str, work: &str| {
            let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
            fs::write(&source, text.replace("WORK", work)).expect("written");
            let built =
                Command::new("cc").args(["-O2", "-o"]).args([&program, &source, Path::new("-lm")]).status();
            assert!(built.expect("there is a C compiler").success());
            program
        };
        let module = |name: &str, work: &str| {
            let file = folder.join(format!("{name}.wasm"));
            let binary = wat::parse_str(MODULE.replace("WORK", work)).expect("it is WebAssembly");
            fs::write(&file, binary).expect("written");
            file
        };
        let place = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).expect("written");
            file
        };
        let component = folder.join("component.wasm");
        let binary = wat::parse_str(component_text()).expect("it is WebAssembly");
        fs::write(&component, binary).expect("written");
        // It ends by itself should nobody end it.
        let endless = "alarm(5); for (;;) { }";
        let powers = format!(
            "static volatile double sum; for (int i = 0; i < {POWERS}; i++) \
             sum += i % 2 ? 1.0 / (i + 1.0) : (double)i * i;"
        );
        let powers_wat = format!(
            "(loop $more
               (global.set $sink (f64.add (global.get $sink) (f64.sqrt (f64.convert_i32_u (local.get $n)))))
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $more (i32.lt_u (local.get $n) (i32.const {POWERS}))))"
        );
        let powers_python = format!(
            "def handle(event):\n    total = 0.0\n    for i in range({}):\n        \
             total += i ** 0.5 if i % 2 else i * i\n    return event.payload\n",
            POWERS / 20
        );
        Functions {
            library: function(folder, "echo", ECHO),
            closed_library: function(folder, "closed-echo", ECHO),
            each: c("each", EACH, ""),
            worker: c("worker", WORKER, ""),
            python: place("function.py", "def handle(event):\n    return event.payload\n"),
            javascript: place("function.js", "exports.handle = (event) => event.payload;\n"),
            module: module("module", ""),
            component,
            loops: [
                function(folder, "loop", "signal(SIGALRM, SIG_DFL); alarm(5); for (;;) { }"),
                c("each-loop", EACH, endless),
                c("worker-loop", WORKER, endless),
                module("loop", "(loop $ever (br $ever))"),
            ],
            works: [
                function(folder, "work", &format!("{powers} {ECHO}")),
                c("each-work", EACH, &powers),
                c("worker-work", WORKER, &powers),
                module("work", &powers_wat),
                place("work.py", &powers_python),
            ],
        }
    }
}

/// The core module as text.
pub fn module_text() -> String {
    MODULE.replace("WORK", "")
}

/// The component as text.
pub fn component_text() -> String {
    fs::read_to_string(source_root().join("plugins/invoker-wasm/guests/component.wat")).expect("it is there")
}
