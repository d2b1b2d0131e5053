//! What leaves a node really carries its marks and takes its way: captured in a network of the test's own.

mod road;

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use tempos_tests::capture::{Capture, Known, dscp};
use tempos_tests::network::{in_a_network, ip, way_out};
use tempos_tests::{LIVENESS, Node, NodeSetup, Producer};

use road::unix;

/// A topic on a level, from a unix socket to one endpoint.
fn topic(setup: &NodeSetup, name: &str, level: &str, egress: &str) -> String {
    let ingress = unix(setup, name, "");
    format!(
        "tempos.topic {name:?} {{ qos = {level:?}, ingress = {{ {ingress} }}, egress = {{ {egress} }} }}\n"
    )
}

fn setup() -> NodeSetup {
    NodeSetup::new().plugins(["adapter-unix", "adapter-udp", "adapter-tcp", "queue-fifo"])
}

fn send(node: &Node, topic: &str, payload: &[u8]) {
    let producer = Producer::datagram(1, &node.folder().join(topic));
    producer.socket().send(payload).expect("the node listens");
}

/// What the only endpoint of a topic was granted, in the node's words.
fn granted(node: &Node, topic: &str) -> String {
    node.property(&format!("/org/tempos/Host1/channel/{topic}_2f1_2f1"), "Channel", "Reason").to_string()
}

fn holds(packet: &[u8], payload: &[u8]) -> bool {
    packet.windows(payload.len()).any(|window| window == payload)
}

#[test]
fn datagrams_carry_the_marks_of_their_level_or_of_their_endpoint() {
    in_a_network(|| {
        way_out("out0", "10.9.0.1/24", "10.9.0.2");
        let setup = setup();
        let wiring = [
            topic(&setup, "level", "strict", "tempos.udp { to = \"10.9.0.2:4001\" }"),
            topic(
                &setup,
                "own",
                "strict",
                "tempos.udp { to = \"10.9.0.2:4002\", dscp = 34, socket_priority = 3 }",
            ),
            topic(&setup, "wifi", "best-effort", "tempos.udp { to = \"10.9.0.2:4003\", wifi = \"voice\" }"),
            topic(&setup, "paced", "strict", "tempos.udp { to = \"10.9.0.2:4005\", pacing = \"1MiB\" }"),
            topic(&setup, "video", "strict", "tempos.udp { to = \"10.9.0.2:4004\", wifi = \"video\" }"),
        ];
        let node = setup.wiring(&wiring.concat()).start();
        // Priorities from 256 on name the user priority of 802.11.
        for (name, priority, mark) in
            [("level", 6, 46), ("own", 3, 34), ("wifi", 256 + 6, 46), ("video", 256 + 4, 34)]
        {
            let capture = Capture::start("out0", Known::Priority, priority);
            let payload = format!("an event of {name}");
            send(&node, name, payload.as_bytes());
            let packet = capture.wait_for(&payload, |packet| holds(packet, payload.as_bytes()));
            assert_eq!(dscp(&packet), mark, "{name}");
        }
        let told = granted(&node, "paced");
        let words = "SO_PRIORITY 6, pacing 1048576 bytes/s, nothing on out0 spaces datagrams: `tc qdisc replace dev out0 \
                     root fq` would";
        assert!(told.contains(words), "{told}");
    });
}

#[test]
fn connections_carry_them_too_from_their_first_packet() {
    for (own, protocol_at) in [("127.0.0.1:0", 9), ("[::1]:0", 6)] {
        connection(own, protocol_at);
    }
}

