//! Thousands of objects.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tempos_control::{Kind, Notice};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream};

use crate::node::{FakeNode, object};
use crate::scene::{SIDES, Scene, Side};

const MANY: usize = 5000;
const ROOT: &str = "/org/tempos/Host1";

#[test]
fn thousands_of_objects_cost_the_start_nothing_and_are_all_there() {
    let node = FakeNode::new();
    for at in 0..MANY {
        node.put(object(Kind::Topic, &format!("line/{at}/temperature"), &[]));
    }
    let began = Instant::now();
    let scene = Scene::with(node, |folder| Some(crate::scene::start_bus(folder)), |_| {});
    println!("door open with {MANY} topics, and the bus daemon started, after {:?}", began.elapsed());
    for side in SIDES {
        let began = Instant::now();
        let (json, _) = scene.ctl_says(side, &["topics", "--json"], 0);
        println!("{side:?}: temposctl topics --json took {:?}", began.elapsed());
        assert_eq!(json.matches("\"name\"").count(), MANY + 2);
        let last = format!("{ROOT}/topic/line_2f{}_2ftemperature", MANY - 1);
        scene.busctl_says(
            side,
            &["get-property", "org.tempos.Host1", &last, "org.tempos.Host1.Topic", "State"],
        );
    }
}

#[test]
fn thousands_of_new_objects_are_announced_while_calls_are_answered() {
    let scene = Scene::new();
    // A stream of zbus says that it ends, for which it needs the runtime.
    let _inside = scene.runtime.enter();
    let clients: Vec<_> = SIDES.into_iter().map(|side| scene.client(side)).collect();
    let rule = || MatchRule::builder().msg_type(Type::Signal).member("InterfacesAdded").unwrap().build();
    let counts: Vec<_> = clients
        .iter()
        .map(|client| {
            let stream =
                scene.runtime.block_on(MessageStream::for_match_rule(rule(), client, Some(64))).unwrap();
            scene.runtime.spawn(async move {
                tokio::time::timeout(Duration::from_secs(120), stream.take(MANY).count()).await
            })
        })
        .collect();
    for at in 0..MANY {
        scene.node.put(object(Kind::Topic, &format!("line/{at}"), &[]));
    }
    scene.node.tell(Notice::ObjectsChanged);
    let caller = scene.client(Side::Peer);
    let mut slowest = Duration::ZERO;
    let mut calls = 0;
    while !counts.iter().all(|count| count.is_finished()) {
        let began = Instant::now();
        let body = ("org.tempos.Host1.Node", "State");
        let get =
            caller.call_method(None::<&str>, ROOT, Some("org.freedesktop.DBus.Properties"), "Get", &body);
        scene.runtime.block_on(get).unwrap();
        slowest = slowest.max(began.elapsed());
        calls += 1;
    }
    println!("{calls} calls during {MANY} announcements, the slowest took {slowest:?}");
    for count in counts {
        assert_eq!(scene.runtime.block_on(count).unwrap().expect("all are announced"), MANY);
    }
    assert!(calls > 1, "calls are answered while objects are announced");
}
