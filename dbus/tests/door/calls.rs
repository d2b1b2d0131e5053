//! The tree, introspection, every method, every error, every property: on the bus and on the socket alike.

use std::collections::HashMap;

use tempos_control::Kind;
use tempos_control::object::Figure;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, Message};

use crate::node::{FakeNode, object};
use crate::scene::{SIDES, Scene, Side};

const NODE: &str = "org.tempos.Host1.Node";
const ROOT: &str = "/org/tempos/Host1";
const VIBRATION: &str = "/org/tempos/Host1/topic/press_2fvibration";

#[test]
fn busctl_shows_the_tree() {
    let scene = Scene::new();
    for side in SIDES {
        let tree = scene.busctl_says(side, &["tree", "--list", "org.tempos.Host1"]);
        for path in [
            ROOT,
            "/org/tempos/Host1/qos/best_2deffort",
            "/org/tempos/Host1/plugin/udp",
            "/org/tempos/Host1/adapter/udp",
            "/org/tempos/Host1/channel/press_2fvibration_2fin_2f1",
            VIBRATION,
            "/org/tempos/Host1/workflow/detect",
        ] {
            assert!(tree.lines().any(|line| line == path), "{side:?}: {path} in\n{tree}");
        }
    }
}

#[test]
fn introspection_names_arguments_and_shows_values() {
    let scene = Scene::new();
    for side in SIDES {
        let shown = scene.busctl_says(side, &["introspect", "org.tempos.Host1", ROOT]);
        let line = |name: &str| {
            let found = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
            found.unwrap_or_else(|| panic!("{side:?}: {name} in\n{shown}")).to_owned()
        };
        assert!(line(".Publish").contains("sa{sv}ay"), "{shown}");
        assert!(line(".Doctor").contains("a(ssss)"), "{shown}");
        assert!(line(".DeadlineMissed").contains("stt"), "{shown}");
        assert!(line(".NodeId").contains("\"press-7\"") && line(".NodeId").contains("const"), "{shown}");
        assert!(line(".State").contains("emits-change"), "{shown}");
        for interface in ["ObjectManager", "Properties", "Introspectable", "Peer"] {
            line(&format!("org.freedesktop.DBus.{interface}"));
        }
        let xml = scene.busctl_says(side, &["introspect", "--xml-interface", "org.tempos.Host1", ROOT]);
        assert!(xml.contains("<arg name=\"payload\" type=\"ay\" direction=\"in\"/>"), "{xml}");
        let topic = scene.busctl_says(side, &["introspect", "org.tempos.Host1", VIBRATION]);
        assert!(topic.contains("a{s(tttt)}"), "{topic}");
    }
}

#[test]
fn every_method_becomes_its_order() {
    let scene = Scene::new();
    for side in SIDES {
        scene.node.take_orders();
        for (arguments, says, order) in [
            (
                &["Apply", "s", "/etc/w"][..],
                "s \"added topic a\"",
                "ApplyPath { path: \"/etc/w\", dry_run: false }",
            ),
            (
                &["Plan", "s", "/etc/w"],
                "s \"would add topic a\"",
                "ApplyPath { path: \"/etc/w\", dry_run: true }",
            ),
            (
                &["ApplyText", "ss", "one", "two"],
                "s \"added topic from one\"",
                "ApplyText { chunk_name: \"one\", lua: \"two\", dry_run: false }",
            ),
            (&["Reload"], "", "Reload"),
            (&["Drain", "u", "250"], "", "Drain { timeout_ms: 250 }"),
            (
                &["Publish", "sa{sv}ay", "press/alarms", "2", "a", "t", "7", "b", "s", "x", "2", "1", "2"],
                "t 42",
                "Publish { topic: \"press/alarms\", attributes: [(\"a\", Integer(7)), (\"b\", Text(\"x\"))], \
                 payload: [1, 2] }",
            ),
            (&["LoadPlugin", "s", "/a.so"], "", "LoadPlugin { path: \"/a.so\" }"),
            (&["Prewarm", "su", "detect", "3"], "", "Prewarm { workflow: \"detect\", instances: 3 }"),
            (&["Calibrate", "u", "5000"], "", "Calibrate { time_ms: 5000 }"),
        ] {
            let call: Vec<&str> = ["call", "org.tempos.Host1", ROOT, NODE]
                .into_iter()
                .chain(arguments.iter().copied())
                .collect();
            assert_eq!(scene.busctl_says(side, &call).trim(), says, "{side:?} {arguments:?}");
            assert_eq!(scene.node.take_orders(), [order], "{side:?}");
        }
        let findings = scene.busctl_says(side, &["call", "org.tempos.Host1", ROOT, NODE, "Doctor"]);
        assert!(findings.starts_with("a(ssss) 2 \"locked memory\" \"good\""), "{findings}");
    }
}

