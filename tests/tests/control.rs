//! Orders from outside, good and bad: callers without the right, garbage over D-Bus, scripts that run wild,
//! and what a user sees of his own mistakes. The flow of a strict topic runs beside all of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempos_abi::QosLevel;
use tempos_abi::envelope::Envelope;
use tempos_tests::node::{BUS_NAME, ROOT};
use tempos_tests::numbered::{Numbered, outlet};
use tempos_tests::{LIVENESS, Node, NodeSetup, Signals, eventually};
use zbus::zvariant::{StructureBuilder, Value};

const NODE: &str = "org.tempos.Host1.Node";
const EVERY: Duration = Duration::from_millis(1);

/// A topic from one unix socket of the folder to another.
fn road(folder: &Path, name: &str, level: &str) -> String {
    let folder = folder.display();
    format!(
        "tempos.topic \"{name}\" {{ qos = \"{level}\",\n\
         ingress = {{ tempos.unix {{ path = \"{folder}/{name}.in\" }} }},\n\
         egress = {{ tempos.unix {{ path = \"{folder}/{name}.out\" }} }} }}\n"
    )
}

/// A node with a flow of numbered events through its strict topic `good`.
fn flowing(setup: NodeSetup) -> (Node, Numbered) {
    let setup = setup.plugins(["adapter-unix", "queue-fifo"]);
    let lua = road(setup.folder(), "good", "strict");
    let out = outlet(&setup.folder().join("good.out"));
    let node = setup.wiring(&lua).start();
    let flow = Numbered::start(node.folder().join("good.in"), out, EVERY);
    flow.wait_for_more(10);
    (node, flow)
}

fn call(node: &Node, method: &str, arguments: &[&str]) -> Output {
    node.busctl([&["call", BUS_NAME, ROOT, NODE, method], arguments].concat())
}

