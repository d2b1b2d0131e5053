//! Real connections: frames, cuts, floods, slow senders and slow readers, senders that speak something else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, Direction};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::{RArc, RSlice};
use tempos_abi::{LaneQos, OptionValue, Options, QosLevel};

use crate::channel::{Tcp, TcpChannel};

/// How long what must happen may take; only what never happens costs this long.
const PATIENCE: Duration = Duration::from_secs(20);
const MS: i64 = 1_000_000;

fn spec(direction: Direction, key: &str, address: &str, numbers: &[(&str, i64)]) -> ChannelSpec {
    let mut options = Options::new();
    options.set(key, OptionValue::Text(address.into()));
    numbers.iter().for_each(|(key, number)| options.set(key, OptionValue::Integer(*number)));
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 2048,
        batch_max: 16,
        options,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn ingress(numbers: &[(&str, i64)]) -> ChannelSpec {
    spec(Direction::INGRESS, "bind", "127.0.0.1:0", numbers)
}

fn egress(to: SocketAddr, numbers: &[(&str, i64)]) -> ChannelSpec {
    spec(Direction::EGRESS, "to", &to.to_string(), numbers)
}

fn open(spec: &ChannelSpec) -> TcpChannel {
    Tcp.open(spec).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(spec: &ChannelSpec) -> String {
    Tcp.open(spec).map(|_| ()).expect_err("it opened").message.into_string()
}

fn address(channel: &TcpChannel) -> SocketAddr {
    channel.address().strip_prefix("tcp://").and_then(|text| text.parse().ok()).expect("an address")
}

fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// A frame, its attributes and its flags.
type Received = (Vec<u8>, Vec<u8>, u32);

/// One call with that many slots; `None` where nothing waits.
fn receive(channel: &mut TcpChannel, slots: usize) -> Option<Vec<Received>> {
    let mut buffers = vec![([0u8; 2048], [0u8; 96]); slots];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    match channel.recv_batch(&mut slots) {
        Ok(n) => {
            let parts = |s: &RxSlot<'_>| (s.frame().to_vec(), s.attributes().to_vec(), s.flags);
            Some(slots[..n].iter().map(parts).collect())
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            None
        }
    }
}

/// Waits for the descriptor as a host does, and receives, until `enough` says so.
fn until(channel: &mut TcpChannel, slots: usize, enough: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let (mut got, end) = (Vec::new(), Instant::now() + PATIENCE);
    while !enough(&got) {
        assert!(Instant::now() < end, "{} frames came, and no more", got.len());
        if is_ready(channel, libc::POLLIN, 1000) {
            got.extend(receive(channel, slots).unwrap_or_default().into_iter().map(|(frame, _, _)| frame));
        }
    }
    got
}

fn is_ready(channel: &TcpChannel, events: i16, wait_ms: i32) -> bool {
    let mut asked = libc::pollfd { fd: channel.readiness(), events, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, wait_ms) == 1 }
}

fn send(channel: &mut TcpChannel, payloads: &[&[u8]]) -> std::io::Result<usize> {
    let frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(p, QosLevel::STRICT)).collect();
    channel.send_batch(&frames)
}

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let out = |to: &str, numbers| refused(&spec(Direction::EGRESS, "to", to, numbers));
    assert_eq!(
        refused(&ingress(&[("connections", 0)])),
        "tcp channel \"x\": connections = 0 is not within 1 to 4096"
    );
    assert_eq!(
        refused(&ingress(&[("frame_timeout", 1)])),
        "tcp channel \"x\": frame_timeout = 1 ns is not within 10ms to 1h"
    );
    assert_eq!(
        refused(&ingress(&[("send_buffer", 4096)])),
        "tcp channel \"x\": send_buffer is for egress channels only; leave it out"
    );
    assert_eq!(
        out("127.0.0.1:0", &[]),
        "tcp channel \"x\": nothing listens at port 0 (to = \"127.0.0.1:0\"); write 1 to 65535"
    );
    assert_eq!(
        out("localhost", &[]),
        "tcp channel \"x\": to = \"localhost\" is not an address and a port; write for example \
         \"127.0.0.1:5501\" or \"[::1]:5501\""
    );
    assert_eq!(
        out("127.0.0.1:1", &[("unsent", 1)]),
        "tcp channel \"x\": unsent = 1 is not within 1KiB to 1GiB"
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("listens");
    let bind = taken.local_addr().expect("an address").to_string();
    let sentence = refused(&spec(Direction::INGRESS, "bind", &bind, &[]));
    assert!(sentence.starts_with(&format!("tcp channel \"x\": cannot listen on {bind}: ")), "{sentence}");
}

