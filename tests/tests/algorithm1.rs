//! Algorithm 1 of the paper: every language gives the same answers, and they are those that other tools
//! compute by another formula (`expected.tsv`).

mod road;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempos_tests::Producer;
use tempos_tests::built::{plugin_folders, source_root};
use tempos_tests::function::{rust_builds_for, rust_function};

use road::{receive, receiver, setup, unix};

/// What must come out, and what for.
struct Case {
    event: String,
    what: String,
    occurrences: u64,
    result: f64,
}

fn folder() -> PathBuf {
    source_root().join("examples/functions/algorithm1")
}

/// The same JSON with every character that is not ASCII as `\uXXXX`.
fn escaped(json: &str) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::new(), |text, c| match c.is_ascii() {
        true => text + &c.to_string(),
        false => c.encode_utf16(&mut units).iter().fold(text, |text, unit| text + &format!("\\u{unit:04X}")),
    })
}

fn cases() -> Vec<Case> {
    let table = fs::read_to_string(folder().join("expected.tsv")).expect("expected.tsv is there");
    let mut cases = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, pattern, occurrences, result] = fields[..] else { panic!("not four fields: {line:?}") };
        let text = fs::read_to_string(folder().join("texts").join(name)).expect("the text is there");
        let event = json!({ "message": text, "pattern": pattern }).to_string();
        for event in [escaped(&event), event] {
            cases.push(Case {
                event,
                what: format!("{pattern:?} in {name}"),
                occurrences: occurrences.parse().expect("a count"),
                result: result.parse().expect("a number"),
            });
        }
    }
    assert!(cases.len() >= 60 && cases.iter().filter(|case| case.occurrences > 100).count() >= 16);
    cases
}

/// Checks the answers against the computation of other tools.
fn check(language: &str, cases: &[Case], answers: &[String]) {
    assert_eq!(answers.len(), cases.len(), "{language}");
    for (case, answer) in cases.iter().zip(answers) {
        let value: Value =
            serde_json::from_str(answer).unwrap_or_else(|e| panic!("{language}: {e}: {answer}"));
        assert_eq!(value["occurrences"], case.occurrences, "{language}: {}", case.what);
        let result = value["result"].as_f64().expect("a number");
        // Six decimals are written.
        assert!(
            (result - case.result).abs() <= 1e-6,
            "{language}: {}: {answer}, not {}",
            case.what,
            case.result
        );
        let decimals = answer.trim_end_matches('}').rsplit('.').next().map(str::len);
        assert_eq!(decimals, Some(6), "{language}: {answer}");
    }
}

/// What is no request in any language.
const BAD: [&str; 6] = [
    "",
    "{",
    "no",
    "{\"message\":\"x\"}",
    "{\"message\":1,\"pattern\":\"x\"}",
    "{\"message\":\"x\",\"pattern\":\"\"}",
];

/// What a function answers in a node, which runs it as `call` says; `None` where this tree has no such method.
fn through_a_node(method: &str, file: &Path, more: &str, cases: &[Case]) -> Option<Vec<String>> {
    let plugin = format!("invoker-{method}");
    if !plugin_folders().contains(&plugin) {
        return None;
    }
    let setup = setup().plugins([plugin.as_str()]);
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"texts\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.topic \"counts\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
         tempos.workflow \"count\" {{ from = \"texts\", to = \"counts\",\n\
         call = {{ method = {method:?}, file = {:?}{more} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
        file.display(),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    let ask = |event: &[u8]| {
        producer.socket().send(event).expect("the node listens");
    };
    // What is no request fails, and only that.
    BAD.iter().for_each(|bad| ask(bad.as_bytes()));
    let answers = cases.iter().map(|case| {
        ask(case.event.as_bytes());
        String::from_utf8(receive(&out)).expect("a text")
    });
    let answers = answers.collect();
    let workflow = node.workflow("count");
    let failures = tempos_tests::figures::counts(&workflow["Failures"]);
    assert_eq!(failures.get("failed"), Some(&(BAD.len() as u64)), "{method} {file:?}: {workflow:#}");
    assert_eq!(failures.values().sum::<u64>(), BAD.len() as u64, "{method} {file:?}: {workflow:#}");
    Some(answers)
}