fn connection(own: &'static str, protocol_at: usize) {
    in_a_network(move || {
        let listener = TcpListener::bind(own).expect("listens");
        let to = listener.local_addr().expect("an address");
        let setup = setup();
        let egress = format!("tempos.tcp {{ to = \"{to}\", dscp = 26, socket_priority = 2, mark = 9 }}");
        let wiring = topic(&setup, "stream", "strict", &egress);
        let marked = Capture::start("lo", Known::Mark, 9);
        let capture = Capture::start("lo", Known::Priority, 2);
        let node = setup.wiring(&wiring).start();
        // The first packet asks for the connection: it has taken its way already.
        let packet = marked.wait_for("the mark 9", |_| true);
        assert_eq!(packet[protocol_at], libc::IPPROTO_TCP as u8);
        send(&node, "stream", b"an event of a stream");
        let packet = capture.wait_for("the event", |packet| holds(packet, b"an event of a stream"));
        assert_eq!(dscp(&packet), 26);
    });
}

#[test]
fn a_mark_or_a_device_picks_the_session_of_a_slice() {
    in_a_network(|| {
        way_out("slice1", "10.9.1.1/24", "10.9.9.2");
        way_out("slice2", "10.9.2.1/24", "10.9.9.2");
        ip("route add 10.9.9.0/24 dev slice1 metric 1");
        ip("route add 10.9.9.0/24 dev slice2 metric 2");
        ip("route add 10.9.9.0/24 dev slice2 table 100");
        ip("rule add fwmark 7 table 100");
        let setup = setup();
        let wiring = [
            topic(&setup, "plain", "strict", "tempos.udp { to = \"10.9.9.2:4001\" }"),
            topic(&setup, "marked", "strict", "tempos.udp { to = \"10.9.9.2:4002\", mark = 7 }"),
            topic(
                &setup,
                "bound",
                "strict",
                "tempos.udp { to = \"10.9.9.2:4003\", device = \"slice2\", busy_poll = \"50us\" }",
            ),
        ];
        let node = setup.wiring(&wiring.concat()).start();
        for (name, device, mark) in [("plain", "slice1", 0), ("marked", "slice2", 7), ("bound", "slice2", 0)]
        {
            let capture = Capture::start(device, Known::Mark, mark);
            let payload = format!("an event that is {name}");
            send(&node, name, payload.as_bytes());
            capture.wait_for(&payload, |packet| holds(packet, payload.as_bytes()));
        }
        for (name, words) in [("marked", ", mark 7"), ("bound", ", device slice2, busy poll 50 us")] {
            let told = granted(&node, name);
            assert!(told.contains(words), "{words:?} is not told: {told}");
        }
    });
}

#[test]
fn what_comes_in_by_one_device_alone_is_told() {
    in_a_network(|| {
        way_out("slice3", "10.9.3.1/24", "10.9.3.2");
        let setup = setup();
        let wiring: String = ["udp", "tcp"]
            .map(|adapter| {
                let ingress =
                    format!("tempos.{adapter} {{ bind = \"0.0.0.0:0\", device = \"slice3\", mark = 5 }}");
                let egress = unix(&setup, &format!("out-{adapter}"), "");
                format!("tempos.topic {adapter:?} {{ ingress = {{ {ingress} }}, egress = {{ {egress} }} }}\n")
            })
            .concat();
        let node = setup.wiring(&wiring).start();
        for adapter in ["udp", "tcp"] {
            let path = format!("/org/tempos/Host1/channel/{adapter}_2fin_2f1");
            let told = node.property(&path, "Channel", "Reason").to_string();
            assert!(told.contains("read by its own lane, device slice3, mark 5"), "{told}");
        }
    });
}

#[test]
fn a_paced_stream_takes_the_time_that_its_rate_needs() {
    in_a_network(|| {
        const BYTES: usize = 200 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let to = listener.local_addr().expect("an address");
        let setup = setup();
        let wiring =
            topic(&setup, "paced", "strict", &format!("tempos.tcp {{ to = \"{to}\", pacing = \"100KiB\" }}"));
        let node = setup.wiring(&wiring).start();
        let (mut stream, _) = listener.accept().expect("the node connects");
        stream.set_read_timeout(Some(LIVENESS)).expect("set");
        let reading = std::thread::spawn(move || {
            let (mut bytes, mut got, begun) = (vec![0; 16 << 10], 0, Instant::now());
            while got < BYTES {
                got += stream.read(&mut bytes).expect("more comes");
            }
            begun.elapsed()
        });
        let producer = Producer::datagram(1, &node.folder().join("paced"));
        for _ in 0..=BYTES / 1000 {
            producer.socket().send(&[7; 1000]).expect("the node listens");
        }
        let took = reading.join().expect("it is read");
        // 2 s at its rate; the kernel lets the first packets of a connection go at once.
        assert!(took > Duration::from_millis(1500), "200 KiB at 100 KiB/s came within {took:?}");
    });
}