#[test]
fn frames_arrive_whole_with_their_senders_address_however_they_are_cut() {
    let mut channel = open(&ingress(&[]));
    let mut sender = TcpStream::connect(address(&channel)).expect("connects");
    sender.set_nodelay(true).expect("set");
    let payloads: Vec<Vec<u8>> = (0..40usize).map(|n| vec![n as u8; n * 50]).collect();
    let stream: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
    let mut got = Vec::new();
    for part in stream.chunks(777) {
        sender.write_all(part).expect("written");
        while is_ready(&channel, libc::POLLIN, 20) {
            got.extend(receive(&mut channel, 3).unwrap_or_default());
        }
    }
    let rest = until(&mut channel, 3, |frames| got.len() + frames.len() >= payloads.len());
    let peer = Attributes::new(&got[0].1).get("peer.address").expect("an address");
    let port = sender.local_addr().expect("an address").port().to_be_bytes();
    assert_eq!(peer, AttributeValue::Address(&[&[127, 0, 0, 1], &port[..]].concat()));
    let frames: Vec<_> = got.into_iter().map(|(frame, _, _)| frame).chain(rest).collect();
    assert_eq!(frames, payloads);
    assert!(!is_ready(&channel, libc::POLLIN, 0), "nothing waits");
}

#[test]
fn what_was_read_and_not_taken_keeps_the_channel_ready() {
    let mut channel = open(&ingress(&[]));
    let mut sender = TcpStream::connect(address(&channel)).expect("connects");
    sender.write_all(&[framed(b"a"), framed(b"b"), framed(b"c")].concat()).expect("written");
    for expected in [b"a", b"b", b"c"] {
        // One slot at a time: the others are in the channel's own buffer by then.
        assert_eq!(until(&mut channel, 1, |frames| !frames.is_empty()), [expected]);
    }
    assert!(!is_ready(&channel, libc::POLLIN, 0), "nothing waits");
}

#[test]
fn many_connections_get_equal_parts_and_each_keeps_its_order() {
    const SENDERS: usize = 200;
    const FRAMES: usize = 50;
    let spec = ingress(&[]);
    let mut channel = open(&spec);
    let to = address(&channel);
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        senders.push(TcpStream::connect(to).expect("connects"));
        while is_ready(&channel, libc::POLLIN, 0) {
            receive(&mut channel, 1);
        }
    }
    for (number, sender) in senders.iter_mut().enumerate() {
        // The first one floods.
        let frames = if number == 0 { FRAMES * 20 } else { FRAMES };
        let stream: Vec<u8> = (0..frames)
            .flat_map(|n| framed(&[number as u16, n as u16].map(u16::to_be_bytes).concat()))
            .collect();
        sender.write_all(&stream).expect("written");
    }
    let total = FRAMES * (SENDERS + 19);
    let got = until(&mut channel, 64, |frames| frames.len() >= total);
    assert_eq!(spec.counters.connections.get(), SENDERS as u64);
    let mut next = [0u16; SENDERS];
    let mut flood_before_all = 0;
    for frame in &got {
        let [sender, number] = [&frame[..2], &frame[2..]].map(|b| u16::from_be_bytes([b[0], b[1]]));
        assert_eq!(number, next[sender as usize], "in order");
        next[sender as usize] += 1;
        if next[1..].iter().any(|n| usize::from(*n) < FRAMES) {
            flood_before_all = next[0];
        }
    }
    assert!(next[1..].iter().all(|n| usize::from(*n) == FRAMES));
    assert!(usize::from(flood_before_all) < FRAMES * 10, "the flood got {flood_before_all} frames in first");
}

#[test]
fn a_call_is_shared_by_all_that_have_something() {
    let spec = ingress(&[]);
    let mut channel = open(&spec);
    let to = address(&channel);
    let mut senders: Vec<_> = (0..4).map(|_| TcpStream::connect(to).expect("connects")).collect();
    until_counted(&mut channel, || spec.counters.connections.get() == 4);
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.write_all(&framed(&[number as u8]).repeat(100)).expect("written");
    }
    let got = receive(&mut channel, 8).expect("all are waiting");
    let of = |number: u8| got.iter().filter(|(frame, _, _)| *frame == [number]).count();
    assert_eq!([of(0), of(1), of(2), of(3)], [2; 4]);
}

