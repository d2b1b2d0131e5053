//! Grants are watched while they are in force: a hop that takes longer than it has is named, and it is told when that
//! is over.

mod road;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempos_tests::function::function;
use tempos_tests::node::ROOT;
use tempos_tests::{Node, Producer, eventually};

use road::{receiver, setup, unix};

/// State and reason of an object.
fn condition(node: &Node, kind: &str, name: &str) -> (String, String) {
    let interface = if kind == "topic" { "Topic" } else { "Workflow" };
    let of = |property: &str| {
        let value = node.property(&format!("{ROOT}/{kind}/{name}"), interface, property);
        value.as_str().unwrap_or_default().to_owned()
    };
    (of("State"), of("Reason"))
}

/// Sends an event every 20 ms until it is dropped; its one byte may be changed.
struct Stream {
    byte: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

const END: u8 = u8::MAX;

impl Stream {
    fn start(node: &Node, name: &str) -> Stream {
        let producer = Producer::datagram(1, &node.folder().join(name));
        let byte = Arc::new(AtomicU8::new(0));
        let shared = Arc::clone(&byte);
        let thread = std::thread::spawn(move || {
            loop {
                let byte = shared.load(Ordering::Relaxed);
                if byte == END {
                    return;
                }
                // A node whose queue is full refuses.
                let _ = producer.socket().send(&[byte]);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Stream { byte, thread: Some(thread) }
    }

    fn set(&self, byte: u8) {
        self.byte.store(byte, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.set(END);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a state; how long that took.
fn until(node: &Node, kind: &str, name: &str, state: &str) -> (Duration, String) {
    let begun = Instant::now();
    let reason =
        eventually(&format!("{kind} {name} to be {state}: {:?}", condition(node, kind, name)), || {
            let (now, reason) = condition(node, kind, name);
            (now == state).then_some(reason)
        });
    (begun.elapsed(), reason)
}

#[test]
fn a_function_that_becomes_slow_is_named_and_its_recovery_is_told() {
    let setup = setup();
    let out = receiver(&setup, "out");
    std::thread::spawn(move || while out.recv(&mut [0; 64]).is_ok() {});
    let body = "usleep(event->payload[0] * 1000); return tempos_write(output, event->payload, 1);";
    let file = function(setup.folder(), "look", body);
    let lua = format!(
        "tempos.topic \"raw\" {{ ingress = {{ {} }} }}\n\
         tempos.topic \"seen\" {{ egress = {{ {} }} }}\n\
         tempos.workflow \"look\" {{ from = \"raw\", to = \"seen\", call = {{ method = \"dlf\", file = {file:?} }}, \
         request = {{ latency_p99 = \"100ms\", rate = \"50/s\" }}, on_unmet = \"degrade\" }}\n\
         tempos.on(\"grant-changed\", {{ name = \"look\" }}, function(e) print(e.state .. \": \" .. e.reason) end)",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&lua).start();
    let stream = Stream::start(&node, "in");
    eventually("events to come through", || (node.topic("seen").events_out > 20).then_some(()));
    assert_eq!(
        condition(&node, "workflow", "look").0,
        "started",
        "{:?}",
        condition(&node, "workflow", "look")
    );

    // What is measured stands beside what is granted.
    let hop = eventually("the function to be measured", || {
        let explained = node.ctl(["--json", "explain", "look"]).stdout;
        let explained: serde_json::Value = serde_json::from_slice(&explained).ok()?;
        let hops = explained[0]["hops"].as_array()?.clone();
        hops.into_iter().find(|hop| hop["hop"] == "function look" && hop["p99_now_ns"].as_u64() > Some(0))
    });
    assert!(!hop["granted"].as_str().unwrap_or_default().is_empty(), "{hop}");

    stream.set(200);
    let (after, reason) = until(&node, "workflow", "look", "degraded");
    println!("noticed after {after:?}: {reason}");
    assert!(reason.starts_with("function look "), "{reason}");
    node.wait_for_log("workflow \"look\" does not get what it was granted: function look ");
    node.wait_for_log("begins: function look ");
    let troubles = node.property(ROOT, "Node", "Degraded").to_string();
    assert!(troubles.contains("function look "), "{troubles}");
    let explained = node.ctl(["explain", "look"]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(3), "{said}");
    assert!(said.contains("now: function look "), "{said}");

    stream.set(0);
    let (after, _) = until(&node, "workflow", "look", "started");
    println!("over after {after:?}");
    node.wait_for_log("workflow \"look\" gets what it was granted again");
    node.wait_for_log("ended: ");
    let troubles = node.property(ROOT, "Node", "Degraded").to_string();
    assert!(!troubles.contains("does not get what it was granted"), "{troubles}");

    // A wiring in which nothing of it changes does not end it.
    stream.set(200);
    until(&node, "workflow", "look", "degraded");
    assert!(node.ctl(["reload"]).status.success());
    assert_eq!(condition(&node, "workflow", "look").0, "degraded");
}

#[test]
fn a_receiver_that_does_not_take_its_events_is_named_as_the_way_out() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"line\" {{ ingress = {{ {} }}, egress = {{ {} }}, \
         request = {{ latency_p99 = \"100ms\", rate = \"50/s\" }}, on_unmet = \"degrade\" }}",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&lua).start();
    let _stream = Stream::start(&node, "in");
    for _ in 0..20 {
        road::receive(&out);
    }
    assert_eq!(condition(&node, "topic", "line").0, "started");
    // Nobody reads: the kernel's buffer fills, then events wait in the node.
    let (after, reason) = until(&node, "topic", "line", "degraded");
    println!("noticed after {after:?}: {reason}");
    assert!(reason.starts_with("egress line "), "{reason}");
    std::thread::spawn(move || while out.recv(&mut [0; 64]).is_ok() {});
    until(&node, "topic", "line", "started");
    node.wait_for_log("topic \"line\" gets what it was granted again");
}

#[test]
fn what_asks_for_nothing_is_not_watched() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"line\" {{ ingress = {{ {} }}, egress = {{ {} }} }}\n\
         tempos.topic \"asks\" {{ ingress = {{ {} }}, request = {{ latency_p99 = \"1s\", rate = \"1/s\" }} }}",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        unix(&setup, "asked", ""),
    );
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&lua).start();
    let stream = Stream::start(&node, "in");
    // Long enough for the one that asks to be noticed, were it this one.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(condition(&node, "topic", "line").0, "started");
    assert_eq!(condition(&node, "topic", "asks").0, "started");
    drop(stream);
    drop(out);
}
