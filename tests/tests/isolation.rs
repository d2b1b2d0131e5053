//! `isolation = "process"`: whatever a library does costs one event; the next one is served, it is said what
//! happened, and nothing is left behind.

mod road;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use tempos_abi::counters::FunctionCounters;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, Instances, InvokeContext, Outcome, Scheduling};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};
use tempos_tests::figures::counts;
use tempos_tests::function::{ECHO, function};
use tempos_tests::{Node, Producer, Signals, built, eventually, settled};

use road::{receive, receiver, setup, unix};

/// Does what the first byte of the payload says, and echoes what it does not know.
const FAULTS: &str = r#"
    static char *volatile nowhere = 0;
    static int served;
    char text[64];
    long n;
    served++;
    switch (event->payload_bytes ? event->payload[0] : 0) {
    case 's': *nowhere = 1; break;
    case 'a': abort();
    case 'x': exit(3);
    case 'k': kill(getpid(), SIGKILL); break;
    case 'l': for (;;) { } break;
    case 'z': for (;;) sleep(100); break;
    case 'm': for (;;) memset(malloc(1 << 20), 1, 1 << 20); break;
    case 'o': while (tempos_write(output, "xxxxxxxx", 8) == 0) { } return 0;
    case 'p': for (;;) { puts("flood"); fputs("flood\n", stderr); fflush(stdout); } break;
    case 'g': for (n = 0; n < 3; n++) if (fork() == 0) for (;;) sleep(100); *nowhere = 1; break;
    case 'i': signal(SIGTERM, SIG_IGN); for (;;) { } break;
    case 'q': case 'r':
        memset((char *)((uintptr_t)event->payload & ~(uintptr_t)4095) - 4096, 0xff, 4096);
        while (event->payload[0] == 'q') sleep(100);
        break;
    case 'f': return tempos_fail(output, 9, "as it was told");
    case 'n': snprintf(text, sizeof text, "%d", served); return tempos_write_text(output, text);
    }
    return tempos_write(output, event->payload, event->payload_bytes);
"#;

/// What is sent, and as what it is counted.
const CASES: [(&str, &str); 12] = [
    ("segfault", "crashed"),
    ("abort", "crashed"),
    ("x: exit", "crashed"),
    ("kill", "crashed"),
    ("loop", "killed"),
    ("z: sleep", "killed"),
    ("memory", "over-memory"),
    ("output", "output-too-large"),
    ("print", "killed"),
    ("grandchildren", "crashed"),
    ("ignore", "killed"),
    ("q: write over what is shared", "bad-output"),
];

struct Scene {
    node: Node,
    producer: Producer,
    out: UnixDatagram,
}

fn scene(more: &str) -> Scene {
    let setup = setup();
    let out = receiver(&setup, "out");
    let file = function(setup.folder(), "faults", FAULTS);
    let lua = format!(
        "tempos.topic \"in\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"out\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"work\" {{ from = \"in\", to = \"out\", call = {{ method = \"dlf\", file = {:?},\n\
         isolation = \"process\", memory = \"8MiB\"{more} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        file.display(),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    Scene { node, producer, out }
}

impl Scene {
    fn send(&self, payload: &str) {
        self.producer.socket().send(payload.as_bytes()).expect("the node listens");
    }

    fn serves(&self) {
        self.send("well");
        let mut buffer = [0; 64];
        let length = self.out.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("the next event is not served: {error}: {:#}", self.node.workflow("work"))
        });
        assert_eq!(&buffer[..length], b"well");
    }

    fn failures(&self) -> BTreeMap<String, u64> {
        counts(&self.node.workflow("work")["Failures"])
    }

    fn pid(&mut self) -> u32 {
        self.node.daemon().pid()
    }

    /// Descriptors, threads and mappings of shared memory of the daemon, and the processes below it.
    fn holds(&mut self) -> (usize, usize, usize, usize) {
        let pid = self.pid();
        let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("it runs").count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
        let shared = maps.lines().filter(|line| line.contains("memfd:tempos-function")).count();
        (entries("fd"), entries("task"), shared, processes().iter().filter(|p| p.parent == pid).count())
    }
}

