//! What a lane's threads must not do once the wiring is in force: ask for memory, take a page fault, wait
//! for a lock without priority inheritance. Counted by a library that stands before the C library in the
//! real daemon, and by the kernel.

mod road;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempos_tests::function::{ECHO, compile, function};
use tempos_tests::{Node, NodeSetup, Producer, Sink, built, eventually, thread};

use road::{setup, unix};

/// The order of `enum kind` in interpose.c.
const KINDS: [&str; 11] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "aligned allocation",
    "mmap",
    "munmap",
    "pthread_mutex_lock",
    "pthread_rwlock",
    "pthread_cond_wait",
    "futex wait",
];
const FRAMES: usize = 24;
const WORDS: usize = 1 + 2 * KINDS.len() + KINDS.len() * FRAMES;

/// The board that interpose.c writes to.
struct Board {
    file: File,
    path: PathBuf,
}

impl Board {
    /// Compiles the library and has the daemon of `setup` run with it.
    fn with(setup: NodeSetup) -> (Board, NodeSetup) {
        let source = built::source_root().join("tests/fixtures/interpose/interpose.c");
        let library = setup.folder().join("interpose.so");
        compile(&["-pthread".as_ref()], &source, &library);
        let path = setup.folder().join("interpose.board");
        fs::write(&path, vec![0; WORDS * 8]).expect("the board can be written");
        let file = File::options().read(true).write(true).open(&path).expect("the board is there");
        let text = |path: &Path| path.display().to_string();
        let setup =
            setup.environment("LD_PRELOAD", &text(&library)).environment("TEMPOS_INTERPOSE", &text(&path));
        (Board { file, path }, setup)
    }

    fn words(&self) -> Vec<u64> {
        let mut bytes = vec![0; WORDS * 8];
        self.file.read_exact_at(&mut bytes, 0).expect("the board is there");
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect()
    }

    fn calls(&self) -> Vec<u64> {
        self.words()[1..1 + KINDS.len()].to_vec()
    }

    /// From now on the first call of each kind leaves its stack.
    fn arm(&self) {
        self.file.write_all_at(&1u64.to_le_bytes(), 0).expect("the board can be written");
    }

    /// What was called since `before`, each with the stack of its first call.
    fn offences(&self, before: &[u64], process: u32) -> Vec<String> {
        let words = self.words();
        let traces = &words[1 + 2 * KINDS.len()..];
        (0..KINDS.len())
            .filter(|kind| words[1 + kind] > before[*kind])
            .map(|kind| {
                let stack: Vec<u64> =
                    traces[kind * FRAMES..][..FRAMES].iter().copied().take_while(|at| *at != 0).collect();
                format!(
                    "{} x {}:\n{}",
                    words[1 + kind] - before[kind],
                    KINDS[kind],
                    resolved(process, &stack).join("\n")
                )
            })
            .collect()
    }
}

/// Addresses of a process as functions and lines, where `addr2line` is there, else as places in files.
fn resolved(process: u32, stack: &[u64]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    // A file's first mapping is where its addresses begin.
    let mut begins: BTreeMap<&str, u64> = BTreeMap::new();
    let mut parts = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let range = words.first().and_then(|range| range.split_once('-'));
        let (Some((from, to)), Some(file)) = (range, words.get(5)) else { continue };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        begins.entry(file).or_insert(number(from));
        parts.push((number(from)..number(to), *file));
    }
    let place = |at: u64| {
        let (_, file) = parts.iter().find(|(range, _)| range.contains(&at))?;
        Some((*file, at - begins.get(file)?))
    };
    stack
        .iter()
        .map(|at| match place(*at) {
            Some((file, offset)) => {
                let offset = format!("{offset:#x}");
                let said = Command::new("addr2line").args(["-Cfpe", file, &offset]).output();
                let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
                format!("    {file}+{offset} {}", said.unwrap_or_default())
            }
            None => format!("    {at:#x}"),
        })
        .collect()
}

