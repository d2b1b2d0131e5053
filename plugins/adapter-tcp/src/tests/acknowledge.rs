//! Events that are acknowledged, or not, or too late, or by something that is no answer.

use tempos_abi::adapter::{ChannelTraits, Receipt};

use super::*;

const ACK: u8 = 6;
const NAK: u8 = 21;

fn acknowledged(mut spec: ChannelSpec) -> ChannelSpec {
    spec.options.set("acknowledge", OptionValue::Flag(true));
    spec
}

/// A channel and the receiver's end.
fn pair(numbers: &[(&str, i64)]) -> (TcpChannel, TcpStream, TcpListener, ChannelSpec) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec = acknowledged(egress(listener.local_addr().expect("an address"), numbers));
    let channel = open(&spec);
    let (reader, _) = listener.accept().expect("accepts");
    reader.set_read_timeout(Some(PATIENCE)).expect("set");
    (channel, reader, listener, spec)
}

fn send_ids(channel: &mut TcpChannel, ids: std::ops::Range<u64>) -> std::io::Result<usize> {
    let frames: Vec<_> =
        ids.map(|event_id| TxFrame { event_id, ..TxFrame::payload(b"event", QosLevel::STRICT) }).collect();
    channel.send_batch(&frames)
}

/// Works as a host does: waits until it is called, and asks for receipts, until there are that many.
fn receipts(channel: &mut TcpChannel, count: usize) -> Vec<(u64, bool)> {
    let (mut all, end) = (Vec::new(), Instant::now() + PATIENCE);
    while all.len() < count {
        assert!(Instant::now() < end, "only {all:?} came");
        if is_ready(channel, libc::POLLIN, 1000) {
            let mut few = [Receipt::empty(); 3];
            let told = channel.receipts(&mut few);
            all.extend(few[..told].iter().map(|one| (one.event_id, one.verdict == Receipt::DELIVERED)));
        }
    }
    all
}

#[test]
fn each_event_is_delivered_or_lost_as_the_receiver_says() {
    let (mut channel, mut reader, _listener, _) = pair(&[]);
    assert!(channel.traits().has(ChannelTraits::RECEIPTS));
    assert_eq!(send_ids(&mut channel, 1..6).ok(), Some(5));
    assert_eq!(channel.receipts(&mut [Receipt::empty(); 8]), 0);
    assert!(!is_ready(&channel, libc::POLLIN, 0), "nothing is to be done");
    reader.write_all(&[ACK, ACK, NAK, ACK]).expect("written");
    assert_eq!(receipts(&mut channel, 4), [(1, true), (2, true), (3, false), (4, true)]);
    reader.write_all(&[ACK]).expect("written");
    assert_eq!(receipts(&mut channel, 1), [(5, true)]);
    assert!(!is_ready(&channel, libc::POLLIN, 0), "nothing is to be done");
    let mut frames = vec![0; 5 * 9];
    reader.read_exact(&mut frames).expect("read");
    assert_eq!(frames, framed(b"event").repeat(5));
}

#[test]
fn a_full_window_makes_the_host_wait() {
    let (mut channel, mut reader, _listener, _) = pair(&[("window", 4)]);
    assert_eq!(send_ids(&mut channel, 1..10).ok(), Some(4));
    let error = send_ids(&mut channel, 5..6).expect_err("it is full");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    channel.receipts(&mut [Receipt::empty(); 8]);
    assert!(!is_ready(&channel, libc::POLLIN, 0), "only the receiver can make room");
    reader.write_all(&[ACK, ACK]).expect("written");
    assert_eq!(receipts(&mut channel, 2), [(1, true), (2, true)]);
    assert_eq!(send_ids(&mut channel, 5..10).ok(), Some(2));
}

