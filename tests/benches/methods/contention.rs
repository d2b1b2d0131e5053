//! The paper's contention test: two strict functions at once, alone and beside four of best effort that want all
//! CPUs, in a node. What counts is the time that the strict ones take, from hand-over to the end.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempos_tests::{Node, NodeSetup};

use crate::functions::Functions;
use crate::say;

/// Strict events of each function, and how often they come: half of a CPU at two milliseconds each.
const EVENTS: usize = 1000;
const EVERY: Duration = Duration::from_millis(10);
const STRICT: [&str; 2] = ["s1", "s2"];
const BULK: [&str; 4] = ["b1", "b2", "b3", "b4"];

/// Measures and prints.
pub fn run(functions: &Functions) {
    let [library, each, worker, module, python] = &functions.works;
    let ways: [(&str, &str, &Path); 7] = [
        ("dlf", "method = \"dlf\"", library),
        ("dlf, in a process", "method = \"dlf\", isolation = \"process\"", library),
        ("wasm", "method = \"wasm\"", module),
        ("spawn", "method = \"spawn\"", each),
        ("spawn, warm in C", "method = \"spawn\", mode = \"warm\"", worker),
        ("spawn, warm Python", "method = \"spawn\", mode = \"warm\", runtime = \"python\"", python),
        ("spawn, zygote Python", "method = \"spawn\", mode = \"zygote\", runtime = \"python\"", python),
    ];
    say(&format!(
        "\n{EVENTS} strict events for each of two functions, every {} ms; µs from hand-over to end",
        EVERY.as_millis()
    ));
    say(&format!(
        "{:<24} {:^26} {:^26} {:>9} {:>9} {:>11}",
        "", "alone: p50, p99, max", "beside 4 best-effort", "p50", "p99", "bulk events"
    ));
    for (name, call, file) in ways {
        let alone = scene(call, file, false);
        let beside = scene(call, file, true);
        match (alone, beside) {
            (Some(alone), Some(beside)) => {
                let three = |of: &Latency| format!("{:>8} {:>8} {:>8}", of.us[0], of.us[1], of.us[2]);
                let ratio = |at: usize| beside.us[at] as f64 / alone.us[at] as f64;
                say(&format!(
                    "{name:<24} {} {} {:>9.2} {:>9.2} {:>11}",
                    three(&alone),
                    three(&beside),
                    ratio(0),
                    ratio(1),
                    beside.bulk
                ));
            }
            _ => say(&format!("{name:<24} cannot run here")),
        }
    }
}

/// p50, p99 and max of the worse of the two functions, and what best effort did meanwhile.
struct Latency {
    us: [u64; 3],
    bulk: u64,
}

fn scene(call: &str, file: &Path, with_bulk: bool) -> Option<Latency> {
    let plugins = ["adapter-unix", "queue-fifo", "invoker-dlf", "invoker-wasm", "invoker-spawn"];
    let setup = NodeSetup::new().plugins(plugins);
    let folder = setup.folder().to_owned();
    let mut lua = String::from(
        "tempos.qos \"strict\" { workers = 2 }\ntempos.qos \"best-effort\" { workers = 4, queue = { capacity = 64 } }\n",
    );
    for (names, level) in [(&STRICT[..], "strict"), (&BULK[..], "best-effort")] {
        for name in names {
            lua += &format!(
                "tempos.topic \"{name}\" {{ qos = \"{level}\", \
                 ingress = {{ tempos.unix {{ path = {:?} }} }} }}\n\
                 tempos.workflow \"{name}\" {{ from = \"{name}\", \
                 call = {{ {call}, file = {file:?}, deadline = \"5s\" }} }}\n",
                folder.join(name),
            );
        }
    }
    let setup = setup.wiring(&lua);
    let node = setup.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if with_bulk {
            scope.spawn(|| flood(&folder, &stop));
            // All four are busy before the first strict event comes.
            std::thread::sleep(Duration::from_millis(500));
        }
        strict(&folder);
        stop.store(true, Ordering::Relaxed);
    });
    let done = |node: &Node, name: &str| node.workflow(name)["EventsDone"].as_u64().unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(30);
    while STRICT.iter().any(|name| done(&node, name) < EVENTS as u64) {
        if Instant::now() > until {
            say(&format!("{:#}", node.workflow("s1")));
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let latency = STRICT.map(|name| figures(&node.workflow(name)));
    let worse = |at: usize| latency[0][at].max(latency[1][at]);
    Some(Latency {
        us: [worse(0), worse(1), worse(2)],
        bulk: BULK.iter().map(|name| done(&node, name)).sum(),
    })
}

/// Two events at once, again and again.
fn strict(folder: &Path) {
    let sockets = STRICT.map(|name| connected(&folder.join(name)));
    let mut due = Instant::now();
    for _ in 0..EVENTS {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sockets.iter().for_each(|socket| assert_eq!(socket.send(b"work").ok(), Some(4)));
    }
}

/// As much as best effort takes, for each of the four alike.
fn flood(folder: &Path, stop: &AtomicBool) {
    let sockets = BULK.map(|name| connected(&folder.join(name)));
    for socket in &sockets {
        socket.set_nonblocking(true).expect("a flag");
    }
    while !stop.load(Ordering::Relaxed) {
        for socket in &sockets {
            while socket.send(b"work").is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn connected(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the node listens");
    socket
}

/// p50, p99 and max in microseconds.
fn figures(workflow: &Value) -> [u64; 3] {
    let latency = &workflow["LatencyNs"]["function"];
    [0, 1, 3].map(|at| latency[at].as_u64().unwrap_or(0) / 1000)
}