struct Running {
    pid: u32,
    parent: u32,
    group: u32,
}

/// Every process of the machine.
fn processes() -> Vec<Running> {
    let stats = fs::read_dir("/proc").expect("a Linux").flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name may hold blanks and brackets.
        let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Running { pid, parent: rest.get(1)?.parse().ok()?, group: rest.get(2)?.parse().ok()? })
    });
    stats.collect()
}

#[test]
fn whatever_a_library_does_costs_one_event_and_is_reported() {
    let scene = scene(", deadline = \"300ms\"");
    let signals = Signals::of(&scene.node);
    scene.serves();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (payload, word) in CASES {
        scene.send(payload);
        *expected.entry(word.to_owned()).or_default() += 1;
        eventually(&format!("{payload} to be counted as {word}"), || {
            let failures = scene.failures();
            let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
            (sum(&failures) == sum(&expected)).then_some(failures)
        });
        assert_eq!(scene.failures(), expected, "{payload}");
        scene.serves();
    }
    // A failure of the function's own is no crash: the same process goes on.
    scene.send("n");
    let before = receive(&scene.out);
    scene.send("fail");
    eventually("the failure", || scene.failures().contains_key("failed").then_some(()));
    scene.send("n");
    let number = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse::<u64>().expect("a number");
    assert_eq!(number(&receive(&scene.out)), number(&before) + 2);
    // It answers well, and what it has left in the shared memory costs nobody the next event.
    scene.send("r: write and go on");
    assert_eq!(receive(&scene.out), b"r: write and go on");
    scene.serves();
    let said = eventually("the signals", || {
        let said = signals.named("FunctionFailed");
        (said.len() == CASES.len() + 1).then_some(said)
    });
    let said: Vec<String> = said.iter().map(|arguments| arguments[2].to_string()).collect();
    for sentence in [
        "its process was ended by signal 11 (segmentation fault)",
        "its process was ended by signal 6 (abort)",
        "it ended its process with exit code 3",
        "signal 9 (killed from outside",
        "it was stopped at its deadline",
        "it was refused memory and crashed",
        "as it was told",
        "has written into memory that is not the function's own",
    ] {
        assert!(said.iter().any(|said| said.contains(sentence)), "{sentence:?} is not in {said:#?}");
    }
}

#[test]
fn nothing_is_left_behind_after_hundreds_of_crashes() {
    let mut scene = scene(", deadline = \"1s\", concurrency = 2, warm = 2");
    let quick = |scene: &Scene, payloads: &[&str]| {
        for payload in payloads {
            scene.send(payload);
            scene.serves();
        }
    };
    // What takes until its deadline is waited for: the next event's time runs while it waits for a worker.
    let slow = |scene: &Scene, payloads: &[&str]| {
        for payload in payloads {
            let killed = |scene: &Scene| scene.failures().get("killed").copied().unwrap_or(0);
            let before = killed(scene);
            scene.send(payload);
            eventually("it to be killed", || (killed(scene) > before).then_some(()));
            scene.serves();
        }
    };
    // All that the node holds for good is there after the first of each.
    quick(&scene, &["segfault", "grandchildren"]);
    slow(&scene, &["loop"]);
    let rest = |scene: &mut Scene| {
        eventually("both processes to be up", || {
            let holds = scene.holds();
            (holds.3 == 2).then_some(())
        });
        settled("what the node holds", || scene.holds())
    };
    let before = rest(&mut scene);
    let groups: Vec<u32> = {
        let daemon = scene.pid();
        processes().iter().filter(|process| process.parent == daemon).map(|process| process.group).collect()
    };
    assert_eq!(groups.len(), 2);
    for _ in 0..rounds() {
        quick(&scene, &["segfault", "x: exit", "grandchildren"]);
    }
    quick(&scene, &["memory"]);
    slow(&scene, &["loop", "print", "z: sleep"]);
    let after = rest(&mut scene);
    // The doors let threads go that had nothing to do for ten seconds.
    assert!(after.1 <= before.1, "threads: {} after {}", after.1, before.1);
    assert_eq!(
        (after.0, after.2, after.3),
        (before.0, before.2, before.3),
        "descriptors, mappings, processes"
    );
    // What crashed processes had started is gone with them.
    let (daemon, all) = (scene.pid(), processes());
    let own: Vec<u32> = all.iter().filter(|p| p.parent == daemon).map(|p| p.pid).collect();
    let orphans =
        all.iter().filter(|p| !own.contains(&p.pid) && p.pid != daemon && is_function(p.pid, daemon));
    assert_eq!(orphans.count(), 0);
    assert!(scene.failures()["crashed"] >= 3 * rounds());
}