#[test]
fn a_table_that_is_full_refuses_and_has_room_again_when_one_goes() {
    let spec = ingress(&[("connections", 2)]);
    let mut channel = open(&spec);
    let to = address(&channel);
    let mut first = TcpStream::connect(to).expect("connects");
    let _second = TcpStream::connect(to).expect("connects");
    let mut third = TcpStream::connect(to).expect("connects");
    until_counted(&mut channel, || spec.counters.refused.get() == 1);
    assert_eq!(third.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
    first.write_all(&framed(b"x")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"x"]);
    drop(first);
    until_counted(&mut channel, || spec.counters.connections.get() == 1);
    let mut fourth = TcpStream::connect(to).expect("connects");
    fourth.write_all(&framed(b"y")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"y"]);
}

/// Lets the channel work, as a host would, until something is counted.
fn until_counted(channel: &mut TcpChannel, counted: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !counted() {
        assert!(Instant::now() < end, "it was never counted");
        if is_ready(channel, libc::POLLIN, 100) {
            receive(channel, 4);
        }
    }
}

#[test]
fn a_frame_that_never_ends_costs_its_sender_the_connection() {
    let spec = ingress(&[("frame_timeout", 50 * MS)]);
    let mut channel = open(&spec);
    let mut slow = TcpStream::connect(address(&channel)).expect("connects");
    let mut quiet = TcpStream::connect(address(&channel)).expect("connects");
    slow.write_all(&[0, 0, 0, 9, 1]).expect("written");
    until_counted(&mut channel, || spec.counters.refused.get() == 1);
    assert_eq!(slow.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
    assert_eq!(spec.counters.connections.get(), 1, "who sends nothing at all is left alone");
    quiet.write_all(&framed(b"still here")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"still here"]);
}

#[test]
fn a_sender_who_speaks_something_else_is_closed_and_counted() {
    let spec = ingress(&[]);
    let mut channel = open(&spec);
    let mut browser = TcpStream::connect(address(&channel)).expect("connects");
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    until_counted(&mut channel, || spec.counters.malformed.get() == 1);
    let mut cut = TcpStream::connect(address(&channel)).expect("connects");
    cut.write_all(&framed(b"cut")[..6]).expect("written");
    drop(cut);
    until_counted(&mut channel, || spec.counters.malformed.get() == 2);
    assert_eq!(spec.counters.connections.get(), 0);
}

#[test]
fn a_frame_that_is_too_large_is_marked_and_the_next_arrives() {
    let mut channel = open(&ingress(&[]));
    let mut sender = TcpStream::connect(address(&channel)).expect("connects");
    sender.write_all(&[framed(&[7; 100_000]), framed(b"next")].concat()).expect("written");
    let (mut got, end) = (Vec::new(), Instant::now() + PATIENCE);
    while got.len() < 2 && Instant::now() < end {
        got.extend(receive(&mut channel, 4).unwrap_or_default().into_iter().map(|(f, _, flags)| (f, flags)));
    }
    assert_eq!(got, [(Vec::new(), RxSlot::TRUNCATED), (b"next".to_vec(), 0)]);
}

#[test]
fn garbage_from_the_network_never_harms_the_other_connections() {
    let spec = ingress(&[]);
    let mut channel = open(&spec);
    let mut good = TcpStream::connect(address(&channel)).expect("connects");
    let mut state = 5u64;
    for round in 0..200u8 {
        let mut bad = TcpStream::connect(address(&channel)).expect("connects");
        let garbage: Vec<u8> = (0..200)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if at % 60 < 2 { 0 } else { (state >> 40) as u8 }
            })
            .collect();
        let _ = bad.write_all(&garbage);
        drop(bad);
        good.write_all(&framed(&[round; 9])).expect("written");
        until(&mut channel, 8, |frames| frames.iter().any(|frame| frame == &[round; 9]));
    }
    until_counted(&mut channel, || spec.counters.connections.get() == 1);
    assert!(spec.counters.malformed.get() > 0);
}

