//! The event's road: what comes in goes out, once and in order, and what does not is accounted for to the
//! last event.

mod road;

use std::time::Duration;

use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::envelope::Envelope;
use tempos_abi::level::QosLevel;
use tempos_tests::figures::counts;
use tempos_tests::function::{ECHO, function};
use tempos_tests::{Node, Producer, Signals, Sink, eventually};

use road::{event, receive, receiver, setup, unix};

#[test]
fn a_million_events_through_udp_strict_dlf_and_unix() {
    const EVENTS: u64 = 1_000_000;
    let setup = setup();
    let sink = Sink::seqpacket(&setup.folder().join("out"));
    let echo = function(setup.folder(), "echo", ECHO);
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"echo\" {{ from = \"raw\", to = \"done\", call = {{ method = \"dlf\", file = {:?} }} }}\n",
        unix(&setup, "out", ", type = \"seqpacket\""),
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

/// Every event that was sent came out or was counted as dropped, and what was counted was signalled.
fn assert_accounted_for(node: &Node, topic: &str, channel: &str, sent: u64, sink: &Sink, signals: &Signals) {
    let kernel = || node.channel_count(channel, "KernelDropped");
    // The kernel's own drops are read off the socket now and then: the account is settled with the last.
    let figures = eventually("the whole account", || {
        let figures = node.topic(topic);
        let at_rest = figures.queued == 0 && figures.events_in + kernel() == sent;
        (at_rest && sink.received() == figures.events_out).then_some(figures)
    });
    sink.ledger().assert_in_order();
    assert_eq!(sent, sink.ledger().received() + figures.dropped_whole() + kernel(), "{figures:?}");
    for (reason, count) in &figures.dropped {
        eventually(&format!("{count} drops for {reason} to be signalled"), || {
            (signals.dropped(topic, reason) == *count).then_some(())
        });
    }
}

#[test]
fn when_a_queue_is_full_every_drop_is_counted_with_its_reason_and_signalled() {
    const EVENTS: u64 = 100_000;
    let setup = setup();
    let sink = Sink::seqpacket(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"strict\" {{ queue = {{ capacity = 256 }} }}\n\
         tempos.topic \"press\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\", receive_buffer = \"64KiB\" }} }}, egress = {{ {} }} }}\n",
        unix(&setup, "out", ", type = \"seqpacket\""),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    sink.hold();
    producer.flood(EVENTS / 2);
    sink.release();
    producer.flood(EVENTS / 2);
    // The last one comes when there is room again, and has the kernel's count read with it.
    assert_accounted_for(&node, "press", "press/in/1", EVENTS, &sink, &signals);
    let figures = node.topic("press");
    assert!(figures.dropped_for("queue-full") > 0, "the flood never filled the queue: {figures:?}");
    assert!(sink.received() > 0);
}

#[test]
fn a_full_best_effort_queue_gives_up_its_oldest() {
    const EVENTS: u64 = 5000;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"best-effort\" {{ queue = {{ capacity = 100 }} }}\n\
         tempos.topic \"log\" {{ ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    sink.hold();
    producer.flood(EVENTS);
    eventually("all events in the node", || (node.topic("log").events_in == EVENTS).then_some(()));
    sink.release();
    let figures = node.wait_for_rest("log", EVENTS);
    let ledger = sink.wait_for(figures.events_out);
    ledger.assert_in_order();
    assert_eq!(figures.dropped.keys().collect::<Vec<_>>(), ["evicted"]);
    assert_eq!(ledger.received() + figures.dropped_for("evicted"), EVENTS);
    // What was evicted is what was oldest: the newest hundred came through.
    let track = ledger.track(1);
    assert!((EVENTS - 100..EVENTS).all(|sequence| track.has(sequence)), "one of the newest was evicted");
    eventually("the signal", || {
        (signals.dropped("log", "evicted") == figures.dropped_for("evicted")).then_some(())
    });
}

#[test]
fn a_full_queue_that_blocks_holds_the_producer_back_and_loses_nothing() {
    const EVENTS: u64 = 5000;
    for kind in ["datagram", "seqpacket"] {
        let setup = setup();
        let sink = Sink::datagram(&setup.folder().join("out"));
        let lua = format!(
            "tempos.qos \"strict\" {{ queue = {{ capacity = 128, full = \"block\" }} }}\n\
             tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, "in", &format!(", type = {kind:?}")),
            unix(&setup, "out", ""),
        );
        let node = setup.wiring(&lua).start();
        let path = node.folder().join("in");
        let mut producer = match kind {
            "datagram" => Producer::datagram(1, &path),
            _ => Producer::seqpacket(1, &path),
        };
        sink.hold();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| producer.flood(EVENTS));
            // The node takes what its queue and its receivers hold, then stops to read.
            let mut before = 0;
            let taken = eventually("the node to stop reading", || {
                let now = node.topic("press").events_in;
                (std::mem::replace(&mut before, now) == now && now > 0).then_some(now)
            });
            assert!(taken < EVENTS && !sending.is_finished(), "{kind}: the producer was not held back");
            sink.release();
        });
        sink.wait_for(EVENTS).assert_exact(1, EVENTS);
        let figures = node.wait_for_rest("press", EVENTS);
        assert!(figures.dropped.is_empty(), "{kind}: {figures:?}");
    }
}

