//! Requests in a user's terms: what is granted, degraded and refused, where that is shown, and that a refusal
//! leaves everything as it was.

mod road;

use serde_json::Value;
use tempos_tests::node::ROOT;
use tempos_tests::{Node, NodeSetup, Producer};

use road::workflow::{send, text};
use road::{receiver, setup, unix};

/// A topic from the socket `NAME.in` to the socket `NAME.out`.
fn topic(setup_folder: &std::path::Path, name: &str, more: &str) -> String {
    let at = |way: &str| {
        format!("tempos.unix {{ path = \"{}\" }}", setup_folder.join(format!("{name}.{way}")).display())
    };
    format!(
        "tempos.topic \"{name}\" {{ ingress = {{ {} }}, egress = {{ {} }}, {more} }}\n",
        at("in"),
        at("out")
    )
}

fn start(setup: NodeSetup, lua: &str) -> Node {
    setup.node_file("[wiring]\nwatch = false").wiring(lua).start()
}

fn granted(node: &Node, name: &str) -> String {
    let path = format!("{ROOT}/topic/{name}");
    node.property(&path, "Topic", "Granted").as_str().unwrap_or_default().to_owned()
}

fn level(node: &Node, name: &str) -> Value {
    node.property(&format!("{ROOT}/topic/{name}"), "Topic", "Level")
}

/// Applies by `temposctl`: its exit code, and what it said.
fn apply(node: &Node, verb: &str, lua: &str) -> (Option<i32>, String) {
    let path = node.write_script("asked.lua", lua);
    let output = node.ctl([verb.as_ref(), path.as_os_str()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_request_chooses_its_level_and_is_explained_hop_by_hop() {
    let setup = setup();
    let out = receiver(&setup, "quick.out");
    let lua = topic(setup.folder(), "quick", "request = { loss = 0, rate = \"100/s\", jitter = \"1s\" }");
    let node = start(setup, &lua);
    assert_eq!(level(&node, "quick"), "best-effort", "the lowest that is enough");
    assert!(
        granted(&node, "quick").starts_with("granted on level \"best-effort\""),
        "{}",
        granted(&node, "quick")
    );
    let asked = node.property(&format!("{ROOT}/topic/quick"), "Topic", "Requested");
    assert_eq!(asked, "jitter 1.00 s, 100/s, loss 0");
    let rows = node.property(&format!("{ROOT}/topic/quick"), "Topic", "Grant");
    let hops: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|row| row[0].as_str()).collect();
    assert_eq!(hops, ["ingress quick", "queue quick (best-effort, fifo)", "egress quick", "whole"]);
    // And it carries events.
    send(&Producer::datagram(1, &node.folder().join("quick.in")), "hello");
    assert_eq!(text(&out), "hello");

    let explained = node.ctl(["explain", "quick"]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(0), "{said}");
    for part in ["HOP", "ASKED", "GRANTED", "WHY", "ingress quick", "whole", "stated costs, not measured"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = node.ctl_json(["explain", "quick"]);
    assert_eq!(
        (&json[0]["kind"], json[0]["hops"].as_array().map(Vec::len)),
        (&Value::from("topic"), Some(4))
    );
    let unknown = node.ctl(["explain", "quikc"]);
    assert_eq!(unknown.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean \"quick\"?"));
}

#[test]
fn what_cannot_be_met_is_degraded_or_refused_with_its_sentence() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let _outs = ["a.out", "b.out"].map(|name| receiver(&setup, name));
    let node = start(setup, &topic(&folder, "a", "qos = \"best-effort\""));
    let generation = node.generation();
    let hurry = "request = { latency_p99 = \"1us\", rate = \"10/s\" }";
    for verb in ["plan", "check", "apply"] {
        let (code, said) = apply(&node, verb, &topic(&folder, "b", hurry));
        assert_eq!(code, Some(78), "{verb}: {said}");
        assert!(
            said.contains("topic \"b\" is not granted") && said.contains("p99 1.00 µs is asked for"),
            "{said}"
        );
    }
    // The old wiring stands.
    assert_eq!(node.generation(), generation);
    assert!(!node.ctl(["explain", "b"]).status.success());
    assert!(granted(&node, "a").starts_with("granted"));

    let eased = topic(&folder, "b", &format!("{hurry}, on_unmet = \"degrade\""));
    let (code, said) = apply(&node, "apply", &eased);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("= topic \"b\" asks for p99 1.00 µs, 10/s: degraded on level"), "{said}");
    assert!(granted(&node, "b").starts_with("degraded on level"), "{}", granted(&node, "b"));
    // What would be given is said also where nothing would change.
    let (_, said) = apply(&node, "plan", &eased);
    assert!(said.starts_with("would change nothing\n= topic \"b\" asks for"), "{said}");
    let explained = node.ctl(["explain", "b"]);
    assert_eq!(explained.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&explained.stdout).contains("the hops together take"));

    let (code, said) = apply(&node, "apply", &topic(&folder, "b", "allow = { levels = { \"stirct\" } }"));
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("allow: unknown QoS level \"stirct\" (did you mean \"strict\"?)"), "{said}");
}