#[test]
fn a_slow_reader_makes_the_channel_wait_and_gets_every_frame_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec = egress(listener.local_addr().expect("an address"), &[("send_buffer", 16 << 10)]);
    let mut channel = open(&spec);
    let (mut reader, _) = listener.accept().expect("accepts");
    let payloads: Vec<Vec<u8>> =
        (0..20_000u32).map(|n| n.to_be_bytes().repeat(1 + n as usize % 300)).collect();
    let mut frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(&p[2..], QosLevel::STRICT)).collect();
    frames.iter_mut().zip(&payloads).for_each(|(f, p)| f.head = RSlice::from_slice(&p[..2]));
    let expected: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
    let bytes = expected.len();
    let reading = std::thread::spawn(move || {
        // Nothing is read before the sender has been stopped at least once.
        std::thread::sleep(Duration::from_millis(50));
        let mut read = vec![0; bytes];
        reader.read_exact(&mut read).map(|()| read)
    });
    let (mut done, mut waits, end) = (0, 0, Instant::now() + PATIENCE);
    while done < frames.len() {
        assert!(Instant::now() < end, "frame {done} could not be sent");
        match channel.send_batch(&frames[done..frames.len().min(done + 64)]) {
            Ok(sent) => done += sent,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                waits += 1;
                is_ready(&channel, libc::POLLOUT, 1000);
            }
        }
    }
    assert!(waits > 0, "the reader was never slow");
    let read = reading.join().expect("it ends").expect("read");
    assert!(read == expected, "the stream is not the one that was sent");
    assert_eq!(spec.counters.send_errors.get(), 0);
}

#[test]
fn a_frame_given_up_half_way_leaves_the_stream_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let mut spec = egress(listener.local_addr().expect("an address"), &[]);
    spec.event_bytes_max = 16 << 20;
    let mut channel = open(&spec);
    let (mut reader, _) = listener.accept().expect("accepts");
    // More than both kernel buffers hold: it stops half way, the host gives it up and sends another one.
    let large = (0..251).collect::<Vec<u8>>().repeat(50_000);
    let error = send(&mut channel, &[&large]).expect_err("it fitted");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    reader.set_read_timeout(Some(PATIENCE)).expect("set");
    let expected = [framed(&large), framed(b"last")].concat();
    let bytes = expected.len();
    let reading = std::thread::spawn(move || {
        let mut read = vec![0; bytes];
        reader.read_exact(&mut read).map(|()| read)
    });
    let end = Instant::now() + PATIENCE;
    while send(&mut channel, &[b"last"]).is_err() {
        assert!(Instant::now() < end, "it never went on");
        is_ready(&channel, libc::POLLOUT, 1000);
    }
    assert!(reading.join().expect("it ends").expect("read") == expected, "the stream is broken");
}

#[test]
fn a_receiver_may_come_later_go_and_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("an address");
    drop(listener);
    let spec = egress(to, &[]);
    let mut channel = open(&spec);
    assert_eq!(send(&mut channel, &[b"a", b"b"]).ok(), Some(2), "given up");
    assert_eq!(spec.counters.send_errors.get(), 2, "and counted");
    let readiness = channel.readiness();
    for round in 0..2 {
        let mut receiver = open(&spec_at(to));
        let end = Instant::now() + PATIENCE;
        let mut got = Vec::new();
        while got.is_empty() {
            assert!(Instant::now() < end, "round {round}: it never came back");
            let _ = send(&mut channel, &[b"again"]);
            std::thread::sleep(Duration::from_millis(5));
            got = receive(&mut receiver, 4).unwrap_or_default();
        }
        assert_eq!(got[0].0, b"again");
        assert_eq!(spec.counters.connections.get(), 1);
        receiver.close(0);
    }
    assert_eq!(channel.readiness(), readiness, "the same for the channel's life");
}

fn spec_at(address: SocketAddr) -> ChannelSpec {
    spec(Direction::INGRESS, "bind", &address.to_string(), &[])
}

#[test]
fn a_successor_goes_on_in_the_middle_of_a_frame() {
    let mut first = open(&ingress(&[]));
    let to = address(&first);
    let mut senders: Vec<_> = (0..20).map(|_| TcpStream::connect(to).expect("connects")).collect();
    // Three frames, of which the last is cut; one of the first two is taken.
    for (number, sender) in senders.iter_mut().enumerate() {
        let n = number as u8;
        sender
            .write_all(&[framed(&[n, 0]), framed(&[n, 1]), framed(&[n; 500])[..200].to_vec()].concat())
            .expect("written");
    }
    let mut got = until(&mut first, 1, |frames| frames.len() >= 20);
    let inherited_descriptor = first.take_over();
    assert!(inherited_descriptor >= 0);
    // It goes on working until its successor is there.
    got.extend(until(&mut first, 1, |frames| frames.len() >= 5));
    let successor = ChannelSpec { inherited_descriptor, ..spec_at(to) };
    let mut second = open(&successor);
    first.close(0);
    drop(first);
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.write_all(&framed(&[number as u8; 500])[200..]).expect("written");
    }
    let expected = 60 - got.len();
    got.extend(until(&mut second, 7, |frames| frames.len() >= expected));
    assert_eq!(successor.counters.connections.get(), 20);
    for number in 0..20u8 {
        let of_one: Vec<_> = got.iter().filter(|frame| frame[0] == number).collect();
        assert_eq!(of_one, [&vec![number, 0], &vec![number, 1], &vec![number; 500]], "{number}");
    }
    let mut late = TcpStream::connect(to).expect("the listener never went away");
    late.write_all(&framed(b"late")).expect("written");
    assert_eq!(until(&mut second, 4, |frames| !frames.is_empty()), [b"late"]);
}