#[test]
fn what_waited_longer_than_its_time_to_live_is_dropped_as_expired() {
    const EVENTS: u64 = 1000;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ttl = \"50ms\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    sink.hold();
    producer.flood(EVENTS);
    eventually("all events in the node", || (node.topic("press").events_in == EVENTS).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    sink.release();
    let figures = node.wait_for_rest("press", EVENTS);
    let ledger = sink.wait_for(figures.events_out);
    ledger.assert_in_order();
    assert!(figures.dropped_for("expired") > 0, "{figures:?}");
    assert_eq!(ledger.received() + figures.dropped_for("expired"), EVENTS, "{figures:?}");
    // A fresh one is none the worse for those before it.
    producer.send();
    sink.wait_for(figures.events_out + 1);
    eventually("the signal", || {
        (signals.dropped("press", "expired") >= figures.dropped_for("expired")).then_some(())
    });
}

#[test]
fn a_group_that_never_reads_costs_the_other_groups_nothing() {
    const EVENTS: u64 = 20_000;
    let setup = setup();
    let sinks = ["one", "two", "stuck"].map(|name| Sink::datagram(&setup.folder().join(name)));
    let group = |name| format!("tempos.group \"{name}\" {{ {} }}", unix(&setup, name, ""));
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
         egress = {{ {}, {}, {} }} }}\n",
        group("one"),
        group("two"),
        group("stuck"),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    let [one, two, stuck] = &sinks;
    stuck.hold();
    // The window is smaller than what may wait for one receiver: those that read lose nothing.
    producer.send_windowed(EVENTS, 48, || one.received().min(two.received()));
    one.wait_for(EVENTS).assert_exact(1, EVENTS);
    two.wait_for(EVENTS).assert_exact(1, EVENTS);
    stuck.release();
    let figures = node.wait_for_rest("press", EVENTS);
    let lost = figures.dropped_for("copy-slow-consumer");
    assert_eq!((figures.events_out, figures.dropped_whole()), (EVENTS, 0), "{figures:?}");
    assert!(lost > 0, "{figures:?}");
    let ledger = stuck.wait_for(EVENTS - lost);
    ledger.assert_in_order();
    assert_eq!(ledger.received() + lost, EVENTS);
    eventually("the signal", || (signals.dropped("press", "copy-slow-consumer") == lost).then_some(()));
}