#[test]
fn an_over_committed_strict_lane_is_refused_with_the_arithmetic() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let _outs = ["a.out", "b.out"].map(|name| receiver(&setup, name));
    let strict =
        |rate: &str| format!("qos = \"strict\", request = {{ rate = \"{rate}\" }}, on_unmet = \"refuse\"");
    let first = topic(&folder, "a", &strict("40000/s"));
    // Where the system grants no real time, that is what is said.
    let node = setup.node_file("[wiring]\nwatch = false").wiring("").start();
    if node.property(&format!("{ROOT}/qos/strict"), "QosLevel", "State") != "granted" {
        let (code, said) = apply(&node, "apply", &first);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("instead of fifo 45"), "{said}");
        return;
    }
    let (code, said) = apply(&node, "apply", &first);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = apply(&node, "apply", &(first.clone() + &topic(&folder, "b", &strict("30000/s"))));
    assert_eq!(code, Some(78), "{said}");
    for part in [
        "topic \"b\" is not granted on level \"strict\"",
        "a 40000/s × 14.0 µs = 0.560 + b 30000/s × 14.0 µs = 0.421, together 0.981 of a CPU",
        "less 0.050 promised to lower levels",
        "topic \"a\" is granted already and would no longer be",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = apply(&node, "apply", &(first + &topic(&folder, "b", &strict("20000/s"))));
    assert_eq!(code, Some(0), "{said}");
    assert!(granted(&node, "a").starts_with("granted") && granted(&node, "b").starts_with("granted"));
    // Too much at once is refused without anything before it.
    let (code, said) = apply(&node, "plan", &topic(&folder, "a", &strict("80000/s")));
    assert_eq!((code, said.contains("a 80000/s × 14.0 µs = 1.1")), (Some(78), true), "{said}");
}

#[test]
fn a_workflow_asks_from_its_way_in_to_its_way_out() {
    let setup = setup();
    let function = tempos_tests::function::function(setup.folder(), "echo", tempos_tests::function::ECHO);
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"raw\" {{ ingress = {{ {} }} }}\n\
         tempos.topic \"done\" {{ egress = {{ {} }} }}\n\
         tempos.workflow \"work\" {{ from = \"raw\", to = \"done\",\n\
         request = {{ latency_p99 = \"10s\", rate = \"10/s\" }},\n\
         call = {{ method = \"dlf\", file = {:?}, deadline = \"1s\" }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        function.display().to_string(),
    );
    let slow = lua.replace("\"10/s\"", "\"2/s\"").replace("deadline = \"1s\"", "deadline = \"100ms\"");
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&slow).start();
    send(&Producer::datagram(1, &node.folder().join("in")), "hello");
    assert_eq!(text(&out), "hello");
    let hops = node.ctl_json(["explain", "work"])[0]["hops"].clone();
    let names: Vec<&str> =
        hops.as_array().expect("hops").iter().filter_map(|hop| hop["hop"].as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(
        (names[0], names[2], names[4], names[5]),
        ("ingress raw", "function work", "egress done", "whole")
    );
    assert_eq!(hops[5]["asked"], "p99 10.0 s, 2/s");
    // Ten a second of one second each are more than a worker can do.
    let (code, said) = apply(&node, "apply", &lua);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("workflow \"work\" is not granted") && said.contains("the function workers of level"),
        "{said}"
    );
}
