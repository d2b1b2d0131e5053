//! Functions as WebAssembly in a real node: what they answer, what stops them, and what that costs the others.

mod road;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tempos_tests::figures::counts;
use tempos_tests::{Node, NodeSetup, Producer, Signals, built, eventually};

use road::{receive, receiver, unix};

/// A node with the plugins that a road through a WebAssembly function needs.
fn setup() -> NodeSetup {
    NodeSetup::new().plugins(["adapter-unix", "queue-fifo", "invoker-wasm"])
}

/// A guest of the plugin's own folder, as WebAssembly.
fn guest(folder: &Path, name: &str) -> PathBuf {
    let text = built::source_root().join("plugins/invoker-wasm/guests").join(name).with_extension("wat");
    let file = folder.join(name).with_extension("wasm");
    fs::write(&file, wat::parse_file(text).expect("it is WebAssembly")).expect("written");
    file
}

/// The workflow "guest" from the topic `raw` to the topic `done`, both at sockets of the folder.
fn wiring(setup: &NodeSetup, file: &Path, call: &str) -> String {
    format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"guest\" {{ from = \"raw\", to = \"done\",\n\
         call = {{ method = \"wasm\", file = {:?}{call} }} }}\n",
        unix(setup, "in", ""),
        unix(setup, "out", ""),
        file.display(),
    )
}

/// A running node with that workflow, and its two ends.
struct Scene {
    node: Node,
    producer: Producer,
    out: UnixDatagram,
    signals: Signals,
}

impl Scene {
    fn start(guest_name: &str, call: &str) -> Scene {
        let setup = setup();
        let file = guest(setup.folder(), guest_name);
        let out = receiver(&setup, "out");
        let lua = wiring(&setup, &file, call);
        let node = setup.wiring(&lua).start();
        let signals = Signals::of(&node);
        let producer = Producer::datagram(1, &node.folder().join("in"));
        Scene { node, producer, out, signals }
    }

    fn send(&self, payload: &[u8]) {
        self.producer.socket().send(payload).expect("the node listens");
    }

    fn answer(&self, payload: &[u8]) -> Vec<u8> {
        self.send(payload);
        receive(&self.out)
    }

    /// The event fails, and is reported as what it was; the next one is served.
    fn fails(&self, payload: &[u8], outcome: &str, words: &str) {
        let before = self.count(outcome);
        let told = self.signals.named("FunctionFailed").len();
        self.send(payload);
        eventually(&format!("{outcome} to be counted"), || (self.count(outcome) == before + 1).then_some(()));
        let said = eventually("the signal", || {
            let said = self.signals.named("FunctionFailed");
            (said.len() > told).then(|| said[told][2].as_str().unwrap_or_default().to_owned())
        });
        assert!(said.contains(words), "{said}");
        assert_eq!(self.answer(b"echo"), b"echo");
    }

    fn count(&self, outcome: &str) -> u64 {
        counts(&self.node.workflow("guest")["Failures"]).get(outcome).copied().unwrap_or(0)
    }
}

#[test]
fn events_go_through_a_module_and_through_a_component() {
    for name in ["probe", "component"] {
        let scene = Scene::start(name, "");
        for number in 0..500 {
            let payload = format!("echo {number}");
            assert_eq!(scene.answer(payload.as_bytes()), payload.as_bytes());
        }
        assert_eq!((scene.answer(b"c"), scene.answer(b"c")), (b"1".to_vec(), b"1".to_vec()), "each is fresh");
        scene.send(b"n");
        assert_eq!(scene.answer(b"echo"), b"echo", "no output, no event");
        scene.fails(b"f", "failed", "the bearing is not known");
    }
}

#[test]
fn an_endless_loop_is_stopped_at_its_deadline_and_the_next_event_is_served() {
    for name in ["probe", "component"] {
        let scene = Scene::start(name, ", deadline = \"20ms\"");
        for _ in 0..10 {
            scene.fails(b"i", "killed", "it was stopped at its deadline");
        }
        let workflow = scene.node.workflow("guest");
        assert_eq!(workflow["State"], "started", "{workflow:#}");
    }
}

