//! The REST door of a real node: what it shows, what it changes, and what it tells.

mod rest_kit;
mod road;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tempos_tests::node::{BUS_NAME, ROOT};

use rest_kit::{busctl, rest, wiring};
use road::{receive, receiver, setup};

#[test]
fn objects_have_the_figures_that_d_bus_has() {
    let setup = setup();
    let lua = wiring(&setup, "press/vibration")
        + "tempos.topic \"press/pressure\" { request = { latency_p99 = \"5ms\" }, on_unmet = \"degrade\" }\n";
    let node = setup.wiring(&lua).start();
    let rest = rest(&node);
    let seen = |kind: &str, path: &str, interface: &str, object: &Value| {
        let object = object.as_object().expect("an object");
        let output = node.busctl([
            "--json=short",
            "call",
            BUS_NAME,
            path,
            "org.freedesktop.DBus.Properties",
            "GetAll",
            "s",
            &format!("{BUS_NAME}.{interface}"),
        ]);
        let properties: Value = serde_json::from_slice(&output.stdout).expect("busctl prints JSON");
        let properties = properties["data"][0].as_object().expect("properties").clone();
        let names: BTreeSet<&String> = object.keys().filter(|name| *name != "Name").collect();
        assert_eq!(names, properties.keys().collect(), "{kind}");
        for name in
            ["State", "Reason", "Since", "Level", "Requested", "Granted", "Scheduler", "Sha256", "Topic"]
        {
            if let Some(value) = object.get(name) {
                assert_eq!(*value, properties[name]["data"], "{kind} {name}");
            }
        }
    };
    seen("node", ROOT, "Node", &rest.get("/v1/node").json());
    for (list, word, interface) in [
        ("levels", "qos", "QosLevel"),
        ("topics", "topic", "Topic"),
        ("channels", "channel", "Channel"),
        ("adapters", "adapter", "Adapter"),
        ("plugins", "plugin", "Plugin"),
    ] {
        let all = rest.get(&format!("/v1/{list}")).json();
        let all = all["Items"].as_array().expect("a list").clone();
        assert!(!all.is_empty(), "{list}");
        for object in &all {
            let name = object["Name"].as_str().expect("a name");
            let escaped: String = name
                .bytes()
                .map(|b| match b {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
                    b => format!("_{b:02x}"),
                })
                .collect();
            seen(list, &format!("{ROOT}/{word}/{escaped}"), interface, object);
            let encoded: String = name.bytes().map(|b| format!("%{b:02X}")).collect();
            assert_eq!(rest.get(&format!("/v1/{list}/{encoded}")).json()["Name"], name);
        }
    }
    let topic = rest.get("/v1/topics/press%2Fpressure").json();
    assert_eq!(topic["Grant"][0]["Hop"].as_str().map(str::is_empty), Some(false), "{topic}");
    let page = |query: &str| rest.get(&format!("/v1/topics?{query}")).json();
    let first = page("limit=1");
    assert_eq!(
        (&first["Items"][0]["Name"], &first["Next"]),
        (&json!("press/pressure"), &json!("press/pressure"))
    );
    let second = page("limit=1&after=press/pressure");
    assert_eq!((&second["Items"][0]["Name"], &second["Next"]), (&json!("press/vibration"), &Value::Null));
    let doctor = rest.get("/v1/doctor").json();
    assert!(doctor["Findings"].as_array().is_some_and(|findings| !findings.is_empty()));
}

