//! The REST door of a real node: what it shows, what it changes, whom it lets in, and that it holds out.

mod road;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempos_tests::http::{self, Rest};
use tempos_tests::node::{BUS_NAME, ROOT};
use tempos_tests::{LIVENESS, Node, NodeSetup, eventually};

use road::{receive, receiver, setup, unix};

const READ: &str = "0123456789abcdef0123456789abcdef-read";
const CHANGE: &str = "0123456789abcdef0123456789abcdef-change";

/// A topic from a socket to a socket.
fn wiring(setup: &NodeSetup, topic: &str) -> String {
    format!(
        "tempos.topic \"{topic}\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(setup, "in", ""),
        unix(setup, "out", "")
    )
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

fn write_tokens(folder: &Path, text: &str) {
    let path = folder.join("tokens");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A node file with a TCP address, and that address.
fn with_tcp(setup: NodeSetup, more: &str) -> (NodeSetup, SocketAddr) {
    write_tokens(setup.folder(), &format!("screen read {READ}\nplanner change {CHANGE}\n"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let folder = setup.folder().display().to_string();
    let toml = format!("[rest]\nlisten = \"{address}\"\ntokens = \"{folder}/tokens\"\n{more}");
    (setup.node_file(&toml), address)
}

fn rest(node: &Node) -> Rest {
    Rest::unix(node.folder())
}

/// What busctl says to a call of a method of the node: the answer, or the sentence.
fn busctl(node: &Node, arguments: &[&str]) -> Result<String, String> {
    let interface = format!("{BUS_NAME}.Node");
    let output = node.busctl([&["call", BUS_NAME, ROOT, &interface], arguments].concat());
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => {
            let sentence = said(&output.stderr);
            Err(sentence.strip_prefix("Call failed: ").unwrap_or(&sentence).to_owned())
        }
    }
}

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
    assert!(progress.next().is_none(), "done is the last");
    assert_eq!(rest.put_wiring("", &[], &lathe).status, 200);
    notices.wait_for("WiringApplied", |notice| notice["Generation"] == 2);
    rest.put_wiring("", &[], "tempos.topic \"x\" { qso = 1 }").problem(422, "InvalidWiring");
    notices.wait_for("WiringRejected", |notice| notice.to_string().contains("qso"));
    live.wait_for("figures", |figures| named(figures, "lathe"));
    rest.post("/v1/topics/lathe/events", &json!({"Payload": "1"}));
    live.wait_for("figures", |figures| figures["Topics"][0]["EventsOut"] == 1);

    let mut drain = rest.events("POST", "/v1/drain", &json!({"TimeoutMs": 5000}));
    let first = drain.next().expect("progress");
    assert!(first.0 == "progress" && first.1["ElapsedMs"].is_u64(), "{first:?}");
    let done = drain.wait_for("done", |_| true);
    assert!(done["Report"].as_str().is_some_and(|report| report.contains("1 went out")), "{done}");
    let sentence = rest.post("/v1/topics/lathe/events", &json!({})).problem(409, "ShuttingDown");
    assert_eq!(busctl(&node, &["Publish", "sa{sv}ay", "lathe", "0", "0"]), Err(sentence));
    let mut refused = rest.events("POST", "/v1/workflows/x/prewarm", &json!({"Instances": 1}));
    assert_eq!(refused.wait_for("failed", |_| true)["status"], 404);
}

#[test]
fn who_may_do_what_is_decided_by_the_kernel_or_by_a_token() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let node = setup.wiring(&lua).start();
    let over_tcp = |token: Option<&str>| Rest::Tcp(address, token.map(str::to_owned));
    // Nobody is let in without a token, and the page, which holds nothing of the node, is there to ask for one.
    for nobody in [None, Some("x"), Some(""), Some(&READ[1..])] {
        for path in ["/v1/node", "/openapi.json", "/v1/live", "/nowhere"] {
            let refused = over_tcp(nobody).get(path);
            refused.problem(401, "NotAuthenticated");
            assert!(refused.field("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
        }
        // Far more than anybody is to take without a token.
        let refused = over_tcp(nobody).ask("PUT", "/v1/wiring", &[("Content-Length", "99999999999")], b"");
        assert!([400, 401].contains(&refused.status), "{refused:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(over_tcp(None).get("/").status, 200);
    let basic = Rest::Tcp(address, None).ask("GET", "/v1/node", &[("Authorization", "Basic eDp5")], b"");
    basic.problem(401, "NotAuthenticated");

    let (screen, planner) = (over_tcp(Some(READ)), over_tcp(Some(CHANGE)));
    assert_eq!(screen.get("/v1/node").json()["Name"], rest(&node).get("/v1/node").json()["Name"]);
    let refused = screen.put_wiring("", &[], "").problem(403, "NotAuthorized");
    assert_eq!(
        refused,
        "token \"screen\" from 127.0.0.1 may not call Apply: its scope is \"read\", \"change\" is needed"
    );
    assert_eq!(node.generation(), 1, "nothing changed");
    let applied = planner.ask("POST", "/v1/wiring/reload", &[], b"");
    assert_eq!(applied.status, 200);
    node.wait_for_log("\"planner from 127.0.0.1\", rest: reload: done, generation 1");
    node.wait_for_log("\"screen from 127.0.0.1\", rest: Apply: refused");
    assert!(!node.log().contains(CHANGE), "a token is never written down");
    planner.post("/v1/plugins", &json!({"Path": "/a.so"})).problem(403, "NotAuthorized");

    // A token that is taken out of the file is good for nothing from then on.
    write_tokens(node.folder(), &format!("planner change {CHANGE}\n"));
    screen.get("/v1/node").problem(401, "NotAuthenticated");
    assert_eq!(planner.get("/v1/node").status, 200);
    write_tokens(node.folder(), "planner chnage x\n");
    planner.get("/v1/node").problem(401, "NotAuthenticated");
}

#[test]
fn a_stranger_at_the_socket_reads_and_gives_no_orders() {
    // SAFETY: geteuid(2) has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let setup = setup();
    let lua = wiring(&setup, "press");
    fs::set_permissions(setup.folder(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let node = setup.wiring(&lua).start();
    let socket = node.folder().join("run/rest.sock");
    let mode = fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "who is neither root nor of the group does not even get in");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("a mode");
    let rest = rest(&node);
    let stranger = std::thread::spawn(move || {
        // SAFETY: the system call, unlike the library's function, changes the user of this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let refused = [
            rest.put_wiring("", &[], ""),
            rest.ask("POST", "/v1/wiring/reload", &[], b""),
            rest.post("/v1/drain", &json!({"TimeoutMs": 0})),
            rest.post("/v1/topics/press/events", &json!({})),
            rest.post("/v1/workflows/x/prewarm", &json!({"Instances": 1})),
            rest.post("/v1/plugins", &json!({"Path": "/a.so"})),
        ];
        for answer in &refused {
            let sentence = answer.problem(403, "NotAuthorized");
            assert!(sentence.starts_with("user 65534 may not call "), "{sentence}");
        }
        assert_eq!(rest.get("/v1/topics/press").status, 200);
        assert_eq!(rest.get("/v1/doctor").status, 200);
    });
    stranger.join().expect("the stranger is treated as such");
    assert_eq!(node.generation(), 1);
}

#[test]
fn pages_of_other_places_get_nothing() {
    let node = setup().start();
    let rest = rest(&node);
    for (name, value) in
        [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        rest.ask("GET", "/v1/node", &[(name, value)], b"").problem(403, "CrossOrigin");
        rest.ask("POST", "/v1/wiring/reload", &[(name, value)], b"").problem(403, "CrossOrigin");
    }
    assert_eq!(rest.ask("GET", "/v1/node", &[("Origin", "http://localhost")], b"").status, 200);
    let mut stream = rest.connect();
    stream
        .write_all(b"GET /v1/node HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .expect("sent");
    http::read(stream).problem(421, "Misdirected");
    let page = rest.get("/");
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn what_is_no_request_is_refused_with_a_problem_and_the_node_goes_on() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let mut node = setup.wiring(&lua).start();
    let unix = rest(&node);
    let tcp = Rest::Tcp(address, Some(CHANGE.to_owned()));
    for rest in [&unix, &tcp] {
        rest.get("/v1/nowhere").problem(404, "UnknownPath");
        let refused = rest.ask("DELETE", "/v1/node", &[], b"");
        refused.problem(405, "MethodNotAllowed");
        assert!(refused.field("allow").is_some_and(|methods| methods.contains("GET")), "{refused:?}");
        rest.get("/v1/topics/%FF").problem(400, "InvalidArguments");
        rest.get("/v1/topics?limit=0").problem(400, "InvalidArguments");
        rest.get("/v1/topics?limit=x").problem(400, "InvalidArguments");
        rest.ask("POST", "/v1/drain", &[], b"{}").problem(415, "UnsupportedMediaType");
        rest.post("/v1/drain", &json!({"TimeoutMs": -1})).problem(400, "InvalidArguments");
        rest.post("/v1/drain", &json!({"TimeoutMs": 600_001})).problem(400, "InvalidArguments");

        // Too large, said beforehand or not.
        let large = vec![b' '; (1 << 20) + 1];
        rest.put_wiring("", &[], std::str::from_utf8(&large).expect("spaces")).problem(413, "TooLarge");
        let mut stream = rest.connect();
        let head =
            rest.head("PUT", "/v1/wiring", &[("Transfer-Encoding", "chunked"), ("Connection", "close")]);
        stream.write_all(&head).expect("sent");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
        http::read(stream).problem(413, "TooLarge");
        let many: Vec<(String, String)> = (0..80).map(|at| (format!("X-{at}"), "x".into())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        rest.ask("GET", "/v1/node", &many, b"").problem(431, "TooLarge");
        let long = "x".repeat(20_000);
        rest.ask("GET", "/v1/node", &[("X", &long)], b"").problem(431, "TooLarge");

        // No HTTP at all.
        for garbage in [
            b"\0\x01\x02\r\n\r\n".as_slice(),
            b"HELO node\r\n\r\n",
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01",
        ] {
            let mut stream = rest.connect();
            stream.write_all(garbage).expect("sent");
            http::read(stream).problem(400, "InvalidArguments");
        }
    }
    // Noise of every length, often cut off: an answer or an end, and nobody is hurt.
    let mut random = 2026u64;
    for round in 0..300usize {
        let mut bytes = unix.head("PUT", "/v1/wiring?dry_run=true", &[("Content-Length", "20")]);
        for _ in 0..1 + round % 7 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = (random >> 25) as u8;
        }
        bytes.truncate(1 + (random >> 17) as usize % bytes.len());
        let mut stream = UnixStream::connect(node.folder().join("run/rest.sock")).expect("it listens");
        stream.write_all(&bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("an end");
        stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
        if let Some(answer) = http::try_read(stream) {
            assert!((200..500).contains(&answer.status), "{answer:?} to {bytes:?}");
        }
    }
    assert_eq!(unix.get("/v1/node").status, 200);
    assert!(node.daemon().runs());
    assert_eq!(node.generation(), 1);
}

#[test]
fn who_is_slow_is_let_go_and_keeps_nobody_out() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let node = setup.wiring(&lua).start();
    let tcp = Rest::Tcp(address, Some(READ.to_owned()));
    // More than one address may have: heads that never end.
    let slow: Vec<TcpStream> = (0..40)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(b"GET /v1/node HTTP/1.1\r\nHost: local").ok()?;
            Some(stream)
        })
        .collect();
    let unix = rest(&node);
    assert_eq!(unix.get("/v1/node").status, 200, "the other door is open");
    // A body that never ends, and a connection that says nothing.
    let mut body = unix.connect();
    body.write_all(&unix.head("PUT", "/v1/wiring", &[("Content-Length", "100"), ("Connection", "close")]))
        .expect("sent");
    let mut silent = UnixStream::connect(node.folder().join("run/rest.sock")).expect("it listens");
    silent.set_read_timeout(Some(LIVENESS)).expect("a limit");
    let mut told = 0;
    for stream in slow {
        stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
        if let Some(answer) = http::try_read(stream) {
            answer.problem(408, "TooSlow");
            told += 1;
        }
    }
    assert_eq!(told, 32, "those over the bound were closed at once");
    eventually("a place for the next", || http::try_read(Connected(address)).map(|_| ()));
    assert_eq!(tcp.get("/v1/node").status, 200);
    http::read(body).problem(408, "TooSlow");
    let mut rest_of_it = Vec::new();
    silent.read_to_end(&mut rest_of_it).expect("it is closed");
    assert!(rest_of_it.is_empty(), "who has asked nothing is told nothing");
}

/// A connection that asks once, when it is first read.
struct Connected(SocketAddr);

impl std::io::Read for Connected {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        stream.read(buffer)
    }
}

#[test]
fn who_asks_too_often_waits() {
    let (setup, address) = with_tcp(setup(), "");
    let node = setup.start();
    let stranger = Rest::Tcp(address, None);
    let statuses: BTreeSet<u16> = (0..60).map(|_| stranger.get("/v1/node").status).collect();
    assert_eq!(statuses, [401, 429].into(), "one without a token has the rate of a stranger");
    assert_eq!(
        Rest::Tcp(address, Some(READ.to_owned())).get("/v1/node").status,
        200,
        "who has one is not he"
    );
    let unix = rest(&node);
    let mut streams: Vec<_> = (0..8).map(|_| unix.events("GET", "/v1/notices", &Value::Null)).collect();
    unix.get("/v1/notices").problem(503, "Overloaded");
    streams.pop();
    eventually("a place for a stream", || {
        let mut stream = unix.connect();
        stream.write_all(&unix.head("GET", "/v1/notices", &[])).ok()?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).ok()?;
        (&start == b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn the_node_file_is_told_its_mistakes_with_their_lines() {
    let check = |toml: &str| setup().node_file(toml).flag("--check").run_to_end();
    for (toml, place, words) in [
        ("[rest]\nlisten = \"127.0.0.1\"", "node.toml:2:10", "is not an address with its port"),
        ("[rest]\n\nlisten = \"127.0.0.1:1\"", "node.toml:3:10", "only with tokens"),
        ("[rest]\nlisten = \"0.0.0.0:1\"\ntokens = \"/t\"", "node.toml:2:10", "in the clear"),
        ("[rest]\ntokens = \"/t\"", "node.toml:2:10", "without listen"),
        ("[rest]\nlisten = \"127.0.0.1:1\"\ntokens = \"/t\"\nkey = \"/k\"", "node.toml:4:7", "go together"),
        ("[rest]\nlisen = \"127.0.0.1:1\"", "node.toml:2:1", "did you mean \"listen\"?"),
    ] {
        let (code, said) = check(toml);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(place) && said.contains(words), "{toml}: {said}");
    }
    let (setup, _) = with_tcp(setup(), "");
    write_tokens(setup.folder(), "screen read short\n\nplanner chnage 0123456789abcdef0123456789abcdef\n");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(setup.folder().join("tokens"), mode).expect("a mode");
    let (code, said) = setup.run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("tokens:1: token \"screen\" has 5 characters"), "{said}");
    assert!(said.contains("tokens:3: token \"planner\": unknown scope \"chnage\""), "{said}");
    let setup = setup.flag("--check");
    assert_eq!(setup.run_to_end().0, Some(78), "a check says so too");
}

#[test]
fn an_address_that_is_taken_degrades_the_node_until_it_is_free() {
    let (setup, address) = with_tcp(setup(), "");
    let taken = TcpListener::bind(address).expect("the port is free");
    let node = setup.start();
    let degraded = || rest(&node).get("/v1/node").json()["Degraded"].to_string();
    assert!(degraded().contains("REST cannot listen at"), "{}", degraded());
    drop(taken);
    let planner = Rest::Tcp(address, Some(READ.to_owned()));
    eventually("the address", || TcpStream::connect(address).ok());
    assert_eq!(planner.get("/v1/node").status, 200);
    eventually("the end of the degradation", || (!degraded().contains("REST")).then_some(()));
}

#[test]
fn the_socket_goes_with_the_node_and_can_be_left_out() {
    let mut node = setup().start();
    let socket = node.folder().join("run/rest.sock");
    let mut live = rest(&node).events("GET", "/v1/live", &Value::Null);
    assert!(socket.exists());
    assert_eq!(node.end(libc::SIGTERM).code(), Some(0), "an open stream holds nothing up");
    assert!(!socket.exists());
    while live.next().is_some() {}
    let node = setup().node_file("[rest]\nsocket = false").start();
    assert!(!node.folder().join("run/rest.sock").exists());
}
