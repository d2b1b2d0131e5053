//! Whatever comes out of the socket, it is an answer or nothing.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::codec::{ANSWERS, bytes};
use crate::clock::{Clock, ClockConfig};
use crate::message::decode;
use crate::watch::Role;

proptest! {
    #[test]
    fn bytes_of_any_kind_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn answers_that_were_changed_are_survived(
        which in 0..ANSWERS.len(),
        changes in prop::collection::vec((0usize..110, any::<u8>()), 0..8),
        length in 0usize..110,
    ) {
        let mut answer = bytes(ANSWERS[which]);
        for (at, value) in changes {
            if let Some(byte) = answer.get_mut(at) {
                *byte = value;
            }
        }
        answer.truncate(length);
        let _ = decode(&answer);
    }
}

/// Answers as ptp4l does, with garbage before, between and behind: truncated, oversized, of another round, of another
/// domain, questions, noise.
fn answer_with_garbage(socket: &UnixDatagram, sync: &mut u64) {
    let mut question = [0; 200];
    let Ok((length, from)) = socket.recv_from(&mut question) else {
        std::thread::sleep(Duration::from_millis(1));
        return;
    };
    let Some(asker) = from.as_pathname() else { return };
    let send = |bytes: &[u8]| {
        let _ = socket.send_to(bytes, asker);
    };
    let which = match question[length - 2..length] {
        [0x20, 0x03] => 1,
        [0x20, 0x04] => 2,
        _ => 3,
    };
    let mut answer = bytes(ANSWERS[which]);
    answer[30..32].copy_from_slice(&question[30..32]);
    *sync += 1;
    match which {
        // SLAVE
        2 => answer[64] = 9,
        3 => answer[62..70].copy_from_slice(&sync.to_be_bytes()),
        _ => {}
    }
    send(&[]);
    send(&[0xff; 1600]);
    send(&answer[..answer.len() - 1]);
    send(&question[..length]);
    let mut other = answer.clone();
    other[30] ^= 0x55;
    other[54..58].fill(0x7f);
    send(&other);
    other.clone_from(&answer);
    other[4] = 9;
    other[54..58].fill(0x7f);
    send(&other);
    send(&answer);
    let noise: Vec<u8> =
        (0..97).map(|byte: u64| (byte.wrapping_mul(*sync).wrapping_mul(31) >> 3) as u8).collect();
    send(&noise);
}

#[test]
fn garbage_between_answers_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ptp4l");
    let server = UnixDatagram::bind(&path).expect("a socket");
    // It never waits for the asker: both are one thread here.
    server.set_nonblocking(true).expect("set");
    let mut config = ClockConfig::new(&path, folder.path());
    config.bounds.role = Role::Follower;
    config.bounds.hold_ns = 50_000_000;
    config.bounds.silence_max_ns = 20_000_000_000;
    config.pace_ns = 5_000_000;
    let mut clock = Clock::new(config).expect("a socket");
    let (mut sync, mut granted, begun) = (0, 0, Instant::now());
    while granted < 50 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", clock.poll());
        let state = clock.poll();
        match state.granted {
            true => granted += 1,
            false => assert_eq!(granted, 0, "it was lost: {}", state.reason),
        }
        for _ in 0..6 {
            answer_with_garbage(&server, &mut sync);
            // What has come makes room for the next: a socket of this kind holds ten.
            clock.poll();
        }
    }
    let state = clock.poll();
    assert!(state.garbage > 0 && state.offset_ns == Some(275), "{state:?}");
}

#[test]
fn one_that_is_not_there_or_has_no_such_port_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ptp4l");
    let mut config = ClockConfig::new(&path, folder.path());
    config.bounds.silence_max_ns = 10_000_000;
    config.pace_ns = 1_000_000;
    config.port = 2;
    let mut clock = Clock::new(config).expect("a socket");
    let mut until = |words: &str, answer: &mut dyn FnMut()| {
        let begun = Instant::now();
        loop {
            let state = clock.poll();
            assert!(!state.granted);
            if state.reason.contains(words) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{words:?} is not in {:?}", state.reason);
            answer();
        }
    };
    until("ptp4l: No such file or directory", &mut || {});
    let server = UnixDatagram::bind(&path).expect("a socket");
    server.set_nonblocking(true).expect("set");
    until("it has no port 2", &mut || answer_with_garbage(&server, &mut 0));
    drop(server);
    until("ptp4l: Connection refused", &mut || {});
    drop(clock);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["ptp4l"], "its own socket is gone with it");
}
