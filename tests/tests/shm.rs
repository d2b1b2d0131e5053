//! Programs on the same machine over shared memory: nothing lost, whoever is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempos_shm::{Consumer, Error, Producer};
use tempos_tests::built::{self, source_root};
use tempos_tests::sequence::frame;
use tempos_tests::setup::drop_plugin_as;
use tempos_tests::{Child, LIVENESS, Ledger, NodeSetup, eventually};

fn setup() -> NodeSetup {
    let setup = NodeSetup::new().plugins(["adapter-shm", "queue-fifo"]);
    let folder = setup.folder().display().to_string();
    setup.wiring(&format!(
        "tempos.qos \"strict\" {{ queue = {{ capacity = 1024, full = \"block\" }} }}\n\
         tempos.topic \"press\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.shm {{ name = \"way-in\", path = \"{folder}/in\" }} }},\n\
         egress = {{ tempos.shm {{ name = \"way-out\", path = \"{folder}/out\" }} }} }}\n"
    ))
}

/// A program of examples/shm, built with the C header.
fn program(folder: &Path, name: &str) -> PathBuf {
    let built = folder.join(name);
    let status = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(source_root().join("abi/include"))
        .arg("-o")
        .args([built.clone(), source_root().join(format!("examples/shm/{name}.c"))])
        .status();
    assert!(status.expect("cc runs: Rust itself needs it").success());
    built
}

fn start(program: &Path, path: &Path, count: u64) -> Child {
    let mut command = Command::new(program);
    command.arg(path).arg(count.to_string()).stdout(Stdio::null());
    Child::start("the C program", &mut command)
}

fn receive(consumer: &mut Consumer, ledger: &mut Ledger) {
    let frame = consumer.recv(Some(LIVENESS)).expect("the node is there").expect("a frame comes");
    ledger.note(frame);
}

#[test]
fn a_hundred_thousand_events_come_out_in_their_order_and_none_is_lost() {
    const EVENTS: u64 = 100_000;
    let node = setup().start();
    let mut consumer = Consumer::connect(node.folder().join("out")).expect("the node listens");
    let mut producer = Producer::connect(node.folder().join("in")).expect("the node listens");
    let mut ledger = Ledger::default();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for number in 0..EVENTS {
                producer.send(&frame(1, number), Some(LIVENESS)).expect("the node takes it");
            }
            producer
        });
        for _ in 0..EVENTS {
            receive(&mut consumer, &mut ledger);
        }
        drop(sending.join().expect("all was sent"));
    });
    ledger.assert_exact(1, EVENTS);
    let figures = node.wait_for_rest("press", EVENTS);
    assert!(figures.dropped.is_empty(), "{figures:?}");
    assert_eq!(node.channel_count("way-out", "SendErrors"), 0);
}

#[test]
fn a_producer_that_is_killed_costs_nothing_that_it_had_sent() {
    let node = setup().start();
    let program = program(node.folder(), "producer");
    let mut consumer = Consumer::connect(node.folder().join("out")).expect("the node listens");
    // More of them than the channel has places: each leaves his to the next.
    for _ in 0..10 {
        let mut producer = start(&program, &node.folder().join("in"), u64::MAX);
        let mut next = 0u64;
        let mut killed = false;
        // After its end comes what it had published, without a gap, and then nothing.
        while let Some(frame) = consumer.recv(Some(Duration::from_millis(500))).expect("the node is there") {
            let number = frame.first_chunk().copied().map(u64::from_le_bytes);
            assert_eq!(number, Some(next));
            next += 1;
            if next == 5000 {
                producer.signal(libc::SIGKILL);
                killed = true;
            }
        }
        assert!(killed, "only {next} frames came");
    }
    assert_eq!(node.channel_count("way-in", "Malformed"), 0);
}

