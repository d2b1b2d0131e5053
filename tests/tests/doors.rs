//! The doors of a node: garbage and sizes at its sockets, drains, events published and subscribed to by
//! hand. Whatever comes, the strict flow beside it stays whole.

mod road;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::envelope::Envelope;
use tempos_tests::{Child, Node, NodeSetup, Producer, Sink, built, eventually};

use road::{event, receive, receiver, setup, unix};

/// Numbers that look random and are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Garbage: noise, or an event that was cut, lengthened or changed in a few bytes.
    fn garbage(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = match self.below(4) {
            0 => (0..1 + self.below(300)).map(|_| self.next() as u8).collect(),
            1 => whole[..1 + self.below(whole.len() - 1)].to_vec(),
            2 => [whole, &vec![self.next() as u8; self.below(100)]].concat(),
            _ => whole.to_vec(),
        };
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            bytes[at] = self.next() as u8;
        }
        bytes
    }
}

/// A strict flow beside whatever a test does: from a UDP socket to a unix socket.
struct Flow {
    producer: Producer,
    sink: Sink,
}

impl Flow {
    const TOPIC: &str = "press";

    fn lua(setup: &NodeSetup) -> String {
        format!(
            "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {} }} }}\n",
            unix(setup, "press.out", "")
        )
    }

    fn bind(setup: &NodeSetup) -> impl FnOnce(&Node) -> Flow + use<> {
        let sink = Sink::datagram(&setup.folder().join("press.out"));
        |node| Flow { producer: Producer::udp(1, node.udp_address("press/in/1")), sink }
    }

    /// Lets it flow while `work` is done, and checks that every event came through.
    fn beside(&mut self, node: &Node, work: impl FnOnce()) {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            scope.spawn(|| self.producer.send_at_rate(1000, || stop.load(Ordering::Acquire)));
            eventually("the flow", || (self.sink.received() > 50).then_some(()));
            work();
            drop(stopping);
        });
        let sent = self.producer.sent();
        self.sink.wait_for(sent).assert_exact(1, sent);
        let figures = node.wait_for_rest(Flow::TOPIC, sent);
        assert_eq!((figures.events_out, figures.dropped_whole()), (sent, 0), "{figures:?}");
    }
}

#[test]
fn garbage_on_every_socket_is_accounted_for_and_harms_nobody() {
    const EACH: u64 = 30_000;
    let setup = setup();
    let flow = Flow::bind(&setup);
    let sockets = [
        ("udp raw", "tempos.udp { bind = \"127.0.0.1:0\" }".to_owned()),
        ("udp event", "tempos.udp { bind = \"127.0.0.1:0\", format = \"event\" }".to_owned()),
        ("unix event", unix(&setup, "event.in", ", format = \"event\"")),
        ("unix connected", unix(&setup, "connected.in", ", format = \"event\", type = \"seqpacket\"")),
        ("strict event", unix(&setup, "strict.in", ", format = \"event\", qos = \"strict\"")),
    ];
    let topics: String = sockets
        .iter()
        .map(|(name, channel)| format!("tempos.topic \"{name}\" {{ ingress = {{ {channel} }} }}\n"))
        .collect();
    let lua = Flow::lua(&setup) + &topics;
    let mut node = setup.wiring(&lua).start();
    let mut flow = flow(&node);
    let in_folder = |name: &str| node.folder().join(name);
    let producers = [
        Producer::udp(2, node.udp_address("udp raw/in/1")),
        Producer::udp(3, node.udp_address("udp event/in/1")),
        Producer::datagram(4, &in_folder("event.in")),
        Producer::seqpacket(5, &in_folder("connected.in")),
        Producer::datagram(6, &in_folder("strict.in")),
    ];
    let whole = event("udp event", 1, &[("camera", AttributeValue::Signed(1))], b"a payload of some length");
    flow.beside(&node, || {
        let mut random = Random(2026);
        for _ in 0..EACH {
            for producer in &producers {
                producer.socket().send(&random.garbage(&whole)).expect("the node listens");
            }
        }
        for (name, _) in &sockets {
            let kernel = || node.channel_count(&format!("{name}/in/1"), "KernelDropped");
            let figures = eventually(&format!("{EACH} frames at {name}"), || {
                let figures = node.topic(name);
                (figures.events_in + kernel() == EACH && figures.queued == 0).then_some(figures)
            });
            // Nobody subscribes: whatever was an event all the same was dropped as that.
            assert_eq!(figures.events_in, figures.dropped_whole(), "{name}: {figures:?}");
            if *name == "udp raw" {
                assert_eq!(figures.dropped.keys().collect::<Vec<_>>(), ["no-subscriber"]);
            } else {
                assert!(figures.dropped_for("malformed") > 0, "{name}: {figures:?}");
            }
        }
    });
    assert!(node.daemon().runs());
}

