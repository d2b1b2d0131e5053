use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, ChannelTraits, Direction};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, OptionValue, Options, QosLevel};
use tempos_shm::{Consumer, Error, Producer};

use crate::channel::{Shm, ShmChannel};

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tempos-shm-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Folder(folder)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn spec(direction: Direction, options: &[(&str, &str)]) -> ChannelSpec {
    let mut table = Options::new();
    for (key, value) in options {
        let number = value.parse().ok().filter(|_| *key != "mode").map(OptionValue::Integer);
        table.set(key, number.unwrap_or(OptionValue::Text((*value).into())));
    }
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 1024,
        batch_max: 16,
        options: table,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn open(spec: &ChannelSpec) -> ShmChannel {
    Shm.open(spec).unwrap_or_else(|error| panic!("{error}"))
}

/// What is waiting, read in calls of `slots` slots until nothing is.
fn drain(channel: &mut ShmChannel, slots: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffers = vec![([0u8; 1024], [0u8; 96]); slots];
    let mut got = Vec::new();
    loop {
        let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
        match channel.recv_batch(&mut slots) {
            Ok(n) => got.extend(slots[..n].iter().map(|s| (s.frame().to_vec(), s.attributes().to_vec()))),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                return got;
            }
        }
    }
}

fn frames(got: &[(Vec<u8>, Vec<u8>)]) -> Vec<&[u8]> {
    got.iter().map(|(frame, _)| &frame[..]).collect()
}

fn send(channel: &mut ShmChannel, payload: &[u8]) -> std::io::Result<usize> {
    channel.send_batch(&[TxFrame::payload(payload, QosLevel::STRICT)])
}

fn is_readable(channel: &ShmChannel, wait_ms: i32) -> bool {
    let mut asked = libc::pollfd { fd: channel.readiness(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, wait_ms) == 1 }
}