#[test]
fn a_receiver_that_stops_answering_is_left_and_the_events_are_lost() {
    let (mut channel, mut reader, listener, spec) = pair(&[("acknowledge_timeout", 60 * MS)]);
    assert_eq!(send_ids(&mut channel, 1..4).ok(), Some(3));
    reader.write_all(&[ACK]).expect("written");
    assert_eq!(receipts(&mut channel, 3), [(1, true), (2, false), (3, false)]);
    assert_eq!(spec.counters.connections.get(), 0);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("it is closed");
    let error = send_ids(&mut channel, 4..5).expect_err("nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    assert_eq!(spec.counters.send_errors.get(), 0, "nothing is given up");
    // It looks for its receiver again also where nothing is sent.
    let end = Instant::now() + PATIENCE;
    while spec.counters.connections.get() == 0 {
        assert!(Instant::now() < end, "it never came back");
        if is_ready(&channel, libc::POLLIN, 1000) {
            channel.receipts(&mut [Receipt::empty(); 8]);
        }
    }
    let (mut again, _) = listener.accept().expect("accepts");
    assert_eq!(send_ids(&mut channel, 5..6).ok(), Some(1));
    again.write_all(&[ACK]).expect("written");
    assert_eq!(receipts(&mut channel, 1), [(5, true)]);
}

#[test]
fn what_was_under_way_when_the_receiver_went_is_lost_but_not_what_it_answered() {
    let (mut channel, mut reader, listener, spec) = pair(&[]);
    assert_eq!(send_ids(&mut channel, 1..6).ok(), Some(5));
    reader.read_exact(&mut [0; 45]).expect("read");
    reader.write_all(&[ACK, ACK]).expect("written");
    drop((reader, listener));
    let expected = [(1, true), (2, true), (3, false), (4, false), (5, false)];
    assert_eq!(receipts(&mut channel, 5), expected);
    let (mut error, end) = (None, Instant::now() + PATIENCE);
    while error != Some(libc::ENOTCONN) {
        assert!(Instant::now() < end, "the answer is {error:?}");
        error = send_ids(&mut channel, 6..7).expect_err("nobody is there").raw_os_error();
        is_ready(&channel, libc::POLLIN, 10);
        channel.receipts(&mut [Receipt::empty(); 8]);
    }
    assert_eq!(spec.counters.send_errors.get(), 0, "nothing is given up");
}

#[test]
fn what_is_no_answer_ends_the_connection_and_is_counted() {
    for (answer, expected) in
        [(&b"\x06no"[..], [(1, true), (2, false)]), (&[ACK, ACK, ACK][..], [(1, false), (2, false)])]
    {
        let (mut channel, mut reader, _listener, spec) = pair(&[]);
        assert_eq!(send_ids(&mut channel, 1..3).ok(), Some(2));
        reader.write_all(answer).expect("written");
        let told = receipts(&mut channel, 2);
        assert_eq!(spec.counters.malformed.get(), 1);
        if answer.contains(&b'n') && answer.len() > 2 {
            assert!(!told[1].1);
        } else {
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn a_receiver_that_is_slow_to_read_is_waited_for_and_every_event_is_told_of_once() {
    const EVENTS: u64 = 3000;
    let (mut channel, mut reader, _listener, _) =
        pair(&[("window", 1000), ("send_buffer", 4096), ("acknowledge_timeout", 20_000 * MS)]);
    let payload = vec![7u8; 1500];
    let reading = std::thread::spawn(move || {
        let mut frame = vec![0; 1504];
        for event in 0..EVENTS {
            if event % 500 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            reader.read_exact(&mut frame).expect("read");
            reader.write_all(&[ACK]).expect("written");
        }
        reader
    });
    let (mut next, mut told, mut waits, end) = (0, Vec::new(), 0, Instant::now() + PATIENCE);
    while told.len() < EVENTS as usize {
        assert!(Instant::now() < end, "{next} were sent, {} told of", told.len());
        let frames: Vec<_> = (next..EVENTS.min(next + 16))
            .map(|event_id| TxFrame { event_id, ..TxFrame::payload(&payload, QosLevel::STRICT) })
            .collect();
        match channel.send_batch(&frames) {
            Ok(sent) => next += sent as u64,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                waits += 1;
            }
        }
        if frames.is_empty() || waits > 0 {
            assert!(is_ready(&channel, libc::POLLIN, 5000), "it is never called");
        }
        let mut some = [Receipt::empty(); 16];
        let count = channel.receipts(&mut some);
        told.extend(some[..count].iter().map(|one| (one.event_id, one.verdict)));
    }
    assert!(waits > 0, "the reader was never slow");
    assert!(told.iter().copied().eq((0..EVENTS).map(|id| (id, Receipt::DELIVERED))));
    reading.join().expect("it ends");
}

#[test]
fn a_receiver_channel_tells_the_sender_of_each_frame() {
    let spec = acknowledged(ingress(&[]));
    let mut receiver = open(&spec);
    let mut sender = TcpStream::connect(address(&receiver)).expect("connects");
    sender.set_read_timeout(Some(PATIENCE)).expect("set");
    sender.write_all(&[framed(b"a"), framed(&[7; 5000]), framed(b"b")].concat()).expect("written");
    assert_eq!(until(&mut receiver, 2, |frames| frames.len() == 3), [&b"a"[..], b"", b"b"]);
    let mut answers = [0; 3];
    sender.read_exact(&mut answers).expect("read");
    assert_eq!(answers, [ACK, NAK, ACK]);
    // And from channel to channel.
    let mut channel = open(&acknowledged(egress(address(&receiver), &[])));
    assert_eq!(send_ids(&mut channel, 1..4).ok(), Some(3));
    until(&mut receiver, 2, |frames| frames.len() == 3);
    assert_eq!(receipts(&mut channel, 3), [(1, true), (2, true), (3, true)]);
}

#[test]
fn a_sender_that_never_reads_what_it_is_told_is_closed() {
    let spec = acknowledged(ingress(&[]));
    let mut receiver = open(&spec);
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("made");
    socket.set_recv_buffer_size(4096).expect("sized");
    socket.connect(&address(&receiver).into()).expect("connects");
    let mut sender = TcpStream::from(socket);
    sender.set_write_timeout(Some(Duration::from_millis(100))).expect("set");
    let frames = framed(b"").repeat(1000);
    let end = Instant::now() + PATIENCE;
    while spec.counters.refused.get() == 0 {
        assert!(Instant::now() < end, "it was never closed");
        let _ = sender.write(&frames);
        while receive(&mut receiver, 64).is_some() {}
    }
    assert_eq!(spec.counters.connections.get(), 0);
}
