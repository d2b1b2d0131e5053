//! The event's road: what comes in goes out, once and in order, and what does not is accounted for.

use std::path::{Path, PathBuf};

use tempos_tests::function::{ECHO, function};
use tempos_tests::{NodeSetup, Producer, Sink};

const ROAD: [&str; 5] = ["adapter-udp", "adapter-unix", "queue-fifo", "queue-priority", "invoker-dlf"];

fn place(setup: &NodeSetup, name: &str) -> PathBuf {
    setup.folder().join(name)
}

/// A unix channel in a wiring script.
fn unix(path: &Path, more: &str) -> String {
    format!("tempos.unix {{ path = \"{}\"{more} }}", path.display())
}

#[test]
fn a_million_events_through_udp_strict_dlf_and_unix() {
    const EVENTS: u64 = 1_000_000;
    let setup = NodeSetup::new().plugins(ROAD);
    let sink = Sink::seqpacket(&place(&setup, "out"));
    let echo = function(setup.folder(), "echo", ECHO);
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"echo\" {{ from = \"raw\", to = \"done\", call = {{ method = \"dlf\", file = {:?} }} }}\n",
        unix(&place(&setup, "out"), ", type = \"seqpacket\""),
        echo.display(),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::udp(1, node.udp_address("raw/in/1"));
    producer.send_windowed(EVENTS, 512, || sink.received());
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    let (raw, done) = (node.wait_for_rest("raw", EVENTS), node.wait_for_rest("done", EVENTS));
    for topic in [&raw, &done] {
        assert_eq!((topic.events_in, topic.events_out), (EVENTS, EVENTS), "{topic:?}");
        assert!(topic.dropped.is_empty(), "{topic:?}");
    }
    assert_eq!(node.channel_count("raw/in/1", "KernelDropped"), 0);
    assert_eq!(node.workflow("echo")["EventsDone"], EVENTS);
}
