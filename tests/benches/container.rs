//! What the method `container` costs: a resident worker inside beside the same one outside, and a process for each event
//! beside the bare thing that limits it (posix_spawn(3) of a program that enters the container by setns(2), forks and
//! executes) and beside the commands of the engine and of its runtime. All of it in one run, by turns.
//!
//! `cargo bench -p tempos-tests --bench container`; `TEMPOS_BENCH_ROUNDS` sets the rounds (2000). As root, with
//! dockerd and runc installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, InvokeContext, Outcome};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};
use tempos_tests::built::source_root;
use tempos_tests::engine::Engine;

/// The bare way into a container, by hand.
const ENTER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **arguments)
{
    int status = 1, pidfd = syscall(SYS_pidfd_open, atoi(arguments[1]), 0);
    pid_t child;
    if (count < 3 || setns(pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)) return 2;
    if (!(child = fork())) { execv(arguments[2], arguments + 2); _exit(3); }
    waitpid(child, &status, 0);
    return status != 0;
}
"#;
const INSIDE: &str = "/bin/function";
const CONTAINER: &str = "bench";

/// One way to do the work, how often it is done, and how long it took each time.
struct Way {
    name: &'static str,
    once: Box<dyn Fn()>,
    every: usize,
    took_ns: Vec<u64>,
}

fn main() {
    let rounds = std::env::var("TEMPOS_BENCH_ROUNDS").ok().and_then(|t| t.parse().ok()).unwrap_or(2000usize);
    let Some(engine) = Engine::shared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let source = source_root().join("tests/fixtures/in-container.c");
    let outside = compiled(&source, &folder.path().join("function"));
    let enter = folder.path().join("enter.c");
    fs::write(&enter, ENTER).expect("written");
    let enter = compiled(&enter, &folder.path().join("enter"));
    let root = folder.path().join("root");
    ["bin", "dev", "proc", "tmp", "etc"].iter().for_each(|name| {
        fs::create_dir_all(root.join(name)).expect("made");
    });
    fs::copy(&outside, root.join("bin/function")).expect("copied");
    engine.import(&root, "tempos-bench:1");
    engine.docker(&[
        "run",
        "--detach",
        "--network=none",
        "--name",
        CONTAINER,
        "tempos-bench:1",
        INSIDE,
        "rest",
    ]);
    let first = engine.first_process(CONTAINER).to_string();
    let [in_container, in_process] = ["invoker-container", "invoker-spawn"].map(build);
    let socket = format!("unix://{}", engine.socket().display());
    let inside = |mode: &str, role: &str| {
        let options = [("container", CONTAINER), ("engine", &socket), ("mode", mode)];
        prepare(&in_container, INSIDE, &options, role)
    };
    let own = outside.display().to_string();
    let mut ways = vec![
        way("warm, outside", 1, prepare(&in_process, &own, &[("mode", "warm")], "mirror")),
        way("warm", 1, inside("warm", "mirror")),
        way("exec", 1, inside("exec", "mirror")),
        way("each, outside", 4, prepare(&in_process, &own, &[("mode", "each")], "cat")),
        way("each", 4, inside("each", "cat")),
    ];
    let bare = [enter.display().to_string(), first, INSIDE.into(), "cat".into()];
    ways.push(command("setns and exec", 4, move || {
        let mut command = Command::new(&bare[0]);
        command.args(&bare[1..]);
        command
    }));
    let shared = std::sync::Arc::clone(&engine);
    ways.push(command("docker exec", 40, move || {
        let mut command = shared.command();
        command.args(["exec", CONTAINER, INSIDE, "cat"]);
        command
    }));
    let id = engine.docker(&["inspect", "--format", "{{.Id}}", CONTAINER]);
    let state = engine.socket().with_file_name("exec").join("runtime-runc/moby");
    ways.push(command("runc exec", 40, move || {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state).args(["exec", &id, INSIDE, "cat"]);
        command
    }));
    for round in 0..rounds + rounds / 10 {
        for way in ways.iter_mut().filter(|way| round % way.every == 0) {
            let start = Instant::now();
            (way.once)();
            let took = start.elapsed().as_nanos() as u64;
            if round >= rounds / 10 {
                way.took_ns.push(took);
            }
        }
    }
    print_line(&format!("{:<24} {:>8} {:>10} {:>10} {:>10}", "us", "rounds", "p50", "p99", "max"));
    ways.into_iter().for_each(|way| figures(way.name, way.took_ns));
    print_line("made ready, and let go of:");
    for (mode, role) in [("warm", "mirror"), ("each", "cat"), ("exec", "mirror")] {
        let (mut made, mut let_go) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let start = Instant::now();
            let function = inside(mode, role);
            made.push(start.elapsed().as_nanos() as u64);
            let start = Instant::now();
            function.retire(0);
            drop(function);
            let_go.push(start.elapsed().as_nanos() as u64);
        }
        figures(&format!("{mode}, prepare"), made);
        figures(&format!("{mode}, stop"), let_go);
    }
    print_line("after the deadline, of a function that loops:");
    for (mode, role) in [("warm", "warm"), ("each", "each"), ("exec", "warm")] {
        const DEADLINE: Duration = Duration::from_millis(20);
        let function = inside(mode, role);
        let late = (0..100).map(|_| {
            let start = Instant::now();
            // A worker that is being replaced costs the event its whole time, too.
            let (outcome, said) = call(&function, b"loop", DEADLINE);
            assert!(outcome == Outcome::KILLED || outcome == Outcome::NOT_STARTED, "{said}");
            let late = start.elapsed().saturating_sub(DEADLINE).as_nanos() as u64;
            std::thread::sleep(Duration::from_millis(if mode == "exec" { 100 } else { 5 }));
            late
        });
        figures(mode, late.collect());
    }
}