/// What a refused call says, in one line.
fn refusal(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert!(!output.status.success(), "it was not refused");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_stranger_may_look_but_gives_no_orders() {
    // SAFETY: geteuid(2) has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("passed over: only root can call as somebody else");
        return;
    }
    let (node, flow) = flowing(NodeSetup::new());
    // Whatever the socket's mode keeps out is let in for the sake of the next wall.
    fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::set_permissions(node.folder().join("run"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::set_permissions(node.peer_socket(), fs::Permissions::from_mode(0o666)).expect("a mode");
    let as_nobody = |arguments: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"])
            .arg(format!("--address={}", node.address()))
            .arg("--no-pager")
            .args(arguments)
            .output()
            .expect("setpriv and busctl run")
    };
    let seen = as_nobody(&["get-property", BUS_NAME, ROOT, NODE, "State"]);
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let script = node.wiring_path().display().to_string();
    let library = node.plugin_folder().join("libtempos_queue_fifo.so").display().to_string();
    let before = node.generation();
    for (method, arguments) in [
        ("Apply", &["s", script.as_str()][..]),
        ("ApplyText", &["ss", "stranger", ""]),
        ("ApplyWith", &["sa{sv}", script.as_str(), "0"]),
        ("ApplyTextWith", &["ssa{sv}", "stranger", "", "1", "until-restart", "b", "true"]),
        ("Rollback", &["ta{sv}", "1", "0"]),
        ("Confirm", &["t", "0"]),
        ("Reload", &[]),
        ("Drain", &["u", "1000"]),
        ("Publish", &["sa{sv}ay", "good", "0", "3", "1", "2", "3"]),
        ("LoadPlugin", &["s", library.as_str()]),
        ("Prewarm", &["su", "good", "1"]),
        ("Calibrate", &["u", "1000"]),
    ] {
        let said = refusal(&as_nobody(&[&["call", BUS_NAME, ROOT, NODE, method], arguments].concat()));
        assert!(said.contains("user 65534 may not call") && said.contains(method), "{method}: {said}");
        // The node keeps account of who was turned away, from where.
        node.wait_for_log(&format!(", socket: {method}: refused: user 65534 may not call"));
    }
    assert!(node.log().contains("access: user 65534, process "), "{}", node.log());
    let listed = as_nobody(&["call", BUS_NAME, ROOT, NODE, "Generations"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(node.generation(), before);
    // The same through the tool, with the exit code of sysexits.h for it.
    let tool = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(copied(&tempos_tests::built::program("temposctl"), node.folder()))
        .args(["--bus", &node.address(), "reload"])
        .output()
        .expect("setpriv runs");
    assert_eq!(tool.status.code(), Some(77), "{}", String::from_utf8_lossy(&tool.stderr));
    flow.end_whole();
}

/// A copy of a program where everybody can run it.
fn copied(program: &Path, folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("program");
    fs::copy(program, &copy).expect("a program can be copied");
    copy
}

#[test]
fn the_level_of_an_event_is_that_of_its_endpoint_whatever_its_sender_says() {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]);
    let lua = road(setup.folder(), "easy", "best-effort")
        .replace("tempos.unix { ", "tempos.unix { format = \"event\", ");
    let out = outlet(&setup.folder().join("easy.out"));
    out.set_read_timeout(Some(LIVENESS)).expect("a limit");
    let node = setup.wiring(&lua).start();
    let claims = Envelope {
        event_id: 7,
        level: QosLevel::STRICT,
        source_time_ns: 0,
        deadline_ns: 0,
        topic: "easy",
        attributes: &[],
        payload: b"first",
    };
    let mut head = [0; 512];
    let len = claims.encode_head(&mut head).expect("room for the header");
    let frame = [&head[..len], b"first"].concat();
    UnixDatagram::unbound()
        .expect("a socket")
        .send_to(&frame, node.folder().join("easy.in"))
        .expect("it listens");
    let mut buffer = [0; 512];
    let len = out.recv(&mut buffer).expect("the event comes out");
    let came = Envelope::decode(&buffer[..len]).expect("it carries the header");
    assert_eq!((came.level, came.payload, came.event_id), (QosLevel::BEST_EFFORT, &b"first"[..], 7));
    let events = |level: &str| node.property(&format!("{ROOT}/qos/{level}"), "QosLevel", "EventsIn").as_u64();
    assert_eq!((events("strict"), events("best_2deffort")), (Some(0), Some(1)));
}

#[test]
fn busctl_shows_the_node_and_gives_it_orders() {
    let (node, flow) = flowing(NodeSetup::new().with_bus());
    let said = |arguments: &[&str]| {
        let output = node.busctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let tree = said(&["tree", BUS_NAME]);
    for path in [
        "qos/strict",
        "qos/best_2deffort",
        "plugin/unix",
        "plugin/fifo",
        "topic/good",
        "channel/good_2fin_2f1",
    ] {
        assert!(tree.contains(&format!("{ROOT}/{path}")), "{path}: {tree}");
    }
    let node_shown = said(&["introspect", BUS_NAME, ROOT]);
    for member in [
        ".Apply",
        ".Publish",
        ".LoadPlugin",
        ".Generation",
        ".WiringApplied",
        ".Degraded",
        ".GetManagedObjects",
    ] {
        assert!(node_shown.contains(member), "{member}: {node_shown}");
    }
    let topic = said(&["introspect", BUS_NAME, &format!("{ROOT}/topic/good")]);
    for property in [".State", ".Reason", ".Since", ".EventsIn", ".EventsDropped", ".LatencyNs"] {
        assert!(topic.contains(property), "{property}: {topic}");
    }
    let signals = Signals::of(&node);
    let before = node.generation();
    let lua = road(node.folder(), "good", "strict") + &road(node.folder(), "second", "best-effort");
    let report = said(&["call", BUS_NAME, ROOT, NODE, "ApplyText", "ss", "by-hand", &lua]);
    assert!(report.contains("second"), "{report}");
    assert_eq!(node.generation(), before + 1);
    let applied = eventually("the signal", || signals.named("WiringApplied").first().cloned());
    assert_eq!(applied[0].as_u64(), Some(before + 1), "{applied:?}");
    eventually("the new object's announcement", || {
        let added = signals.named("InterfacesAdded");
        added.iter().any(|added| format!("{added:?}").contains("topic/second")).then_some(())
    });
    let out = outlet(&node.folder().join("second.out"));
    let id = said(&["call", BUS_NAME, ROOT, NODE, "Publish", "sa{sv}ay", "second", "0", "3", "1", "2", "3"]);
    assert!(id.starts_with("t "), "{id}");
    let mut buffer = [0; 16];
    let len = eventually("the published event", || {
        let _ = call(&node, "Publish", &["sa{sv}ay", "second", "0", "3", "1", "2", "3"]);
        out.recv(&mut buffer).ok()
    });
    assert_eq!(buffer[..len], [1, 2, 3]);
    flow.end_whole();
}

#[test]
fn a_typing_mistake_is_named_with_its_line_and_what_was_meant() {
    let (node, flow) = flowing(NodeSetup::new().with_bus());
    let before = node.generation();
    let script = node.folder().join("press.lua");
    fs::write(&script, "-- a wiring\ntempos.topic \"press\" { qso = \"strict\" }\n").expect("a script");
    let wanted = "press.lua:2: topic \"press\": unknown key \"qso\" (did you mean \"qos\"?)";
    let path = script.display().to_string();
    let over_bus = refusal(&call(&node, "Apply", &["s", &path]));
    assert!(over_bus.contains(wanted), "{over_bus}");
    let tool = node.ctl(["apply", &path]);
    let said = [tool.stdout, tool.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains(wanted), "{}", String::from_utf8_lossy(&said));
    assert_eq!(tool.status.code(), Some(65), "a mistake in the data (sysexits.h)");
    assert_eq!(node.generation(), before);
    flow.end_whole();
}

/// Scripts that run wild or break off, and what the refusal must hold: on a busy machine the end of the time
/// may come before another end.
const WILD: [(&str, &str, &str); 10] = [
    ("loop", "while true do end", "stopped|stuck"),
    ("protected-loop", "while true do pcall(function() while true do end end) end", "stopped|stuck"),
    ("coroutine", "coroutine.wrap(function() while true do end end)()", "stopped|stuck"),
    (
        "memory",
        "local t = {} while true do t[#t + 1] = string.rep('x', 20000000) .. #t end",
        "memory|stopped|stuck",
    ),
    ("pattern", "string.find(string.rep('a', 100000), string.rep('a*', 100) .. 'b')", "stopped|stuck"),
    ("recursion", "local function f() return 1 + f() end f()", "recursion|memory|stopped|stuck"),
    ("shell", "os.execute('true')", "os"),
    ("bytecode", "load(string.char(27) .. 'Lua')()", "load"),
    ("half-way", "tempos.topic 'half' { qos = 'strict' } error('enough')", "enough"),
    ("syntax", "tempos.topic 'half' {", "unexpected symbol"),
];

fn holds(said: &str, words: &str) -> bool {
    words.split('|').any(|word| said.contains(word))
}

#[test]
fn scripts_that_run_wild_change_nothing_and_cost_nobody_else() {
    let (node, flow) = flowing(NodeSetup::new().with_bus().node_file("[wiring]\nsettle = \"20ms\""));
    let signals = Signals::of(&node);
    let before = node.generation();
    let topics = || -> Vec<String> {
        let topics = node.ctl_json(["topics"]);
        topics
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|t| t["name"].as_str().map(str::to_owned))
            .collect()
    };
    for (name, lua, words) in WILD {
        let said = refusal(&call(&node, "ApplyText", &["ss", name, lua]));
        assert!(said.contains(name) && holds(&said, words), "{name}: {said}");
        assert_eq!((node.generation(), topics()), (before, vec![String::from("good")]), "{name}");
    }
    // The same by saving files.
    let good = fs::read_to_string(node.wiring_path()).expect("the wiring is there");
    for (at, (name, lua, words)) in WILD.into_iter().enumerate() {
        node.save_wiring(&format!("{good}{lua}\n"));
        let rejected = eventually(&format!("the refusal of {name}"), || {
            signals.named("WiringRejected").get(WILD.len() + at).cloned()
        });
        assert!(rejected[0].as_str().is_some_and(|said| holds(said, words)), "{name}: {rejected:?}");
        assert_eq!((node.generation(), topics()), (before, vec![String::from("good")]), "{name}");
    }
    node.save_wiring(&good);
    eventually("the mended wiring", || {
        let degraded = node.property(ROOT, "Node", "Degraded").to_string();
        (!degraded.contains("wiring")).then_some(())
    });
    flow.wait_for_more(50);
    flow.end_whole();
}

/// A generator whose sequence depends on nothing but its seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        self.roll() as usize % bound
    }

    /// Never the name of anything that is there.
    fn text(&mut self) -> String {
        const WORDS: [&str; 9] =
            ["(", "/", "État", "\u{1}\u{7f}", "../..", "🦀", "%s%n", "/dev/zero", "good"];
        let length = 1 + self.below(3) * 40;
        let words: String = (0..self.below(4)).map(|_| WORDS[self.below(WORDS.len())]).collect();
        format!("({}", words.repeat(length))
    }

    fn value(&mut self) -> Value<'static> {
        match self.below(8) {
            0 => Value::from(self.roll() as u8),
            1 => Value::from(self.roll()),
            2 => Value::from(self.roll() as i32),
            3 => Value::from(f64::from_bits(self.roll())),
            4 => Value::from(vec![self.text(), self.text()]),
            5 => Value::from((0..self.below(100)).map(|_| self.roll() as u8).collect::<Vec<u8>>()),
            6 => Value::Value(Box::new(Value::from(self.text()))),
            _ => Value::from(self.text()),
        }
    }
}

