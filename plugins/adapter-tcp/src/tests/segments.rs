//! Large frames in segments, with small ones between.

use tempos_abi::adapter::ChannelTraits;

use super::*;

fn large_egress(to: SocketAddr, numbers: &[(&str, i64)]) -> ChannelSpec {
    let mut spec = egress(to, numbers);
    spec.event_bytes_max = 256 << 10;
    spec
}

/// Works as a host does with a channel that it is called back by, until `enough` says so; `offer` says what is
/// to be sent next.
fn drive<'a>(
    channel: &mut TcpChannel,
    mut offer: impl FnMut(usize) -> Vec<&'a [u8]>,
    mut between: impl FnMut() -> bool,
) {
    let (mut done, end) = (0, Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < end, "it does not go on after {done}");
        let flushed = channel.flush().is_ok();
        let payloads = offer(done);
        let sent = send(channel, &payloads);
        done += sent.as_ref().map_or(0, |sent| *sent);
        if between() && payloads.is_empty() && flushed && channel.flush().is_ok() {
            return;
        }
        if sent.is_err() {
            is_ready(channel, libc::POLLIN, 20);
        }
    }
}

#[test]
fn a_channel_holds_frames_only_where_they_can_be_larger_than_a_segment() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("an address");
    let flushes = |spec: &ChannelSpec| open(spec).traits().has(ChannelTraits::FLUSHES);
    assert!(!flushes(&egress(to, &[])));
    assert!(!flushes(&large_egress(to, &[("segment", 0)])));
    assert!(!flushes(&large_egress(to, &[("segment", 256 << 10)])));
    assert!(flushes(&large_egress(to, &[])));
    assert!(flushes(&egress(to, &[("segment", 1024)])));
}

#[test]
fn small_frames_overtake_a_large_one_and_all_arrive_whole() {
    let mut spec = ingress(&[("receive_buffer", 8192)]);
    spec.event_bytes_max = 256 << 10;
    let mut receiver = open(&spec);
    let mut channel = open(&large_egress(
        address(&receiver),
        &[("segment", 4096), ("send_buffer", 8192), ("unsent", 4096)],
    ));
    let large: Vec<Vec<u8>> =
        (1..4u8).map(|n| (0..251).map(|at| at ^ n).collect::<Vec<u8>>().repeat(900)).collect();
    let small: Vec<Vec<u8>> = (0..60u8).map(|n| vec![n; 100]).collect();
    let mut all: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    all.extend(small.iter().map(Vec::as_slice));
    let mut got = Vec::new();
    let (mut buffer, mut notes) = (vec![0; 256 << 10], [0; 96]);
    drive(
        &mut channel,
        |done| all[done..all.len().min(done + 1)].to_vec(),
        || {
            let mut slot = [RxSlot::new(&mut buffer, &mut notes)];
            if receiver.recv_batch(&mut slot).is_ok() {
                got.push(slot[0].frame().to_vec());
            }
            got.len() == all.len()
        },
    );
    let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<&Vec<u8>> {
        got.iter().filter(|frame| wanted(frame.len())).collect()
    };
    assert!(of(&|bytes| bytes > 4096).into_iter().eq(&large), "large ones keep their order");
    assert!(of(&|bytes| bytes <= 4096).into_iter().eq(&small), "small ones keep their order");
    let first_large = got.iter().position(|frame| frame.len() > 4096).expect("it came");
    assert!(first_large > 5, "only {first_large} small frames overtook the first large one");
}

#[test]
fn small_frames_without_end_do_not_keep_a_large_one_from_leaving() {
    let mut spec = ingress(&[("receive_buffer", 8192)]);
    spec.event_bytes_max = 256 << 10;
    let mut receiver = open(&spec);
    let mut channel = open(&large_egress(
        address(&receiver),
        &[("segment", 4096), ("send_buffer", 8192), ("unsent", 4096)],
    ));
    let (large, small) = (vec![1u8; 100_000], vec![2u8; 1000]);
    let (mut buffer, mut notes) = (vec![0; 256 << 10], [0; 96]);
    let came = std::cell::Cell::new(false);
    drive(
        &mut channel,
        |done| match done {
            0 => vec![&large],
            _ if came.get() => Vec::new(),
            _ => vec![&small; 8],
        },
        || {
            let mut slot = [RxSlot::new(&mut buffer, &mut notes)];
            while receiver.recv_batch(&mut slot).is_ok() {
                came.set(came.get() || slot[0].frame() == large);
            }
            came.get()
        },
    );
}