#[test]
fn frames_made_to_crash_a_parser_are_counted_and_the_next_event_comes_through() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", egress = {{ {} }},\n\
         ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\", format = \"event\" }}, {}, {} }} }}\n",
        unix(&setup, "out", ""),
        unix(&setup, "in", ", format = \"event\""),
        unix(&setup, "in.connected", ", format = \"event\", type = \"seqpacket\""),
    );
    let node = setup.wiring(&lua).start();
    let whole = event("press", 5, &[("a", AttributeValue::Text("b"))], b"payload");
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = whole.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut huge = vec![0xff; 65_507];
    huge[..2].copy_from_slice(b"TE");
    let malformed = [
        with(4, &[0xff, 0xff]),
        with(6, &[0xff, 0xff]),
        with(4, &[0xff, 0xff, 0xff, 0xff]),
        with(4, &[200, 0]),
        with(40, &[0xc0, 0xaf]),
        with(40, b"pr\0"),
        with(2, &[2]),
        with(2, &[255]),
        with(0, b"et"),
        with(45, &[255]),
        with(46, &[9]),
        with(47, &[255, 255]),
        whole[..40].to_vec(),
        whole[..39].to_vec(),
        whole[..44].to_vec(),
        vec![b'T'],
        b"TE".to_vec(),
        vec![0; 40],
        vec![0xff; 65_507],
        huge,
    ];
    let senders = [
        Producer::udp(1, node.udp_address("press/in/1")),
        Producer::datagram(2, &node.folder().join("in")),
        Producer::seqpacket(3, &node.folder().join("in.connected")),
    ];
    let mut sent = 0;
    for sender in &senders {
        let send = |frame: &[u8]| sender.socket().send(frame).expect("the node listens");
        for (number, frame) in malformed.iter().enumerate() {
            send(frame);
            send(&event("press", 6, &[], format!("after {number}").as_bytes()));
            assert_eq!(receive(&out), format!("after {number}").as_bytes());
            sent += 2;
        }
    }
    // An empty datagram is a frame, too.
    for sender in &senders[..2] {
        sender.socket().send(b"").expect("the node listens");
        sent += 1;
    }
    let figures = node.wait_for_rest("press", sent);
    assert_eq!(figures.dropped_for("malformed"), 3 * malformed.len() as u64 + 2, "{figures:?}");
    assert_eq!(figures.dropped_whole(), figures.dropped_for("malformed"), "{figures:?}");
}

#[test]
fn an_event_may_be_as_large_as_its_level_says_and_no_larger() {
    const MOST: usize = 2048;
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.qos \"strict\" {{ event_max = \"2KiB\" }}\n\
         tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {}, tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", format = \"event\""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let unix = Producer::datagram(1, &node.folder().join("in"));
    let udp = Producer::udp(2, node.udp_address("press/in/2"));
    let byte = |at: usize| (at % 251) as u8;
    let payload = |len: usize| (0..len).map(byte).collect::<Vec<u8>>();
    for len in [0, 1, MOST - 1, MOST] {
        unix.socket().send(&event("press", 1, &[], &payload(len))).expect("the node listens");
        assert_eq!(receive(&out), payload(len), "{len} bytes");
    }
    // One byte more; the attributes of an event count with it; and datagrams that are larger by far.
    unix.socket().send(&event("press", 1, &[], &payload(MOST + 1))).expect("the node listens");
    let attribute = [("a", AttributeValue::Bytes(b""))];
    unix.socket().send(&event("press", 1, &attribute, &payload(MOST - 4))).expect("the node listens");
    for len in [MOST + 1, 20_000, 65_507] {
        udp.socket().send(&payload(len)).expect("the node listens");
    }
    let figures = node.wait_for_rest("press", 9);
    assert_eq!(figures.dropped_for("too-large"), 5, "{figures:?}");
    unix.socket().send(&event("press", 1, &attribute, &payload(MOST - 5))).expect("the node listens");
    assert_eq!(receive(&out), payload(MOST - 5));
    // The same by hand: as large as allowed, and one byte more.
    let file = node.write_script("payload", &"x".repeat(MOST));
    let publish = || node.ctl(["pub", "press", &format!("@{}", file.display())]);
    assert!(publish().status.success());
    assert_eq!(receive(&out), vec![b'x'; MOST]);
    fs::write(&file, vec![b'x'; MOST + 1]).expect("written");
    let refused = publish();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("2049") && said.contains("2048"), "{said}");
}