#[test]
fn endless_loops_on_every_worker_are_stopped_too() {
    let workers = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    let scene = Scene::start("probe", &format!(", deadline = \"20ms\", concurrency = {workers}"));
    for _ in 0..4 * workers {
        scene.send(b"i");
    }
    eventually("all to be stopped", || (scene.count("killed") == 4 * workers as u64).then_some(()));
    assert_eq!(scene.answer(b"echo"), b"echo");
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    let scene = Scene::start("probe", ", memory = \"8MiB\"");
    for _ in 0..5 {
        scene.fails(b"m", "over-memory", "more than its 8388608 bytes");
    }
    assert_eq!(scene.answer(b"M"), b"fine", "a guest that copes goes on");
}

#[test]
fn traps_floods_and_nonsense_cost_one_event_each() {
    for instances in ["fresh", "reuse"] {
        let scene = Scene::start("probe", &format!(", instances = \"{instances}\", output_max = \"4KiB\""));
        scene.fails(b"t", "crashed", "unreachable");
        scene.fails(b"d", "crashed", "divide by zero");
        scene.fails(b"o", "crashed", "out of bounds");
        scene.fails(b"s", "crashed", "stack");
        scene.fails(b"l", "output-too-large", "");
        scene.fails(b"b", "bad-output", "it answered 300");
    }
}

#[test]
fn state_is_fresh_or_kept_as_set() {
    let scene = Scene::start("probe", ", instances = \"reuse\"");
    for expected in [b"1", b"2", b"3"] {
        assert_eq!(scene.answer(b"c"), expected);
    }
}

#[test]
fn what_a_guest_says_is_in_the_log_and_a_flood_is_not() {
    let scene = Scene::start("probe", "");
    scene.send(b"g");
    scene.node.wait_for_log("workflow \"guest\" says: a line of the guest");
    scene.send(b"G");
    scene.node.wait_for_log("lines more than are let through");
    let lines = scene.node.log().lines().filter(|line| line.contains("a line of the guest")).count();
    assert!(lines < 200, "{lines} lines of a thousand are in the log");
}

#[test]
fn what_is_no_function_is_refused_and_the_old_wiring_stands() {
    let scene = Scene::start("probe", "");
    let folder = scene.node.folder().to_owned();
    let generation = scene.node.generation();
    let whole = fs::read(folder.join("probe.wasm")).expect("there");
    for (name, bytes, words) in [
        ("garbage.wasm", &[&whole[..8], &[0x5a; 500]].concat()[..], "no valid WebAssembly module"),
        ("cut.wasm", &whole[..whole.len() / 3], "no valid WebAssembly module"),
        ("text.wasm", b"def handle(event): pass", "it is not WebAssembly"),
        ("empty.wasm", b"", "it is empty"),
    ] {
        let file = folder.join(name);
        fs::write(&file, bytes).expect("written");
        let lua = format!(
            "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ tempos.unix {{ path = \"{0}/in\" }} }} }}\n\
             tempos.topic \"done\" {{ qos = \"strict\", egress = {{ tempos.unix {{ path = \"{0}/out\" }} }} }}\n\
             tempos.workflow \"guest\" {{ from = \"raw\", to = \"done\",\n\
             call = {{ method = \"wasm\", file = {1:?} }} }}\n",
            folder.display(),
            file.display(),
        );
        let refusal = scene.node.apply(&lua).expect_err(words);
        assert!(refusal.contains(words) && refusal.contains(name) && refusal.contains("guest"), "{refusal}");
        assert_eq!(scene.node.generation(), generation);
        assert_eq!(scene.answer(b"echo"), b"echo");
    }
}