#[test]
fn a_change_may_be_made_on_terms_and_answers_with_its_generation() {
    let scene = Scene::new();
    for side in SIDES {
        scene.node.take_orders();
        let terms = |first: &str| {
            format!(
                "Change {{ order: {first}, terms: Terms {{ until_restart: true, probe_ns: Some(2000000000), \
                 confirm: false, only_if: Some(4) }} }}"
            )
        };
        let path = "ApplyPath { path: \"/etc/w\", dry_run: false }";
        let given = ["3", "until-restart", "b", "true", "probe-ms", "t", "2000", "if-generation", "u", "4"];
        let call = ["call", "org.tempos.Host1", ROOT, NODE, "ApplyWith", "sa{sv}", "/etc/w"];
        let call: Vec<&str> = call.into_iter().chain(given).collect();
        assert_eq!(scene.busctl_says(side, &call).trim(), "st \"added topic a\" 5", "{side:?}");
        assert_eq!(scene.node.take_orders(), [terms(path), path.to_owned()], "{side:?}");
        let text = ["call", "org.tempos.Host1", ROOT, NODE, "ApplyTextWith", "ssa{sv}", "one", "two", "0"];
        assert_eq!(scene.busctl_says(side, &text).trim(), "st \"added topic from one\" 5", "{side:?}");
        let back = ["call", "org.tempos.Host1", ROOT, NODE, "Rollback", "ta{sv}", "0", "0"];
        assert!(scene.busctl_says(side, &back).contains("goes\" 5"), "{side:?}");
        assert!(scene.node.take_orders().contains(&String::from("Rollback { to: None }")));
        let listed = scene.busctl_says(side, &["call", "org.tempos.Host1", ROOT, NODE, "Generations"]);
        assert!(
            listed.starts_with("aa{sv} 2 ") && listed.contains("\"keeping\" s \"until restart\""),
            "{listed}"
        );
        let client = scene.client(side);
        let terms = |key: &'static str, value: u64| ("/a", HashMap::from([(key, Value::from(value))]));
        let (name, said) = refused(&scene, &client, ROOT, NODE, "ApplyWith", &terms("if-generation", 3));
        assert_eq!(name, "org.tempos.Host1.Error.OutOfDate", "{said}");
        let (name, said) = refused(&scene, &client, ROOT, NODE, "ApplyWith", &terms("probe", 3));
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{said}");
        let (name, said) = refused(&scene, &client, ROOT, NODE, "Confirm", &0u64);
        assert_eq!(
            (name.as_str(), said.as_str()),
            ("org.tempos.Host1.Error.NoSuchObject", "no generation is on probe")
        );
    }
}