fn compiled(source: &Path, program: &Path) -> PathBuf {
    let built = Command::new("cc").args(["-static", "-O2", "-w", "-o"]).args([program, source]).status();
    assert!(built.expect("there is a C compiler").success());
    program.to_owned()
}

/// A plugin as it is delivered: cargo builds no `cdylib` for a bench by itself.
fn build(plugin: &str) -> PathBuf {
    let bench = std::env::current_exe().expect("a running bench has a path");
    let folder = bench.ancestors().nth(2).expect("a bench lies in PROFILE/deps");
    let target = folder.parent().expect("a profile's folder lies in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--release", "-p", &format!("tempos-{plugin}"), "--target-dir"])
        .arg(target);
    assert!(cargo.status().expect("cargo runs").success());
    folder.join(format!("libtempos_{}.so", plugin.replace('-', "_")))
}

fn prepare(plugin: &Path, file: &str, options: &[(&str, &str)], role: &str) -> FunctionBox {
    let module = loader::load(plugin).unwrap_or_else(|(sentence, _)| panic!("{sentence}"));
    let ROption::RSome(factory) = module.invocation_method() else { panic!("no method") };
    let RResult::ROk(method) = factory() else { panic!("no method") };
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, OptionValue::Text((*value).into())));
    table.set("args", OptionValue::Texts(vec![role.into()].into()));
    let spec = FunctionSpec {
        name: "bench".into(),
        file: file.into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: 1,
        output_bytes_max: 65536,
        deadline_ns: 0,
        memory_bytes: 0,
        options: table,
        counters: RArc::default(),
        reserved: [0; 4],
    };
    match method.prepare(&spec) {
        RResult::ROk(function) => function,
        RResult::RErr(error) => panic!("{}", error.message),
    }
}

fn way(name: &'static str, every: usize, function: FunctionBox) -> Way {
    let once = move || {
        let (outcome, said) = call(&function, &[7; 256], Duration::ZERO);
        assert_eq!(outcome, Outcome::DONE, "{name}: {said}");
    };
    Way { name, once: Box::new(once), every, took_ns: Vec::new() }
}

fn command(name: &'static str, every: usize, make: impl Fn() -> Command + 'static) -> Way {
    let once = move || {
        let status = make().stdin(Stdio::null()).stdout(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "{name}");
    };
    Way { name, once: Box::new(once), every, took_ns: Vec::new() }
}

/// Calls it, with a deadline where there is one.
fn call(function: &FunctionBox, payload: &[u8], within: Duration) -> (Outcome, String) {
    let event = EventView {
        id: 1,
        topic: RStr::from_str("bench"),
        level: QosLevel::STRICT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&[]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 1024], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let deadline_ns = if within.is_zero() { 0 } else { now_ns() + within.as_nanos() as u64 };
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    (outcome, output.explanation())
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn figures(name: &str, mut took_ns: Vec<u64>) {
    took_ns.sort_unstable();
    let at = |part: usize| took_ns[(took_ns.len() * part / 1000).min(took_ns.len() - 1)] as f64 / 1000.0;
    let [p50, p99, max] = [at(500), at(990), at(1000)];
    print_line(&format!("{name:<24} {:>8} {p50:>10.1} {p99:>10.1} {max:>10.1}", took_ns.len()));
}

#[allow(clippy::print_stdout)] // Figures are what a bench is for.
fn print_line(text: &str) {
    println!("{text}");
}
