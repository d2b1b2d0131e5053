//! Events that are acknowledged, or not, or too late; senders that are silent.

use tempos_abi::adapter::{ChannelTraits, Receipt};

use super::*;

const ACK: u8 = 6;
const NAK: u8 = 21;
const PATIENCE: Duration = Duration::from_secs(20);
const MS: i64 = 1_000_000;

fn acknowledged(mut spec: ChannelSpec, numbers: &[(&str, i64)]) -> ChannelSpec {
    spec.options.set("acknowledge", OptionValue::Flag(true));
    numbers.iter().for_each(|(key, number)| spec.options.set(key, OptionValue::Integer(*number)));
    spec
}

fn listener(path: &str) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.bind(&SockAddr::unix(path).expect("an address")).expect("binds");
    socket.listen(8).expect("listens");
    socket
}

fn send_ids(channel: &mut UnixChannel, ids: std::ops::Range<u64>) -> std::io::Result<usize> {
    let frames: Vec<_> =
        ids.map(|event_id| TxFrame { event_id, ..TxFrame::payload(b"event", QosLevel::STRICT) }).collect();
    channel.send_batch(&frames)
}

fn is_called(channel: &UnixChannel, wait_ms: i32) -> bool {
    let mut asked = libc::pollfd { fd: channel.readiness(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, wait_ms) == 1 }
}

/// Works as a host does: waits until it is called, and asks for receipts, until there are that many.
fn receipts(channel: &mut UnixChannel, count: usize) -> Vec<(u64, bool)> {
    let (mut all, end) = (Vec::new(), Instant::now() + PATIENCE);
    while all.len() < count {
        assert!(Instant::now() < end, "only {all:?} came");
        if is_called(channel, 1000) {
            let mut few = [Receipt::empty(); 3];
            let told = channel.receipts(&mut few);
            all.extend(few[..told].iter().map(|one| (one.event_id, one.verdict == Receipt::DELIVERED)));
        }
    }
    all
}

#[test]
fn it_needs_connections() {
    let folder = Folder::new("acknowledge-datagram");
    let sentence = refused(&acknowledged(egress(&folder.at("s"), "datagram"), &[]));
    let expected = "unix channel \"x\": acknowledge needs connections; write type = \"seqpacket\" beside it";
    assert_eq!(sentence, expected);
}

