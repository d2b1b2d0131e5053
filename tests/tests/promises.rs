//! When a bound is a promise: a calibrated node grants as guaranteed what it measured, and says what is missing where
//! one condition is not met. Where the kernel cannot be preempted that is the one that stays.

mod road;

use std::fs;

use serde_json::Value;
use tempos_tests::node::ROOT;
use tempos_tests::{Node, NodeSetup, Producer, eventually};

use road::{receiver, unix};

/// A topic on `strict` whose endpoint is held to a rate, with more keys of that endpoint.
fn lua(setup: &NodeSetup, endpoint: &str) -> String {
    format!(
        "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }}, \
         request = {{ latency_p99 = \"10s\" }}, on_unmet = \"degrade\" }}",
        unix(setup, "in", &if endpoint.is_empty() { String::new() } else { format!(", {endpoint}") }),
        unix(setup, "out", "")
    )
}

fn granted(node: &Node) -> String {
    let of_topic = node.property(&format!("{ROOT}/topic/line"), "Topic", "Granted");
    of_topic.as_str().unwrap_or_default().to_owned()
}

/// Why the whole is what it is.
fn why(node: &Node) -> String {
    let rows = node.property(&format!("{ROOT}/topic/line"), "Topic", "Grant");
    let last = rows.as_array().and_then(|rows| rows.last()).cloned().unwrap_or_default();
    last[3].as_str().unwrap_or_default().to_owned()
}

fn is(node: &Node, object: &str, wanted: &str) -> bool {
    node.property(&format!("{ROOT}/{object}"), "QosLevel", "State").as_str() == Some(wanted)
}

/// Whether the node finds that a lane goes first in the kernel too.
fn preempts(node: &Node) -> bool {
    let doctor = node.ctl(["--json", "doctor"]);
    let findings: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let kernel = |finding: &&Value| finding["check"] == "kernel preemption";
    let found = findings.as_array().and_then(|all| all.iter().find(kernel)).expect("it looks at the kernel");
    found["verdict"] == "good"
}

#[test]
fn a_calibrated_node_guarantees_what_it_measured_and_names_what_is_missing() {
    let setup = NodeSetup::new().plugins(["adapter-unix", "adapter-udp", "queue-fifo"]);
    let out = receiver(&setup, "out");
    let held = lua(&setup, "rate = 100, burst = 4");
    let others = [
        (lua(&setup, ""), "nobody says how often its events come: give its endpoints a rate"),
        (lua(&setup, "rate = 100, burst = 1"), "burst = 2"),
        (lua(&setup, "rate = 100, burst = 4, over_rate = \"drop\""), "leave out over_rate"),
        (
            format!(
                "{held}\ntempos.topic \"other\" {{ qos = \"strict\", ingress = {{ {} }} }}",
                unix(&setup, "other", "")
            ),
            "topic \"other\" says no rate: give its endpoints a rate",
        ),
        (
            held.replace(
                "egress = { tempos.unix",
                "egress = { tempos.udp { to = \"127.0.0.1:9\" }, tempos.unix",
            ),
            "udp gives prioritised at best",
        ),
        (held.replace("\"strict\"", "\"best-effort\""), "level \"best-effort\" runs as other"),
    ];
    let setup = setup.node_file("[wiring]\nwatch = false").wiring(&held);
    let mut command = setup.command();
    let mut node = setup.start();
    let is_real_time = is(&node, "qos/strict", "granted");
    let troubles = node.property(ROOT, "Node", "Degraded").to_string();
    if !is_real_time || troubles.contains("locked memory") {
        // Nothing is promised there, and that is what is said.
        assert!(why(&node).contains("temposctl doctor"), "{}", why(&node));
        return;
    }
    let stated = "not guaranteed: costs are stated, not measured on this machine: run temposctl calibrate";
    assert!(why(&node).contains(stated), "{}", why(&node));
    assert!(granted(&node).contains(": prioritised, p99 at most "), "{}", granted(&node));

    // A busy machine takes fewer samples in the same time: that is said, and mended by more time.
    for time in ["30s", "2min"] {
        assert!(node.ctl(["calibrate", "--time", time]).status.success());
        eventually("grants to rest on it", || (!why(&node).contains("costs are stated")).then_some(()));
        if !why(&node).contains("are needed: run temposctl calibrate --time 2min") {
            break;
        }
        println!("{time}: {}", why(&node));
    }
    let preempts = preempts(&node);
    let is_promised = |node: &Node| {
        let (granted, why) = (granted(node), why(node));
        if preempts {
            assert!(granted.contains(": guaranteed, p99 at most "), "{why}");
            assert!(why.contains("a maximum is not promised"), "{why}");
        } else {
            assert!(granted.contains(": prioritised, p99 at most "), "{granted}");
            assert!(why.contains("not guaranteed: the kernel "), "{why}");
        }
    };
    is_promised(&node);
    let explained = node.ctl(["explain", "line"]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(0), "{said}");
    let word = if preempts { "99 of 100 events" } else { "or a PREEMPT_RT kernel" };
    assert!(said.contains("p99 at most") && said.contains(word), "{said}");
    // And it carries events.
    let producer = Producer::datagram(1, &node.folder().join("in"));
    producer.socket().send(b"hello").expect("the node listens");
    assert_eq!(road::receive(&out), b"hello");

    for (other, missing) in &others {
        let path = node.write_script("other.lua", other);
        let applied = node.ctl(["apply".as_ref(), path.as_os_str()]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        assert!(!granted(&node).contains("guaranteed"), "{}", granted(&node));
        assert!(
            why(&node).contains("not guaranteed: ") && why(&node).contains(missing),
            "{missing}: {}",
            why(&node)
        );
    }
    let path = node.write_script("held.lua", &held);
    assert!(node.ctl(["apply".as_ref(), path.as_os_str()]).status.success());
    is_promised(&node);

    // It outlives the node, and holds for what was measured alone: not for another build.
    let file = node.folder().join("state/calibration.json");
    let kept: Value = serde_json::from_slice(&fs::read(&file).expect("it is kept")).expect("JSON");
    node.restart(&mut command);
    is_promised(&node);
    let others: [(&[&str], &str); 2] = [
        (&["build"], "another build of temposd was calibrated: run temposctl calibrate"),
        (&["files", "unix"], "another build of unix was calibrated: run temposctl calibrate"),
    ];
    for (keys, missing) in others {
        let mut other = kept.clone();
        let place = keys.iter().fold(&mut other, |value, key| &mut value[*key]);
        assert!(place.as_str().is_some_and(|text| !text.is_empty()), "{keys:?}: {place}");
        *place = Value::from("0");
        fs::write(&file, other.to_string()).expect("it can be written");
        node.restart(&mut command);
        assert!(granted(&node).contains(": prioritised, p99 at most "), "{}", granted(&node));
        assert!(granted(&node).contains("on the calibration of "), "still reckoned with: {}", granted(&node));
        assert!(why(&node).contains(missing), "{}", why(&node));
    }
}