#[test]
fn the_members_of_a_group_take_turns() {
    const ROUNDS: u64 = 500;
    let setup = setup();
    let sinks = ["a", "b", "c", "d"].map(|name| Sink::datagram(&setup.folder().join(name)));
    let members = ["a", "b", "c", "d"].map(|name| unix(&setup, name, "")).join(", ");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
         egress = {{ tempos.group \"four\" {{ {members} }} }} }}\n",
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    producer.send_windowed(4 * ROUNDS, 32, || sinks.iter().map(Sink::received).sum());
    let ledgers = sinks.each_ref().map(|sink| sink.wait_for(ROUNDS));
    for (at, ledger) in ledgers.iter().enumerate() {
        ledger.assert_in_order();
        let track = ledger.track(1);
        assert_eq!(track.received, ROUNDS, "member {at}");
        let mine: Vec<u64> = (0..4 * ROUNDS).filter(|sequence| track.has(*sequence)).collect();
        assert!(mine.windows(2).all(|pair| pair[1] - pair[0] == 4), "member {at} was passed over");
    }
}

#[test]
fn a_function_that_fails_is_counted_and_signalled_with_its_sentence() {
    const EVENTS: u64 = 40;
    let setup = setup();
    let out = receiver(&setup, "out");
    let body = "if (event->payload[0] == 'x') return tempos_fail(output, 7, \"x is no measurement\");\n\
                return tempos_write_text(output, \"fine\");";
    let picky = function(setup.folder(), "picky", body);
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"picky\" {{ from = \"raw\", to = \"done\", call = {{ method = \"dlf\", file = {:?} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        picky.display(),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let producer = Producer::datagram(1, &node.folder().join("in"));
    for number in 0..EVENTS {
        producer.socket().send(if number % 4 == 0 { b"x" } else { b"y" }).expect("the node listens");
    }
    for _ in 0..EVENTS * 3 / 4 {
        assert_eq!(receive(&out), b"fine");
    }
    let workflow = eventually("all invocations", || {
        let workflow = node.workflow("picky");
        (workflow["EventsDone"] == EVENTS).then_some(workflow)
    });
    assert_eq!(counts(&workflow["Failures"]).values().sum::<u64>(), EVENTS / 4, "{workflow:#}");
    let said = eventually("the signals", || {
        let said = signals.named("FunctionFailed");
        (said.len() as u64 == EVENTS / 4).then_some(said)
    });
    for arguments in said {
        assert_eq!(arguments[0], "picky");
        assert!(
            arguments[2].as_str().is_some_and(|error| error.contains("x is no measurement")),
            "{arguments:?}"
        );
    }
    assert_eq!(node.topic("done").events_in, EVENTS * 3 / 4);
}

#[test]
fn one_workflow_feeds_the_next() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let append = |letter: char| {
        let body = format!(
            "if (tempos_write(output, event->payload, event->payload_bytes) != 0) return 1;\n\
             return tempos_write(output, \"{letter}\", 1) == 0 ? 0 : 1;"
        );
        function(setup.folder(), &format!("append-{letter}"), &body)
    };
    let call = |file: &std::path::Path| format!("call = {{ method = \"dlf\", file = {:?} }}", file.display());
    let lua = format!(
        "tempos.topic \"first\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"second\" {{ qos = \"strict\" }}\n\
         tempos.topic \"third\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"a\" {{ from = \"first\", to = \"second\", {} }}\n\
         tempos.workflow \"b\" {{ from = \"second\", to = \"third\", {} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        call(&append('a')),
        call(&append('b')),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    for number in 0..200 {
        producer.socket().send(format!("{number}:").as_bytes()).expect("the node listens");
        assert_eq!(receive(&out), format!("{number}:ab").as_bytes());
    }
}

#[test]
fn an_event_that_leaves_after_its_deadline_is_counted_and_signalled() {
    let setup = setup();
    let out = receiver(&setup, "out");
    // The first letter says how many times ten milliseconds it takes.
    let body = "usleep(10000 * (event->payload[0] - '0'));\n\
                return tempos_write(output, event->payload, event->payload_bytes);";
    let slow = function(setup.folder(), "slow", body);
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"strict\", deadline = \"20s\", ingress = {{ {} }} }}\n\
         tempos.topic \"raw/urgent\" {{ qos = \"strict\", deadline = \"5ms\", ingress = {{ {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"slow\" {{ from = \"raw\", to = \"done\", call = {{ method = \"dlf\", file = {slow:?} }} }}\n\
         tempos.workflow \"slow too\" {{ from = \"raw/urgent\", to = \"done\", call = {{ method = \"dlf\", file = {slow:?} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "in.urgent", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let signals = Signals::of(&node);
    let easy = Producer::datagram(1, &node.folder().join("in"));
    let urgent = Producer::datagram(1, &node.folder().join("in.urgent"));
    easy.socket().send(b"2").expect("the node listens");
    urgent.socket().send(b"2").expect("the node listens");
    for _ in 0..2 {
        assert_eq!(receive(&out), b"2");
    }
    let figures = node.wait_for_rest("raw/urgent", 1);
    assert_eq!((figures.late, figures.events_out), (1, 1), "late, and delivered all the same");
    assert_eq!(node.wait_for_rest("raw", 1).late, 0);
    // The output has its parent's deadline.
    assert_eq!(node.wait_for_rest("done", 2).late, 1);
    let said = eventually("the signals", || {
        let said = signals.named("DeadlineMissed");
        (said.len() == 2).then_some(said)
    });
    for arguments in said {
        assert!(["raw/urgent", "done"].contains(&arguments[0].as_str().unwrap_or_default()), "{arguments:?}");
        assert!(arguments[2].as_u64() >= Some(15_000_000), "it was late by 15 ms at least: {arguments:?}");
    }
}

#[test]
fn the_event_format_carries_identity_times_and_attributes_and_refuses_what_is_not_its_topics() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", format = \"event\""),
        unix(&setup, "out", ", format = \"event\""),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    let send = |bytes: &[u8]| producer.socket().send(bytes).expect("the node listens");
    let whole = event("press", 77, &[("camera", AttributeValue::Signed(-2))], b"payload");
    send(&whole);
    send(&event("", 78, &[], b"without a topic"));
    send(&event("lathe", 79, &[], b"of another topic"));
    send(&whole[..39]);
    send(b"no header at all, and longer than a header would be");
    send(&event("press", 80, &[], b""));
    let first = receive(&out);
    let first = Envelope::decode(&first).expect("an event");
    assert_eq!((first.event_id, first.topic, first.payload), (77, "press", &b"payload"[..]));
    assert_eq!((first.level, first.source_time_ns), (QosLevel::STRICT, 1_700_000_000_000_000_000));
    assert_eq!(Attributes::new(first.attributes).get("camera"), Some(AttributeValue::Signed(-2)));
    for (id, payload) in [(78, &b"without a topic"[..]), (80, b"")] {
        let next = receive(&out);
        let next = Envelope::decode(&next).expect("an event");
        assert_eq!((next.event_id, next.topic, next.payload), (id, "press", payload));
    }
    let figures = node.wait_for_rest("press", 6);
    assert_eq!(figures.dropped_for("wrong-topic"), 1, "{figures:?}");
    assert_eq!(figures.dropped_for("malformed"), 2, "{figures:?}");
    assert_eq!((figures.events_out, figures.dropped_whole()), (3, 3));
}