#[test]
fn a_wiring_is_planned_applied_refused_and_never_replaced_unseen() {
    let setup = setup();
    let (press, lathe) = (wiring(&setup, "press"), wiring(&setup, "lathe"));
    let node = setup.wiring(&press).node_file("[wiring]\nwatch = false").start();
    let rest = rest(&node);
    let topics = || -> Vec<Value> {
        let list = rest.get("/v1/topics").json();
        list["Items"].as_array().into_iter().flatten().map(|topic| topic["Name"].clone()).collect()
    };
    let shown = rest.get("/v1/wiring");
    assert_eq!((shown.field("etag"), &shown.json()["Generation"]), (Some("\"1\""), &json!(1)));

    let plan = rest.put_wiring("?dry_run=true", &[("If-Match", "\"1\"")], &lathe);
    let report = plan.json()["Report"].as_str().expect("a report").to_owned();
    assert!(plan.status == 200 && report.contains("lathe"), "{report}");
    assert_eq!((topics(), node.generation()), (vec![json!("press")], 1), "nothing changed");

    let applied = rest.put_wiring("", &[("If-Match", "\"1\"")], &lathe);
    assert_eq!((applied.status, applied.field("etag")), (200, Some("\"2\"")));
    assert_eq!((topics(), node.generation()), (vec![json!("lathe")], 2));
    node.wait_for_log("rest: apply script \"request\": done, generation 2");

    // Somebody who has seen the first wiring only.
    for stale in ["\"1\"", "\"0\", \"1\"", "W/\"2\"", "\"x\""] {
        let refused = rest.put_wiring("", &[("If-Match", stale)], &press);
        let sentence = refused.problem(412, "OutOfDate");
        assert!(sentence.contains("meant for") && sentence.contains('2'), "{sentence}");
        let refused = rest.ask("POST", "/v1/wiring/reload", &[("If-Match", stale)], b"");
        refused.problem(412, "OutOfDate");
    }
    rest.put_wiring("", &[("If-Match", "2")], &press).problem(400, "InvalidArguments");
    assert_eq!((topics(), node.generation()), (vec![json!("lathe")], 2), "nothing changed");

    // The same mistake, the same sentence.
    let wrong = press.replace("qos", "qso");
    let sentence = rest.put_wiring("?chunk_name=line.lua", &[], &wrong).problem(422, "InvalidWiring");
    assert!(sentence.starts_with("line.lua:1: ") && sentence.contains("did you mean \"qos\"?"), "{sentence}");
    assert_eq!(busctl(&node, &["ApplyText", "ss", "line.lua", &wrong]), Err(sentence));

    let reloaded = rest.ask("POST", "/v1/wiring/reload", &[("If-Match", "\"7\", \"2\"")], b"");
    assert_eq!((reloaded.status, topics()), (200, vec![json!("press")]));
    fs::write(node.folder().join("other.lua"), &lathe).expect("written");
    let path = node.folder().join("other.lua").display().to_string();
    let put = |body: Value| {
        rest.ask("PUT", "/v1/wiring", &[("Content-Type", "application/json")], body.to_string().as_bytes())
    };
    assert_eq!((put(json!({"Path": path})).status, topics()), (200, vec![json!("lathe")]));
    put(json!({"Path": "other.lua"})).problem(400, "InvalidArguments");
    put(json!({"Pth": path})).problem(400, "InvalidArguments");
    rest.ask("PUT", "/v1/wiring", &[("Content-Type", "application/xml")], b"<a/>")
        .problem(415, "UnsupportedMediaType");
    rest.ask("PUT", "/v1/wiring", &[], b"").problem(400, "InvalidArguments");
    rest.ask("PUT", "/v1/wiring?dry_rum=true", &[], b"").problem(400, "InvalidArguments");
    rest.ask("PUT", "/v1/wiring", &[], b"\xff").problem(400, "InvalidArguments");
}

