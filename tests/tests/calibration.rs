//! What hops cost is measured beside a running node, kept, and what grants rest on.

mod road;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempos_tests::node::ROOT;
use tempos_tests::{Node, Producer, eventually};

use road::{receiver, setup, unix};

fn said(node: &Node, property: &str) -> String {
    node.property(ROOT, "Node", property).as_str().unwrap_or_default().to_owned()
}

fn granted(node: &Node) -> String {
    let of_topic = node.property(&format!("{ROOT}/topic/line"), "Topic", "Granted");
    of_topic.as_str().unwrap_or_default().to_owned()
}

fn file(node: &Node) -> PathBuf {
    node.folder().join("state/calibration.json")
}

#[test]
fn a_calibration_is_taken_beside_traffic_taken_over_and_kept() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }}, \
         request = {{ rate = \"100/s\" }}, on_unmet = \"degrade\" }}",
        unix(&setup, "in", ""),
        unix(&setup, "out", "")
    );
    let setup = setup.node_file("[wiring]\nwatch = false").wiring(&lua);
    let mut command = setup.command();
    let mut node = setup.start();
    let generation = node.generation();
    assert!(granted(&node).contains("stated costs, not measured on this machine"), "{}", granted(&node));
    assert!(said(&node, "Calibration").contains("none was taken"), "{}", said(&node, "Calibration"));

    // Events flow meanwhile, and none is lost.
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let producer = Producer::datagram(1, &node.folder().join("in"));
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            producer.socket().send(b"event").expect("the node listens");
            sent += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        sent
    });
    let found = node.ctl_json(["calibrate", "--time", "5s"]);
    done.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("the sender ends");
    for _ in 0..sent {
        road::receive(&out);
    }
    assert!(sent > 0);

    for what in
        ["wake", "send/unix", "receive/unix", "send/udp", "queue/fifo", "queue/priority", "method/dlf"]
    {
        for beside in ["quiet", "loaded"] {
            let cost = &found["costs"][format!("{what} ordinary {beside}")];
            let ns = |key: &str| cost[key].as_u64().unwrap_or(0);
            let rising = [1, ns("p50_ns"), ns("p99_ns"), ns("p99_9_ns"), ns("max_ns")];
            assert!(rising.is_sorted(), "{what} {beside}: {cost} of {found:#}");
        }
    }
    let strict_is_granted = node.property(&format!("{ROOT}/qos/strict"), "QosLevel", "State") == "granted";
    assert_eq!(found["costs"].get("wake real-time loaded").is_some(), strict_is_granted);
    let basis = found["calibration"].as_str().expect("a sentence").to_owned();
    assert!(basis.starts_with("the calibration of 20") && basis.contains(", Linux "), "{basis}");
    // In force without a restart or another wiring.
    eventually("grants to rest on it", || granted(&node).contains(&basis).then_some(()));
    assert_eq!(node.generation(), generation);
    let explained = String::from_utf8_lossy(&node.ctl(["explain", "line"]).stdout).into_owned();
    assert!(explained.contains(&basis), "{explained}");
    let shown = String::from_utf8_lossy(&node.ctl(["calibrate", "--show"]).stdout).into_owned();
    for part in ["WHAT", "P99.9", "wake", "method/dlf", basis.as_str()] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    // It outlives the node.
    let kept: Value = serde_json::from_slice(&fs::read(file(&node)).expect("it is kept")).expect("JSON");
    assert_eq!((&kept["format"], &kept["plugins"]["unix"]), (&Value::from(1), &Value::from("0.1.0")));
    node.restart(&mut command);
    assert!(granted(&node).contains(&basis), "{}", granted(&node));

    // That of another kernel is not used, and stays.
    let mut other = kept.clone();
    other["machine"]["kernel"] = Value::from("1.2.3");
    fs::write(file(&node), other.to_string()).expect("it can be written");
    node.restart(&mut command);
    assert!(granted(&node).contains("stated costs"), "{}", granted(&node));
    assert!(said(&node, "Calibration").contains("Linux 1.2.3"), "{}", said(&node, "Calibration"));
    assert!(file(&node).exists());

    // That of another version of a plugin is not used for it.
    let mut other = kept.clone();
    other["plugins"]["unix"] = Value::from("0.0.9");
    fs::write(file(&node), other.to_string()).expect("it can be written");
    node.restart(&mut command);
    let words = "stated costs for unix, of which another version was measured";
    assert!(granted(&node).contains(words), "{}", granted(&node));

    // A damaged one is put aside.
    fs::write(file(&node), &kept.to_string()[..200]).expect("it can be written");
    node.restart(&mut command);
    assert!(granted(&node).contains("stated costs, not measured"), "{}", granted(&node));
    node.wait_for_log("is damaged");
    assert!(
        said(&node, "Calibration").contains("calibration.json.damaged"),
        "{}",
        said(&node, "Calibration")
    );
    assert!(!file(&node).exists() && node.folder().join("state/calibration.json.damaged").exists());
}

/// The processes that a process has started and not yet waited for.
fn children(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let lists =
        tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn one_at_a_time_within_its_bounds_and_a_measuring_process_that_dies_costs_nothing_else() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let mut node = setup.wiring("").start();
    for (time, code) in [("100ms", 65), ("2h", 65), ("soon", 64)] {
        let output = node.ctl(["calibrate", "--time", time]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{time}: {said}");
    }
    let begun =
        node.busctl(["call", "org.tempos.Host1", ROOT, "org.tempos.Host1.Node", "Calibrate", "u", "60000"]);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    let second = node.ctl(["calibrate", "--time", "5s"]);
    assert_eq!(second.status.code(), Some(75), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is being taken already"));
    eventually("it to be under way", || {
        (node.property(ROOT, "Node", "CalibrationPercent").as_u64() > Some(0)).then_some(())
    });
    assert!(!said(&node, "Calibrating").is_empty());

    let pid = node.daemon().pid();
    for child in children(pid) {
        // SAFETY: kill(2) takes no pointers; it is a child of the node of this test.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    eventually("the node to notice", || said(&node, "Calibrating").is_empty().then_some(()));
    assert_eq!(said(&node, "CalibrationFailure"), "the measuring process ended without a result");
    assert!(!file(&node).exists());
    assert_eq!(node.property(ROOT, "Node", "State").as_str().map(|s| s != "failed"), Some(true));
    // And another one may be taken.
    assert!(node.ctl(["calibrate", "--time", "1s"]).status.success());
    assert!(file(&node).exists());
}