#[test]
fn each_event_is_delivered_or_lost_as_the_receiver_says() {
    let folder = Folder::new("acknowledge");
    let path = folder.at("s");
    let listener = listener(&path);
    let spec = acknowledged(egress(&path, "seqpacket"), &[("window", 6)]);
    let mut channel = open(&spec);
    assert!(channel.traits().has(ChannelTraits::RECEIPTS));
    let (receiver, _) = listener.accept().expect("accepts");
    assert_eq!(send_ids(&mut channel, 1..10).ok(), Some(6));
    assert_eq!(send_ids(&mut channel, 7..8).expect_err("full").kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(channel.receipts(&mut [Receipt::empty(); 8]), 0);
    assert!(!is_called(&channel, 0), "only the receiver can make room");
    receiver.send(&[ACK, ACK, NAK, ACK]).expect("sent");
    receiver.send(&[ACK]).expect("sent");
    assert_eq!(receipts(&mut channel, 5), [(1, true), (2, true), (3, false), (4, true), (5, true)]);
    assert_eq!(send_ids(&mut channel, 7..8).ok(), Some(1));
    drop((receiver, listener));
    assert_eq!(receipts(&mut channel, 2), [(6, false), (7, false)]);
    let error = send_ids(&mut channel, 8..9).expect_err("nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    assert_eq!(spec.counters.send_errors.get(), 0, "nothing is given up");
}

#[test]
fn a_receiver_that_stops_answering_or_says_something_else_is_left_and_looked_for_again() {
    let folder = Folder::new("acknowledge-late");
    let path = folder.at("s");
    let listener = listener(&path);
    let spec = acknowledged(egress(&path, "seqpacket"), &[("acknowledge_timeout", 60 * MS)]);
    let mut channel = open(&spec);
    for answer in [&b""[..], b"x", &[ACK, ACK, ACK]] {
        let (receiver, _) = listener.accept().expect("accepts");
        assert_eq!(send_ids(&mut channel, 1..3).ok(), Some(2));
        if !answer.is_empty() {
            receiver.send(answer).expect("sent");
        }
        assert_eq!(receipts(&mut channel, 2), [(1, false), (2, false)]);
        // It looks for its receiver again also where nothing is sent.
        let end = Instant::now() + PATIENCE;
        while spec.counters.connections.get() == 0 {
            assert!(Instant::now() < end, "it never came back");
            if is_called(&channel, 1000) {
                channel.receipts(&mut [Receipt::empty(); 8]);
            }
        }
    }
    assert_eq!(spec.counters.malformed.get(), 2);
}

#[test]
fn a_receiver_channel_tells_the_sender_of_each_frame() {
    let folder = Folder::new("acknowledge-both");
    let path = folder.at("s");
    let mut receiver = open(&acknowledged(ingress(&path, "seqpacket"), &[]));
    let mut channel = open(&acknowledged(egress(&path, "seqpacket"), &[]));
    assert_eq!(send_ids(&mut channel, 1..4).ok(), Some(3));
    assert_eq!(drain(&mut receiver, 2).len(), 3);
    assert_eq!(receipts(&mut channel, 3), [(1, true), (2, true), (3, true)]);
    let sender = client(&path);
    sender.send(&[7; 3000]).expect("sent");
    sender.send(b"fits").expect("sent");
    assert_eq!(drain(&mut receiver, 2).len(), 2);
    let mut answers = [std::mem::MaybeUninit::new(0); 8];
    assert_eq!(sender.recv(&mut answers).expect("told"), 2);
    // SAFETY: all were written when they were made.
    assert_eq!(answers.map(|byte| unsafe { byte.assume_init() })[..2], [NAK, ACK]);
}

#[test]
fn a_silent_sender_gives_way_to_a_new_one_and_one_that_spoke_does_not() {
    let folder = Folder::new("silent");
    let path = folder.at("s");
    let mut spec = ingress(&path, "seqpacket");
    for (key, number) in [("connections", 2), ("idle_timeout", 100 * MS)] {
        spec.options.set(key, OptionValue::Integer(number));
    }
    let mut receiver = open(&spec);
    let (spoke, silent) = (client(&path), client(&path));
    spoke.send(b"here").expect("sent");
    assert_eq!(frames(&drain(&mut receiver, 2)), [b"here"]);
    drop(client(&path));
    drain(&mut receiver, 2);
    assert_eq!(spec.counters.refused.get(), 1, "not before its time");
    std::thread::sleep(Duration::from_millis(120));
    client(&path).send(b"new").expect("sent");
    assert_eq!(frames(&drain(&mut receiver, 2)), [b"new"]);
    assert!(silent.send(b"late").is_err(), "closed");
    assert_eq!(spec.counters.refused.get(), 2);
    spoke.send(b"still").expect("sent");
    assert_eq!(frames(&drain(&mut receiver, 2)), [b"still"]);
}

#[test]
fn frames_of_one_sender_have_one_number_and_those_of_another_have_another() {
    let folder = Folder::new("producers");
    let path = folder.at("s");
    let mut receiver = open(&ingress(&path, "seqpacket"));
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let sender = client(&path);
        sender.send(b"a").expect("sent");
        sender.send(b"b").expect("sent");
        let mut buffers = [([0u8; 16], [0u8; 96]), ([0u8; 16], [0u8; 96])];
        let mut slots = buffers.each_mut().map(|(frame, notes)| RxSlot::new(frame, notes));
        assert_eq!(receiver.recv_batch(&mut slots).expect("filled"), 2);
        assert_eq!(slots[0].producer(), slots[1].producer());
        numbers.push(slots[0].producer());
        drop(sender);
        drain(&mut receiver, 1);
    }
    assert!(numbers[0] != 0 && numbers[0] != numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
    let path = folder.at("datagrams");
    let mut receiver = open(&ingress(&path, "datagram"));
    send(&mut open(&egress(&path, "datagram")), b"me");
    let (mut frame, mut notes) = ([0; 16], [0; 96]);
    let mut slot = [RxSlot::new(&mut frame, &mut notes)];
    assert_eq!(receiver.recv_batch(&mut slot).expect("filled"), 1);
    assert_ne!(slot[0].producer(), 0);
}
