//! What an endpoint lets in: rate, events in flight, size, repetitions and order, for each source.

mod road;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempos_tests::{Node, Producer, Sink, eventually};

use road::{event, receiver, setup, unix};

fn wired(channel: &str) -> (Node, Sink) {
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", channel),
        unix(&setup, "out", ""),
    );
    (setup.wiring(&lua).start(), sink)
}

#[test]
fn a_source_over_its_rate_is_read_later() {
    let (node, sink) = wired(", rate = 500, burst = 10");
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    let begin = Instant::now();
    producer.flood(510);
    sink.wait_for(510).assert_exact(1, 510);
    assert!(begin.elapsed() >= Duration::from_millis(990), "{:?}", begin.elapsed());
    assert!(node.wait_for_rest("line", 510).dropped.is_empty());
}

#[test]
fn a_source_over_its_rate_is_dropped_where_that_is_wanted() {
    let (node, sink) = wired(", rate = 100, burst = 50, over_rate = \"drop\"");
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    producer.flood(2000);
    let figures = node.wait_for_rest("line", 2000);
    let dropped = figures.dropped_for("over-rate");
    assert!(dropped > 0 && figures.events_out >= 50, "{figures:?}");
    assert_eq!(sink.wait_for(figures.events_out).received() + dropped, 2000);
}

#[test]
fn each_sender_has_a_rate_of_its_own() {
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", type = \"seqpacket\", producer_rate = 1, burst = 20"),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let path = node.folder().join("in");
    let (mut greedy, mut modest) = (Producer::seqpacket(1, &path), Producer::seqpacket(2, &path));
    greedy.flood(500);
    modest.flood(20);
    let figures = node.wait_for_rest("line", 520);
    let ledger = sink.wait_for(figures.events_out);
    assert_eq!(ledger.track(2).received, 20, "the modest one pays for the greedy one");
    let greedy = ledger.track(1).received;
    // Twenty at once, and one more for each second that all of this may have taken.
    assert!((20..100).contains(&greedy), "{greedy}");
    assert_eq!(figures.dropped_for("over-rate"), 500 - greedy);
}

#[test]
fn no_more_of_a_source_is_in_flight_than_is_allowed() {
    const EVENTS: u64 = 2000;
    let (node, sink) = wired(", in_flight = 7");
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    sink.hold();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| producer.flood(EVENTS));
        let (mut before, mut most) = (0, 0);
        eventually("the node to stop reading", || {
            let now = node.topic("line");
            most = most.max(now.queued);
            (std::mem::replace(&mut before, now.events_in) == now.events_in && now.events_in > 0)
                .then_some(())
        });
        assert!(most <= 7, "{most} were in flight");
        assert!(!sending.is_finished(), "the producer was not held back");
        sink.release();
    });
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    assert!(node.wait_for_rest("line", EVENTS).dropped.is_empty());
}

#[test]
fn a_source_has_a_largest_event_of_its_own() {
    let (node, sink) = wired(", event_max = \"100B\"");
    let input = UnixDatagram::unbound().expect("a socket");
    input.connect(node.folder().join("in")).expect("the node listens");
    // The sender's credentials are attributes, and count.
    for bytes in [20, 101, 1000] {
        input.send(&vec![1; bytes]).expect("the node listens");
    }
    let figures = node.wait_for_rest("line", 3);
    assert_eq!((figures.events_out, figures.dropped_for("too-large")), (1, 2), "{figures:?}");
    assert_eq!(sink.wait_for(1).foreign, 1);
}

#[test]
fn what_comes_twice_or_late_is_dropped_as_declared() {
    for (channel, expected, duplicates, late) in [
        ("", &[5, 6, 6, 5, 8, 7, 9][..], 0, 0),
        (", duplicates = \"drop\"", &[5, 6, 8, 7, 9], 2, 0),
        (", order = \"newer\"", &[5, 6, 8, 9], 2, 1),
    ] {
        let setup = setup();
        let out = receiver(&setup, "out");
        let lua = format!(
            "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, "in", &format!(", type = \"seqpacket\", format = \"event\"{channel}")),
            unix(&setup, "out", ""),
        );
        let node = setup.wiring(&lua).start();
        let producer = Producer::seqpacket(1, &node.folder().join("in"));
        for id in [5u64, 6, 6, 5, 8, 7, 9] {
            producer.socket().send(&event("line", id, &[], &id.to_le_bytes())).expect("the node listens");
        }
        for id in expected {
            assert_eq!(road::receive(&out), (*id as u64).to_le_bytes(), "{channel}");
        }
        let figures = node.wait_for_rest("line", 7);
        assert_eq!(figures.dropped_for("duplicate"), duplicates, "{channel}: {figures:?}");
        assert_eq!(figures.dropped_for("out-of-order"), late, "{channel}: {figures:?}");
        // After the largest id comes 0, which here means none: such events are not told apart.
        producer.socket().send(&event("line", 0, &[], b"none")).expect("the node listens");
        assert_eq!(road::receive(&out), b"none");
    }
}

#[test]
fn ids_go_on_after_the_largest() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"line\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", type = \"seqpacket\", format = \"event\", order = \"newer\""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::seqpacket(1, &node.folder().join("in"));
    // 1 is newer than the largest; the largest once more is a replay, and what lies before it came too late.
    for id in [u64::MAX - 2, u64::MAX, 1, u64::MAX, u64::MAX - 1, 2, 2] {
        producer.socket().send(&event("line", id, &[], &id.to_le_bytes())).expect("the node listens");
    }
    for id in [u64::MAX - 2, u64::MAX, 1, 2] {
        assert_eq!(road::receive(&out), id.to_le_bytes());
    }
    let figures = node.wait_for_rest("line", 7);
    assert_eq!(
        (figures.dropped_for("duplicate"), figures.dropped_for("out-of-order")),
        (2, 1),
        "{figures:?}"
    );
}

#[test]
fn keys_of_endpoints_are_refused_where_they_mean_nothing() {
    let (node, _sink) = wired("");
    for (lua, words) in [
        (
            "tempos.topic 'x' { egress = { tempos.unix { path = '/tmp/x', rate = 5 } } }",
            "are for ingress channels only",
        ),
        ("tempos.topic 'x' { ingress = { tempos.unix { path = '/tmp/x', burst = 5 } } }", "go with rate"),
        (
            "tempos.topic 'x' { ingress = { tempos.unix { path = '/tmp/x', order = 'newer' } } }",
            "bare payloads have not",
        ),
        (
            "tempos.topic 'x' { rules = { { match = { a = 1 }, qos = 'gold' } } }",
            "a rule names the unknown level \"gold\"",
        ),
        ("tempos.topic 'x' { rules = { { match = {}, qos = 'strict' } } }", "with 1 to 8 attributes"),
        ("tempos.topic 'x' { rules = { { mach = {}, qos = 'strict' } } }", "did you mean \"match\"?"),
        (
            "tempos.topic 'x' { ingress = { tempos.unix { path = '/tmp/x', qos_max = 'gold' } } }",
            "qos_max names the unknown level",
        ),
    ] {
        let said = node.apply(lua).expect_err(lua);
        assert!(said.contains(words), "{lua}: {said}");
    }
}
