//! The daemon as a process: ready, reloads, refuses, drains, ends.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use tempos_tests::{LIVENESS, Node, NodeSetup, eventually};

const ROAD: [&str; 2] = ["adapter-unix", "queue-fifo"];

/// A topic that comes in at one socket of the test's folder and goes out at another.
fn wiring(setup: &NodeSetup, topic: &str) -> String {
    let folder = setup.folder().display().to_string();
    format!(
        "tempos.topic {topic:?} {{\n  qos = \"strict\",\n  ingress = {{ tempos.unix {{ path = \"{folder}/in\" }} }},\n  \
         egress = {{ tempos.unix {{ path = \"{folder}/out\" }} }},\n}}\n"
    )
}

#[test]
fn an_event_crosses_the_node_and_the_node_ends_in_good_order() {
    let setup = NodeSetup::new().plugins(ROAD);
    let out = UnixDatagram::bind(setup.folder().join("out")).expect("a socket");
    out.set_read_timeout(Some(LIVENESS)).expect("a limit");
    let lua = wiring(&setup, "press");
    let mut node = setup.wiring(&lua).start();
    let producer = UnixDatagram::unbound().expect("a socket");
    producer.send_to(b"7 g", node.folder().join("in")).expect("the node listens");
    let mut buffer = [0; 64];
    let len = out.recv(&mut buffer).expect("the event comes out");
    assert_eq!(&buffer[..len], b"7 g");
    let status = node.end(libc::SIGTERM);
    assert_eq!(status.code(), Some(0), "{status}");
    node.supervisor().wait_for("STOPPING=1", || Ok(())).expect("the supervisor is told");
    assert!(!node.peer_socket().exists(), "the control socket goes with the node");
}