/// How often each kind of crash is tried; TEMPOS_CRASHES says otherwise.
fn rounds() -> u64 {
    std::env::var("TEMPOS_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Whether a process was started for a function of that daemon.
fn is_function(pid: u32, daemon: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).into_owned();
    command.starts_with("tempos-function:") && command.split('\0').any(|word| word == daemon.to_string())
}

#[test]
fn a_process_ends_with_the_daemon() {
    let mut scene = scene(", deadline = \"300ms\"");
    scene.serves();
    let daemon = scene.pid();
    let child = processes().into_iter().find(|process| process.parent == daemon).expect("it has a process");
    scene.node.daemon().signal(libc::SIGKILL);
    eventually("its end", || processes().iter().all(|process| process.pid != child.pid).then_some(()));
}

#[test]
fn a_library_that_cannot_be_used_is_refused_with_one_sentence_and_never_opened_in_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let crash = "#include <stdlib.h>\n__attribute__((constructor)) static void begin(void) { abort(); }\n";
    let file = folder.path().join("crash.so");
    let source = folder.path().join("crash.c");
    fs::write(&source, crash).expect("written");
    tempos_tests::function::compile(&[], &source, &file);
    let refused = prepare(&file, Scheduling::default(), Instances::default()).map(|_| ());
    let sentence = refused.expect_err("its constructor aborts");
    let expected = "cannot be used: while it was opened, its process was ended by signal 6 (abort)";
    assert!(sentence.ends_with(expected), "{sentence}");
    let empty = folder.path().join("empty.c");
    fs::write(&empty, "int nothing;\n").expect("written");
    tempos_tests::function::compile(&[], &empty, &file);
    let refused = prepare(&file, Scheduling::default(), Instances::default()).map(|_| ());
    let sentence = refused.expect_err("it exports nothing");
    assert!(sentence.contains("it exports no symbol \"tempos_handle\""), "{sentence}");
}

#[test]
fn a_process_runs_as_its_level_does_and_is_replaced_as_often_as_was_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = r#"
        extern int sched_getscheduler(int);
        char text[64];
        snprintf(text, sizeof text, "%d %d", getpid(), sched_getscheduler(0) & 0xff);
        return tempos_write_text(output, text);
    "#;
    let file = function(folder.path(), "who", body);
    let fifo = Scheduling { policy: 1, priority: 7, nice: 0, cpus: 1 };
    let instances = Instances { recycle_after: 2, ..Instances::default() };
    let function = prepare(&file, fifo, instances).expect("prepared");
    let answers: Vec<String> = (0..6).map(|_| call(&function, b"").1).collect();
    let fields = |answer: &String| {
        let (pid, policy) = answer.split_once(' ').expect("two fields");
        (pid.to_owned(), policy.to_owned())
    };
    let (pids, policies): (Vec<String>, Vec<String>) = answers.iter().map(fields).unzip();
    assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3] && pids[3] != pids[4], "{pids:?}");
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live; both calls concern this process.
    let may = unsafe {
        libc::getrlimit(libc::RLIMIT_RTPRIO, &raw mut limits);
        libc::geteuid() == 0 || limits.rlim_cur >= 7
    };
    if may {
        assert!(policies.iter().all(|policy| policy == "1"), "{policies:?}");
    } else {
        println!("real-time scheduling: skipped, it is not granted here");
    }
    function.retire(0);
    assert_eq!(call(&function, b"").0, Outcome::NOT_STARTED);
}