/// Waits until every thread of the lanes has come to rest: those that start later than the node says that it
/// is ready still set themselves up.
fn wait_for_lanes(node: &mut Node) {
    let process = node.daemon().pid();
    eventually("the lanes at rest", || {
        let threads: Vec<_> =
            thread::threads(process).into_iter().filter(|(_, name)| is_of_a_lane(name)).collect();
        let at_rest = threads.iter().all(|(id, _)| {
            let stat = fs::read_to_string(format!("/proc/{process}/task/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        });
        (threads.len() >= 4 && at_rest).then_some(())
    });
}

fn is_of_a_lane(name: &str) -> bool {
    name.starts_with("lane-")
        || (name.starts_with("fn") && name[2..].starts_with(|c: char| c.is_ascii_digit()))
}

fn faults(node: &Node) -> Vec<(String, u64, u64)> {
    ["strict", "best-effort"]
        .into_iter()
        .map(|level| {
            let figures = node.level(level);
            let count = |key: &str| figures[key].as_u64().unwrap_or_else(|| panic!("no {key}: {figures:#}"));
            (level.to_owned(), count("MinorFaults"), count("MajorFaults"))
        })
        .collect()
}

/// A fault of the lanes' own comes in every run; one that the kernel makes, because it moves or cleans a page just
/// then, does not come three times in a row. Calls and waits for a disk are held against each run.
#[test]
fn lanes_ask_for_no_memory_take_no_page_fault_and_wait_for_no_lock() {
    let mut faults = Vec::new();
    for _ in 0..3 {
        faults = faults_of_a_run();
        if faults.is_empty() {
            return;
        }
        println!("once more: {faults:?}");
    }
    panic!("{faults:?}");
}

/// Sends events of every kind through a node. The levels whose threads took page faults.
fn faults_of_a_run() -> Vec<String> {
    const EVENTS: u64 = 50_000;
    let (board, setup) = Board::with(setup());
    let sinks = ["done.out", "log.out", "bulk.out"].map(|name| Sink::datagram(&setup.folder().join(name)));
    // It fails now and then: failures are told, too.
    let body =
        format!("if (event->id % 1000 == 7) return tempos_fail(output, 3, \"one in a thousand\");\n{ECHO}");
    let call = |name: &str, more: &str| {
        let file = function(setup.folder(), name, &body);
        format!("call = {{ method = \"dlf\", file = {file:?}{more} }}")
    };
    let lua = format!(
        "tempos.qos \"best-effort\" {{ queue = {{ capacity = 64 }} }}\n\
         tempos.topic \"raw\" {{ qos = \"strict\", deadline = \"1us\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }}, {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"echo\" {{ from = \"raw\", to = \"done\", {} }}\n\
         tempos.topic \"log\" {{ ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }}, {} }}, egress = {{ {} }} }}\n\
         tempos.topic \"spare\" {{ }}\n\
         tempos.topic \"bulk\" {{ ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {} }} }}\n\
         tempos.workflow \"inline\" {{ from = \"log\", to = \"spare\", {} }}\n\
         tempos.workflow \"again\" {{ from = \"log\", to = {{ default = \"spare\" }}, {} }}\n",
        unix(&setup, "raw.in", ", type = \"seqpacket\""),
        unix(&setup, "done.out", ", format = \"event\""),
        call("echo", ""),
        unix(&setup, "log.in", ", format = \"event\""),
        unix(&setup, "log.out", ""),
        unix(&setup, "bulk.out", ""),
        call("inline", ", inline = true"),
        call(
            "again",
            &format!(
                ", retry = {{ times = 2, backoff = \"1ms\" }}, canary = {{ file = {:?}, share = 30 }}",
                function(setup.folder(), "canary", &body)
            ),
        ),
    );
    let mut node = setup.wiring(&lua).start();
    wait_for_lanes(&mut node);
    let process = node.daemon().pid();
    let (raw_at, log_at) = (node.udp_address("raw/in/1"), node.udp_address("log/in/1"));
    let locked = node.property("/org/tempos/Host1", "Node", "Degraded");
    let locked = !locked.to_string().contains("locked memory");

    let (before, faults_before) = (board.calls(), faults(&node));
    board.arm();
    // A steady flow through a function, from a socket and from a connection that comes later.
    let mut raw = Producer::udp(1, raw_at);
    let [done, log, bulk] = &sinks;
    let failed = || {
        node.workflow("echo")["Failures"]
            .as_object()
            .map_or(0, |f| f.values().filter_map(Value::as_u64).sum::<u64>())
    };
    raw.send_windowed(EVENTS, 128, || done.received() + EVENTS / 100);
    let mut connected = Producer::seqpacket(2, &node.folder().join("raw.in"));
    connected.flood(1000);
    node.wait_for_rest("raw", EVENTS + 1000);
    // An overload: consumers that stop, queues that overflow, the kernel's buffer that overflows.
    log.hold();
    bulk.hold();
    let mut to_log = Producer::udp(3, log_at);
    let mut to_bulk = Producer::udp(4, node.udp_address("bulk/in/1"));
    to_log.flood(EVENTS / 2);
    to_bulk.flood(EVENTS / 2);
    log.release();
    bulk.release();
    // Frames that are none, and orders that are none of the lanes' business.
    let garbage = Producer::datagram(5, &node.folder().join("log.in"));
    for len in 0..200 {
        garbage.socket().send(&vec![b'x'; len]).expect("the node listens");
    }
    for _ in 0..20 {
        let output = node.ctl(["pub", "log", "by hand", "--attribute", "by=hand"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let log = eventually("the overload to pass", || {
        let figures = node.topic("log");
        (figures.queued == 0 && figures.dropped_for("malformed") >= 200).then_some(figures)
    });
    assert!(log.dropped_for("copy-slow-consumer") > 0, "no overload: {log:?}");
    let bulk =
        eventually("the overload to pass", || Some(node.topic("bulk")).filter(|bulk| bulk.queued == 0));
    assert!(bulk.dropped_for("evicted") > 0, "no overload: {bulk:?}");
    assert!(failed() > 0, "no function failed");
    let again = node.workflow("again");
    for key in ["Retries", "CanaryDone"] {
        assert!(again[key].as_u64() > Some(0), "no {key}: {again:#}");
    }
    assert!(node.topic("raw").late > 0, "nothing was late");

    let offences = board.offences(&before, process);
    assert!(offences.is_empty(), "lane threads called\n{}", offences.join("\n"));
    let (faults_after, degraded) = (faults(&node), !locked);
    let mut taken = Vec::new();
    for ((level, minor, major), (_, minor_after, major_after)) in faults_before.iter().zip(&faults_after) {
        assert_eq!(major, major_after, "level {level} waited for a disk");
        if !degraded && minor != minor_after {
            taken.push(format!("level {level} took {} page faults", minor_after - minor));
        }
    }
    assert!(board.path.exists());
    taken
}

/// The counting itself: a function that does what none should is seen.
#[test]
fn a_function_that_asks_for_memory_is_seen() {
    let (board, setup) = Board::with(setup());
    let body = "char *volatile room = malloc(100000); free(room); return 0;";
    let greedy = function(setup.folder(), "greedy", body);
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"other\" {{ }}\n\
         tempos.workflow \"greedy\" {{ from = \"raw\", call = {{ method = \"dlf\", file = {greedy:?} }} }}\n",
        unix(&setup, "in", ""),
    );
    let mut node = setup.wiring(&lua).start();
    wait_for_lanes(&mut node);
    let before = board.calls();
    board.arm();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    producer.flood(3);
    node.wait_for_rest("raw", 3);
    let offences = board.offences(&before, node.daemon().pid());
    assert_eq!(offences.len(), 2, "{}", offences.join("\n"));
    assert!(
        offences[0].starts_with("3 x malloc:\n") && offences[1].starts_with("3 x free:\n"),
        "{offences:#?}"
    );
    assert!(offences[0].contains("/functions/function-"), "{offences:#?}");
}
