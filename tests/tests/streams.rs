//! Adapters with connections, on a real node: those who say nothing, or next to nothing, keep nobody out.

mod road;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tempos_tests::{LIVENESS, NodeSetup};

use road::{receive, receiver, unix};

fn setup() -> NodeSetup {
    NodeSetup::new().plugins(["adapter-tcp", "adapter-unix", "queue-fifo", "queue-priority"])
}

/// A thousand senders who send a byte a second each, and never a whole frame.
#[test]
fn senders_who_trickle_are_timed_out_and_others_are_served_meanwhile() {
    const SLOW: usize = 1000;
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"in\" {{ qos = \"best-effort\",\n\
         ingress = {{ tempos.tcp {{ bind = \"127.0.0.1:0\", connections = 1100, frame_timeout = \"3s\" }} }},\n\
         egress = {{ {} }} }}\n",
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let to = node.tcp_address("in/in/1");
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| TcpStream::connect(to).expect("connects")).collect();
    let until = Instant::now() + LIVENESS;
    let (mut round, mut served) = (0u8, 0);
    // A length of 100 bytes, and then one byte of the frame at a time.
    let trickle = [0, 0, 0, 100];
    slow.iter().for_each(|sender| sender.set_nonblocking(true).expect("set"));
    while !slow.is_empty() {
        assert!(Instant::now() < until, "{} are still open", slow.len());
        for sender in &mut slow {
            let _ = sender.write(&[trickle.get(usize::from(round)).copied().unwrap_or(7)]);
        }
        // A new client is taken in and heard at once.
        let mut client = TcpStream::connect(to).expect("connects");
        client.write_all(&[&[0, 0, 0, 2, round][..], b"!"].concat()).expect("written");
        assert_eq!(receive(&out), [round, b'!']);
        served += 1;
        round += 1;
        std::thread::sleep(Duration::from_secs(1));
        let is_open = |sender: &mut TcpStream| {
            sender.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        slow.retain_mut(is_open);
    }
    assert!(served > 2, "they were not slow");
}

fn client(path: &Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.connect(&SockAddr::unix(path).expect("an address")).expect("connects");
    socket
}

#[test]
fn senders_who_say_nothing_give_way_when_all_places_are_taken() {
    const PLACES: usize = 50;
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"in\" {{ qos = \"best-effort\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ", type = \"seqpacket\", connections = 50, idle_timeout = \"500ms\""),
        unix(&setup, "out", ""),
    );
    let path = setup.folder().join("in");
    let _node = setup.wiring(&lua).start();
    let spoke = client(&path);
    spoke.send(b"first").expect("sent");
    assert_eq!(receive(&out), b"first");
    let silent: Vec<Socket> = (1..PLACES).map(|_| client(&path)).collect();
    // All places are taken, and their time is over.
    std::thread::sleep(Duration::from_millis(1500));
    for number in 0..20u8 {
        let new = client(&path);
        new.send(&[number]).expect("sent");
        assert_eq!(receive(&out), [number]);
        // It stays: the next one takes the place of another silent one.
        std::mem::forget(new);
    }
    let closed = silent.iter().filter(|one| one.send(b"late").is_err()).count();
    assert_eq!(closed, 20, "one for each new sender");
    spoke.send(b"still here").expect("sent");
    let mut next = receive(&out);
    while next == b"late" {
        next = receive(&out);
    }
    assert_eq!(next, b"still here");
}