/// Orders with the types that they take (`A`: attributes, `B`: bytes). Not `Drain`, which the node would obey.
const ORDERS: [(&str, &str); 10] = [
    ("Apply", "s"),
    ("ApplyText", "ss"),
    ("Plan", "s"),
    ("Reload", ""),
    ("Publish", "sAB"),
    ("Subscribe", "s"),
    ("LoadPlugin", "s"),
    ("Prewarm", "su"),
    ("Doctor", ""),
    ("Nothing", "s"),
];

#[test]
fn random_calls_are_answered_or_refused_while_no_strict_event_is_lost() {
    let (mut node, flow) = flowing(NodeSetup::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = node.address();
    let client = runtime
        .block_on(async { zbus::connection::Builder::address(address.as_str())?.build().await })
        .expect("the node's own socket");
    let mut dice = Dice(0x90c5_11d2_4b6f);
    let (mut answered, mut refused) = (0, 0);
    for round in 0..5000 {
        let (method, types) = ORDERS[dice.below(ORDERS.len())];
        let mut body = StructureBuilder::new();
        let fields: Vec<Value<'static>> = if dice.below(2) == 0 {
            (0..dice.below(4)).map(|_| dice.value()).collect()
        } else {
            types
                .chars()
                .map(|kind| match kind {
                    's' => Value::from(dice.text()),
                    'u' => Value::from(dice.roll() as u32),
                    'A' => {
                        let entries = (0..dice.below(4)).map(|_| (dice.text(), dice.value()));
                        Value::from(entries.collect::<std::collections::HashMap<_, _>>())
                    }
                    _ => Value::from(vec![dice.roll() as u8; dice.below(100)]),
                })
                .collect()
        };
        let empty = fields.is_empty();
        for field in fields {
            body.push_value(field);
        }
        let call = async {
            if empty {
                client.call_method(Some(BUS_NAME), ROOT, Some(NODE), method, &()).await
            } else {
                let body = body.build().expect("at least one field");
                client.call_method(Some(BUS_NAME), ROOT, Some(NODE), method, &body).await
            }
        };
        match runtime.block_on(async { tokio::time::timeout(LIVENESS, call).await }) {
            Ok(Ok(_)) => answered += 1,
            Ok(Err(zbus::Error::MethodError(name, Some(said), _))) => {
                assert!(
                    !said.trim().is_empty() && !said.contains("panicked"),
                    "round {round}: {name} {said}"
                );
                refused += 1;
            }
            other => panic!("round {round}: {method}: {other:?}"),
        }
    }
    println!("{answered} answered, {refused} refused");
    assert!(answered > 100 && refused > 1000, "the dice roll both: {answered}, {refused}");
    assert!(node.daemon().runs());
    flow.wait_for_more(50);
    flow.end_whole();
}

#[test]
fn the_supervisor_hears_that_the_node_lives_until_it_is_told_to_end() {
    let setup =
        NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]).environment("WATCHDOG_USEC", "400000");
    let mut node = setup.start();
    for _ in 0..3 {
        node.supervisor().wait_for("WATCHDOG=1", || Ok(())).expect("a sign of life");
    }
    node.daemon().signal(libc::SIGTERM);
    node.supervisor().wait_for("STOPPING=1", || Ok(())).expect("the end is told");
    assert_eq!(node.daemon().wait_for_end().code(), Some(0));
}
