//! What goes out: to slow readers, to none, to one that comes back.

use super::*;

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
    let mut spec = egress(listener.local_addr().expect("an address"), &[("segment", 0)]);
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
    let error = send(&mut channel, &[b"a", b"b"]).expect_err("nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN), "the host may have another receiver");
    assert_eq!(spec.counters.send_errors.get(), 0, "nothing is given up");
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

#[test]
fn the_lanes_marks_are_set_again_on_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec = egress(listener.local_addr().expect("an address"), &[]);
    let mut channel = open(&spec);
    let qos = LaneQos { dscp: 46, socket_priority: 5, ..LaneQos::unmarked(QosLevel::STRICT) };
    let grant = channel.set_qos(&qos).expect("answered");
    assert_eq!(grant.reason, "DSCP 46 (Wi-Fi: voice), SO_PRIORITY 5");
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
