//! What it costs to prepare a function, to call it the first time and again, and to let go of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bare::{Cat, Library, spawn_and_wait, spawn_and_wait_of};
use crate::by_hand::{ByHand as _, HandComponent, HandModule};
use crate::functions::{Functions, component_text, module_text};
use crate::loaded::{Loaded, Prepared};
use crate::say;
use crate::times::Times;

/// One way to run a function.
struct Way<'a> {
    name: &'static str,
    method: &'a Loaded,
    file: &'a Path,
    options: &'a [(&'static str, &'static str)],
    /// Calls in a row in each round; the bare thing gets as many.
    calls: usize,
}

/// What one was measured at.
#[derive(Default)]
struct Row {
    prepare: Times,
    first: Times,
    warm: Times,
    stop: Times,
}

/// The bare thing beside some ways, and the ways.
struct Group<'a> {
    bare: &'static str,
    once: Box<dyn FnMut() + 'a>,
    ways: Vec<Way<'a>>,
}

/// Measures and prints.
pub fn run(functions: &Functions, rounds: usize) {
    let [dlf, wasm, spawn] = ["invoker-dlf", "invoker-wasm", "invoker-spawn"].map(Loaded::new);
    let way = |name, method, file, options, calls| Way { name, method, file, options, calls };
    let open = Library::open(&functions.library);
    let (module, component) = (HandModule::new(&module_text(), false), HandComponent::new(&component_text()));
    let mut cat = Cat::start();
    let payload = crate::loaded::PAYLOAD;
    let groups = [
        Group {
            bare: "call in an open library",
            once: Box::new(|| open.call()),
            ways: vec![way("dlf", &dlf, &functions.library, &[], 1000)],
        },
        Group {
            bare: "dlopen, call, dlclose",
            once: Box::new(|| Library::open(&functions.closed_library).call()),
            ways: vec![way("dlf, reload", &dlf, &functions.library, &[("reload", "always")], 50)],
        },
        Group {
            bare: "wasmtime by hand",
            once: Box::new(|| module.event(&payload)),
            ways: vec![
                way("wasm", &wasm, &functions.module, &[("instances", "fresh")], 200),
                way("wasm, reuse", &wasm, &functions.module, &[("instances", "reuse")], 200),
            ],
        },
        Group {
            bare: "the same, a component",
            once: Box::new(|| component.event(&payload)),
            ways: vec![way("wasm component", &wasm, &functions.component, &[("instances", "fresh")], 200)],
        },
        Group {
            bare: "posix_spawn, waitpid",
            once: Box::new(|| spawn_and_wait(&functions.each)),
            ways: vec![
                way("spawn", &spawn, &functions.each, &[], 20),
                way("spawn, launcher", &spawn, &functions.each, &[("seccomp", "basic")], 20),
            ],
        },
        Group {
            bare: "pipes to and from cat",
            once: Box::new(|| cat.echo()),
            ways: vec![
                way("dlf, in a process", &dlf, &functions.library, &[("isolation", "process")], 100),
                way("spawn, warm in C", &spawn, &functions.worker, &[("mode", "warm")], 100),
                way("spawn, warm Python", &spawn, &functions.python, PYTHON, 100),
                way("spawn, zygote Python", &spawn, &functions.python, ZYGOTE, 10),
                way("spawn, warm Node.js", &spawn, &functions.javascript, JAVASCRIPT, 100),
            ],
        },
    ];
    say(&format!(
        "\nµs for 256 bytes there and back     {:^28} {:^28} {:^28} {:>6} {:^28}",
        "prepare", "first call", "call", "", "let go"
    ));
    let three = format!("{:>9} {:>9} {:>8}", "p50", "p99", "max");
    say(&format!("{:<35} {three} {three} {three} {:>6} {three}", "", "ratio"));
    groups.into_iter().for_each(|group| measure(group, rounds));
    peer(functions, rounds);
}

const PYTHON: &[(&str, &str)] = &[("mode", "warm"), ("runtime", "python")];
const ZYGOTE: &[(&str, &str)] = &[("mode", "zygote"), ("runtime", "python")];
const JAVASCRIPT: &[(&str, &str)] = &[("mode", "warm"), ("runtime", "javascript")];

fn measure(mut group: Group<'_>, rounds: usize) {
    let mut bare = Times::default();
    let mut able: Vec<(Way<'_>, Prepared, Row)> = Vec::new();
    for way in group.ways {
        match way.method.prepare(way.file, way.options, 1) {
            Ok(kept) => able.push((way, kept, Row::default())),
            Err(sentence) => say(&format!("{:<35} {sentence}", way.name)),
        }
    }
    // The first ones fault in what is used.
    (0..20).for_each(|_| (group.once)());
    able.iter().for_each(|(_, kept, _)| (0..20).for_each(|_| kept.echo()));
    let calls = able.first().map_or(1, |(way, ..)| way.calls);
    for _ in 0..rounds {
        (0..calls).for_each(|_| bare.take(&mut group.once));
        for (way, kept, row) in &mut able {
            (0..way.calls).for_each(|_| row.warm.take(|| kept.echo()));
            // Nothing ready yet: what the first event would have to wait for.
            let cold = row.prepare.take(|| way.method.prepare(way.file, way.options, 0)).expect("as before");
            row.first.take(|| cold.echo());
            row.stop.take(|| cold.stop());
        }
    }
    let none = Times::default;
    say(&format!("{:<35} {} {} {}", group.bare, none().figures(), none().figures(), bare.figures()));
    for (way, kept, mut row) in able {
        kept.stop();
        let ratio = row.warm.at(0.5) / bare.at(0.5);
        say(&format!(
            "  {:<33} {} {} {} {ratio:>6.2} {}",
            way.name,
            row.prepare.figures(),
            row.first.figures(),
            row.warm.figures(),
            row.stop.figures()
        ));
    }
}

/// The wasmtime command, where it is installed: a process that runs a module once.
fn peer(functions: &Functions, rounds: usize) {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("wasmtime")).find(|file| file.is_file())
    });
    let Some(program) = found else { return say("the wasmtime command is not installed: not compared") };
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\00\10\00\00")
      (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let folder = functions.module.parent().expect("it lies in a folder");
    let (module, compiled) = (folder.join("peer.wasm"), folder.join("peer.cwasm"));
    std::fs::write(&module, wat::parse_str(text).expect("it is WebAssembly")).expect("written");
    let compile = Command::new(&program)
        .arg("compile")
        .arg(&module)
        .arg("-o")
        .arg(&compiled)
        .stderr(Stdio::null())
        .status();
    let ahead = compile.is_ok_and(|status| status.success());
    let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
    let (command, file) = (bytes(&program), bytes(if ahead { &compiled } else { &module }));
    let mut words: Vec<&[u8]> = vec![&command, b"run"];
    if ahead {
        words.push(b"--allow-precompiled");
    }
    words.push(&file);
    let mut times = Times::default();
    (0..rounds).for_each(|_| times.take(|| spawn_and_wait_of(&words)));
    let none = Times::default;
    say(&format!(
        "{:<35} {} {} {}",
        "wasmtime run (command)",
        none().figures(),
        none().figures(),
        times.figures()
    ));
}