#[test]
fn generations_are_listed_tried_out_and_gone_back_to() {
    let setup = setup();
    let (press, lathe) = (wiring(&setup, "press"), wiring(&setup, "lathe"));
    let node = setup.wiring(&press).node_file("[wiring]\nwatch = false").start();
    let rest = rest(&node);
    let topic = || rest.get("/v1/topics").json()["Items"][0]["Name"].clone();
    assert_eq!(rest.put_wiring("?until_restart=true", &[], &lathe).status, 200);
    let list = rest.get("/v1/generations").json();
    let list = list["Generations"].as_array().expect("a list");
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(
        (&list[1]["Number"], &list[1]["Keeping"], &list[1]["InForce"]),
        (&json!(2), &json!("until restart"), &json!(true))
    );
    assert!(
        list[1]["Who"]
            .as_str()
            .is_some_and(|who| who.starts_with("user 0, process ") && who.ends_with("rest")),
        "{list:?}"
    );

    let back = rest.post("/v1/generations/rollback", &json!({}));
    assert_eq!((back.status, back.field("etag"), topic()), (200, Some("\"3\""), json!("press")));
    let back = rest.post("/v1/generations/rollback", &json!({"To": 2}));
    assert_eq!((back.status, topic()), (200, json!("lathe")));
    let sentence = rest.post("/v1/generations/rollback", &json!({"To": 77})).problem(404, "NoSuchObject");
    assert_eq!(busctl(&node, &["Rollback", "ta{sv}", "77", "0"]), Err(sentence));
    let stale = [("If-Match", "\"1\""), ("Content-Type", "application/json")];
    rest.ask("POST", "/v1/generations/rollback", &stale, b"{}").problem(412, "OutOfDate");

    // On probe, until it is confirmed.
    let tried = rest.put_wiring("?probe_ms=60000&confirm=true", &[], &press);
    assert_eq!((tried.status, topic()), (200, json!("press")), "{:?}", tried.json());
    rest.put_wiring("", &[], &lathe).problem(503, "Overloaded");
    let confirmed = rest.post("/v1/generations/confirm", &json!({}));
    assert_eq!(confirmed.status, 200, "{:?}", confirmed.json());
    rest.put_wiring("?probe_ms=x", &[], &lathe).problem(400, "InvalidArguments");
    rest.put_wiring("?confirm=true", &[], &lathe).problem(422, "InvalidWiring");
    assert_eq!(topic(), json!("press"));
}

#[test]
fn events_are_published_and_refused_as_over_d_bus() {
    let setup = setup();
    let out = receiver(&setup, "out");
    let lua = wiring(&setup, "press/vibration");
    let node = setup.wiring(&lua).start();
    let rest = rest(&node);
    let path = "/v1/topics/press%2Fvibration/events";
    let published = rest.ask("POST", path, &[("Content-Type", "application/octet-stream")], b"7 g\0\xff");
    let id = published.json()["EventId"].as_str().and_then(|id| id.parse::<u64>().ok());
    assert!(id.is_some_and(|id| id > 0), "{published:?}");
    assert_eq!(receive(&out), b"7 g\0\xff");
    rest.post(path, &json!({"Payload": "8 g", "Attributes": {"unit": "g", "peak": true, "n": 1.5}}));
    assert_eq!(receive(&out), b"8 g");
    rest.post(path, &json!({"Payload": "/wA=", "Encoding": "base64"}));
    assert_eq!(receive(&out), b"\xff\0");

    let sentence = rest.post("/v1/topics/press%2Fvibratoin/events", &json!({})).problem(404, "NoSuchObject");
    assert!(sentence.contains("did you mean \"press/vibration\"?"), "{sentence}");
    assert_eq!(
        busctl(&node, &["Publish", "sa{sv}ay", "press/vibratoin", "0", "0"]),
        Err(sentence.clone()),
        "the same mistake, the same sentence"
    );
    assert_eq!(rest.get("/v1/topics/press%2Fvibratoin").problem(404, "NoSuchObject"), sentence);
    for wrong in [
        json!({"Attributes": {"a": null}}),
        json!({"Attributes": {"a": u64::MAX}}),
        json!({"Payload": "*", "Encoding": "base64"}),
        json!({"Payload": 7}),
        json!([]),
    ] {
        rest.post(path, &wrong).problem(400, "InvalidArguments");
    }
    rest.ask("POST", path, &[], b"").problem(415, "UnsupportedMediaType");
    let large = vec![b'x'; 70_000];
    let too_large = rest.ask("POST", path, &[("Content-Type", "application/octet-stream")], &large);
    let sentence = too_large.problem(422, "InvalidWiring");
    assert!(sentence.contains("takes at most 65536"), "{sentence}");
    let no_workflow = rest.post("/v1/workflows/detect/prewarm", &json!({"Instances": 1}));
    assert_eq!(
        Err(no_workflow.problem(404, "NoSuchObject")),
        busctl(&node, &["Prewarm", "su", "detect", "1"]),
    );
    let no_plugin = rest.post("/v1/plugins", &json!({"Path": "/nowhere/a.so"}));
    assert_eq!(
        Err(no_plugin.problem(422, "PluginRejected")),
        busctl(&node, &["LoadPlugin", "s", "/nowhere/a.so"]),
    );
}

