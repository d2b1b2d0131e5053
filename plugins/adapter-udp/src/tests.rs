use std::net::UdpSocket;
use std::time::{Duration, Instant};

use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, Direction};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, OptionValue, Options, PluginError, QosGrant, QosLevel};

use crate::channel::{Udp, UdpChannel};

fn spec(direction: Direction, options: &[(&str, OptionValue)]) -> ChannelSpec {
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, value.clone()));
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 2048,
        batch_max: 16,
        options: table,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.into())
}

fn open(spec: &ChannelSpec) -> Result<UdpChannel, PluginError> {
    Udp.open(spec)
}

fn listener(options: &[(&str, OptionValue)]) -> (UdpChannel, ChannelSpec) {
    let mut all = vec![("bind", text("127.0.0.1:0"))];
    all.extend_from_slice(options);
    let spec = spec(Direction::INGRESS, &all);
    (open(&spec).expect("opens"), spec)
}

fn target(channel: &UdpChannel) -> String {
    channel.address().trim_start_matches("udp://").to_owned()
}

/// What arrives within some seconds, one `(frame, attributes, flags)` for each, in calls of `slots` slots.
fn receive(channel: &mut UdpChannel, want: usize, slots: usize) -> Vec<(Vec<u8>, Vec<u8>, u32)> {
    let mut buffers = vec![([0u8; 2048], [0u8; 64]); slots];
    let mut got = Vec::new();
    let until = Instant::now() + Duration::from_secs(10);
    while got.len() < want && Instant::now() < until {
        let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
        match channel.recv_batch(&mut slots) {
            Ok(n) => {
                got.extend(slots[..n].iter().map(|s| (s.frame().to_vec(), s.attributes().to_vec(), s.flags)))
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    got
}

/// A direction, options, and the sentence that refuses them.
type Case<'a> = (Direction, &'a [(&'a str, OptionValue)], &'a str);

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let cases: &[Case<'_>] = &[
        (Direction::INGRESS, &[], "udp channel \"x\": an ingress channel needs bind = \"ADDRESS:PORT\""),
        (Direction::EGRESS, &[], "udp channel \"x\": an egress channel needs to = \"ADDRESS:PORT\""),
        (
            Direction::INGRESS,
            &[("bind", text("localhost"))],
            "udp channel \"x\": bind = \"localhost\" is not an address and a port; write for example \
             \"127.0.0.1:5501\" or \"[::1]:5501\"",
        ),
        (
            Direction::INGRESS,
            &[("bind", text("127.0.0.1:0")), ("to", text("127.0.0.1:1"))],
            "udp channel \"x\": to is for egress channels only; leave it out",
        ),
        (
            Direction::EGRESS,
            &[("to", text("127.0.0.1:0"))],
            "udp channel \"x\": nothing can be sent to port 0 (to = \"127.0.0.1:0\"); write 1 to 65535",
        ),
        (
            Direction::EGRESS,
            &[("to", text("127.0.0.1:9")), ("from", text("[::1]:0"))],
            "udp channel \"x\": from = \"[::1]:0\" and to = \"127.0.0.1:9\" must be both IPv4 or both IPv6",
        ),
        (
            Direction::INGRESS,
            &[("bind", text("127.0.0.1:0")), ("receive_buffer", OptionValue::Integer(1))],
            "udp channel \"x\": receive_buffer = 1 bytes is not within 4KiB to 1GiB",
        ),
        (
            Direction::INGRESS,
            &[("bind", text("127.0.0.1:0")), ("multicast", text("10.0.0.1"))],
            "udp channel \"x\": multicast = \"10.0.0.1\" is not a group that \"127.0.0.1:0\" can join; write one \
             of 224.0.0.0 to 239.255.255.255",
        ),
        (
            Direction::INGRESS,
            &[("bind", text("127.0.0.1:0")), ("interface", text("nowhere0"))],
            "udp channel \"x\": interface = \"nowhere0\" is not a network interface of this machine; `ip link` \
             lists them",
        ),
    ];
    for (direction, options, sentence) in cases {
        let error = open(&spec(*direction, options)).map(|_| ()).expect_err(sentence);
        assert_eq!(error.message.as_str(), *sentence);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (first, _) = listener(&[]);
    let error = open(&spec(Direction::INGRESS, &[("bind", text(&target(&first)))])).map(|_| ());
    let sentence = error.expect_err("taken").message.into_string();
    let expected = format!("udp channel \"x\": cannot listen on {}: Address already in use", target(&first));
    assert!(sentence.starts_with(&expected), "{sentence}");
}

#[test]
fn frames_go_from_channel_to_channel_in_order_also_empty_ones() {
    for slots in [1, 16] {
        let (mut ingress, _) = listener(&[]);
        let mut egress = open(&spec(Direction::EGRESS, &[("to", text(&target(&ingress)))])).expect("opens");
        let payloads: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n)]).collect();
        let mut frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(p, QosLevel::STRICT)).collect();
        frames[5].head = b"head "[..].into();
        assert_eq!(egress.send_batch(&frames[..1]).expect("sends"), 1);
        assert_eq!(egress.send_batch(&frames[1..5]).expect("sends"), 4);
        assert_eq!(egress.send_batch(&frames[5..6]).expect("sends"), 1);
        assert_eq!(egress.send_batch(&frames[6..]).expect("sends"), 34);
        let got = receive(&mut ingress, 40, slots);
        let expected: Vec<Vec<u8>> = payloads
            .iter()
            .enumerate()
            .map(|(n, p)| if n == 5 { [b"head ", &p[..]].concat() } else { p.clone() })
            .collect();
        assert_eq!(got.iter().map(|g| g.0.clone()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_frame_says_where_it_came_from_and_whether_it_was_cut() {
    let (mut ingress, _) = listener(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.send_to(&[7; 3000], target(&ingress)).expect("sends");
    let got = receive(&mut ingress, 1, 1);
    let [(frame, attributes, flags)] = &got[..] else { panic!("one frame, not {}", got.len()) };
    assert_eq!((frame.len(), flags & RxSlot::TRUNCATED), (2048, RxSlot::TRUNCATED));
    let port = socket.local_addr().expect("bound").port().to_be_bytes();
    let expected = [127, 0, 0, 1, port[0], port[1]];
    assert_eq!(Attributes::new(attributes).get("peer.address"), Some(AttributeValue::Address(&expected)));
}

#[test]
fn the_kernels_receive_time_is_the_source_time_where_wanted() {
    let (mut ingress, _) = listener(&[("timestamps", OptionValue::Flag(true))]);
    let before =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.send_to(b"now", target(&ingress)).expect("sends");
    let (mut frame, mut notes) = ([0; 16], [0; 64]);
    let mut slots = [RxSlot::new(&mut frame, &mut notes)];
    while ingress.recv_batch(&mut slots).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(u128::from(slots[0].source_time_ns) >= before, "{} is before {before}", slots[0].source_time_ns);
}

#[test]
fn every_datagram_that_the_kernel_drops_is_counted() {
    let (mut ingress, spec) = listener(&[("receive_buffer", OptionValue::Integer(4096))]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for _ in 0..200 {
        socket.send_to(&[1; 1000], target(&ingress)).expect("sends");
    }
    let mut received = 0;
    let (mut frame, mut notes) = ([0; 2048], [0; 64]);
    while let Ok(n) = ingress.recv_batch(&mut [RxSlot::new(&mut frame, &mut notes)]) {
        received += n as u64;
    }
    assert!(received < 200, "the buffer held everything: nothing was shown");
    assert_eq!(received + spec.counters.kernel_dropped.get(), 200);
}

#[test]
fn drops_are_counted_although_nobody_asks_again_after_the_last_datagram() {
    for (buffer, length) in [(4096, 1), (16_384, 1), (65_536, 100), (65_536, 1100), (262_144, 4200)] {
        let (mut ingress, spec) = listener(&[("receive_buffer", OptionValue::Integer(buffer))]);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        for _ in 0..2000 {
            socket.send_to(&[1; 5000][..length], target(&ingress)).expect("sends");
        }
        let (mut frame, mut notes) = ([0; 8192], [0; 64]);
        let mut received = 0;
        // As a lane does that is told by epoll: it does not receive where nothing waits.
        while waits(&ingress) {
            received += ingress.recv_batch(&mut [RxSlot::new(&mut frame, &mut notes)]).expect("waits") as u64;
        }
        assert!(received < 2000, "the buffer held everything: nothing was shown");
        assert_eq!(received + spec.counters.kernel_dropped.get(), 2000, "{buffer} bytes, {length} each");
    }
}

fn waits(channel: &UdpChannel) -> bool {
    let mut polled = libc::pollfd { fd: channel.readiness(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live structure.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
}

#[test]
fn a_receiver_that_is_not_there_costs_counted_frames_and_nothing_else() {
    let gone = UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let spec = spec(Direction::EGRESS, &[("to", text(&gone.to_string()))]);
    let mut egress = open(&spec).expect("opens");
    for _ in 0..20 {
        assert_eq!(egress.send_batch(&[TxFrame::payload(b"lost", QosLevel::STRICT)]).expect("goes on"), 1);
    }
    assert!(spec.counters.send_errors.get() >= 19, "{} were counted", spec.counters.send_errors.get());
    let back = UdpSocket::bind(gone).expect("binds");
    back.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    egress.send_batch(&[TxFrame::payload(b"there", QosLevel::STRICT)]).expect("sends");
    let mut buffer = [0; 16];
    assert_eq!(back.recv(&mut buffer).expect("arrives"), 5);
}

#[test]
fn a_frame_that_no_datagram_holds_is_given_up_alone() {
    let (mut ingress, _) = listener(&[]);
    let spec = spec(Direction::EGRESS, &[("to", text(&target(&ingress)))]);
    let mut egress = open(&spec).expect("opens");
    let (small, large) = ([1u8; 10], [2u8; 70_000]);
    let frames = [&small[..], &large, &small].map(|payload| TxFrame::payload(payload, QosLevel::STRICT));
    assert_eq!(egress.send_batch(&frames).expect("goes on"), 3);
    assert_eq!(egress.send_batch(&frames[1..]).expect_err("too large").raw_os_error(), Some(libc::EMSGSIZE));
    // The second time it was the first frame of the call: that one is the host's to count.
    assert_eq!(spec.counters.send_errors.get(), 1);
    assert_eq!(receive(&mut ingress, 2, 4).len(), 2);
}

#[test]
fn a_successor_takes_over_the_socket_with_what_is_waiting() {
    let (mut first, mut spec) = listener(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.send_to(b"one", target(&first)).expect("sends");
    spec.inherited_descriptor = first.take_over();
    let mut second = open(&spec).expect("opens");
    assert_eq!(second.address(), first.address());
    first.close(0);
    drop(first);
    assert_eq!(receive(&mut second, 1, 1)[0].0, b"one");
    // Another address: the descriptor is of no use, and is closed.
    let mut other = self::spec(Direction::INGRESS, &[("bind", text("127.0.0.2:0"))]);
    other.inherited_descriptor = second.take_over();
    let place = format!("/proc/self/fd/{}", other.inherited_descriptor);
    let socket = std::fs::read_link(&place).expect("open");
    let third = open(&other).expect("opens");
    assert!(third.address().starts_with("udp://127.0.0.2:"), "{}", third.address());
    assert_ne!(std::fs::read_link(&place).ok(), Some(socket), "the descriptor was left open");
}

#[test]
fn marks_are_set_on_the_socket_and_granted_as_prioritised() {
    let (ingress, _) = listener(&[]);
    let mut egress = open(&spec(Direction::EGRESS, &[("to", text(&target(&ingress)))])).expect("opens");
    let unmarked = LaneQos::unmarked(QosLevel::STRICT);
    assert_eq!(egress.set_qos(&unmarked).expect("answers").grade, QosGrant::SHARED);
    let grant = egress.set_qos(&LaneQos { dscp: 46, socket_priority: 6, ..unmarked }).expect("answers");
    assert_eq!(
        (grant.grade, grant.reason.as_str()),
        (QosGrant::PRIORITISED, "DSCP 46 (Wi-Fi: voice), SO_PRIORITY 6")
    );
    let (mut value, mut length) = (0i32, 4u32);
    for (level, option, expected) in
        [(libc::IPPROTO_IP, libc::IP_TOS, 46 << 2), (libc::SOL_SOCKET, libc::SO_PRIORITY, 6)]
    {
        // SAFETY: value and length are live and belong together.
        let done = unsafe {
            libc::getsockopt(egress.readiness(), level, option, (&raw mut value).cast(), &raw mut length)
        };
        assert_eq!((done, value), (0, expected));
    }
}

#[test]
fn frames_of_any_lengths_come_out_as_they_went_in() {
    for bundles in [false, true] {
        let (mut ingress, _) = listener(&[("bundles", OptionValue::Flag(bundles))]);
        let mut spec = spec(Direction::EGRESS, &[("to", text(&target(&ingress)))]);
        spec.batch_max = 64;
        pass_all_lengths(&mut ingress, &mut open(&spec).expect("opens"));
    }
}

fn pass_all_lengths(ingress: &mut UdpChannel, out: &mut UdpChannel) {
    // Runs of equal lengths go as one bundle; a shorter one may end it, an empty one or a longer one does not.
    for lengths in [
        &[256; 64][..],
        &[256, 256, 100],
        &[256, 256, 0, 256],
        &[100, 256, 256],
        &[1, 1, 1, 2],
        &[0, 0, 0],
        &[1400; 64],
        &[2048; 40],
    ] {
        let payloads: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(at, length)| vec![at as u8; *length]).collect();
        let frames: Vec<TxFrame<'_>> =
            payloads.iter().map(|payload| TxFrame::payload(payload, QosLevel::STRICT)).collect();
        let mut sent = 0;
        while sent < frames.len() {
            sent += out.send_batch(&frames[sent..]).expect("sent");
        }
        let came: Vec<Vec<u8>> =
            receive(ingress, payloads.len(), 16).into_iter().map(|(frame, ..)| frame).collect();
        assert!(came == payloads, "{lengths:?}: {:?}", came.iter().map(Vec::len).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_read_and_not_taken_yet_is_ready() {
    let (mut ingress, _) = listener(&[("bundles", OptionValue::Flag(true))]);
    let mut spec = spec(Direction::EGRESS, &[("to", text(&target(&ingress)))]);
    spec.batch_max = 64;
    let mut out = open(&spec).expect("opens");
    let frames = [TxFrame::payload(b"eight of", QosLevel::STRICT); 8];
    assert_eq!(out.send_batch(&frames).expect("sent"), 8);
    let is_ready = |channel: &UdpChannel| {
        let mut entry = libc::pollfd { fd: channel.readiness(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry.
        unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
    };
    for left in (0..8).rev() {
        assert!(is_ready(&ingress), "{left} are left");
        assert_eq!(receive(&mut ingress, 1, 1).len(), 1);
    }
    assert!(!is_ready(&ingress));
}
