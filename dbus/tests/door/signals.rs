//! What the node says of its own accord.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use tempos_control::{Kind, Notice};
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, connection};

use crate::node::object;
use crate::scene::{Process, SIDES, Scene, Side, eventually};

/// A client that listens to every signal of the node.
fn listen(scene: &Scene, client: &Connection) -> MessageStream {
    let rule =
        MatchRule::builder().msg_type(Type::Signal).path_namespace("/org/tempos/Host1").unwrap().build();
    scene.runtime.block_on(MessageStream::for_match_rule(rule, client, Some(10_000))).unwrap()
}

/// The next signal: `MEMBER PATH BODY`.
fn next(scene: &Scene, stream: &mut MessageStream) -> String {
    let next = async { tokio::time::timeout(Duration::from_secs(60), stream.next()).await };
    let message: Message = scene.runtime.block_on(next).expect("a signal comes").unwrap().unwrap();
    let header = message.header();
    let body = message.body();
    let body: zbus::zvariant::Structure<'_> = body.deserialize().unwrap();
    let fields: Vec<_> = body.fields().iter().map(ToString::to_string).collect();
    format!("{} {} {}", header.member().unwrap(), header.path().unwrap(), fields.join(" "))
}

const NOTICES: [fn() -> Notice; 6] = [
    || Notice::WiringRejected { report: "a.lua:1: no".into() },
    || Notice::PluginStateChanged { name: "udp".into(), state: "failed".into(), report: "why".into() },
    || Notice::DeadlineMissed { topic: "press/alarms".into(), event_id: 7, late_ns: 900 },
    || Notice::EventsDropped { topic: "press/alarms".into(), reason: "queue-full".into(), count: 3 },
    || Notice::FunctionFailed { workflow: "detect".into(), event_id: 8, error: "it returned 1".into() },
    || Notice::WiringApplied { generation: 5, report: "added topic b".into() },
];

const SIGNALS: [&str; 6] = [
    r#"WiringRejected /org/tempos/Host1 "a.lua:1: no""#,
    r#"PluginStateChanged /org/tempos/Host1 "udp" "failed" "why""#,
    r#"DeadlineMissed /org/tempos/Host1 "press/alarms" uint64 7 uint64 900"#,
    r#"EventsDropped /org/tempos/Host1 "press/alarms" "queue-full" uint64 3"#,
    r#"FunctionFailed /org/tempos/Host1 "detect" uint64 8 "it returned 1""#,
    r#"WiringApplied /org/tempos/Host1 uint64 5 "added topic b""#,
];

#[test]
fn every_notice_is_a_signal() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    let clients: Vec<_> = SIDES.into_iter().map(|side| scene.client(side)).collect();
    let mut streams: Vec<_> = clients.iter().map(|client| listen(&scene, client)).collect();
    for notice in NOTICES {
        scene.node.tell(notice());
    }
    for stream in &mut streams {
        for signal in SIGNALS {
            assert_eq!(next(&scene, stream), signal);
        }
        // With a new wiring its generation is told as a property, too.
        let changed = next(&scene, stream);
        assert!(
            changed.starts_with("PropertiesChanged /org/tempos/Host1 \"org.tempos.Host1.Node\""),
            "{changed}"
        );
        assert!(changed.contains("\"Generation\": <uint64 4>"), "{changed}");
    }
}

#[test]
fn a_change_of_state_carries_the_new_state() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    let clients: Vec<_> = SIDES.into_iter().map(|side| scene.client(side)).collect();
    let mut streams: Vec<_> = clients.iter().map(|client| listen(&scene, client)).collect();
    scene.node.change(Kind::Channel, "press/vibration/in/1", |state| {
        state.condition.state = "failed".into();
        state.condition.reason = "the address is in use".into();
    });
    scene.node.tell(Notice::StateChanged { kind: Kind::Channel, name: "press/vibration/in/1".into() });
    for stream in &mut streams {
        let changed = next(&scene, stream);
        let path = "/org/tempos/Host1/channel/press_2fvibration_2fin_2f1";
        assert!(
            changed.starts_with(&format!("PropertiesChanged {path} \"org.tempos.Host1.Channel\"")),
            "{changed}"
        );
        for part in ["\"State\": <\"failed\">", "\"Reason\": <\"the address is in use\">", "\"Since\""] {
            assert!(changed.contains(part), "{changed}");
        }
        assert!(!changed.contains("FramesSent"), "a counter tells nothing: {changed}");
    }
}