/// What a handler answers in its interpreter; `None` where there is none. `script` reads one event a line.
fn interpreted(interpreter: &str, folder: &Path, script: &str, cases: &[Case]) -> Option<Vec<String>> {
    let mut child = match Command::new(interpreter)
        .args([if interpreter == "node" { "-e" } else { "-c" }, script])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => return None,
    };
    let mut stdin = child.stdin.take().expect("piped");
    let events: String = cases.iter().map(|case| format!("{}\n", case.event)).collect();
    let writer = std::thread::spawn(move || stdin.write_all(events.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success(), "{interpreter}");
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

const PYTHON: &str = "
import sys, types
from algorithm1 import handle
for line in sys.stdin.buffer:
    print(handle(types.SimpleNamespace(payload=line, attributes={}, topic='texts', id=1)))
for bad in (b'{', b'[]', b'{\"message\":1,\"pattern\":\"x\"}', b'{\"message\":\"x\",\"pattern\":\"\"}'):
    try:
        handle(types.SimpleNamespace(payload=bad))
        sys.exit(1)
    except ValueError:
        pass
";

const JAVASCRIPT: &str = r#"
const { handle } = require("./algorithm1.js");
const lines = require("fs").readFileSync(0, "utf8").split("\n").slice(0, -1);
for (const line of lines) {
  console.log(handle({ payload: Buffer.from(line), attributes: {}, topic: "texts", id: 1 }));
}
for (const bad of ["{", "[]", '{"message":1,"pattern":"x"}', '{"message":"x","pattern":""}']) {
  try {
    handle({ payload: Buffer.from(bad) });
    process.exit(1);
  } catch {}
}
"#;

/// The module in another engine than the node's: what it imports is as plain as that.
const WASM: &str = r#"
const module = new WebAssembly.Module(require("fs").readFileSync("algorithm1.wasm"));
const lines = require("fs").readFileSync(0, "utf8").split("\n").slice(0, -1);
for (const line of lines) {
  let answer = "";
  const at = (address, bytes) => Buffer.from(exports.memory.buffer, address, bytes);
  const write = (address, bytes) => { answer += at(address, bytes).toString(); return 0; };
  const { exports } = new WebAssembly.Instance(module, { tempos: { write, explain() {} } });
  const event = Buffer.from(line);
  const room = exports.alloc(event.length);
  event.copy(at(room, event.length));
  if (exports.handle(room, event.length) !== 0) process.exit(1);
  console.log(answer);
}
"#;
const RUST: &str = "examples/functions/algorithm1/rust";
const WASM_TARGET: &str = "wasm32-unknown-unknown";

#[test]
fn every_language_and_method_gives_the_same_answers_and_they_are_right() {
    let cases = cases();
    let out = tempfile::tempdir().expect("a folder");
    let c = out.path().join("algorithm1.so");
    let made = Command::new("make")
        .args(["--silent", "-C"])
        .arg(folder().join("c"))
        .arg(format!("OUT={}", c.display()))
        .status();
    assert!(made.expect("make runs").success());
    let rust = rust_function(RUST, "algorithm1", None);
    let module = rust_builds_for(WASM_TARGET).then(|| rust_function(RUST, "algorithm1", Some(WASM_TARGET)));
    let module = module.as_deref();
    let (python, javascript) = (folder().join("python"), folder().join("javascript"));

    let node = |method, file: &Path, more| through_a_node(method, file, more, &cases);
    let first = node("dlf", &c, "").expect("the method dlf is there");
    check("c by dlf", &cases, &first);
    let python_here = interpreted("python3", &python, PYTHON, &cases);
    let javascript_here = interpreted("node", &javascript, JAVASCRIPT, &cases);
    let spawned = |file: &Path, more: &str, here: &Option<Vec<String>>| {
        here.as_ref().and_then(|_| through_a_node("spawn", file, more, &cases))
    };
    let by_spawn = [
        spawned(&python.join("algorithm1.py"), ", runtime = \"python\", mode = \"warm\"", &python_here),
        spawned(
            &javascript.join("algorithm1.js"),
            ", runtime = \"javascript\", mode = \"warm\"",
            &javascript_here,
        ),
    ];
    let [python_spawned, javascript_spawned] = by_spawn;
    let other = [
        ("c by dlf in a process of its own", node("dlf", &c, ", isolation = \"process\"")),
        ("rust by dlf", node("dlf", &rust, "")),
        ("rust by wasm", module.and_then(|module| node("wasm", module, ""))),
        ("rust as a module in node.js", module.and_then(|m| interpreted("node", m.parent()?, WASM, &cases))),
        ("python", python_here),
        ("python by spawn", python_spawned),
        ("javascript", javascript_here),
        ("javascript by spawn", javascript_spawned),
    ];
    for (language, answers) in other {
        let Some(answers) = answers else {
            println!("{language}: skipped, what runs or builds it is not here");
            continue;
        };
        check(language, &cases, &answers);
        assert_eq!(answers, first, "{language} and c differ");
    }
}