#[test]
fn topic_names_have_1_to_255_bytes_of_any_script() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let out = receiver(&setup, "out");
    let lua = |name: &str| {
        format!(
            "tempos.topic {name:?} {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, "in", ", format = \"event\", name = \"in\""),
            unix(&setup, "out", ", format = \"event\", name = \"out\""),
        )
    };
    let longest = format!("{}x", "ü".repeat(127));
    let good = ["x", &longest, &"y".repeat(255), "пресс/вибрация", "压力机/振动", "🦀", "a b", "<&>'%s"];
    let good: Vec<(String, String)> = good.map(|name| (name.to_owned(), lua(name))).to_vec();
    let bad =
        ["".to_owned(), "y".repeat(256), format!("{longest}x"), "a\nb".into(), "a/".into(), " a".into()];
    let bad: Vec<(String, String)> = bad.map(|name| (name.clone(), lua(&name))).to_vec();
    let node = setup.wiring("").start();
    for (name, lua) in &good {
        node.apply(lua).unwrap_or_else(|said| panic!("{name:?}: {said}"));
        let producer = Producer::datagram(1, &node.folder().join("in"));
        producer.socket().send(&event(name, 7, &[], b"payload")).expect("the node listens");
        let frame = receive(&out);
        assert_eq!(Envelope::decode(&frame).map(|envelope| envelope.topic), Ok(name.as_str()));
        let output = node.ctl(["pub", name, "by hand"]);
        assert!(output.status.success(), "{name:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(receive(&out).ends_with(b"by hand"));
        assert_eq!(node.wait_for_rest(name, 2).events_out, 2);
    }
    for (name, lua) in &bad {
        let said = node.apply(lua).expect_err(name);
        assert!(said.contains("name"), "{name:?}: {said}");
    }
    // A name that is refused is none of an event either.
    let last = &good.last().expect("some").0;
    let producer = Producer::datagram(1, &node.folder().join("in"));
    let mut frame = event(&"y".repeat(255), 7, &[], b"payload");
    frame[4..6].copy_from_slice(&256u16.to_le_bytes());
    producer.socket().send(&frame).expect("the node listens");
    assert_eq!(node.wait_for_rest(last, 3).dropped_for("malformed"), 1);
}

/// A node that holds events for a consumer which does not take them.
fn laden(drain_timeout: &str, events: u64) -> (Node, Producer, Sink) {
    let setup = setup().node_file(&format!("[node]\ndrain_timeout = \"{drain_timeout}\""));
    let flow = Flow::bind(&setup);
    let lua = Flow::lua(&setup);
    let node = setup.wiring(&lua).start();
    let Flow { mut producer, sink } = flow(&node);
    sink.hold();
    producer.flood(events);
    eventually("all events in the node", || (node.topic("press").events_in == events).then_some(()));
    assert!(node.topic("press").queued > 0, "nothing is queued");
    (node, producer, sink)
}

/// The four counts of a drain's report: in, out, dropped, left.
fn drain_counts(report: &str) -> [u64; 4] {
    let numbers: Vec<u64> = report
        .split_once(" ms: ")
        .map_or("", |(_, counts)| counts)
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    numbers.first_chunk().copied().unwrap_or_else(|| panic!("no counts in {report:?}"))
}

#[test]
fn a_drain_finishes_what_is_queued_and_reports_the_counts() {
    const EVENTS: u64 = 500;
    let (mut node, producer, sink) = laden("10s", EVENTS);
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| node.ctl(["drain", "--limit", "25s"]));
        let state = || node.property("/org/tempos/Host1", "Node", "State");
        eventually("the drain", || (state() == "draining").then_some(()));
        sink.release();
        let output = drain.join().expect("no panic");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(state(), "drained");
    });
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    let report = node.property("/org/tempos/Host1", "Node", "DrainReport");
    assert_eq!(drain_counts(report.as_str().unwrap_or_default()), [EVENTS, EVENTS, 0, 0], "{report}");
    // Nothing is taken in any more.
    let refused = node.ctl(["pub", "press", "too late"]);
    assert!(!refused.status.success());
    producer.socket().send(b"too late").expect("the socket is still there");
    assert_eq!(node.topic("press").events_in, EVENTS);
    assert_eq!(node.end(libc::SIGTERM).code(), Some(0));
}

#[test]
fn a_node_that_is_told_to_end_delivers_what_is_queued_first() {
    const EVENTS: u64 = 500;
    let (mut node, _producer, sink) = laden("1min", EVENTS);
    node.daemon().signal(libc::SIGTERM);
    node.wait_for_log("what is queued has");
    sink.release();
    assert_eq!(node.daemon().wait_for_end().code(), Some(0));
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    assert_eq!(drain_counts(&logged_report(&node)), [EVENTS, EVENTS, 0, 0]);
}

