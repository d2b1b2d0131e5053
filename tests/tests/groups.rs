//! Subscription groups: members that refuse, stall, die and come back, while the others carry on; and
//! replies that find their way to whoever asked.

mod road;

use std::net::UdpSocket;
use std::time::Duration;

use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::envelope::Envelope;
use tempos_tests::function::{ECHO, function};
use tempos_tests::{Node, Producer, Sink, eventually};

use road::{event, receive, receiver, setup, unix};

fn rerouted(node: &Node, topic: &str) -> u64 {
    let topics = node.ctl_json(["topics"]);
    let found = topics.as_array().and_then(|all| all.iter().find(|t| t["name"] == topic).cloned());
    found.expect("the topic")["EventsRerouted"].as_u64().expect("a count")
}

fn state(node: &Node, channel: &str) -> String {
    node.channel(channel)["State"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_member_that_stalls_is_out_and_the_others_get_what_waited_for_it() {
    const EVENTS: u64 = 3000;
    let setup = setup();
    let sinks = ["a", "b", "c"].map(|name| Sink::datagram(&setup.folder().join(name)));
    let members = ["a", "b", "c"].map(|name| unix(&setup, name, "")).join(", ");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
         egress = {{ tempos.group \"three\" {{ {members}, stall = \"200ms\" }} }} }}\n",
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    let received = || sinks.iter().map(Sink::received).sum::<u64>();
    producer.send_windowed(EVENTS, 32, received);
    sinks[1].hold();
    // Enough to fill its socket and its place in the node, then the stall passes.
    for _ in 0..20 {
        producer.flood(30);
        std::thread::sleep(Duration::from_millis(5));
    }
    eventually("the member to be out", || (state(&node, "press/three/2") == "out").then_some(()));
    let while_out = sinks[0].received();
    producer.flood(60);
    eventually("the others to go on", || (sinks[0].received() >= while_out + 20).then_some(()));
    sinks[1].release();
    eventually("the member to be back", || (state(&node, "press/three/2") == "started").then_some(()));
    let sent = producer.sent();
    let figures = node.wait_for_rest("press", sent);
    assert!(figures.dropped.is_empty(), "{figures:?}");
    eventually("every event at one of them", || (received() == sent).then_some(()));
    let mut seen = vec![false; sent as usize];
    for sink in &sinks {
        let track = sink.ledger().track(1);
        assert_eq!(track.duplicates, 0);
        for (number, seen) in seen.iter_mut().enumerate().filter(|(number, _)| track.has(*number as u64)) {
            assert!(!std::mem::replace(seen, true), "event {number} came to two members");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "an event came to no member");
    assert!(rerouted(&node, "press") > 0);
    // It takes its turns again.
    let before = sinks[1].received();
    producer.send_windowed(300, 32, received);
    eventually("its share", || (sinks[1].received() >= before + 90).then_some(()));
}

#[test]
fn a_member_that_is_gone_costs_no_event() {
    const EVENTS: u64 = 3000;
    for kind in ["datagram", "seqpacket"] {
        let setup = setup();
        let place = |name: &str| setup.folder().join(name);
        let bound = |name: &str| match kind {
            "datagram" => Sink::datagram(&place(name)),
            _ => Sink::seqpacket(&place(name)),
        };
        let (stays, goes) = (bound("a"), bound("b"));
        let more = format!(", type = \"{kind}\"");
        let lua = format!(
            "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }},\n\
             egress = {{ tempos.group \"two\" {{ {}, {} }} }} }}\n",
            unix(&setup, "in", ""),
            unix(&setup, "a", &more),
            unix(&setup, "b", &more),
        );
        let node = setup.wiring(&lua).start();
        let mut producer = Producer::datagram(1, &node.folder().join("in"));
        producer.send_windowed(EVENTS, 16, || stays.received() + goes.received());
        eventually("all of them", || (stays.received() + goes.received() == EVENTS).then_some(()));
        let got = goes.received();
        assert!(got > EVENTS / 3, "{kind}: it was to have its turns");
        drop(goes);
        producer.send_windowed(EVENTS, 16, || stays.received() + got);
        eventually("the rest at the other", || (stays.received() + got == 2 * EVENTS).then_some(()));
        let figures = node.wait_for_rest("press", 2 * EVENTS);
        assert!(figures.dropped.is_empty(), "{kind}: {figures:?}");
        assert_eq!(figures.events_out, 2 * EVENTS, "{kind}");
    }
}

#[test]
fn a_member_that_refuses_is_out_until_it_listens_again() {
    const EVENTS: u64 = 2000;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("a"));
    let gone = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = gone.local_addr().expect("bound");
    drop(gone);
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }},\n\
         egress = {{ tempos.group \"two\" {{ {}, tempos.udp {{ to = \"{address}\" }} }} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "a", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    producer.flood(EVENTS);
    eventually("the member to be out", || (state(&node, "press/two/2") == "out").then_some(()));
    let figures = node.wait_for_rest("press", EVENTS);
    assert_eq!(figures.events_out, EVENTS, "{figures:?}");
    // Of a datagram to nobody the node hears one datagram later: those few are lost, the others are not.
    let ledger = eventually("the others", || {
        let ledger = sink.ledger();
        (ledger.received() + 40 >= EVENTS).then_some(ledger)
    });
    assert_eq!(ledger.track(1).duplicates, 0);
    let back = UdpSocket::bind(address).expect("the port is free again");
    back.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    let mut came = 0;
    eventually("the member to get events again", || {
        producer.send();
        let mut frame = [0; 100];
        came += u64::from(back.recv(&mut frame).is_ok());
        (came >= 5 && state(&node, "press/two/2") == "started").then_some(())
    });
}

#[test]
fn a_group_whose_members_are_all_gone_keeps_its_events_for_the_first_that_is_back() {
    const EVENTS: u64 = 500;
    let setup = setup();
    let sinks = ["a", "b"].map(|name| Sink::datagram(&setup.folder().join(name)));
    let members = ["a", "b"].map(|name| unix(&setup, name, "")).join(", ");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }},\n\
         egress = {{ tempos.group \"two\" {{ {members}, stall = \"100ms\" }} }} }}\n",
        unix(&setup, "in", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    sinks.iter().for_each(Sink::hold);
    producer.flood(EVENTS);
    for channel in ["press/two/1", "press/two/2"] {
        eventually("both to be out", || (state(&node, channel) == "out").then_some(()));
    }
    sinks[0].release();
    let share = |sink: &Sink| sink.received();
    // What is in the other one's socket already is its own; all else comes here.
    eventually("the first to get what waits", || (share(&sinks[0]) + 300 >= EVENTS).then_some(()));
    sinks[1].release();
    let figures = node.wait_for_rest("press", EVENTS);
    assert!(figures.dropped.is_empty(), "{figures:?}");
    eventually("the whole", || (sinks.iter().map(share).sum::<u64>() == EVENTS).then_some(()));
}

#[test]
fn a_reply_goes_to_the_topic_that_the_event_names() {
    let setup = setup();
    let outs = ["answers/a", "answers/b", "rest"].map(|name| receiver(&setup, &name.replace('/', "-")));
    let echo = function(setup.folder(), "echo", ECHO);
    let lua = format!(
        "tempos.topic \"ask\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"answers/a\" {{ replies = true, egress = {{ {} }} }}\n\
         tempos.topic \"answers/b\" {{ replies = true, egress = {{ {} }} }}\n\
         tempos.topic \"rest\" {{ egress = {{ {} }} }}\n\
         tempos.workflow \"echo\" {{ from = \"ask\", to = \"rest\", reply = true,\n\
         call = {{ method = \"dlf\", file = {:?} }} }}\n",
        unix(&setup, "in", ", format = \"event\""),
        unix(&setup, "answers-a", ", format = \"event\""),
        unix(&setup, "answers-b", ", format = \"event\""),
        unix(&setup, "rest", ", format = \"event\""),
        echo.display(),
    );
    let node = setup.wiring(&lua).start();
    let input = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    input.connect(node.folder().join("in")).expect("the node listens");
    // A topic that takes no replies is not reached that way, nor one that is not there.
    for (at, (to, out)) in
        [("answers/a", 0), ("answers/b", 1), ("ask", 2), ("nowhere", 2)].into_iter().enumerate()
    {
        let attributes =
            [("reply-to", AttributeValue::Text(to)), ("correlation-id", AttributeValue::Unsigned(at as u64))];
        input.send(&event("ask", 1 + at as u64, &attributes, to.as_bytes())).expect("the node listens");
        let frame = receive(&outs[out]);
        let reply = Envelope::decode(&frame).expect("an event");
        assert_eq!(reply.payload, to.as_bytes());
        let attributes = Attributes::new(reply.attributes);
        assert_eq!(attributes.get("correlation-id"), Some(AttributeValue::Unsigned(at as u64)));
    }
}

#[test]
fn a_request_over_the_bus_waits_for_its_own_reply() {
    let setup = setup();
    let echo = function(setup.folder(), "echo", ECHO);
    let lua = format!(
        "tempos.topic \"ask\" {{ qos = \"strict\" }}\n\
         tempos.topic \"silent\" {{}}\n\
         tempos.topic \"answers\" {{ replies = true }}\n\
         tempos.workflow \"echo\" {{ from = \"ask\", reply = true, call = {{ method = \"dlf\", file = {:?} }} }}\n",
        echo.display(),
    );
    let node = setup.wiring(&lua).start();
    let ask = &|topic: &str, payload: &str, timeout: &str| {
        node.ctl(["pub", topic, payload, "--reply-to", "answers", "--timeout", timeout])
    };
    std::thread::scope(|scope| {
        // Several at once: each gets the answer to its own question.
        for number in 0..4 {
            scope.spawn(move || {
                let payload = format!("question {number}");
                let output = ask("ask", &payload, "20s");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert_eq!(output.stdout, payload.as_bytes());
            });
        }
    });
    let output = ask("silent", "is anybody there?", "300ms");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no reply came to \"answers\" within 300 ms"), "{said}");
}
