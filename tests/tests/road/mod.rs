//! What the tests of the event's road share.

#![allow(dead_code)] // Each of them uses its part.

pub mod container;
pub mod workflow;

use std::os::unix::net::UnixDatagram;

use tempos_abi::attributes::{ATTRIBUTES_BYTES_MAX, AttributeValue, AttributeWriter};
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use tempos_abi::level::QosLevel;
use tempos_tests::{LIVENESS, NodeSetup};

/// A node with every plugin that the roads of these tests need. Its wiring is not watched: a test says when
/// it changes.
pub fn setup() -> NodeSetup {
    NodeSetup::new().plugins(["adapter-udp", "adapter-unix", "queue-fifo", "queue-priority", "invoker-dlf"])
}

/// A unix channel in a wiring script, at a name in the test's folder.
pub fn unix(setup: &NodeSetup, name: &str, more: &str) -> String {
    format!("tempos.unix {{ path = \"{}\"{more} }}", setup.folder().join(name).display())
}

/// A socket that a node sends datagrams to.
pub fn receiver(setup: &NodeSetup, name: &str) -> UnixDatagram {
    let socket = UnixDatagram::bind(setup.folder().join(name)).expect("a socket in the test's folder");
    socket.set_read_timeout(Some(LIVENESS)).expect("a limit");
    socket
}

/// The next datagram.
pub fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let len = socket.recv(&mut buffer).expect("an event comes out");
    buffer.truncate(len);
    buffer
}

/// A frame of the event format.
pub fn event(topic: &str, id: u64, attributes: &[(&str, AttributeValue<'_>)], payload: &[u8]) -> Vec<u8> {
    let mut block = [0; ATTRIBUTES_BYTES_MAX];
    let mut writer = AttributeWriter::new(&mut block);
    for (key, value) in attributes {
        assert!(writer.put(key, *value), "{key} fits");
    }
    let len = writer.len();
    let envelope = Envelope {
        event_id: id,
        level: QosLevel::BEST_EFFORT,
        source_time_ns: 1_700_000_000_000_000_000,
        deadline_ns: 0,
        topic,
        attributes: &block[..len],
        payload: &[],
    };
    let mut head = [0; ENVELOPE_BYTES_MAX];
    let len = envelope.encode_head(&mut head).expect("it fits");
    [&head[..len], payload].concat()
}
