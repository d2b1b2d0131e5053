//! Levels: any number of them, set by endpoints, topics and rules on attributes, in that order of trust; their
//! rates, and how long a frame may linger.

mod road;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempos_abi::attributes::AttributeValue;
use tempos_abi::envelope::Envelope;
use tempos_tests::figures::counts;
use tempos_tests::function::function;
use tempos_tests::{Node, NodeSetup, Producer, Sink, eventually};

use road::{event, receive, receiver, setup, unix};

const TEXT: fn(&str) -> AttributeValue<'_> = |text| AttributeValue::Text(text);

/// What a level has passed on.
fn passed(node: &Node, level: &str) -> u64 {
    node.level(level)["EventsOut"].as_u64().expect("a count")
}

/// All that is listed of the topic.
fn topic(node: &Node) -> serde_json::Value {
    let topics = node.ctl_json(["topics"]);
    topics.as_array().and_then(|topics| topics.first().cloned()).expect("a topic")
}

fn sender(setup: &Node, name: &str) -> UnixDatagram {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(setup.folder().join(name)).expect("the node listens");
    socket
}

fn payload(frame: &[u8]) -> Vec<u8> {
    Envelope::decode(frame).expect("an event").payload.to_vec()
}

/// A topic whose endpoint says nothing of levels, with rules; three levels.
fn ruled(setup: NodeSetup, channel: &str, rules: &str) -> (Node, UnixDatagram) {
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.qos \"burst\" {{ rank = 100 }}\n\
         tempos.topic \"line\" {{ qos = \"best-effort\", rules = {{ {rules} }},\n\
         ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", &format!(", format = \"event\"{channel}")),
        unix(&setup, "out", ", format = \"event\""),
    );
    (setup.wiring(&lua).start(), out)
}

