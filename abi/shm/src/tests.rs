//! The ring beside a model of it, and both ends over a real socket.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::memory::{CAPACITY_MIN, Memory};
use crate::protocol::{Word, Words};
use crate::ring::{Reader, Writer};
use crate::wire::{Greeting, Role, greet};
use crate::{Consumer, Error, Producer};

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// Two ends of one ring, as two processes have them.
fn ends(capacity: u64) -> (Writer, Reader) {
    let memory = Memory::new(capacity).expect("memory");
    let copy = memory.descriptor().try_clone_to_owned().expect("a duplicate");
    (Writer::new(memory), Reader::new(Memory::adopt(copy, capacity).expect("the same")))
}

#[test]
fn whatever_is_done_the_ring_is_a_queue() {
    for seed in 1..=40 {
        let mut chance = Chance(seed * 0x9e37_79b9);
        let (mut writer, mut reader) = ends(CAPACITY_MIN);
        let (mut staged, mut queue) = (VecDeque::<Vec<u8>>::new(), VecDeque::<Vec<u8>>::new());
        let mut number = 0u64;
        for _ in 0..5000 {
            match chance.below(8) {
                0..3 => {
                    number += 1;
                    let length = chance.below(if seed % 2 == 0 { 60 } else { 2000 }) as usize;
                    let frame: Vec<u8> = (0..length).map(|at| (number as usize + at) as u8).collect();
                    let (head, rest) = frame.split_at(length / 3);
                    if writer.push(head, rest).expect("an honest reader") {
                        staged.push_back(frame);
                    } else {
                        let held: usize = queue.iter().chain(&staged).map(|f| f.len() + 16).sum();
                        // What was read and not released is held, too.
                        assert!(held + length + 16 + reader.unreleased() as usize > CAPACITY_MIN as usize);
                    }
                }
                3 => {
                    let _ = writer.publish();
                    queue.append(&mut staged);
                }
                4 if chance.below(20) == 0 => {
                    writer.discard();
                    staged.clear();
                }
                5 => {
                    let _ = reader.release();
                }
                _ => {
                    let span = reader.peek().expect("an honest writer");
                    let expected = queue.pop_front();
                    assert_eq!(span.map(|span| span.length), expected.as_ref().map(Vec::len));
                    if let (Some(span), Some(expected)) = (span, expected) {
                        let mut frame = vec![0; span.length];
                        reader.copy(span, &mut frame);
                        assert_eq!(frame, expected);
                        reader.take(span);
                    }
                }
            }
        }
        let _ = reader.release();
        assert_eq!(writer.unread(), queue.len() as u64);
    }
}

#[test]
fn positions_that_cannot_be_are_refused() {
    for (word, value) in [(Word::Tail, 4), (Word::Tail, CAPACITY_MIN + 8), (Word::Tail, u64::MAX - 7)] {
        let (writer, mut reader) = ends(CAPACITY_MIN);
        writer.memory().store(word, value, Ordering::SeqCst);
        assert!(reader.peek().is_err(), "{word:?} {value}");
    }
    for value in [4, 8, u64::MAX - 7] {
        let (mut writer, reader) = ends(CAPACITY_MIN);
        reader.memory().store(Word::Head, value, Ordering::SeqCst);
        assert!(writer.wait_for(8).is_err(), "{value}");
    }
    for length in [9, CAPACITY_MIN as u32, u32::MAX] {
        let (mut writer, mut reader) = ends(CAPACITY_MIN);
        writer.push(b"", b"12345678").expect("room");
        let _ = writer.publish();
        writer.memory().set_length_at(0, length);
        assert!(reader.peek().is_err(), "{length}");
    }
}

#[test]
fn memory_that_could_be_shortened_is_not_mapped() {
    // SAFETY: the name is a C string; the answer is a new descriptor.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"x".as_ptr(), libc::MFD_ALLOW_SEALING)) };
    // SAFETY: the descriptor is ours.
    assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), 8192) }, 0);
    let refused = Memory::adopt(file, CAPACITY_MIN).expect_err("it is not sealed");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    let memory = Memory::new(CAPACITY_MIN).expect("memory");
    // SAFETY: the descriptor is live.
    assert_ne!(unsafe { libc::ftruncate(memory.descriptor().as_raw_fd(), 0) }, 0, "it was shortened");
}

/// A node's end, as far as these tests need it.
fn listen(name: &str) -> std::os::unix::net::UnixListener {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
    std::os::unix::net::UnixListener::bind_addr(&address).expect("it is free")
}