#[test]
fn slots_are_bounded_and_what_finds_none_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec = large_egress(listener.local_addr().expect("an address"), &[("send_buffer", 8192)]);
    let mut channel = open(&spec);
    let large = vec![1u8; 200_000];
    assert_eq!(send(&mut channel, &[&large[..]; 6]).ok(), Some(4));
    let error = send(&mut channel, &[&large]).expect_err("it fitted");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(send(&mut channel, &[b"small"]).ok(), Some(1), "a small one has its way");
}

#[test]
fn a_frame_that_was_held_when_the_receiver_went_goes_whole_to_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let spec =
        large_egress(listener.local_addr().expect("an address"), &[("segment", 4096), ("send_buffer", 8192)]);
    let mut channel = open(&spec);
    let large = (0..251).collect::<Vec<u8>>().repeat(800);
    let (mut first, _) = listener.accept().expect("accepts");
    assert_eq!(send(&mut channel, &[&large]).ok(), Some(1));
    assert_eq!(channel.flush().expect_err("more is left").kind(), std::io::ErrorKind::WouldBlock);
    first.read_exact(&mut [0; 1000]).expect("read");
    drop(first);
    let accepting = std::thread::spawn(move || {
        let (mut second, _) = listener.accept().expect("accepts");
        second.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut stream = vec![0; large.len() + 4 * large.len().div_ceil(4096)];
        second.read_exact(&mut stream).expect("read");
        let whole: Vec<u8> = stream.chunks(4100).flat_map(|segment| &segment[4..]).copied().collect();
        assert!(whole == large, "it is not the frame");
    });
    let end = Instant::now() + PATIENCE;
    while channel.flush().is_err() {
        assert!(Instant::now() < end, "it never left");
        is_ready(&channel, libc::POLLIN, 1000);
    }
    assert_eq!(spec.counters.send_errors.get(), 0);
    accepting.join().expect("it arrives");
}

#[test]
fn large_and_small_frames_are_acknowledged_in_the_order_in_which_they_ended() {
    let mut spec = ingress(&[]);
    spec.event_bytes_max = 256 << 10;
    spec.options.set("acknowledge", OptionValue::Flag(true));
    let mut receiver = open(&spec);
    let mut spec = large_egress(address(&receiver), &[("segment", 4096)]);
    spec.options.set("acknowledge", OptionValue::Flag(true));
    let mut channel = open(&spec);
    let large = vec![1u8; 200_000];
    let payloads: [&[u8]; 4] = [&large, b"a", &large, b"b"];
    let frames: Vec<_> = (1..)
        .zip(payloads)
        .map(|(event_id, payload)| TxFrame { event_id, ..TxFrame::payload(payload, QosLevel::STRICT) })
        .collect();
    assert_eq!(channel.send_batch(&frames).ok(), Some(4));
    let (mut buffer, mut notes) = (vec![0; 256 << 10], [0; 96]);
    let (mut arrived, mut told, end) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
    while told.len() < 4 {
        assert!(Instant::now() < end, "{arrived:?} came, {told:?} were told of");
        is_ready(&channel, libc::POLLIN, 5);
        let mut receipts = [tempos_abi::adapter::Receipt::empty(); 4];
        let count = channel.receipts(&mut receipts);
        told.extend(receipts[..count].iter().map(|receipt| {
            assert_eq!(receipt.verdict, tempos_abi::adapter::Receipt::DELIVERED);
            receipt.event_id
        }));
        let _ = channel.flush();
        let mut slot = [RxSlot::new(&mut buffer, &mut notes)];
        if receiver.recv_batch(&mut slot).is_ok() {
            arrived.push(slot[0].frame().len());
        }
    }
    assert_eq!((arrived, told), (vec![1, 1, 200_000, 200_000], vec![2, 4, 1, 3]));
}