#[test]
fn a_rule_moves_an_event_to_the_lane_of_its_level() {
    let rules = "{ match = { kind = \"alarm*\" }, qos = \"strict\" },\n\
                 { match = { priority = { min = 5 }, kind = \"*\" }, qos = \"burst\" }";
    let (node, out) = ruled(setup(), ", qos_max = \"strict\"", rules);
    let input = sender(&node, "in");
    let cases: [(&[(&str, AttributeValue<'_>)], &str); 4] = [
        (&[("kind", TEXT("alarm/fire"))], "strict"),
        (&[("kind", TEXT("log")), ("priority", AttributeValue::Unsigned(7))], "burst"),
        (&[("kind", TEXT("log")), ("priority", AttributeValue::Unsigned(4))], "best-effort"),
        (&[("priority", AttributeValue::Unsigned(9))], "best-effort"),
    ];
    for (at, (attributes, level)) in cases.into_iter().enumerate() {
        let before = passed(&node, level);
        let text = format!("event {at}");
        input.send(&event("line", at as u64 + 1, attributes, text.as_bytes())).expect("the node listens");
        let frame = receive(&out);
        assert_eq!(payload(&frame), text.as_bytes());
        assert_eq!(Envelope::decode(&frame).expect("an event").event_id, at as u64 + 1);
        eventually(&format!("one more at level {level}"), || {
            (passed(&node, level) == before + 1).then_some(())
        });
    }
    let figures = node.wait_for_rest("line", 4);
    assert_eq!((figures.events_in, figures.events_out), (4, 4), "{figures:?}");
    assert_eq!(topic(&node)["EventsCrossed"], 2);
}

#[test]
fn an_endpoint_bounds_what_its_senders_may_ask_for() {
    for (channel, level, capped) in [
        ("", "best-effort", 0),
        (", qos_max = \"burst\"", "burst", 1),
        (", qos_max = \"strict\"", "strict", 0),
        (", qos = \"burst\"", "burst", 0),
    ] {
        let (node, out) = ruled(setup(), channel, "");
        let input = sender(&node, "in");
        input.send(&event("line", 1, &[("qos", TEXT("strict"))], b"me first")).expect("the node listens");
        assert_eq!(payload(&receive(&out)), b"me first");
        eventually(&format!("{channel}: the event at level {level}"), || {
            (passed(&node, level) == 1).then_some(())
        });
        assert_eq!(node.channel_count("line/in/1", "Capped"), capped, "{channel}");
    }
}

#[test]
fn a_hundred_thousand_events_cross_in_order_and_none_is_lost() {
    const EVENTS: u64 = 100_000;
    let setup = setup();
    let sink = Sink::seqpacket(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"strict\" {{ batch = 32, queue = {{ full = \"block\" }} }}\n\
         tempos.qos \"best-effort\" {{ queue = {{ full = \"block\" }} }}\n\
         tempos.topic \"line\" {{ rules = {{ {{ match = {{ [\"peer.pid\"] = {{ min = 1 }} }}, qos = \"strict\" }} }},\n\
         ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", type = \"seqpacket\", qos_max = \"strict\""),
        unix(&setup, "out", ", type = \"seqpacket\""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::seqpacket(1, &node.folder().join("in"));
    producer.send_windowed(EVENTS, 256, || sink.received());
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    let figures = node.wait_for_rest("line", EVENTS);
    assert!(figures.dropped.is_empty(), "{figures:?}");
    assert_eq!(passed(&node, "strict"), EVENTS);
    assert_eq!(topic(&node)["EventsCrossed"], EVENTS);
}

#[test]
fn what_a_full_lane_does_not_take_is_counted_where_it_came_from() {
    const EVENTS: u64 = 40_000;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"strict\" {{ queue = {{ capacity = 64, full = \"block\" }} }}\n\
         tempos.topic \"line\" {{ rules = {{ {{ match = {{ [\"peer.pid\"] = {{ min = 1 }} }}, qos = \"strict\" }} }},\n\
         ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", qos_max = \"strict\""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    sink.hold();
    producer.flood(EVENTS);
    eventually("the crossing to be full", || (node.topic("line").dropped_for("lane-full") > 0).then_some(()));
    sink.release();
    // What is on its way from lane to lane counts as queued, and has come in once it has arrived.
    let figures = node.wait_for_rest("line", EVENTS);
    let ledger = sink.wait_for(figures.events_out);
    ledger.assert_in_order();
    assert_eq!(ledger.received() + figures.dropped_whole(), EVENTS, "{figures:?}");
}

#[test]
fn rules_and_levels_change_under_load_and_nothing_is_lost() {
    const EVENTS: u64 = 60_000;
    let setup = setup();
    let sink = Sink::seqpacket(&setup.folder().join("out"));
    let wiring = |rules: &str, batch: u32| {
        format!(
            "tempos.qos \"strict\" {{ batch = {batch}, queue = {{ full = \"block\" }} }}\n\
             tempos.qos \"burst\" {{ rank = 100, queue = {{ full = \"block\" }} }}\n\
             tempos.qos \"best-effort\" {{ queue = {{ full = \"block\" }} }}\n\
             tempos.topic \"line\" {{ rules = {{ {rules} }}, ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, "in", ", type = \"seqpacket\", qos_max = \"strict\""),
            unix(&setup, "out", ", type = \"seqpacket\""),
        )
    };
    let rule = |qos: &str| format!("{{ match = {{ [\"peer.pid\"] = {{ min = 1 }} }}, qos = \"{qos}\" }}");
    let texts =
        [wiring("", 1), wiring(&rule("strict"), 1), wiring(&rule("burst"), 8), wiring(&rule("strict"), 32)];
    let node = setup.wiring(&texts[0]).start();
    let mut producer = Producer::seqpacket(1, &node.folder().join("in"));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| producer.send_windowed(EVENTS, 64, || sink.received()));
        let mut at = 0;
        while !sending.is_finished() {
            at += 1;
            node.apply(&texts[at % texts.len()]).expect("sound");
        }
        assert!(at >= texts.len(), "it changed only {at} times");
    });
    let ledger = sink.wait_for(EVENTS);
    // An event may overtake one that was given another level before it.
    let track = ledger.track(1);
    assert_eq!((track.received, track.duplicates), (EVENTS, 0));
    let figures = node.wait_for_rest("line", EVENTS);
    assert!(figures.dropped.is_empty(), "{figures:?}");
}

#[test]
fn sixteen_levels_and_not_one_more() {
    let setup = setup();
    let mut lua = String::new();
    for number in 2..16 {
        lua += &format!(
            "tempos.qos \"level {number}\" {{ rank = {number}, queue = {{ bytes = \"256KiB\" }} }}\n"
        );
    }
    let node = setup.wiring(&lua).start();
    assert_eq!(node.ctl_json(["levels"]).as_array().map(Vec::len), Some(16));
    let said = node.apply(&format!("{lua}tempos.qos \"one more\" {{}}\n")).expect_err("seventeen");
    assert!(said.contains("at most 16 levels"), "{said}");
}

#[test]
fn a_rate_is_never_exceeded_and_a_rate_that_is_not_kept_is_told() {
    const EVENTS: u64 = 400;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"slow\" {{ rate = {{ min = 150, max = 200 }} }}\n\
         tempos.topic \"line\" {{ qos = \"slow\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    let begin = Instant::now();
    producer.flood(EVENTS);
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    // 400 events at 200 a second, of which two may go at once.
    assert!(begin.elapsed() >= Duration::from_millis(1980), "{:?}", begin.elapsed());
    assert_eq!(node.level("slow")["State"], "granted");
    sink.hold();
    producer.flood(600);
    let reason = eventually("the level to say that it is too slow", || {
        let level = node.level("slow");
        (level["State"] == "degraded").then(|| level["Reason"].to_string())
    });
    assert!(reason.contains("of the 150 that it is to"), "{reason}");
    sink.release();
    eventually("the level to be well again", || (node.level("slow")["State"] == "granted").then_some(()));
}