#[test]
fn crash_after_crash_is_started_ever_more_slowly_until_one_event_ends_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = function(folder.path(), "faults", FAULTS);
    let counters = RArc::new(FunctionCounters::default());
    let (scheduling, instances) = (Scheduling::default(), Instances::default());
    let function = prepare_counted(&file, 1, scheduling, instances, &counters).expect("prepared");
    let begun = Instant::now();
    for _ in 0..7 {
        assert_eq!(call(&function, b"segfault").0, Outcome::CRASHED);
    }
    // The pauses before the third to the seventh: 5 + 10 + 20 + 40 + 80 ms.
    assert!(begun.elapsed() >= Duration::from_millis(155), "{:?}", begun.elapsed());
    assert_eq!(counters.crashed.get(), 7);
    let (outcome, said) = call_within(&function, b"well", 1);
    assert_eq!(outcome, Outcome::NOT_STARTED);
    assert_eq!(said, "no process of it was ready in time: it was lost 7 times in a row");
    assert_eq!(call(&function, b"well"), (Outcome::DONE, String::from("well")));
    // Forgiven: the next one is started at once, and serves an event that does not wait 160 ms.
    assert_eq!(call(&function, b"segfault").0, Outcome::CRASHED);
    assert_eq!(call(&function, b"well"), (Outcome::DONE, String::from("well")));
    function.retire(0);
}

#[test]
fn a_process_with_nothing_to_do_is_let_go_and_comes_back_with_the_next_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = function(folder.path(), "echo", ECHO);
    let instances = Instances { idle_ns: 20_000_000, ..Instances::default() };
    let counters = RArc::new(FunctionCounters::default());
    let function = prepare_counted(&file, 0, Scheduling::default(), instances, &counters).expect("prepared");
    for round in 1..=3 {
        assert_eq!(call(&function, b"again"), (Outcome::DONE, String::from("again")));
        assert_eq!(counters.started.get(), round);
        eventually("no process", || (counters.warm.get() == 0).then_some(()));
    }
    assert_eq!((function.warm(1), counters.crashed.get()), (1, 0));
    function.retire(0);
}

fn prepare(file: &Path, scheduling: Scheduling, instances: Instances) -> Result<FunctionBox, String> {
    prepare_counted(file, 1, scheduling, instances, &RArc::default())
}

fn prepare_counted(
    file: &Path,
    warm: u32,
    scheduling: Scheduling,
    instances: Instances,
    counters: &RArc<FunctionCounters>,
) -> Result<FunctionBox, String> {
    let module = loader::load(&built::plugin("invoker-dlf")).map_err(|(sentence, _)| sentence)?;
    let ROption::RSome(factory) = module.invocation_method() else { panic!("an invocation method") };
    let RResult::ROk(method) = factory() else { panic!("its factory works") };
    let mut options = Options::new();
    options.set("isolation", OptionValue::Text("process".into()));
    let spec = FunctionSpec {
        name: "test".into(),
        file: file.display().to_string().into(),
        level: QosLevel::STRICT,
        warm,
        concurrency: 1,
        output_bytes_max: 4096,
        deadline_ns: 0,
        memory_bytes: 0,
        options,
        counters: counters.clone(),
        reserved: FunctionSpec::reserved_for(scheduling, instances),
    };
    match method.prepare(&spec) {
        RResult::ROk(function) => Ok(function),
        RResult::RErr(error) => Err(error.message.into_string()),
    }
}

fn call(function: &FunctionBox, payload: &[u8]) -> (Outcome, String) {
    call_within(function, payload, 0)
}

/// The outcome, and the output, or the sentence where there is none.
fn call_within(function: &FunctionBox, payload: &[u8], deadline_ns: u64) -> (Outcome, String) {
    let event = EventView {
        id: 1,
        topic: RStr::from_str("test"),
        level: QosLevel::STRICT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&[]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 4096], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    let (length, said) = (output.emitted(), output.explanation());
    (outcome, length.map_or(said, |length| String::from_utf8_lossy(&buffer[..length]).into_owned()))
}