#[test]
fn objects_are_announced_when_they_come_and_go() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    let clients: Vec<_> = SIDES.into_iter().map(|side| scene.client(side)).collect();
    let mut streams: Vec<_> = clients.iter().map(|client| listen(&scene, client)).collect();
    scene.node.put(object(Kind::Topic, "new one", &[]));
    scene.node.remove(Kind::Workflow, "detect");
    scene.node.tell(Notice::ObjectsChanged);
    for stream in &mut streams {
        let added = next(&scene, stream);
        assert!(added.starts_with("InterfacesAdded /org/tempos/Host1"), "{added}");
        assert!(
            added.contains("/org/tempos/Host1/topic/new_20one") && added.contains("\"State\""),
            "{added}"
        );
        let removed = next(&scene, stream);
        assert!(removed.starts_with("InterfacesRemoved /org/tempos/Host1"), "{removed}");
        assert!(
            removed.contains("/workflow/detect") && removed.contains("org.tempos.Host1.Workflow"),
            "{removed}"
        );
    }
    for side in SIDES {
        let tree = scene.busctl_says(side, &["tree", "--list", "org.tempos.Host1"]);
        assert!(tree.contains("/topic/new_20one\n") && !tree.contains("/workflow/detect"), "{tree}");
    }
}

#[test]
fn a_peer_gets_the_signals_that_it_asked_for() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    let (picky, plain) = (scene.client(Side::Peer), {
        // One that never says Hello, as two ends of a socket without any bus.
        let address = scene.address(Side::Peer);
        let build =
            async move { connection::Builder::address(address.as_str()).unwrap().p2p().build().await };
        scene.runtime.block_on(build).unwrap()
    });
    let rule = MatchRule::builder().msg_type(Type::Signal).member("FunctionFailed").unwrap().build();
    let mut picky = scene.runtime.block_on(MessageStream::for_match_rule(rule, &picky, Some(100))).unwrap();
    let mut plain_stream = MessageStream::from(&plain);
    // Its connection is known to the door once it got an answer.
    let ping = plain.call_method(None::<&str>, "/", Some("org.freedesktop.DBus.Peer"), "Ping", &());
    scene.runtime.block_on(ping).unwrap();
    let answer = scene.runtime.block_on(plain_stream.next()).unwrap().unwrap();
    assert_eq!(answer.message_type(), Type::MethodReturn);
    for notice in NOTICES {
        scene.node.tell(notice());
    }
    assert_eq!(next(&scene, &mut picky), SIGNALS[4]);
    for signal in SIGNALS {
        assert_eq!(next(&scene, &mut plain_stream), signal);
    }
}

#[test]
fn busctl_monitor_shows_what_happens() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    for side in SIDES {
        let mut command = Command::new("busctl");
        command.arg(format!("--address={}", scene.address(side))).args(["monitor", "org.tempos.Host1"]);
        let mut monitor = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let lines = Arc::new(Mutex::new(String::new()));
        let reader = BufReader::new(monitor.0.stdout.take().unwrap());
        let read = {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in reader.lines().map_while(Result::ok) {
                    lines.lock().unwrap().push_str(&format!("{line}\n"));
                }
            })
        };
        // It takes a moment to listen, and says nothing when it does: told again until it is heard.
        eventually("the monitor shows the signal", || {
            scene.node.tell(NOTICES[4]());
            let lines = lines.lock().unwrap();
            lines.contains("Member=FunctionFailed") && lines.contains("STRING \"it returned 1\"")
        });
        drop(monitor);
        read.join().unwrap();
    }
}