#[test]
fn a_consumer_that_is_killed_is_noticed_and_its_successor_served() {
    let node = setup().start();
    let program = program(node.folder(), "consumer");
    let mut producer = Producer::connect(node.folder().join("in")).expect("the node listens");
    for round in 1..=3u32 {
        let mut dying = start(&program, &node.folder().join("out"), u64::MAX);
        let maps = format!("/proc/{}/maps", dying.pid());
        eventually("the consumer to be served", || {
            std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("memfd:tempos-shm")).then_some(())
        });
        for number in 0..5000 {
            producer.send(&frame(round, number), Some(LIVENESS)).expect("the node takes it");
        }
        dying.signal(libc::SIGKILL);
        // There is one place: it is free once the node has noticed.
        let mut next = eventually("its place", || Consumer::connect(node.folder().join("out")).ok());
        producer.send(&frame(100 + round, 0), Some(LIVENESS)).expect("the node takes it");
        let mut ledger = Ledger::default();
        while ledger.track(100 + round).received == 0 {
            receive(&mut next, &mut ledger);
        }
        ledger.assert_in_order();
    }
}

/// What is in /dev/shm: other programs may have something there, so only what is new counts.
fn named_memory() -> Vec<std::ffi::OsString> {
    std::fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

#[test]
fn a_node_that_is_killed_leaves_nothing_and_its_programs_find_it_again() {
    let setup = setup();
    let mut command = setup.command();
    let before = named_memory();
    let mut node = setup.start();
    let mut producer = Producer::connect(node.folder().join("in")).expect("the node listens");
    let mut consumer = Consumer::connect(node.folder().join("out")).expect("the node listens");
    for round in 1..=3u32 {
        // Both look again by themselves; what is under way when the node dies goes with it.
        let mut ledger = Ledger::default();
        let mut number = 0;
        eventually("frames through the node", || {
            match producer.send(&frame(round, number), Some(LIVENESS)) {
                Ok(()) => number += 1,
                Err(Error::Disconnected) => {}
                Err(error) => panic!("{error}"),
            }
            match consumer.recv(Some(Duration::from_millis(200))) {
                Ok(Some(frame)) => ledger.note(frame),
                Ok(None) | Err(Error::Disconnected) => {}
                Err(error) => panic!("{error}"),
            }
            (ledger.track(round).received >= 10).then_some(())
        });
        assert!(producer.connections() >= u64::from(round) && consumer.connections() >= u64::from(round));
        node.end(libc::SIGKILL);
        let new: Vec<_> = named_memory().into_iter().filter(|name| !before.contains(name)).collect();
        assert!(!new.iter().any(|name| name.to_string_lossy().contains("tempos")), "{new:?}");
        node.restart(&mut command);
    }
}

#[test]
fn the_example_runs_as_it_stands() {
    let programs = built::program("temposd").parent().expect("a folder").to_path_buf();
    let output = Command::new("sh")
        .arg(source_root().join("examples/shm/run.sh"))
        .env("PROGRAMS", &programs)
        .env("EVENTS", "20000")
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("sent 20000, lost 0") && said.contains("received 20000, gaps 0"), "{said}");
}

#[test]
fn a_newer_version_takes_the_rings_over_and_nobody_connects_again() {
    let node = setup().start();
    let mut consumer = Consumer::connect(node.folder().join("out")).expect("the node listens");
    let mut producer = Producer::connect(node.folder().join("in")).expect("the node listens");
    let (mut ledger, mut number) = (Ledger::default(), 0);
    let mut pass = |count: u64| {
        for _ in 0..count {
            producer.send(&frame(1, number), Some(LIVENESS)).expect("the node takes it");
            number += 1;
            receive(&mut consumer, &mut ledger);
        }
    };
    pass(100);
    for version in ["0.1.1", "0.2.0"] {
        let copy = node.folder().join("newer.so");
        tempos_tests::newer::with_version(&built::plugin("adapter-shm"), version, &copy);
        drop_plugin_as(&copy, &node.plugin_folder().join(format!("shm-{version}.so")));
        eventually("the new version", || {
            pass(100);
            let plugins = node.ctl_json(["plugins"]);
            let of = |plugin: &&serde_json::Value| plugin["name"] == "shm" && plugin["Version"] == version;
            plugins.as_array().and_then(|all| all.iter().find(of)).map(|_| ())
        });
        pass(1000);
    }
    ledger.assert_exact(1, number);
    assert_eq!((producer.connections(), consumer.connections()), (1, 1));
}