#[test]
fn the_kernel_vouches_for_the_sender_of_an_event() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {}, {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "in.connected", ", type = \"seqpacket\""),
        unix(&setup, "out", ", format = \"event\""),
    );
    let node = setup.wiring(&lua).start();
    for producer in [
        Producer::datagram(1, &node.folder().join("in")),
        Producer::seqpacket(1, &node.folder().join("in.connected")),
    ] {
        producer.socket().send(b"who").expect("the node listens");
        let frame = receive(&out);
        let envelope = Envelope::decode(&frame).expect("an event");
        let attributes = Attributes::new(envelope.attributes);
        // SAFETY: getuid(2) and getgid(2) have no preconditions.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let pid = u64::from(std::process::id());
        for (key, value) in [("peer.pid", pid), ("peer.uid", uid.into()), ("peer.gid", gid.into())] {
            assert_eq!(attributes.get(key), Some(AttributeValue::Unsigned(value)), "{key}");
        }
    }
}

#[test]
fn an_endpoint_of_another_level_has_its_own_lane_through_the_same_topic() {
    const EVENTS: u64 = 300;
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {}, {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "in.bulk", ", qos = \"best-effort\""),
        unix(&setup, "out", ", format = \"event\""),
    );
    let node = setup.wiring(&lua).start();
    assert_eq!(node.channel("press/in/1")["Level"], "strict");
    assert_eq!(node.channel("press/in/2")["Level"], "best-effort");
    for (path, level, count) in
        [("in", QosLevel::STRICT, EVENTS), ("in.bulk", QosLevel::BEST_EFFORT, 2 * EVENTS)]
    {
        let producer = Producer::datagram(1, &node.folder().join(path));
        for _ in 0..count {
            producer.socket().send(b"event").expect("the node listens");
            let frame = receive(&out);
            assert_eq!(Envelope::decode(&frame).map(|envelope| envelope.level), Ok(level));
        }
    }
    assert_eq!(node.level("strict")["EventsIn"], EVENTS);
    assert_eq!(node.level("best-effort")["EventsIn"], 2 * EVENTS);
    let figures = node.wait_for_rest("press", 3 * EVENTS);
    assert_eq!((figures.events_out, figures.dropped_whole()), (3 * EVENTS, 0));
}

#[test]
fn an_event_without_a_receiver_is_dropped_and_counted() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n\
         tempos.topic \"lathe\" {{ qos = \"strict\", ingress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        unix(&setup, "in.lathe", ""),
    );
    let node = setup.wiring(&lua).start();
    let lathe = Producer::datagram(1, &node.folder().join("in.lathe"));
    lathe.socket().send(b"nobody wants it").expect("the node listens");
    let figures = node.wait_for_rest("lathe", 1);
    assert_eq!(figures.dropped_for("no-subscriber"), 1, "{figures:?}");
    let press = Producer::datagram(2, &node.folder().join("in"));
    press.socket().send(b"first").expect("the node listens");
    assert_eq!(receive(&out), b"first");
}