#[test]
fn what_happens_is_told_and_a_drain_says_how_far_it_is() {
    let setup = setup();
    let (press, lathe) = (wiring(&setup, "press"), wiring(&setup, "lathe"));
    let _out = receiver(&setup, "out");
    let node = setup.wiring(&press).node_file("[wiring]\nwatch = false").start();
    let rest = rest(&node);
    let mut notices = rest.events("GET", "/v1/notices", &Value::Null);
    let mut live = rest.events("GET", "/v1/live", &Value::Null);
    let named = |figures: &Value, name: &str| figures["Topics"][0]["Name"] == name;
    live.wait_for("figures", |figures| named(figures, "press"));
    let mut progress = rest.events("POST", "/v1/wiring/reload", &Value::Null);
    assert_eq!(progress.wait_for("done", |_| true)["Generation"], 1, "nothing changed");
    assert!(progress.next_event().is_none(), "done is the last");
    assert_eq!(rest.put_wiring("", &[], &lathe).status, 200);
    notices.wait_for("WiringApplied", |notice| notice["Generation"] == 2);
    rest.put_wiring("", &[], "tempos.topic \"x\" { qso = 1 }").problem(422, "InvalidWiring");
    notices.wait_for("WiringRejected", |notice| notice.to_string().contains("qso"));
    live.wait_for("figures", |figures| named(figures, "lathe"));
    rest.post("/v1/topics/lathe/events", &json!({"Payload": "1"}));
    live.wait_for("figures", |figures| figures["Topics"][0]["EventsOut"] == 1);

    let mut drain = rest.events("POST", "/v1/drain", &json!({"TimeoutMs": 5000}));
    let first = drain.next_event().expect("progress");
    assert!(first.0 == "progress" && first.1["ElapsedMs"].is_u64(), "{first:?}");
    let done = drain.wait_for("done", |_| true);
    assert!(done["Report"].as_str().is_some_and(|report| report.contains("1 went out")), "{done}");
    let sentence = rest.post("/v1/topics/lathe/events", &json!({})).problem(409, "ShuttingDown");
    assert_eq!(busctl(&node, &["Publish", "sa{sv}ay", "lathe", "0", "0"]), Err(sentence));
    let mut refused = rest.events("POST", "/v1/workflows/x/prewarm", &json!({"Instances": 1}));
    assert_eq!(refused.wait_for("failed", |_| true)["status"], 404);
}

#[test]
fn a_calibration_begins_once_and_says_how_far_it_is() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let node = setup.wiring(&lua).start();
    let rest = rest(&node);
    let begun = rest.post("/v1/calibrate", &json!({"TimeMs": 20_000}));
    assert_eq!(begun.status, 200, "{:?}", begun.json());
    let sentence = rest.post("/v1/calibrate", &json!({"TimeMs": 1000})).problem(503, "Overloaded");
    assert_eq!(busctl(&node, &["Calibrate", "u", "1000"]), Err(sentence));
    let shown = rest.get("/v1/node").json();
    assert!(shown["Calibrating"].as_str().is_some_and(|words| !words.is_empty()), "{shown}");
    rest.post("/v1/calibrate", &json!({})).problem(400, "InvalidArguments");
}
