//! What a library in a process of its own costs beside the same one in the node: the call alone, no node
//! around it. `cargo bench -p tempos-tests --bench isolation [-- ROUNDS]`; as root also in real time.

use std::path::Path;
use std::time::{Duration, Instant};

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{
    FunctionBox, FunctionSpec, Instances, InvocationMethodBox, InvokeContext, Outcome, Scheduling,
};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};
use tempos_tests::built;
use tempos_tests::function::{ECHO, function};

const PAYLOAD: [u8; 256] = [7; 256];
const REAL_TIME: u8 = 30;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20_000usize);
    let folder = tempfile::tempdir().expect("a folder");
    let library = function(folder.path(), "echo", ECHO);
    let module = loader::load(&built::plugin("invoker-dlf")).expect("the plugin loads");
    let ROption::RSome(factory) = module.invocation_method() else { panic!("it is an invocation method") };
    let RResult::ROk(method) = factory() else { panic!("its factory works") };
    say("what                                  between calls     p50       p99       max");
    for (real_time, class) in [(false, "other"), (true, "fifo ")] {
        if real_time && !enter_real_time() {
            say("SCHED_FIFO is refused here");
            break;
        }
        for gap_us in [0, 1000] {
            for isolation in ["none", "process"] {
                let function = prepare(&method, &library, isolation, real_time);
                let count = if gap_us == 0 { rounds } else { rounds.min(3000) };
                let what = format!("{class} echo of 256 bytes, {isolation}");
                print(&what, gap_us, measure(&function, count, gap_us));
                function.retire(0);
            }
        }
    }
}

fn prepare(method: &InvocationMethodBox, file: &Path, isolation: &str, real_time: bool) -> FunctionBox {
    let mut options = Options::new();
    options.set("isolation", OptionValue::Text(isolation.into()));
    let (policy, priority) = if real_time { (1, REAL_TIME) } else { (0, 0) };
    let scheduling = Scheduling { policy, priority, nice: 0, cpus: 0 };
    let spec = FunctionSpec {
        name: "bench".into(),
        file: file.display().to_string().into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: 1,
        output_bytes_max: 4096,
        deadline_ns: 0,
        memory_bytes: 0,
        options,
        counters: RArc::default(),
        reserved: FunctionSpec::reserved_for(scheduling, Instances::default()),
    };
    match method.prepare(&spec) {
        RResult::ROk(function) => function,
        RResult::RErr(error) => panic!("{error}"),
    }
}

/// Nanoseconds of each call, sorted.
fn measure(function: &FunctionBox, rounds: usize, gap_us: u64) -> Vec<u64> {
    let mut took: Vec<u64> = (0..rounds + 100)
        .map(|_| {
            if gap_us > 0 {
                std::thread::sleep(Duration::from_micros(gap_us));
            }
            let start = Instant::now();
            call(function);
            start.elapsed().as_nanos() as u64
        })
        .skip(100)
        .collect();
    took.sort_unstable();
    took
}

fn call(function: &FunctionBox) {
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
    let (mut buffer, mut sentence) = ([0; 4096], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns: 0, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    assert_eq!((outcome, output.emitted()), (Outcome::DONE, Some(PAYLOAD.len())));
}

fn print(what: &str, gap_us: u64, took: Vec<u64>) {
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    let figures = format!("{:7.2} us {:7.2} us {:7.1} us", at(0.5), at(0.99), at(1.0));
    say(&format!("{what:40} {gap_us:6} us  {figures}"));
}

/// Has this thread run as a strict level's function worker does.
fn enter_real_time() -> bool {
    let parameters = libc::sched_param { sched_priority: REAL_TIME.into() };
    // SAFETY: the struct is live; the call concerns this thread.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) == 0
    }
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