#[test]
fn a_mistake_or_a_refusal_is_one_sentence() {
    in_a_network(|| {
        let to = "to = \"127.0.0.1:4001\"";
        let setup = setup();
        let (ingress, script) = (unix(&setup, "in", ""), setup.folder().join("mistake.lua"));
        let node = setup.start();
        for (options, sentence) in [
            ("dscp = 64", "dscp = 64 is not within 0 to 63"),
            ("socket_priority = 16", "socket_priority = 16 is not within 0 to 15"),
            ("wifi = \"voise\"", "option \"wifi\": \"voise\" is not"),
            (
                "wifi = \"voice\", dscp = 8",
                "dscp = 8 is served as background on Wi-Fi (RFC 8325), not as voice",
            ),
            ("mark = 0", "mark = 0 is not within 1 to 4294967295"),
            ("pacing = \"1B\"", "pacing = 1 bytes a second is not within 1KiB to 1TiB"),
            ("busy_poll = \"1s\"", "busy_poll = 1000000000 ns is not within 1us to 10ms"),
            ("device = \"no such thing\"", "is no name of a network interface"),
            ("device = \"nowhere0\"", "device = \"nowhere0\" is not a network interface of this machine now"),
        ] {
            for adapter in ["udp", "tcp"] {
                let egress = format!("tempos.{adapter} {{ {to}, {options} }}");
                let lua =
                    format!("tempos.topic \"t\" {{ ingress = {{ {ingress} }}, egress = {{ {egress} }} }}\n");
                std::fs::write(&script, lua).expect("written");
                let output = node.ctl(["apply", script.to_str().expect("a path")]);
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(!output.status.success(), "{egress} was taken");
                let lines: Vec<_> = told.lines().filter(|line| line.contains("1/1")).collect();
                assert!(
                    lines.len() == 1 && lines[0].contains(sentence),
                    "{egress}: {sentence:?} is not {told:?}"
                );
            }
        }
    });
}

/// Starts the node without the capabilities that marks need.
fn start_without_rights(setup: NodeSetup) -> Node {
    const DROPPED: [libc::c_ulong; 2] = [12, 13];
    let mut command = setup.command();
    // SAFETY: prctl(2) alone, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for capability in DROPPED {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    setup.start_as(command)
}

#[test]
fn without_the_right_to_it_an_option_is_refused_and_a_category_is_as_the_driver_maps_it() {
    in_a_network(|| {
        way_out("out0", "10.9.0.1/24", "10.9.0.2");
        let refused = setup();
        let wiring = topic(&refused, "t", "strict", "tempos.udp { to = \"10.9.0.2:4001\", mark = 7 }");
        let node = start_without_rights(refused.wiring(&wiring));
        node.wait_for_log("mark = 7 was refused");
        node.wait_for_log("it needs CAP_NET_ADMIN or CAP_NET_RAW");
        drop(node);
        let mapped = setup();
        let wiring = topic(&mapped, "t", "strict", "tempos.udp { to = \"10.9.0.2:4001\", wifi = \"voice\" }");
        let node = start_without_rights(mapped.wiring(&wiring));
        let told = granted(&node, "t");
        assert!(told.contains("as its driver maps the DSCP"), "{told}");
        let capture = Capture::start("out0", Known::Priority, 6);
        send(&node, "t", b"an event by Wi-Fi");
        let packet = capture.wait_for("the event", |packet| holds(packet, b"an event by Wi-Fi"));
        assert_eq!(dscp(&packet), 46);
    });
}