#[test]
fn a_saved_script_takes_effect_and_one_with_a_mistake_changes_nothing() {
    let setup = NodeSetup::new().plugins(ROAD).node_file("[wiring]\nsettle = \"20ms\"");
    let (first, second) = (wiring(&setup, "press"), wiring(&setup, "lathe"));
    let node = setup.wiring(&first).start();
    let topics = || -> Vec<String> {
        let list = node.ctl_json(["topics"]);
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|topic| topic["name"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(topics(), ["press"]);
    node.save_wiring(&second);
    eventually("the new topic", || (topics() == ["lathe"]).then_some(()));
    node.save_wiring(&second.replace("qos", "qso"));
    node.wait_for_log("unknown key \"qso\" (did you mean \"qos\"?)");
    assert_eq!(topics(), ["lathe"]);
    let degraded = || node.property("/org/tempos/Host1", "Node", "Degraded").to_string();
    eventually("the mistake among the degradations", || degraded().contains("qso").then_some(()));
    node.save_wiring(&first);
    eventually("the mended wiring", || (topics() == ["press"]).then_some(()));
    eventually("the end of the degradation", || (!degraded().contains("qso")).then_some(()));
}

#[test]
fn a_node_whose_wiring_has_mistakes_starts_and_says_so() {
    let node = NodeSetup::new().plugins(ROAD).wiring("tempos.topic \"press\" { qso = 1 }").start();
    let degraded = node.property("/org/tempos/Host1", "Node", "Degraded").to_string();
    assert!(degraded.contains("10-test.lua:1: topic") && degraded.contains("qso"), "{degraded}");
    assert_eq!(node.ctl_json(["topics"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn a_hangup_reads_the_wiring_again() {
    let setup = NodeSetup::new().plugins(ROAD).node_file("[wiring]\nwatch = false");
    let lua = wiring(&setup, "press");
    let mut node = setup.wiring("").start();
    let before = node.generation();
    fs::write(node.wiring_path(), lua).expect("the wiring can be written");
    node.daemon().signal(libc::SIGHUP);
    eventually("a new generation", || (node.generation() > before).then_some(()));
    assert_eq!(node.ctl_json(["topics"])[0]["name"], "press");
    assert!(node.daemon().runs());
}

#[test]
fn two_daemons_do_not_share_a_folder() {
    let first = NodeSetup::new().start();
    let second = NodeSetup::new();
    let mut command = second.command();
    let output = command.arg("--run").arg(first.folder().join("run")).output();
    // The flag is given twice then, which is a wrong use; the folder in the node file is the way.
    assert_eq!(output.expect("temposd runs").status.code(), Some(64));
    let run = first.folder().join("run");
    let output = Command::new(tempos_tests::built::program("temposd"))
        .args(["--bus", "none", "--run"])
        .arg(&run)
        .arg("--state")
        .arg(second.folder().join("state"))
        .args(["--config"])
        .arg(second.folder().join("node.toml"))
        .output()
        .expect("temposd runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("another temposd (process "), "{said}");
    assert_eq!(first.ctl(["topics"]).status.code(), Some(0), "the first is none the worse");
}

#[test]
fn a_check_prints_every_mistake_and_touches_nothing() {
    let good = NodeSetup::new().plugins(ROAD);
    let lua = wiring(&good, "press");
    let good = good.wiring(&lua).flag("--check");
    let (code, said) = good.run_to_end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!good.folder().join("in").exists(), "a check opens no channel");
    assert!(!good.folder().join("run/lock").exists(), "a check takes no lock");

    let mistaken = "tempos.topic \"a\" { qso = 1 }\ntempos.topic \"b\" { qos = \"gold\" }\n";
    let (code, said) = NodeSetup::new().plugins(ROAD).wiring(mistaken).flag("--check").run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-test.lua:1: ") && said.contains("qso"), "{said}");

    let option = lua.replace("path = ", "paht = ");
    let (code, said) = NodeSetup::new().plugins(ROAD).wiring(&option).flag("--check").run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("paht"), "{said}");

    let broken = NodeSetup::new().plugins(ROAD).flag("--check");
    fs::write(broken.folder().join("plugins/broken.so"), "no ELF").expect("a file");
    let (code, said) = broken.run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.starts_with("plugin file ") && said.contains("broken.so"), "{said}");

    let (code, said) = NodeSetup::new().node_file("[nod]\nid = 3").flag("--check").run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("node.toml:1:2: unknown section \"nod\" (did you mean \"node\"?)"), "{said}");
}

/// A node whose consumer is there but takes nothing, and which holds events for it.
fn clogged(drain_timeout: &str) -> (Node, UnixDatagram) {
    let setup =
        NodeSetup::new().plugins(ROAD).node_file(&format!("[node]\ndrain_timeout = \"{drain_timeout}\""));
    let out = UnixDatagram::bind(setup.folder().join("out")).expect("a socket");
    let lua = wiring(&setup, "press");
    let node = setup.wiring(&lua).start();
    let producer = UnixDatagram::unbound().expect("a socket");
    // Twice as many as the consumer's socket holds (net.unix.max_dgram_qlen).
    let held = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("the kernel says");
    let held: u64 = held.trim().parse().expect("a number");
    for _ in 0..held * 2 + 64 {
        producer.send_to(b"event", node.folder().join("in")).expect("the node listens");
    }
    eventually("all events in the node", || {
        let topic = &node.ctl_json(["topics"])[0];
        (topic["EventsIn"].as_u64() == Some(held * 2 + 64)).then_some(())
    });
    (node, out)
}

#[test]
fn a_drain_is_bounded() {
    let (mut node, _out) = clogged("300ms");
    assert_eq!(node.end(libc::SIGTERM).code(), Some(0));
    assert!(node.log().contains("what is queued has 300 ms"), "{}", node.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    // Longer than any test waits: only the second signal can end it in time.
    let (mut node, _out) = clogged("10min");
    node.daemon().signal(libc::SIGTERM);
    node.wait_for_log("what is queued has");
    std::thread::sleep(Duration::from_millis(200));
    assert!(node.daemon().runs(), "nothing was held: {}", node.log());
    assert_eq!(node.end(libc::SIGINT).code(), Some(0));
    assert!(node.log().contains("ends at once"), "{}", node.log());
}

#[test]
fn a_plugin_file_says_what_it_is_without_being_run() {
    let inspect = |file: &std::path::Path| {
        let mut command = Command::new(tempos_tests::built::program("temposd"));
        let output = command.arg("--inspect").arg(file).output().expect("temposd runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, said) = inspect(&tempos_tests::built::plugin("adapter-unix"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("name     unix") && said.contains("kind     adapter"), "{said}");
    let (code, said) = inspect(&tempos_tests::built::source_root().join("deny.toml"));
    assert_eq!(code, Some(78), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
