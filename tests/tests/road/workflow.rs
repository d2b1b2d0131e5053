//! One workflow in a node, its way in and its way out.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;
use tempos_tests::{Node, NodeSetup, Producer, eventually};

use super::{receive, receiver};

/// One strict workflow from `raw` to `done`, from the socket `in` to the socket `out`. `topic` is more of the
/// topic `raw`, `call` the whole of the call.
pub fn one(folder: &Path, topic: &str, call: &str) -> String {
    let at = |name: &str| format!("tempos.unix {{ path = \"{}\" }}", folder.join(name).display());
    format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }}{topic} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"work\" {{ from = \"raw\", to = \"done\", call = {{ {call} }} }}\n",
        at("in"),
        at("out"),
    )
}

/// The call of a shared library; `more` is more of its keys.
pub fn dlf(file: &Path, more: &str) -> String {
    format!("method = \"dlf\", file = {:?}{more}", file.display())
}

/// A node with one workflow, its way in, and its way out.
pub fn start(setup: NodeSetup, topic: &str, call: &str) -> (Node, Producer, UnixDatagram) {
    let out = receiver(&setup, "out");
    let lua = one(setup.folder(), topic, call);
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    (node, producer, out)
}

/// Sends a text into the node.
pub fn send(producer: &Producer, text: &str) {
    producer.socket().send(text.as_bytes()).expect("the node listens");
}

/// The next event, as a text.
pub fn text(socket: &UnixDatagram) -> String {
    String::from_utf8_lossy(&receive(socket)).into_owned()
}

/// The workflow `work` once it is done with so many events.
pub fn done(node: &Node, events: u64) -> Value {
    eventually(&format!("{events} events done"), || {
        let work = node.workflow("work");
        (work["EventsDone"] == events).then_some(work)
    })
}

/// Counts its calls.
pub const COUNT: &str = "static int calls; char text[16]; calls++;\n\
    snprintf(text, sizeof text, \"%d\", calls); return tempos_write_text(output, text);";
