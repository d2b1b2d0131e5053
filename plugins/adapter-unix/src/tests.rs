//! Real sockets: frames, senders, receivers that go and come, and what is acknowledged.

mod acknowledge;
mod speed;

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, Direction};
use tempos_abi::attributes::{AttributeValue, Attributes};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, OptionValue, Options, PluginError, QosLevel};

use crate::channel::{Unix, UnixChannel};

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tempos-unix-{test}-{}", std::process::id()));
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
    options.iter().for_each(|(key, value)| {
        let number = value.parse().map(OptionValue::Integer);
        table.set(
            key,
            if *key == "mode" { Err(()) } else { number.map_err(|_| ()) }
                .unwrap_or(OptionValue::Text((*value).into())),
        );
    });
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 2048,
        batch_max: 16,
        options: table,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn open(spec: &ChannelSpec) -> UnixChannel {
    Unix.open(spec).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(spec: &ChannelSpec) -> String {
    let error: PluginError = Unix.open(spec).map(|_| ()).expect_err("it opened");
    error.message.into_string()
}

fn ingress(path: &str, kind: &str) -> ChannelSpec {
    spec(Direction::INGRESS, &[("path", path), ("type", kind)])
}

fn egress(path: &str, kind: &str) -> ChannelSpec {
    spec(Direction::EGRESS, &[("path", path), ("type", kind)])
}

fn send(channel: &mut UnixChannel, payload: &[u8]) -> usize {
    channel.send_batch(&[TxFrame::payload(payload, QosLevel::STRICT)]).expect("goes on")
}

/// Sends where nobody is: the host may have another receiver.
fn send_to_nobody(channel: &mut UnixChannel, payload: &[u8]) {
    let error =
        channel.send_batch(&[TxFrame::payload(payload, QosLevel::STRICT)]).expect_err("nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
}

/// What is waiting, read in calls of `slots` slots until nothing is.
fn drain(channel: &mut UnixChannel, slots: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffers = vec![([0u8; 2048], [0u8; 96]); slots];
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

fn client(path: &str) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.connect(&SockAddr::unix(path).expect("an address")).expect("connects");
    socket
}

fn is_readable(descriptor: RawFd) -> bool {
    let mut asked = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

/// A direction, options, and the sentence that refuses them.
type Case<'a> = (Direction, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let long = format!("/tmp/{}", "x".repeat(110));
    let long_sentence = format!("path = {long:?} has 115 bytes; a unix socket's path has at most 107");
    let cases: &[Case<'_>] = &[
        (Direction::INGRESS, &[], "an ingress channel needs path, the socket to listen at"),
        (Direction::EGRESS, &[], "an egress channel needs path, the socket to send to"),
        (Direction::INGRESS, &[("path", &long)], &long_sentence),
        (Direction::INGRESS, &[("path", "@")], "path = \"@\" has no name; write \"@NAME\""),
        (
            Direction::EGRESS,
            &[("path", "/x"), ("type", "stream")],
            "type = \"stream\" is neither \"datagram\" nor \"seqpacket\"",
        ),
        (
            Direction::EGRESS,
            &[("path", "/x"), ("mode", "0600")],
            "mode is for ingress channels only; leave it out",
        ),
        (
            Direction::INGRESS,
            &[("path", "/x"), ("mode", "rw")],
            "mode = \"rw\" is not an octal mode of 0 to 0777, such as \"0660\"",
        ),
        (
            Direction::INGRESS,
            &[("path", "/x"), ("group", "no such group")],
            "group = \"no such group\" is not a group of this machine",
        ),
        (
            Direction::INGRESS,
            &[("path", "/x"), ("connections", "0")],
            "connections = 0 is not within 1 to 1024",
        ),
    ];
    for (direction, options, sentence) in cases {
        assert_eq!(refused(&spec(*direction, options)), format!("unix channel \"x\": {sentence}"));
    }
    let nowhere = refused(&ingress("/nowhere/x.sock", "datagram"));
    assert!(nowhere.contains("(make the folder /nowhere first)"), "{nowhere}");
}

#[test]
fn frames_go_from_channel_to_channel_in_order_also_empty_ones() {
    let folder = Folder::new("order");
    for (kind, slots) in [("datagram", 1), ("datagram", 16), ("seqpacket", 1), ("seqpacket", 16)] {
        let path = folder.at(&format!("{kind}{slots}"));
        let mut receiver = open(&ingress(&path, kind));
        let mut sender = open(&egress(&path, kind));
        assert_eq!(receiver.address(), format!("unix://{path}"));
        for (round, payloads) in [[&b""[..], b"b", b""], [b"d", b"", b"f"]].iter().enumerate() {
            let batch = payloads.map(|payload| TxFrame::payload(payload, QosLevel::STRICT));
            assert_eq!(sender.send_batch(&batch).expect("sends"), 3);
            assert!(is_readable(receiver.readiness()));
            assert_eq!(frames(&drain(&mut receiver, slots)), payloads, "{kind} {slots} round {round}");
        }
        assert!(!is_readable(receiver.readiness()));
    }
}

#[test]
fn the_kernel_says_who_sent_a_frame() {
    let folder = Folder::new("peer");
    for kind in ["datagram", "seqpacket"] {
        let path = folder.at(kind);
        let mut receiver = open(&ingress(&path, kind));
        send(&mut open(&egress(&path, kind)), b"me");
        let got = drain(&mut receiver, 4);
        let attributes = Attributes::new(&got[0].1);
        // SAFETY: the calls only answer.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        for (key, value) in [
            ("peer.pid", u64::from(std::process::id())),
            ("peer.uid", u64::from(uid)),
            ("peer.gid", u64::from(gid)),
        ] {
            assert_eq!(attributes.get(key), Some(AttributeValue::Unsigned(value)), "{kind} {key}");
        }
    }
}

#[test]
fn a_receiver_may_come_later_go_and_come_back() {
    let folder = Folder::new("later");
    for kind in ["datagram", "seqpacket"] {
        let path = folder.at(kind);
        let spec = egress(&path, kind);
        let mut sender = open(&spec);
        let descriptor = sender.readiness();
        send_to_nobody(&mut sender, b"nobody");
        assert_eq!(spec.counters.send_errors.get(), 0, "nothing is given up");
        for round in 0..2 {
            let mut receiver = open(&ingress(&path, kind));
            let until = Instant::now() + Duration::from_secs(10);
            while drain(&mut receiver, 1).is_empty() {
                assert!(Instant::now() < until, "{kind}: not reconnected in round {round}");
                let _ = sender.send_batch(&[TxFrame::payload(b"back", QosLevel::STRICT)]);
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(sender.readiness(), descriptor);
            drop(receiver);
            assert!(!Path::new(&path).exists(), "the file of a closed channel stays");
        }
    }
}

#[test]
fn a_receiver_that_does_not_read_makes_the_sender_wait_not_lose() {
    let folder = Folder::new("slow");
    for kind in ["datagram", "seqpacket"] {
        let path = folder.at(kind);
        let mut receiver = open(&ingress(&path, kind));
        let spec = egress(&path, kind);
        let mut sender = open(&spec);
        let mut sent = 0usize;
        while let Ok(n) = sender.send_batch(&[TxFrame::payload(&[0; 500], QosLevel::STRICT)]) {
            sent += n;
            assert!(sent < 1_000_000, "the kernel's buffer has no end");
            if sent == 1 {
                // The connection is taken in before the rest is sent.
                assert_eq!(drain(&mut receiver, 1).len(), 1);
            }
        }
        let mut asked = libc::pollfd { fd: sender.readiness(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one live entry.
        assert_eq!(unsafe { libc::poll(&raw mut asked, 1, 0) }, 0, "{kind}: full, and yet writable");
        assert_eq!(drain(&mut receiver, 16).len(), sent - 1);
        // SAFETY: one live entry.
        assert_eq!(unsafe { libc::poll(&raw mut asked, 1, 5000) }, 1, "{kind}: not writable again");
        assert_eq!((send(&mut sender, b"on"), spec.counters.send_errors.get()), (1, 0));
    }
}

#[test]
fn senders_share_a_call_fairly_and_a_broken_one_harms_nobody() {
    let folder = Folder::new("fair");
    let path = folder.at("s");
    let spec = spec(Direction::INGRESS, &[("path", &path), ("type", "seqpacket"), ("connections", "3")]);
    let mut receiver = open(&spec);
    let clients: Vec<Socket> = (0..3).map(|_| client(&path)).collect();
    for n in 0..8u8 {
        clients[0].send(&[0, n]).expect("sends");
    }
    clients[1].send(&[1, 0]).expect("sends");
    clients[2].send(&[2, 0]).expect("sends");
    assert_eq!(drain(&mut receiver, 1).len(), 10);
    clients.iter().for_each(|client| (0..8u8).for_each(|n| drop(client.send(&[9, n]))));
    let mut buffers = vec![([0u8; 16], [0u8; 96]); 6];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    assert_eq!(receiver.recv_batch(&mut slots).expect("fills"), 6);
    let firsts = slots.iter().filter(|slot| slot.frame() == [9, 0]).count();
    assert_eq!(firsts, 3, "one call served only some of the senders");
    drain(&mut receiver, 6);
    // A fourth is refused, as it is told by the end of its connection.
    let fourth = client(&path);
    drain(&mut receiver, 1);
    assert_eq!(spec.counters.refused.get(), 1);
    assert!(fourth.send(b"x").is_err());
    // One that goes makes room; what it sent last still counts.
    clients[0].send(b"last").expect("sends");
    drop(clients);
    assert_eq!(frames(&drain(&mut receiver, 4)), [b"last"]);
    assert_eq!(spec.counters.connections.get(), 0);
    client(&path).send(b"fifth").expect("sends");
    assert_eq!(frames(&drain(&mut receiver, 4)), [b"fifth"]);
}

#[test]
fn descriptors_that_a_sender_passes_along_do_not_stay() {
    let folder = Folder::new("rights");
    let path = folder.at("s");
    let mut receiver = open(&ingress(&path, "seqpacket"));
    let carrier = client(&path);
    let file = std::fs::File::create(folder.at("stray")).expect("made");
    let passed = file.as_raw_fd();
    let mut control = [0u64; 3];
    let mut byte = *b"!";
    let mut piece = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all pointers are to live memory, the control block has room for one descriptor (CMSG_SPACE(4) = 24).
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        *message = libc::cmsghdr {
            cmsg_len: libc::CMSG_LEN(4) as usize,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        libc::CMSG_DATA(message).cast::<RawFd>().write_unaligned(passed);
        libc::sendmsg(carrier.as_raw_fd(), &raw const header, 0)
    };
    assert_eq!(sent, 1);
    assert_eq!(frames(&drain(&mut receiver, 2)), [b"!"]);
    let all = std::fs::read_dir("/proc/self/fd").expect("lists").flatten();
    let stray =
        all.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == folder.0.join("stray")));
    assert_eq!(stray.count(), 1, "the descriptor was installed here");
}

#[test]
fn a_successor_takes_over_the_socket_its_connections_and_what_is_waiting() {
    let folder = Folder::new("successor");
    for kind in ["datagram", "seqpacket"] {
        let path = folder.at(kind);
        let mut spec = ingress(&path, kind);
        let mut first = open(&spec);
        let mut sender = open(&egress(&path, kind));
        send(&mut sender, b"one");
        if kind == "seqpacket" {
            assert_eq!(frames(&drain(&mut first, 1)), [b"one"]);
        }
        send(&mut sender, b"two");
        spec.inherited_descriptor = first.take_over();
        let mut second = open(&spec);
        drop(first);
        send(&mut sender, b"three");
        let got = drain(&mut second, 2);
        let expected: &[&[u8]] =
            if kind == "seqpacket" { &[b"two", b"three"] } else { &[b"one", b"two", b"three"] };
        assert_eq!(frames(&got), expected, "{kind}");
        assert!(Path::new(&path).exists(), "the predecessor removed the successor's file");
        drop(second);
        assert!(!Path::new(&path).exists(), "the successor left its file");
    }
}

#[test]
fn a_successor_that_is_given_up_takes_nothing_with_it() {
    let folder = Folder::new("given-up");
    for kind in ["datagram", "seqpacket"] {
        let path = folder.at(kind);
        let mut spec = ingress(&path, kind);
        let mut first = open(&spec);
        spec.inherited_descriptor = first.take_over();
        drop(open(&spec));
        send(&mut open(&egress(&path, kind)), b"still here");
        assert_eq!(frames(&drain(&mut first, 2)), [b"still here"], "{kind}");
        // One that nobody took over after all.
        // SAFETY: the descriptor was made for us.
        drop(unsafe { OwnedFd::from_raw_fd(first.take_over()) });
        // And one that another channel was given, which is at another place.
        let mut other = ingress(&folder.at("other"), kind);
        other.inherited_descriptor = first.take_over();
        let other = open(&other);
        drop(first);
        assert!(!Path::new(&path).exists(), "{kind}: the file stayed behind");
        drop(other);
        assert!(!folder.0.join("other").exists(), "{kind}: the other file stayed behind");
    }
}

#[test]
fn a_connected_descriptor_needs_no_path() {
    for (kind, word) in [(Type::DGRAM, "datagram"), (Type::SEQPACKET, "seqpacket")] {
        let (near, far) = Socket::pair(Domain::UNIX, kind, None).expect("a pair");
        let mut sending = spec(Direction::EGRESS, &[("type", word)]);
        sending.inherited_descriptor = OwnedFd::from(near).into_raw_fd();
        let mut receiving = spec(Direction::INGRESS, &[("type", word)]);
        receiving.inherited_descriptor = OwnedFd::from(far).into_raw_fd();
        let (mut sender, mut receiver) = (open(&sending), open(&receiving));
        send(&mut sender, b"through");
        assert_eq!(frames(&drain(&mut receiver, 2)), [b"through"]);
        drop(receiver);
        send_to_nobody(&mut sender, b"gone");
    }
}

#[test]
fn the_file_has_its_mode_and_only_what_is_dead_is_removed() {
    let folder = Folder::new("file");
    let path = folder.at("s");
    let own = spec(Direction::INGRESS, &[("path", &path), ("mode", "0620")]);
    let first = open(&own);
    let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o620);
    assert!(refused(&own).ends_with("another process listens there; stop it or choose another path"));
    drop(first);
    // A dead process leaves its file: it is replaced.
    drop(UnixDatagram::bind(&path).expect("binds"));
    let third = open(&own);
    // Somebody else's file in its place is left alone.
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "text").expect("written");
    drop(third);
    assert_eq!(std::fs::read(&path).expect("still there"), b"text");
    assert!(refused(&own).ends_with("a file that is not a socket is there; choose another path"));
}

#[test]
fn names_of_the_abstract_namespace_work() {
    let name = format!("@tempos-unix-{}", std::process::id());
    let mut receiver = open(&ingress(&name, "datagram"));
    send(&mut open(&egress(&name, "datagram")), b"abstract");
    assert_eq!(frames(&drain(&mut receiver, 2)), [b"abstract"]);
    assert_eq!(receiver.address(), format!("unix://{name}"));
}