#[test]
fn what_was_compiled_is_found_again_by_the_next_node() {
    let setup = setup();
    let file = guest(setup.folder(), "probe");
    let out = receiver(&setup, "out");
    let lua = wiring(&setup, &file, "");
    let setup = setup.wiring(&lua);
    let mut command = setup.command();
    let mut node = setup.start();
    let cache = node.folder().join("state/wasm-cache");
    let entries = || -> Vec<_> {
        let list = fs::read_dir(&cache).expect("there is a cache").filter_map(Result::ok);
        list.map(|entry| {
            (entry.path(), std::os::unix::fs::MetadataExt::ino(&entry.metadata().expect("there")))
        })
        .collect()
    };
    let before = entries();
    assert_eq!(before.len(), 1, "{before:?}");
    let echo = |node: &Node| {
        let producer = Producer::datagram(1, &node.folder().join("in"));
        producer.socket().send(b"echo").expect("the node listens");
        assert_eq!(receive(&out), b"echo");
    };
    echo(&node);
    node.restart(&mut command);
    echo(&node);
    assert_eq!(entries(), before, "nothing was compiled again");
    // Damage is compiled again, whatever it is.
    fs::write(&before[0].0, b"\x7fELF damaged").expect("written");
    node.restart(&mut command);
    echo(&node);
    assert_ne!(entries(), before);
}

#[test]
fn a_guest_that_waits_is_left_at_its_deadline_and_sees_nothing_that_is_not_granted() {
    for more in ["", ", instances = \"reuse\"", ", snapshot = true"] {
        let scene = Scene::start("waits", &format!(", deadline = \"50ms\"{more}"));
        assert_eq!(scene.answer(b"?"), b"1", "it was initialized");
        for round in 1..=5 {
            scene.send(b"p");
            eventually("it to be stopped", || (scene.count("killed") == round).then_some(()));
            assert_eq!(scene.answer(b"e"), b"0", "there is no variable");
            assert_eq!(scene.answer(b"o"), b"1", "there is no file");
        }
        let said = eventually("the signals", || {
            let said = scene.signals.named("FunctionFailed");
            (said.len() == 5).then_some(said)
        });
        assert!(said.iter().all(|arguments| arguments[2].to_string().contains("it was waiting")), "{said:?}");
        scene.send(b"x");
        eventually("its own end to be counted", || (scene.count("failed") == 1).then_some(()));
        scene.send(b"s");
        scene.node.wait_for_log("workflow \"guest\" says: and another");
    }
}

#[test]
fn ten_thousand_crashes_leave_nothing_behind() {
    const ROUNDS: u64 = 10_000;
    let mut scene = Scene::start("probe", ", memory = \"4MiB\"");
    let held = |scene: &mut Scene| {
        let process = PathBuf::from(format!("/proc/{}", scene.node.daemon().pid()));
        let count = |name: &str| fs::read_dir(process.join(name)).expect("it runs").count();
        let status = fs::read_to_string(process.join("status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel says");
        let kib: u64 = line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        (count("fd"), count("task"), kib)
    };
    let mut before = None;
    for round in 0..ROUNDS {
        // A trap, a hunger for memory, a stack without end.
        scene.send([&b"t"[..], b"m", b"s"][round as usize % 3]);
        if round % 8 == 7 {
            assert_eq!(scene.answer(b"echo"), b"echo");
        }
        if round == ROUNDS / 10 {
            before = Some(held(&mut scene));
        }
    }
    eventually("all to be counted", || {
        (scene.count("crashed") + scene.count("over-memory") == ROUNDS).then_some(())
    });
    let (before, after) = (before.expect("it was looked at"), held(&mut scene));
    assert!(
        after.0 <= before.0 && after.1 <= before.1,
        "descriptors, threads, KiB: {before:?}, then {after:?}"
    );
    assert!(after.2 < before.2 + (16 << 10), "descriptors, threads, KiB: {before:?}, then {after:?}");
}

/// The pool of instances is address space, not memory: it must not be faulted in, nor locked.
#[test]
fn the_pool_takes_address_space_and_not_memory() {
    let mut scene = Scene::start("probe", ", concurrency = 4, warm = 4");
    for _ in 0..100 {
        assert_eq!(scene.answer(b"echo"), b"echo");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", scene.node.daemon().pid())).expect("it runs");
    let kib = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).expect("the kernel says");
        line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    };
    assert!(kib("VmSize:") > 1 << 30, "there is a pool");
    assert!(kib("VmRSS:") < 400 << 10, "{} KiB resident", kib("VmRSS:"));
    assert!(kib("VmLck:") < 300 << 10, "{} KiB locked", kib("VmLck:"));
}