fn serve(
    listener: &std::os::unix::net::UnixListener,
    role: Role,
) -> (std::os::unix::net::UnixStream, Memory) {
    let (socket, _) = listener.accept().expect("somebody");
    let memory = Memory::new(1 << 16).expect("memory");
    let greeting = Greeting { role, capacity: 1 << 16, frame_bytes_max: 1000 };
    greet(socket.as_fd(), &greeting, Some(memory.descriptor())).expect("greeted");
    (socket, memory)
}

#[test]
fn programs_send_and_receive_and_find_the_node_again() {
    let [way_in, way_out] = ["in", "out"].map(|end| format!("tempos-shm-{end}-{}", std::process::id()));
    let mut producer = Producer::new(format!("@{way_in}")).expect("a name");
    let mut consumer = Consumer::new(format!("@{way_out}")).expect("a name");
    assert!(matches!(producer.try_send(b"x"), Err(Error::Disconnected)));
    for round in 1..=2u64 {
        let (ingress, egress) = (listen(&way_in), listen(&way_out));
        std::thread::scope(|scope| {
            let node = scope.spawn(|| {
                let (in_socket, memory) = serve(&ingress, Role::Producer);
                let mut reader = Reader::new(memory);
                let (out_socket, memory) = serve(&egress, Role::Consumer);
                let mut writer = Writer::new(memory);
                let mut passed = 0u64;
                while passed < 20_000 {
                    match reader.peek().expect("an honest producer") {
                        Some(span) => {
                            let mut frame = vec![0; span.length];
                            reader.copy(span, &mut frame);
                            reader.take(span);
                            while !writer.push(b"", &frame).expect("an honest consumer") {
                                if writer.wait_for(frame.len()).expect("honest") {
                                    crate::wire::wait(out_socket.as_fd(), 10_000);
                                    crate::wire::drain(out_socket.as_fd());
                                }
                            }
                            passed += 1;
                            if writer.publish() {
                                crate::wire::ring(out_socket.as_fd());
                            }
                        }
                        None => {
                            crate::wire::drain(in_socket.as_fd());
                            if reader.sleep().expect("honest") {
                                crate::wire::wait(in_socket.as_fd(), 10_000);
                            }
                        }
                    }
                    if reader.release() {
                        crate::wire::ring(in_socket.as_fd());
                    }
                }
                // Whoever reads on receives what was sent before the end.
                drop((in_socket, out_socket));
            });
            let sending = scope.spawn(|| {
                let limit = Some(Duration::from_secs(30));
                producer.send(&0u64.to_le_bytes(), limit).expect("the node came");
                for number in 1..20_000u64 {
                    producer.send(&number.to_le_bytes(), limit).expect("it takes all");
                }
                assert!(matches!(
                    producer.try_send(&[0; 1001]),
                    Err(Error::TooLarge { .. } | Error::Disconnected)
                ));
            });
            let mut next = 0u64;
            while next < 20_000 {
                let frame = match consumer.recv(Some(Duration::from_secs(30))) {
                    Ok(frame) => frame.expect("in time").to_vec(),
                    Err(error) => panic!("frame {next}: {error}"),
                };
                assert_eq!(frame, next.to_le_bytes());
                next += 1;
            }
            assert!(matches!(consumer.recv(Some(Duration::from_secs(30))), Err(Error::Disconnected)));
            assert_eq!(consumer.connections(), round);
            sending.join().expect("sent");
            node.join().expect("served");
        });
        drop((ingress, egress));
        // The producer notes the end as well.
        while producer.is_connected() {
            let _ = producer.try_send(b"x");
        }
    }
    assert_eq!(producer.connections(), 2);
}

#[test]
fn a_program_that_never_waits_notices_the_end_as_well() {
    let name = format!("tempos-shm-ends-{}", std::process::id());
    let listener = listen(&name);
    let mut consumer = Consumer::new(format!("@{name}")).expect("a name");
    let mut node = None;
    while !consumer.is_connected() {
        match consumer.try_recv() {
            Ok(_) | Err(Error::Disconnected) => {}
            Err(error) => panic!("{error}"),
        }
        node.get_or_insert_with(|| serve(&listener, Role::Consumer));
    }
    let (socket, memory) = node.expect("it was served");
    let mut writer = Writer::new(memory);
    assert!(writer.push(b"la", b"st").expect("an honest reader"));
    let _ = writer.publish();
    drop(socket);
    assert_eq!(consumer.try_recv().expect("what was sent before the end"), Some(&b"last"[..]));
    let looks = (0..10_000).find(|_| matches!(consumer.try_recv(), Err(Error::Disconnected)));
    assert!(looks.is_some(), "it looks for ever");
}