/// Connects while the channel takes in who comes, as its lane does.
fn joined<T>(channel: &mut ShmChannel, mut look: impl FnMut() -> Result<T, Error>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match look() {
            Ok(found) => return found,
            Err(Error::Disconnected) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
        match channel {
            ShmChannel::Egress(egress) => egress.flush().expect("nothing is left"),
            ShmChannel::Ingress(_) => drop(drain(channel, 4)),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn producer(path: &str, channel: &mut ShmChannel) -> Producer {
    let mut producer = Producer::new(path).expect("a name");
    joined(channel, || producer.try_send_batch::<&[u8]>([]));
    producer
}

fn consumer(path: &str, channel: &mut ShmChannel) -> Consumer {
    let mut consumer = Consumer::new(path).expect("a name");
    joined(channel, || consumer.try_recv().map(|_| ()));
    consumer
}

/// A direction, options, and the sentence that refuses them.
type Case<'a> = (Direction, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let cases: &[Case<'_>] = &[
        (
            Direction::INGRESS,
            &[],
            "it needs path, the socket to listen at, or connect, the one to connect to",
        ),
        (
            Direction::EGRESS,
            &[("path", "/x"), ("connect", "/y")],
            "path and connect exclude each other: it listens, or it connects",
        ),
        (Direction::INGRESS, &[("path", "@")], "path = \"@\" has no name; write \"@NAME\""),
        (Direction::EGRESS, &[("connect", "/x"), ("mode", "0600")], "mode goes with path only; leave it out"),
        (
            Direction::EGRESS,
            &[("connect", "/x"), ("capacity", "8192")],
            "capacity goes with path only: who listens makes the ring; leave it out",
        ),
        (
            Direction::INGRESS,
            &[("path", "/x"), ("connections", "65")],
            "connections = 65 is not within 1 to 64",
        ),
        (
            Direction::INGRESS,
            &[("path", "/x"), ("capacity", "9")],
            "capacity = 9 bytes is not within 4KiB to 1GiB",
        ),
    ];
    for (direction, options, sentence) in cases {
        let error = Shm.open(&spec(*direction, options)).map(|_| ()).expect_err("it opened");
        assert_eq!(error.message.as_str(), format!("shm channel \"x\": {sentence}"));
    }
    let mut large = spec(Direction::INGRESS, &[("path", "/x"), ("capacity", "4096")]);
    large.event_bytes_max = 4000;
    let error = Shm.open(&large).map(|_| ()).expect_err("it opened");
    assert!(error.message.contains("does not hold two of the largest events"), "{error}");
}

#[test]
fn programs_are_served_fairly_known_by_the_kernel_and_numbered() {
    let folder = Folder::new("fair");
    let path = folder.at("s");
    let spec = spec(Direction::INGRESS, &[("path", &path), ("connections", "2")]);
    let mut channel = open(&spec);
    let mut producers = [producer(&path, &mut channel), producer(&path, &mut channel)];
    assert!(!is_readable(&channel, 0));
    let mut third = Producer::new(&path).expect("a name");
    let until = Instant::now() + Duration::from_secs(10);
    let refused = loop {
        match third.try_send(b"x") {
            Err(Error::Disconnected) if Instant::now() < until => drop(drain(&mut channel, 4)),
            other => break other.expect_err("there is no place"),
        }
    };
    assert!(refused.to_string().contains("no place"), "{refused}");
    assert_eq!((spec.counters.refused.get(), spec.counters.connections.get()), (1, 2));
    for producer in &mut producers {
        for number in 0..8u8 {
            producer.try_send(&[number]).expect("room");
        }
    }
    assert!(is_readable(&channel, 1000));
    let mut buffers = vec![([0u8; 16], [0u8; 96]); 8];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    assert_eq!(channel.recv_batch(&mut slots).expect("fills"), 8);
    assert_eq!(slots.iter().filter(|slot| slot.producer() == slots[0].producer()).count(), 4);
    assert!(slots.iter().all(|slot| slot.producer() != 0));
    let pid = Attributes::new(slots[0].attributes()).get("peer.pid").map(|pid| format!("{pid:?}"));
    assert_eq!(pid, Some(format!("{:?}", AttributeValue::Unsigned(u64::from(std::process::id())))));
    assert!(is_readable(&channel, 0), "there is more, and it does not say so");
    assert_eq!(drain(&mut channel, 3).len(), 8);
    assert!(!is_readable(&channel, 0));
    // What was sent before the end counts; one that went makes room.
    let [mut first, second] = producers;
    first.try_send(b"last").expect("room");
    drop((first, second));
    assert_eq!(frames(&drain(&mut channel, 4)), [b"last"]);
    drain(&mut channel, 1);
    assert_eq!(spec.counters.connections.get(), 0);
    joined(&mut channel, || match third.try_send(b"third") {
        Err(Error::Refused(_)) => Err(Error::Disconnected),
        other => other,
    });
}

#[test]
fn a_full_ring_makes_both_sides_wait_and_loses_nothing() {
    let folder = Folder::new("full");
    let path = folder.at("in");
    let mut ingress = open(&spec(Direction::INGRESS, &[("path", &path), ("capacity", "4096")]));
    let mut producer = producer(&path, &mut ingress);
    let mut sent = 0u64;
    while producer.try_send(&[7; 100]).is_ok() {
        sent += 1;
    }
    assert!(producer.wants_room(100).expect("connected") && producer.unread() == sent);
    let mut asked = libc::pollfd { fd: fd_of(&producer), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    assert_eq!(unsafe { libc::poll(&raw mut asked, 1, 0) }, 0);
    assert_eq!(drain(&mut ingress, 16).len() as u64, sent);
    // SAFETY: one live entry.
    assert_eq!(unsafe { libc::poll(&raw mut asked, 1, 5000) }, 1, "nobody told it of the room");
    producer.try_send(b"on").expect("room");
    // The other way.
    let path = folder.at("out");
    let spec = spec(Direction::EGRESS, &[("path", &path), ("capacity", "4096")]);
    let mut egress = open(&spec);
    assert!(egress.traits().has(ChannelTraits::FLUSHES));
    let error = send(&mut egress, b"nobody").expect_err("nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN), "the host may have another receiver");
    let mut consumer = consumer(&path, &mut egress);
    let mut sent = 0u8;
    while send(&mut egress, &[sent; 100]).is_ok() {
        sent += 1;
    }
    egress.flush().expect("nothing is left");
    assert!(!is_readable(&egress, 0));
    for number in 0..sent {
        assert_eq!(consumer.try_recv().expect("connected"), Some(&[number; 100][..]));
    }
    assert_eq!(consumer.try_recv().expect("connected"), None);
    assert!(is_readable(&egress, 5000), "nobody told it of the room");
    egress.flush().expect("nothing is left");
    assert_eq!(send(&mut egress, b"on").expect("room"), 1);
    assert!(!is_readable(&egress, 0));
    assert_eq!(spec.counters.send_errors.get(), 0);
    // Room that is made between the refusal and the flush that a host makes after it is not forgotten.
    while consumer.try_recv().expect("connected").is_some() {}
    while send(&mut egress, &[1; 100]).is_ok() {}
    while consumer.try_recv().expect("connected").is_some() {}
    egress.flush().expect("nothing is left");
    assert!(is_readable(&egress, 0), "there is room, and it does not say so");
    egress.flush().expect("nothing is left");
    assert!(!is_readable(&egress, 0), "it says so for ever");
    assert_eq!(send(&mut egress, b"on").expect("room"), 1);
    // A consumer that goes: what it had not released is counted.
    egress.flush().expect("the one after each call");
    drop(consumer);
    assert!(is_readable(&egress, 5000));
    egress.flush().expect("nothing is left");
    assert_eq!((spec.counters.send_errors.get(), spec.counters.connections.get()), (1, 0));
}

fn fd_of(end: &impl std::os::fd::AsFd) -> i32 {
    use std::os::fd::AsRawFd;
    end.as_fd().as_raw_fd()
}

#[test]
fn a_successor_takes_over_rings_and_all() {
    let folder = Folder::new("successor");
    let path = folder.at("in");
    let mut of = spec(Direction::INGRESS, &[("path", &path)]);
    let mut first = open(&of);
    let mut producer = producer(&path, &mut first);
    producer.try_send(b"one").expect("room");
    producer.try_send(b"two").expect("room");
    of.inherited_descriptor = first.take_over();
    let mut second = open(&of);
    // The predecessor reads on until the lane changes over.
    let mut buffer = ([0u8; 16], [0u8; 96]);
    assert_eq!(first.recv_batch(&mut [RxSlot::new(&mut buffer.0, &mut buffer.1)]).expect("one"), 1);
    drop(first);
    producer.try_send(b"three").expect("room");
    assert_eq!(frames(&drain(&mut second, 4)), [&b"two"[..], b"three"]);
    assert_eq!(producer.connections(), 1);
    assert!(Path::new(&path).exists());
    // One that is given up takes nothing with it.
    of.inherited_descriptor = second.take_over();
    drop(open(&of));
    producer.try_send(b"four").expect("room");
    assert!(is_readable(&second, 1000));
    assert_eq!(frames(&drain(&mut second, 4)), [b"four"]);
    drop(second);
    assert!(!Path::new(&path).exists());

    let path = folder.at("out");
    let mut of = spec(Direction::EGRESS, &[("path", &path)]);
    let mut first = open(&of);
    let mut consumer = consumer(&path, &mut first);
    send(&mut first, b"one").expect("room");
    of.inherited_descriptor = first.take_over();
    let mut second = open(&of);
    drop(first);
    send(&mut second, b"two").expect("room");
    for expected in [b"one", b"two"] {
        assert_eq!(consumer.try_recv().expect("connected"), Some(&expected[..]));
    }
    assert_eq!((consumer.connections(), of.counters.send_errors.get()), (1, 0));
}

#[test]
fn two_nodes_are_joined_whichever_listens() {
    let folder = Folder::new("joined");
    for listens in [Direction::INGRESS, Direction::EGRESS] {
        let path = folder.at(&format!("s{}", listens.0));
        let key = |direction| if direction == listens { "path" } else { "connect" };
        let mut ingress = open(&spec(Direction::INGRESS, &[(key(Direction::INGRESS), &path)]));
        let mut egress = open(&spec(Direction::EGRESS, &[(key(Direction::EGRESS), &path)]));
        let until = Instant::now() + Duration::from_secs(10);
        while frames(&drain(&mut ingress, 4)) != [b"x"] {
            assert!(Instant::now() < until, "not joined");
            let _ = send(&mut egress, b"x");
            is_readable(&ingress, 50);
        }
        for number in 0..1000u32 {
            assert_eq!(send(&mut egress, &number.to_le_bytes()).expect("room"), 1);
            assert!(is_readable(&ingress, 5000));
            assert_eq!(frames(&drain(&mut ingress, 4)), [number.to_le_bytes()]);
        }
    }
}

/// Numbers that look like chance.
fn chance(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Writes nonsense over the words and the ring of a peer's own mapping, and tells the channel to look.
#[test]
fn whatever_a_peer_writes_the_channel_goes_on() {
    use tempos_shm::connector::Connector;
    use tempos_shm::wire::{Role, ring};
    const MUTATIONS: u32 = 100_000;
    let folder = Folder::new("hostile");
    let (way_in, way_out) = (folder.at("in"), folder.at("out"));
    let in_spec = spec(Direction::INGRESS, &[("path", &way_in), ("capacity", "4096")]);
    let out_spec = spec(Direction::EGRESS, &[("path", &way_out), ("capacity", "4096")]);
    let (mut ingress, mut egress) = (open(&in_spec), open(&out_spec));
    let (stop, finished) = (&AtomicBool::new(false), &AtomicU32::new(0));
    std::thread::scope(|scope| {
        for (path, role, seed) in
            [(way_in, Role::Producer, 0x1234_5678u64), (way_out, Role::Consumer, 0x9876_5432)]
        {
            scope.spawn(move || {
                let mut state = seed;
                let mut joined = None;
                let mut connector = Connector::new(Path::new(&path), role).expect("a name");
                let mut done = 0;
                while done < MUTATIONS && !stop.load(Ordering::Relaxed) {
                    let Some((socket, start)) = &joined else {
                        connector.hurry();
                        if let Ok(Some(found)) = connector.look() {
                            // The words' page lies before the ring.
                            let start = found.memory.frame_at(0).wrapping_sub(8 + 4096);
                            joined = Some((found.socket, start as usize));
                            std::mem::forget(found.memory);
                        } else {
                            std::thread::yield_now();
                        }
                        continue;
                    };
                    for _ in 0..32 {
                        let offset = match chance(&mut state) % 3 {
                            // The words themselves, then all of it.
                            0 => [128, 136, 256, 264, 384, 512][chance(&mut state) as usize % 6],
                            _ => (chance(&mut state) as usize % (8192 - 8)) & !7,
                        };
                        let value = match chance(&mut state) % 4 {
                            0 => chance(&mut state),
                            1 => (chance(&mut state) % 8192) & !7,
                            2 => u64::MAX - chance(&mut state) % 64,
                            _ => chance(&mut state) % 64,
                        };
                        // SAFETY: an aligned word within the mapping, which is never unmapped.
                        unsafe { ((start + offset) as *mut u64).write_volatile(value) };
                        done += 1;
                    }
                    use std::os::fd::AsFd;
                    let stands = ring(socket.as_fd());
                    std::thread::yield_now();
                    if !stands || chance(&mut state).is_multiple_of(512) {
                        joined = None;
                    }
                }
                finished.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut buffers = vec![([0u8; 1024], [0u8; 96]); 8];
        let until = Instant::now() + Duration::from_secs(60);
        while finished.load(Ordering::Relaxed) < 2 && Instant::now() < until {
            let mut slots: Vec<_> =
                buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
            if let Ok(filled) = ingress.recv_batch(&mut slots) {
                assert!(filled <= 8);
            }
            let _ = egress.send_batch(&[TxFrame::payload(&[7; 700], QosLevel::STRICT); 4]);
            egress.flush().expect("nothing is left");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(finished.load(Ordering::Relaxed), 2, "the peers were not served to the end");
    assert!(in_spec.counters.malformed.get() > 0 && out_spec.counters.malformed.get() > 0);
    // An honest one is served as if nothing had been.
    drain(&mut ingress, 8);
    let mut honest = producer(&folder.at("in"), &mut ingress);
    honest.try_send(b"honest").expect("room");
    assert_eq!(frames(&drain(&mut ingress, 4)), [b"honest"]);
}