/// Calls and expects a refusal; its name and its sentence.
fn refused<B>(
    scene: &Scene,
    client: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> (String, String)
where
    B: serde::Serialize + DynamicType,
{
    let call = client.call_method(Some("org.tempos.Host1"), path, Some(interface), method, body);
    match scene.runtime.block_on(call) {
        Err(zbus::Error::MethodError(name, Some(sentence), _)) => {
            assert!(!sentence.is_empty() && !sentence.ends_with('.'), "{name}: {sentence:?}");
            (name.to_string(), sentence)
        }
        other => panic!("{path} {method} was to be refused: {other:?}"),
    }
}

#[test]
fn every_refusal_has_its_name_and_its_sentence() {
    let scene = Scene::new();
    for side in SIDES {
        let client = scene.client(side);
        let none: HashMap<&str, Value<'_>> = HashMap::new();
        let publish = |topic: &str| {
            let body = (topic, none.clone(), Vec::<u8>::new());
            refused(&scene, &client, ROOT, NODE, "Publish", &body)
        };
        let call = |method: &str, argument: &str| refused(&scene, &client, ROOT, NODE, method, &argument);
        let own =
            |name: &str, sentence: &str| (format!("org.tempos.Host1.Error.{name}"), sentence.to_owned());
        assert_eq!(
            call("Apply", "/w/mistakes.lua"),
            own(
                "InvalidWiring",
                "mistakes.lua:2: unknown level \"gold\"\nmistakes.lua:9: unknown key \"qso\" (did you mean \"qos\"?)"
            )
        );
        assert_eq!(
            call("Plan", "/gold.lua"),
            own("QosNotGrantable", "level gold: priority 90 is not granted")
        );
        assert_eq!(call("LoadPlugin", "/bad.so"), own("PluginRejected", "bad.so: it has no root module"));
        assert_eq!(call("Subscribe", "nowhere"), own("NoSuchObject", "there is no topic \"nowhere\""));
        assert_eq!(publish("nowhere"), own("NoSuchObject", "there is no topic \"nowhere\""));
        assert_eq!(publish("busy"), own("Overloaded", "topic busy: its queue is full"));
        assert_eq!(publish("late"), own("ShuttingDown", "the node is draining"));
        assert_eq!(publish("broken"), own("System", "out of descriptors"));

        let standard = |name: &str, given: (String, String), part: &str| {
            assert_eq!(given.0, format!("org.freedesktop.DBus.Error.{name}"), "{given:?}");
            assert!(given.1.contains(part), "{given:?}");
        };
        standard("InvalidArgs", call("Apply", "w.lua"), "\"w.lua\" is not absolute");
        standard(
            "InvalidArgs",
            refused(&scene, &client, ROOT, NODE, "Apply", &7u32),
            "takes (path: s), the call carries \"u\"",
        );
        let list = HashMap::from([("a", Value::from(vec![1u32]))]);
        let list = refused(&scene, &client, ROOT, NODE, "Publish", &("press/alarms", list, Vec::<u8>::new()));
        standard("InvalidArgs", list, "attribute \"a\" is of the type \"au\"");
        let large = HashMap::from([("a", Value::from(u64::MAX))]);
        let large =
            refused(&scene, &client, ROOT, NODE, "Publish", &("press/alarms", large, Vec::<u8>::new()));
        standard("InvalidArgs", large, "18446744073709551615");
        standard("UnknownMethod", call("Pubish", ""), "did you mean \"Publish\"");
        standard(
            "UnknownInterface",
            refused(&scene, &client, ROOT, "org.tempos.Host1.Nod", "A", &()),
            "did you mean",
        );
        let get = |path, interface, property| {
            let body = (interface, property);
            refused(&scene, &client, path, "org.freedesktop.DBus.Properties", "Get", &body)
        };
        standard("UnknownProperty", get(ROOT, NODE, "Stat"), "did you mean \"State\"");
        standard("UnknownInterface", get(ROOT, "org.example.X", "State"), "has no interface");
        for path in ["/org/tempos/Host1/topic/nowhere", "/org/tempos/Host1/topic/_zz", "/org/other"] {
            let introspect =
                refused(&scene, &client, path, "org.freedesktop.DBus.Introspectable", "Introspect", &());
            standard("UnknownObject", introspect, path);
        }
        let set = (NODE, "State", Value::from("x"));
        let set = refused(&scene, &client, ROOT, "org.freedesktop.DBus.Properties", "Set", &set);
        standard("PropertyReadOnly", set, "State is read-only");
        // A node that breaks in the middle of an order breaks nothing else.
        let broken = refused(&scene, &client, ROOT, NODE, "ApplyText", &("a", "panic"));
        standard("Failed", broken, "the node failed");
        let ping = client.call_method(
            Some("org.tempos.Host1"),
            ROOT,
            Some("org.freedesktop.DBus.Peer"),
            "Ping",
            &(),
        );
        scene.runtime.block_on(ping).unwrap();
    }
}

#[test]
fn properties_are_what_the_node_says_at_that_moment() {
    let scene = Scene::new();
    for (at, side) in SIDES.into_iter().enumerate() {
        let get = |path: &str, interface: &str, property: &str| {
            scene.busctl_says(side, &["get-property", "org.tempos.Host1", path, interface, property])
        };
        let topic = "org.tempos.Host1.Topic";
        assert_eq!(get(ROOT, NODE, "Generation"), "t 4\n");
        assert_eq!(get(ROOT, NODE, "Degraded"), "as 0\n");
        assert_eq!(get(VIBRATION, topic, "Reason"), "s \"topic press/vibration runs\"\n");
        assert_eq!(get(VIBRATION, topic, "Since"), "t 1700000000000000\n");
        let latency = get(VIBRATION, topic, "LatencyNs");
        assert!(latency.contains("\"queue\" 9000 18000 27000 90000"), "{latency}");
        // Not kept by the node: zero or empty, of the right type.
        assert_eq!(get(VIBRATION, topic, "EventsDropped"), "a{st} 0\n");
        let count = 1000 + at as u64;
        scene.node.change(Kind::Topic, "press/vibration", |state| {
            state.figures.insert("EventsIn", Figure::Count(count));
        });
        assert_eq!(get(VIBRATION, topic, "EventsIn"), format!("t {count}\n"));
    }
}

#[test]
fn the_object_manager_lists_what_introspection_does() {
    let scene = Scene::new();
    // Names that need escaping, at their worst.
    for name in ["a_b", "9", "press température", "x/y/z-1.2"] {
        scene.node.put(object(Kind::Topic, name, &[]));
    }
    type Managed = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedValue>>>;
    for side in SIDES {
        let client = scene.client(side);
        let call = client.call_method(
            Some("org.tempos.Host1"),
            ROOT,
            Some("org.freedesktop.DBus.ObjectManager"),
            "GetManagedObjects",
            &(),
        );
        let reply: Message = scene.runtime.block_on(call).unwrap();
        let managed: Managed = reply.body().deserialize().unwrap();
        assert_eq!(managed.len(), 8 + 4);
        let tree = scene.busctl_says(side, &["tree", "--list", "org.tempos.Host1"]);
        for path in managed.keys() {
            assert!(tree.lines().any(|line| line == path.as_str()), "{path}");
            scene.busctl_says(side, &["introspect", "org.tempos.Host1", path.as_str()]);
        }
        assert!(managed.keys().any(|p| p.as_str() == "/org/tempos/Host1/topic/press_20temp_c3_a9rature"));
    }
}

#[test]
fn a_subscription_is_a_socket_with_events() {
    let scene = Scene::new();
    for side in SIDES {
        let client = scene.client(side);
        let subscribe =
            client.call_method(Some("org.tempos.Host1"), ROOT, Some(NODE), "Subscribe", &"press/alarms");
        let reply = scene.runtime.block_on(subscribe).unwrap();
        let socket: zbus::zvariant::OwnedFd = reply.body().deserialize().unwrap();
        let socket = std::os::unix::net::UnixDatagram::from(std::os::fd::OwnedFd::from(socket));
        let body = ("press/alarms", HashMap::<&str, Value<'_>>::new(), b"hot".as_slice());
        let publish = client.call_method(Some("org.tempos.Host1"), ROOT, Some(NODE), "Publish", &body);
        scene.runtime.block_on(publish).unwrap();
        let mut packet = [0; 4096];
        let len = socket.recv(&mut packet).unwrap();
        let event = tempos_abi::envelope::Envelope::decode(&packet[..len]).unwrap();
        assert_eq!((event.topic, event.payload), ("press/alarms", &b"hot"[..]));
    }
}

#[test]
fn a_call_may_leave_the_interface_out_or_want_no_answer() {
    let scene = Scene::with(FakeNode::new(), |_| None, |config| config.bus = tempos_dbus::Bus::None);
    let client = scene.client(Side::Peer);
    let call = client.call_method(None::<&str>, ROOT, None::<&str>, "Prewarm", &("detect", 1u32));
    scene.runtime.block_on(call).unwrap();
    assert_eq!(scene.node.take_orders().len(), 1);
    let silent = Message::method_call(ROOT, "Reload")
        .unwrap()
        .with_flags(zbus::message::Flags::NoReplyExpected)
        .unwrap()
        .build(&())
        .unwrap();
    scene.runtime.block_on(client.send(&silent)).unwrap();
    crate::scene::eventually("the silent order", || scene.node.take_orders() == ["Reload"]);
}
