//! What comes in: cut, in floods, too slowly, too large, not meant for us.

use super::*;

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
fn a_silent_sender_gives_way_to_a_new_one_and_one_that_spoke_does_not() {
    let spec = ingress(&[("connections", 2), ("idle_timeout", 100 * MS)]);
    let mut channel = open(&spec);
    let to = address(&channel);
    let mut spoke = TcpStream::connect(to).expect("connects");
    spoke.write_all(&framed(b"here")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"here"]);
    let mut silent = TcpStream::connect(to).expect("connects");
    until_counted(&mut channel, || spec.counters.connections.get() == 2);
    // Not before its time.
    drop(TcpStream::connect(to).expect("connects"));
    until_counted(&mut channel, || spec.counters.refused.get() == 1);
    std::thread::sleep(Duration::from_millis(120));
    let mut new = TcpStream::connect(to).expect("connects");
    new.write_all(&framed(b"new")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"new"]);
    assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
    assert_eq!((spec.counters.refused.get(), spec.counters.connections.get()), (2, 2));
    // Nobody is silent now.
    drop(TcpStream::connect(to).expect("connects"));
    until_counted(&mut channel, || spec.counters.refused.get() == 3);
    spoke.write_all(&framed(b"still")).expect("written");
    assert_eq!(until(&mut channel, 4, |frames| !frames.is_empty()), [b"still"]);
}

#[test]
fn every_connection_has_a_number_of_its_own() {
    let mut channel = open(&ingress(&[("connections", 2)]));
    let mut seen = Vec::new();
    for round in 0..3u8 {
        let mut sender = TcpStream::connect(address(&channel)).expect("connects");
        sender.write_all(&framed(&[round]).repeat(2)).expect("written");
        let (mut of_one, end) = (Vec::new(), Instant::now() + PATIENCE);
        while of_one.len() < 2 {
            assert!(Instant::now() < end, "they never came");
            is_ready(&channel, libc::POLLIN, 1000);
            let (mut frame, mut notes) = ([0; 64], [0; 96]);
            let mut slot = [RxSlot::new(&mut frame, &mut notes)];
            if channel.recv_batch(&mut slot).is_ok() {
                of_one.push(slot[0].producer());
            }
        }
        assert_eq!(of_one[0], of_one[1]);
        assert!(of_one[0] != 0 && !seen.contains(&of_one[0]), "{of_one:?} after {seen:?}");
        seen.push(of_one[0]);
    }
}