#[test]
fn a_consumer_that_is_stuck_holds_the_end_up_to_its_limit_and_what_is_left_is_reported() {
    const EVENTS: u64 = 500;
    let (mut node, _producer, sink) = laden("400ms", EVENTS);
    assert_eq!(node.end(libc::SIGTERM).code(), Some(0));
    let [came_in, out, dropped, left] = drain_counts(&logged_report(&node));
    assert_eq!((came_in, out + dropped + left), (EVENTS, EVENTS));
    assert!(left > 0, "{}", node.log());
    sink.release();
    let ledger = sink.wait_for(out);
    assert_eq!(ledger.received(), out, "what was counted as out lay in the consumer's socket");
}

fn logged_report(node: &Node) -> String {
    let log = node.log();
    let line = log.lines().find(|line| line.contains("drained in"));
    line.unwrap_or_else(|| panic!("no report in the log:\n{log}")).to_owned()
}

/// A running `temposctl sub --json`.
struct Subscriber {
    child: Child,
    path: std::path::PathBuf,
}

impl Subscriber {
    fn start(node: &Node, name: &str, topic: &str) -> Subscriber {
        let path = node.folder().join(name);
        let before = subscriptions(node).len();
        let mut command = Command::new(built::program("temposctl"));
        command
            .args(["--bus", &node.address(), "sub", topic, "--json"])
            .stdout(Stdio::from(fs::File::create(&path).expect("a file in the test's folder")));
        let child = Child::start("temposctl sub", &mut command);
        eventually("the subscription", || (subscriptions(node).len() > before).then_some(()));
        Subscriber { child, path }
    }

    /// What it has printed so far.
    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} events printed"), || {
            Some(self.events()).filter(|events| events.len() >= count)
        })
    }
}

/// The names of the subscriptions that are open.
fn subscriptions(node: &Node) -> Vec<String> {
    let channels = node.ctl_json(["channels"]);
    let names = channels.as_array().into_iter().flatten().filter_map(|channel| channel["name"].as_str());
    names.filter(|name| name.starts_with("subscription")).map(str::to_owned).collect()
}

#[test]
fn an_event_published_by_hand_arrives_with_its_attributes_and_is_printed_by_subscribers() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", egress = {{ {} }} }}\n",
        unix(&setup, "out", ", format = \"event\"")
    );
    let node = setup.wiring(&lua).start();
    let subscriber = Subscriber::start(&node, "sub", "press");
    let published = node.ctl_json([
        "pub",
        "press",
        "grüße",
        "--attribute",
        "camera=2",
        "-a",
        "place=hall 4",
        "-a",
        "new=true",
    ]);
    let id = published["event_id"].as_u64().expect("an id");
    let frame = receive(&out);
    let arrived = Envelope::decode(&frame).expect("an event");
    assert_eq!((arrived.event_id, arrived.topic, arrived.payload), (id, "press", "grüße".as_bytes()));
    let attributes = Attributes::new(arrived.attributes);
    assert_eq!(attributes.get("camera"), Some(AttributeValue::Signed(2)));
    assert_eq!(attributes.get("place"), Some(AttributeValue::Text("hall 4")));
    assert_eq!(attributes.get("new"), Some(AttributeValue::Unsigned(1)));
    let printed = &subscriber.wait_for(1)[0];
    assert_eq!((&printed["event_id"], &printed["payload"]), (&Value::from(id), &Value::from("grüße")));
    assert_eq!(printed["attributes"]["place"], "hall 4");
    assert_eq!(node.topic("press").events_out, 1);
}

#[test]
fn a_subscriber_that_dies_or_stops_costs_nobody_but_itself() {
    let setup = setup();
    let flow = Flow::bind(&setup);
    let lua = Flow::lua(&setup);
    let node = setup.wiring(&lua).start();
    let mut flow = flow(&node);
    let good = Subscriber::start(&node, "good", Flow::TOPIC);
    let mut dying = Subscriber::start(&node, "dying", Flow::TOPIC);
    let mut stopped = Subscriber::start(&node, "stopped", Flow::TOPIC);
    assert_eq!(subscriptions(&node).len(), 3);
    flow.beside(&node, || {
        dying.wait_for(20);
        dying.child.signal(libc::SIGKILL);
        dying.child.wait_for_end();
        eventually("the subscription to go", || (subscriptions(&node).len() == 2).then_some(()));
        stopped.wait_for(20);
        stopped.child.signal(libc::SIGSTOP);
        // It takes what its socket and its list hold, then loses copies.
        eventually("lost copies", || {
            (node.topic(Flow::TOPIC).dropped_for("copy-slow-consumer") > 0).then_some(())
        });
        let printed = good.events().len();
        good.wait_for(printed + 100);
        stopped.child.signal(libc::SIGCONT);
        let printed = stopped.events().len();
        stopped.wait_for(printed + 20);
        std::thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(subscriptions(&node).len(), 2);
}
