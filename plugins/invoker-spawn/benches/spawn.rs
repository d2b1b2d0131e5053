//! What the method `spawn` costs beside the bare thing that limits it, in one run: a process for each event beside
//! posix_spawn(3) and waitpid(2) of the same program, and resident workers beside nothing but themselves.
//!
//! `cargo bench -p tempos-invoker-spawn`; `TEMPOS_BENCH_ROUNDS` sets the rounds (2000). The ways take turns, so
//! that what else the machine does meets all of them alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, InvokeContext, Outcome};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};

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
    write(1, &answer, 24);
    while (get(&head, sizeof head) && get(rest, head.topic + head.attributes)) {
        if (!get(answer.payload, head.payload)) return 1;
        answer.length = 20 + head.payload;
        answer.call = head.call;
        answer.bytes = head.payload;
        if (write(1, &answer, 24 + head.payload) < 0) return 1;
    }
    return 0;
}
"#;

/// One way to do the work, and how long it took each time.
struct Way<'a> {
    name: &'a str,
    once: Box<dyn Fn() + 'a>,
    took_ns: Vec<u64>,
}

fn main() {
    let rounds: usize =
        std::env::var("TEMPOS_BENCH_ROUNDS").ok().and_then(|t| t.parse().ok()).unwrap_or(2000);
    let folder = std::env::temp_dir().join(format!("tempos-spawn-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let place = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let worker = folder.join("worker");
    let source = place("worker.c", WORKER);
    let built = Command::new("cc").args(["-O2", "-o"]).args([&worker, &source]).status();
    assert!(built.expect("cc runs").success());
    let python = place("function.py", "def handle(event):\n    return event.payload\n");
    let javascript = place("function.js", "exports.handle = (event) => event.payload;\n");
    let plugin = build();
    let truth = Path::new("/bin/true");
    let each = prepare(&plugin, truth, &[]);
    let launched = prepare(&plugin, truth, &[("seccomp", "basic"), ("user", "nobody")]);
    let native = prepare(&plugin, &worker, &[("mode", "warm")]);
    let python = [("warm python", "warm"), ("zygote python", "zygote")]
        .map(|(name, mode)| (name, prepare(&plugin, &python, &[("mode", mode), ("runtime", "python")])));
    let node = prepare(&plugin, &javascript, &[("mode", "warm"), ("runtime", "javascript")]);
    let way = |name, function: &'static FunctionBox| Way {
        name,
        once: Box::new(move || invoke(function)),
        took_ns: Vec::new(),
    };
    let kept = |function: Option<FunctionBox>| function.map(|function| &*Box::leak(Box::new(function)));
    let mut ways = vec![Way { name: "bare", once: Box::new(bare), took_ns: Vec::new() }];
    let ours = [("each", each), ("each, launcher", launched), ("warm native", native), ("warm node", node)];
    for (name, function) in ours.into_iter().chain(python) {
        match kept(function) {
            Some(function) => ways.push(way(name, function)),
            None => print_line(&format!("{name:<16} cannot run here")),
        }
    }
    for round in 0..rounds + rounds / 10 {
        for way in &mut ways {
            let start = Instant::now();
            (way.once)();
            let took = start.elapsed().as_nanos() as u64;
            if round >= rounds / 10 {
                way.took_ns.push(took);
            }
        }
    }
    let stops = stops(&plugin, &folder);
    let _ = fs::remove_dir_all(&folder);
    print_line(&format!("{:<16} {:>10} {:>10} {:>10}   of bare (p50)", "us", "p50", "p99", "max"));
    let mut bare_p50 = 0;
    for Way { name, mut took_ns, .. } in ways {
        took_ns.sort_unstable();
        let at = |part: usize| took_ns[(took_ns.len() * part / 1000).min(took_ns.len() - 1)];
        if name == "bare" {
            bare_p50 = at(500);
        }
        let [p50, p99, max] = [at(500), at(990), at(1000)].map(|ns| ns as f64 / 1000.0);
        let of_bare = at(500) as f64 / bare_p50 as f64;
        print_line(&format!("{name:<16} {p50:>10.1} {p99:>10.1} {max:>10.1}   {of_bare:.3}"));
    }
    print_line("after the deadline, of a function that loops:");
    for (name, mut late_ns) in stops {
        late_ns.sort_unstable();
        let at = |part: usize| late_ns[(late_ns.len() * part / 1000).min(late_ns.len() - 1)] as f64 / 1000.0;
        let [p50, p99, max] = [at(500), at(990), at(1000)];
        print_line(&format!("{name:<16} {p50:>10.1} {p99:>10.1} {max:>10.1}"));
    }
}

/// How long after its deadline a function that loops has been ended and reaped.
fn stops(plugin: &Path, folder: &Path) -> Vec<(&'static str, Vec<u64>)> {
    const ROUNDS: usize = 200;
    const DEADLINE: Duration = Duration::from_millis(20);
    let source = folder.join("loop.c");
    let text = WORKER.replace("answer.length = 20 + head.payload;", "alarm(5); for (;;) { }");
    fs::write(&source, &text).expect("written");
    let (warm, each) = (folder.join("loop-warm"), folder.join("loop-each"));
    let endless = "#include <unistd.h>\nint main(void) { alarm(5); for (;;) { } }\n";
    for (program, text) in [(&warm, text.as_str()), (&each, endless)] {
        fs::write(&source, text).expect("written");
        assert!(
            Command::new("cc").args(["-O1", "-o"]).args([program, &source]).status().expect("cc").success()
        );
    }
    let ways =
        [("each", prepare(plugin, &each, &[])), ("warm native", prepare(plugin, &warm, &[("mode", "warm")]))];
    ways.into_iter()
        .filter_map(|(name, function)| Some((name, function?)))
        .map(|(name, function)| {
            let late = (0..ROUNDS).map(|_| {
                let start = Instant::now();
                let outcome = call(&function, DEADLINE);
                assert_eq!(outcome.0, Outcome::KILLED, "{}", outcome.1);
                start.elapsed().saturating_sub(DEADLINE).as_nanos() as u64
            });
            (name, late.collect())
        })
        .collect()
}

/// The plugin as it is delivered: cargo builds no `cdylib` for a bench by itself.
fn build() -> PathBuf {
    let bench = std::env::current_exe().expect("a running bench has a path");
    let folder = bench.ancestors().nth(2).expect("a bench lies in PROFILE/deps");
    let target = folder.parent().expect("a profile's folder lies in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "-p", "tempos-invoker-spawn", "--target-dir"]).arg(target);
    assert!(cargo.status().expect("cargo runs").success());
    folder.join("libtempos_invoker_spawn.so")
}

/// posix_spawn(3) of the program, and waitpid(2) until it has ended.
fn bare() {
    let mut arguments = [c"/bin/true".as_ptr().cast_mut(), std::ptr::null_mut()];
    let mut none = [std::ptr::null_mut()];
    let (mut pid, mut status) = (0, 0);
    // SAFETY: texts, and lists that end with a null; the child is this call's own.
    unsafe {
        let path = arguments[0];
        let (actions, attributes) = (std::ptr::null(), std::ptr::null());
        let lists = (arguments.as_mut_ptr(), none.as_mut_ptr());
        assert_eq!(libc::posix_spawn(&raw mut pid, path, actions, attributes, lists.0, lists.1), 0);
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert_eq!(status, 0);
}

fn prepare(plugin: &Path, file: &Path, options: &[(&str, &str)]) -> Option<FunctionBox> {
    let module = loader::load(plugin).unwrap_or_else(|(sentence, _)| panic!("{sentence}"));
    let ROption::RSome(factory) = module.invocation_method() else { panic!("no method") };
    let RResult::ROk(method) = factory() else { panic!("no method") };
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, OptionValue::Text((*value).into())));
    let spec = FunctionSpec {
        name: "bench".into(),
        file: file.display().to_string().into(),
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
        RResult::ROk(function) => Some(function),
        RResult::RErr(error) => {
            print_line(&error.message);
            None
        }
    }
}

fn invoke(function: &FunctionBox) {
    let (outcome, said) = call(function, Duration::ZERO);
    assert_eq!(outcome, Outcome::DONE, "{said}");
}

/// Calls it, with a deadline where there is one.
fn call(function: &FunctionBox, within: Duration) -> (Outcome, String) {
    let payload = [7; 256];
    let event = EventView {
        id: 1,
        topic: RStr::from_str("bench"),
        level: QosLevel::STRICT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(&payload),
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

#[allow(clippy::print_stdout)] // Figures are what a bench is for.
fn print_line(text: &str) {
    println!("{text}");
}