/// More than the socket between the two holds at once: it goes over in parts.
#[test]
fn a_successor_takes_over_large_halves_of_frames() {
    const SENDERS: usize = 24;
    const BYTES: usize = 1 << 20;
    let mut spec = ingress(&[]);
    spec.event_bytes_max = BYTES as u32;
    let mut first = open(&spec);
    let to = address(&first);
    // A length that no power of two divides, so that bytes in the wrong place are seen.
    let frame = |number: usize| -> Vec<u8> {
        let part: Vec<u8> = (0..251).map(|at| at ^ number as u8).collect();
        part.repeat(BYTES / 251)
    };
    let cut = BYTES - 1007;
    let sending: Vec<_> = (0..SENDERS)
        .map(|number| {
            std::thread::spawn(move || {
                let mut sender = TcpStream::connect(to).expect("connects");
                sender.write_all(&framed(&frame(number))[..cut]).expect("written");
                sender
            })
        })
        .collect();
    let end = Instant::now() + PATIENCE;
    while !sending.iter().all(std::thread::JoinHandle::is_finished) || is_ready(&first, libc::POLLIN, 50) {
        assert!(Instant::now() < end, "it does not read on");
        receive(&mut first, 1);
    }
    let mut senders: Vec<_> = sending.into_iter().map(|sender| sender.join().expect("it ends")).collect();
    let mut successor = ChannelSpec { inherited_descriptor: first.take_over(), ..spec_at(to) };
    successor.event_bytes_max = BYTES as u32;
    let mut second = open(&successor);
    let closing = std::thread::spawn(move || first.close(u64::MAX));
    let mut seen = [false; SENDERS];
    let (mut buffer, mut notes) = (vec![0; BYTES], [0; 96]);
    let end = Instant::now() + PATIENCE;
    while seen.contains(&false) {
        assert!(Instant::now() < end, "not all came: {seen:?}");
        if closing.is_finished() {
            senders.drain(..).enumerate().for_each(|(number, mut sender)| {
                sender.write_all(&framed(&frame(number))[cut..]).expect("written");
                // Kept open: what ends a frame is its length, not the connection.
                std::mem::forget(sender);
            });
        }
        is_ready(&second, libc::POLLIN, 100);
        let mut slot = [RxSlot::new(&mut buffer, &mut notes)];
        if second.recv_batch(&mut slot).is_ok() {
            let number = slot[0].frame()[0] as usize;
            assert!(slot[0].frame() == frame(number), "frame {number} is not what was sent");
            seen[number] = true;
        }
    }
    closing.join().expect("it ends");
}

#[test]
fn the_lanes_marks_are_set_again_on_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec = egress(listener.local_addr().expect("an address"), &[]);
    let mut channel = open(&spec);
    let qos = LaneQos { dscp: 46, socket_priority: 5, ..LaneQos::unmarked(QosLevel::STRICT) };
    let grant = channel.set_qos(&qos).expect("answered");
    assert_eq!(grant.reason, "DSCP 46, SO_PRIORITY 5");
    drop(listener.accept().expect("accepts"));
    let end = Instant::now() + PATIENCE;
    listener.set_nonblocking(true).expect("set");
    let _second = loop {
        assert!(Instant::now() < end, "it never connected again");
        let _ = send(&mut channel, &[b"x"]);
        if let Ok((stream, _)) = listener.accept() {
            break stream;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut priority = 0i32;
    let mut length = 4;
    // SAFETY: the value is live and of the length given.
    unsafe {
        libc::getsockopt(
            channel.readiness(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw mut priority).cast(),
            &raw mut length,
        )
    };
    assert_eq!(priority, 5);
}