/// Takes so many milliseconds of CPU time for each event.
fn burn(folder: &std::path::Path, ms: u32) -> std::path::PathBuf {
    let body = format!(
        "struct timespec t; long long end;\n\
         clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);\n\
         end = t.tv_sec * 1000000000LL + t.tv_nsec + {ms} * 1000000LL;\n\
         do {{ clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); }} while (t.tv_sec * 1000000000LL + t.tv_nsec < end);\n\
         return 0;"
    );
    function(folder, &format!("burn{ms}"), &format!("#include <time.h>\n{body}"))
}

#[test]
fn a_level_keeps_its_share_of_a_cpu_that_a_strict_one_saturates() {
    let setup = setup();
    let (long, short) = (burn(setup.folder(), 20), burn(setup.folder(), 5));
    let workflow = |from: &str, file: &std::path::Path| {
        format!(
            "tempos.workflow \"burn {from}\" {{ from = \"{from}\", call = {{ method = \"dlf\", file = {:?} }} }}\n",
            file.display()
        )
    };
    let lua = format!(
        "tempos.qos \"strict\" {{ cpus = {{ 0 }} }}\n\
         tempos.qos \"best-effort\" {{ cpus = {{ 0 }}, share = 40 }}\n\
         tempos.topic \"strict\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"other\" {{ ingress = {{ {} }} }}\n{}{}",
        unix(&setup, "strict", ""),
        unix(&setup, "other", ""),
        workflow("strict", &long),
        workflow("other", &short),
    );
    let node = setup.wiring(&lua).start();
    if node.level("strict")["State"] != "granted" {
        // Without real-time scheduling nobody is starved.
        return;
    }
    let mut other = Producer::datagram(1, &node.folder().join("other"));
    other.flood(1000);
    // Four seconds of work at SCHED_FIFO for the only CPU of both.
    let mut strict = Producer::datagram(2, &node.folder().join("strict"));
    strict.flood(200);
    let cpu_ns = |level: &str| node.level(level)["CpuNs"].as_u64().expect("a count");
    let (begin, before, strict_before) = (Instant::now(), cpu_ns("best-effort"), cpu_ns("strict"));
    std::thread::sleep(Duration::from_secs(2));
    let (got, strict_got) = (cpu_ns("best-effort") - before, cpu_ns("strict") - strict_before);
    let elapsed = begin.elapsed().as_nanos() as u64;
    // What the system itself leaves to ordinary threads is a twentieth.
    assert!(got * 100 >= elapsed * 15, "{got} ns of {elapsed}, beside {strict_got}");
    assert!(strict_got > got / 4, "the strict level was starved: {strict_got} ns of {elapsed}, beside {got}");
}

#[test]
fn frames_that_may_linger_leave_together() {
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"bulk\" {{ batch = 8, linger = \"300ms\" }}\n\
         tempos.topic \"line\" {{ qos = \"bulk\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    let begin = Instant::now();
    producer.flood(3);
    sink.wait_for(3);
    assert!(
        begin.elapsed() >= Duration::from_millis(300),
        "three of eight did not wait: {:?}",
        begin.elapsed()
    );
    // A full batch waits for nothing: it comes although no more than eight are sent.
    producer.flood(8);
    sink.wait_for(11).assert_exact(1, 11);
    let figures = node.wait_for_rest("line", 11);
    assert!(figures.dropped.is_empty(), "{figures:?}");
}

#[test]
fn a_late_event_is_dropped_where_its_topic_says_so() {
    for (late, expected) in [("pass", 0), ("drop", 1)] {
        let setup = setup();
        let out = receiver(&setup, "out");
        let lua = format!(
            "tempos.topic \"line\" {{ qos = \"strict\", late = \"{late}\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, "in", ", format = \"event\""),
            unix(&setup, "out", ", format = \"event\""),
        );
        let node = setup.wiring(&lua).start();
        let input = sender(&node, "in");
        // Its source time is long past, and so is its deadline.
        let mut frame = event("line", 1, &[], b"late");
        frame[24..32].copy_from_slice(&1_000_000u64.to_le_bytes());
        input.send(&frame).expect("the node listens");
        input.send(&event("line", 2, &[], b"in time")).expect("the node listens");
        if late == "pass" {
            assert_eq!(payload(&receive(&out)), b"late");
        }
        assert_eq!(payload(&receive(&out)), b"in time");
        assert_eq!(node.wait_for_rest("line", 2).dropped_for("expired"), expected, "{late}");
        assert_eq!(counts(&topic(&node)["EventsDropped"]).len() as u64, expected);
    }
}
