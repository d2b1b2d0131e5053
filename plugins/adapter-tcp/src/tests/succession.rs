//! A channel in the place of another, with the connections of that one.

use super::*;
use crate::frames::segment_word;
use crate::handover::Parts;

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

/// The socket between the two is full again and again, and the successor reads what is there each time.
#[test]
fn what_a_predecessor_hands_over_may_come_in_parts() {
    let listener = Socket::from(TcpListener::bind("127.0.0.1:0").expect("listens"));
    let to = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let (near, far) = handover::pair().expect("made");
    near.set_send_buffer_size(4096).expect("sized");
    let frame = (0..251).collect::<Vec<u8>>().repeat(200);
    let cut = framed(&frame).len() - 500;
    handover::send(&near, listener.as_fd(), &Parts::default(), &[], || false).expect("sent");
    let mut spec = ChannelSpec { inherited_descriptor: OwnedFd::from(far).into_raw_fd(), ..spec_at(to) };
    spec.event_bytes_max = 64 << 10;
    let mut channel = open(&spec);
    let mut sender = TcpStream::connect(to).expect("connects");
    let (connection, _) = listener.accept().expect("accepts");
    let mut waits = 0;
    let wait = || {
        assert!(receive(&mut channel, 4).is_none(), "half a frame came out");
        waits += 1;
        waits < 1000
    };
    let parts = Parts { unread: cut, ..Parts::default() };
    handover::send(&near, connection.as_fd(), &parts, &framed(&frame)[..cut], wait).expect("sent");
    drop((near, connection));
    assert!(waits > 2, "it came in one part");
    sender.write_all(&framed(&frame)[cut..]).expect("written");
    let (mut buffer, mut notes, end) = (vec![0; 64 << 10], [0; 96], Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < end, "it never came");
        is_ready(&channel, libc::POLLIN, 1000);
        let mut slot = [RxSlot::new(&mut buffer, &mut notes)];
        if channel.recv_batch(&mut slot).is_ok() {
            assert!(slot[0].frame() == frame, "bytes are not where they belong");
            break;
        }
    }
}

#[test]
fn a_successor_goes_on_in_the_middle_of_segments() {
    let mut first = open(&ingress(&[]));
    let to = address(&first);
    let mut sender = TcpStream::connect(to).expect("connects");
    let segment = |stream: u32, more: bool, bytes: &[u8]| {
        [&segment_word(stream, more, bytes.len()).to_be_bytes(), bytes].concat()
    };
    // Two frames that go on, one that is too large already, one whole, and half a segment.
    let half = segment(1, true, &[5; 400]);
    let begun = [
        segment(1, true, &[1; 700]),
        segment(3, true, &[3; 900]),
        segment(2, true, &[2; 1800]),
        segment(2, true, &[2; 1800]),
        framed(b"whole"),
        half[..123].to_vec(),
    ];
    sender.write_all(&begun.concat()).expect("written");
    assert_eq!(until(&mut first, 1, |frames| !frames.is_empty()), [b"whole"]);
    let successor = ChannelSpec { inherited_descriptor: first.take_over(), ..spec_at(to) };
    let mut second = open(&successor);
    first.close(0);
    drop(first);
    let rest = [
        half[123..].to_vec(),
        segment(2, false, b"2"),
        segment(3, false, &[4; 100]),
        segment(1, false, b"end"),
    ];
    sender.write_all(&rest.concat()).expect("written");
    let got = until(&mut second, 2, |frames| frames.len() == 3);
    let three = [vec![3; 900], vec![4; 100]].concat();
    let one = [vec![1; 700], vec![5; 400], b"end".to_vec()].concat();
    assert_eq!(got, [Vec::new(), three, one]);
    assert_eq!(successor.counters.malformed.get(), 0);
}
