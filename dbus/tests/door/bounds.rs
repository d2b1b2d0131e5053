//! What is too much is refused, and what was not too much goes on.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use zbus::zvariant::Value;

use crate::node::FakeNode;
use crate::scene::{SIDES, Scene, Side, eventually};

const ROOT: &str = "/org/tempos/Host1";
const NODE: &str = "org.tempos.Host1.Node";

#[test]
fn orders_beyond_the_bound_are_refused_reads_and_drain_are_not() {
    let scene = Scene::new();
    let holder = scene.client(Side::Peer);
    for _ in 0..16 {
        let holder = holder.clone();
        scene.runtime.spawn(async move {
            let body = ("held", HashMap::<&str, Value<'_>>::new(), Vec::<u8>::new());
            holder.call_method(None::<&str>, ROOT, Some(NODE), "Publish", &body).await
        });
    }
    eventually("16 orders are under way", || scene.node.held() == 16);
    for side in SIDES {
        let client = scene.client(side);
        let reload = client.call_method(Some("org.tempos.Host1"), ROOT, Some(NODE), "Reload", &());
        match scene.runtime.block_on(reload) {
            Err(zbus::Error::MethodError(name, Some(sentence), _)) => {
                assert_eq!(name.as_str(), "org.tempos.Host1.Error.Overloaded");
                assert!(sentence.contains("try again"), "{sentence}");
            }
            other => panic!("{other:?}"),
        }
        let (_, said) = scene.ctl_says(side, &["reload"], 75);
        assert!(said.contains("try again"), "{said}");
        scene.busctl_says(side, &["get-property", "org.tempos.Host1", ROOT, NODE, "State"]);
        scene.busctl_says(side, &["call", "org.tempos.Host1", ROOT, NODE, "Drain", "u", "1"]);
    }
    scene.node.release();
    eventually("orders are taken again", || scene.ctl(Side::Peer, &["reload"], b"").status.success());
}

#[test]
fn one_client_of_the_bus_cannot_fill_it() {
    let scene = Scene::new();
    let greedy = scene.client(Side::Bus);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let greedy = greedy.clone();
            scene.runtime.spawn(async move {
                let body = ("held", HashMap::<&str, Value<'_>>::new(), Vec::<u8>::new());
                greedy.call_method(Some("org.tempos.Host1"), ROOT, Some(NODE), "Publish", &body).await
            })
        })
        .collect();
    eventually("16 orders are under way", || scene.node.held() == 16);
    // Another client reads all the while.
    let state = scene.busctl_says(Side::Bus, &["get-property", "org.tempos.Host1", ROOT, NODE, "State"]);
    assert_eq!(state, "s \"started\"\n");
    eventually("the rest is refused", || calls.iter().filter(|call| call.is_finished()).count() == 200 - 16);
    scene.node.release();
    let answers = calls.into_iter().map(|call| scene.runtime.block_on(call).unwrap());
    let (served, refused): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    assert_eq!(served.len(), 16);
    for refusal in refused {
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("org.tempos.Host1.Error.Overloaded"), "{refusal}");
    }
}

#[test]
fn connections_beyond_the_bound_are_closed_and_places_come_back() {
    let scene = Scene::new();
    let path = scene.folder.0.join("control.sock");
    let idle: Vec<_> = (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // The door closes those that are too many; the others are left to authenticate.
    let closed = |stream: &UnixStream| {
        let mut stream = stream;
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        matches!(stream.read(&mut [0; 1]), Ok(0))
    };
    eventually("the bound is kept", || idle.iter().filter(|s| closed(s)).count() >= 200 - 68);
    drop(idle);
    eventually("there is room again", || scene.ctl(Side::Peer, &["status"], b"").status.success());
}

#[test]
fn a_peer_that_does_not_authenticate_in_time_is_let_go() {
    let scene = Scene::with(FakeNode::new(), |_| None, |config| config.bus = tempos_dbus::Bus::None);
    let mut silent = UnixStream::connect(scene.folder.0.join("control.sock")).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_peer_that_never_reads_holds_nobody_up() {
    let scene = Scene::with(FakeNode::new(), |_| None, |config| config.bus = tempos_dbus::Bus::None);
    let mut deaf = UnixStream::connect(scene.folder.0.join("control.sock")).unwrap();
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    deaf.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).unwrap();
    let first = zbus::Message::method_call("/", "Ping").unwrap().build(&()).unwrap();
    deaf.write_all(first.data()).unwrap();
    deaf.read_exact(&mut [0; 16]).unwrap();
    // It gets every signal, as one that never said Hello, and reads none.
    let error = "x".repeat(2000);
    for round in 0..2000u64 {
        scene.node.tell(tempos_control::Notice::WiringRejected { report: format!("{round} {error}") });
    }
    scene.busctl_says(Side::Peer, &["get-property", "org.tempos.Host1", ROOT, NODE, "State"]);
    // In the end it is let go: its socket still holds what was written, then ends.
    let mut rest = Vec::new();
    std::thread::sleep(Duration::from_millis(100));
    deaf.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    eventually("the door let go", || {
        use std::os::fd::AsRawFd as _;
        let mut events = libc::pollfd { fd: deaf.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one pollfd, which lives through the call; no waiting.
        unsafe { libc::poll(&raw mut events, 1, 0) };
        events.revents & libc::POLLHUP != 0
    });
    let _ = deaf.read_to_end(&mut rest);
    scene.busctl_says(Side::Peer, &["get-property", "org.tempos.Host1", ROOT, NODE, "State"]);
}
