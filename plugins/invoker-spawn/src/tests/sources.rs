//! Sources in Python and JavaScript: `handle(event)` behind a shim.

use super::*;

const PYTHON: &str = r#"
import os, sys
print("imported")
calls = 0

class Failure(Exception):
    code = 7

def handle(event):
    global calls
    calls += 1
    print("noise on the standard output", flush=True)
    what = event.text
    if what == "about":
        found = sorted(event.attributes.items(), key=lambda item: item[0])
        return f"{event.id} {event.topic} {event.level} {event.source_time_ns} {found}"
    if what == "calls": return str(calls)
    if what == "pid": return f"{os.getpid()} {os.getppid()}"
    if what == "none": return None
    if what == "number": return 5
    if what == "raise": raise Failure("no such bearing")
    if what == "value": return int("x")
    if what == "exit": os._exit(3)
    if what == "quit": sys.exit(3)
    if what == "crash": os.kill(os.getpid(), 11)
    if what == "loop":
        while True: pass
    if what == "bomb": return bytes(1 << 32)
    if what == "descriptors": os.close(1); os.close(2); return b"still here"
    return event.payload
"#;

const JAVASCRIPT: &str = r#"
console.log("imported");
let calls = 0;
module.exports.handle = (event) => {
  calls += 1;
  console.log("noise on the standard output");
  switch (event.text) {
    case "about":
      return `${event.id} ${event.topic} ${event.level} ${event.sourceTimeNs} ${JSON.stringify(event.attributes.unit)} ${event.attributes.offset}`;
    case "calls": return String(calls);
    case "later": return new Promise((resolve) => setTimeout(() => resolve("later"), 5));
    case "none": return undefined;
    case "number": return 5;
    case "raise": throw Object.assign(new Error("no such bearing"), { code: 7 });
    case "exit": process.exit(3);
    case "crash": process.kill(process.pid, "SIGSEGV"); for (;;) {}
    case "loop": for (;;) {}
    default: return event.payload;
  }
};
"#;

fn source(file: &Path, runtime: &str, mode: &str) -> FunctionSpec {
    spec(file, &[("runtime", text(runtime)), ("mode", text(mode))])
}

fn said(function: &SpawnFunction, what: &str) -> (Outcome, String) {
    let result = invoke(function, what.as_bytes());
    let text = result.output.map_or(result.said, |output| String::from_utf8_lossy(&output).into_owned());
    (result.outcome, text)
}

fn there_is(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("there is no {program}: skipped");
    }
    there
}

#[test]
fn python_in_every_mode() {
    if !there_is("python3") {
        return;
    }
    let folder = Folder::new();
    let file = folder.place("function.py", PYTHON);
    for mode in ["each", "warm", "zygote"] {
        let function = prepare(&source(&file, "python", mode));
        let say = |what: &str| said(&function, what);
        let about = "42 press/vibration 1 17 [('offset', -5), ('peer.address', b'\\x7f\\x00\\x00\\x01\\x01\\x00'), \
                     ('peer.uid', 1234), ('unit', 'mm/s')]";
        assert_eq!(say("about"), (Outcome::DONE, about.into()), "{mode}");
        let calls: Vec<String> = (0..3).map(|_| say("calls").1).collect();
        let expected = if mode == "warm" { ["2", "3", "4"] } else { ["1", "1", "1"] };
        assert_eq!(calls, expected, "{mode}");
        assert_eq!(say("none"), (Outcome::DONE, String::new()), "{mode}");
        assert_eq!(say("number").0, Outcome::BAD_OUTPUT, "{mode}");
        let failed = "Failure: no such bearing (function.py, line 21)";
        assert_eq!(say("raise"), (Outcome::failed(7), failed.into()), "{mode}");
        assert_eq!(say("value").0, Outcome::failed(1), "{mode}");
        assert_eq!(say("exit").0, Outcome::CRASHED, "{mode}");
        assert_eq!(say("quit").0, Outcome::CRASHED, "{mode}");
        assert_eq!(say("crash").0, Outcome::CRASHED, "{mode}");
        assert_eq!(invoke_within(&function, 0, b"loop", 100_000_000).outcome, Outcome::KILLED, "{mode}");
        let large = vec![b'l'; 4096];
        assert_eq!(invoke(&function, &large).output, Some(large), "{mode}");
        if mode == "zygote" {
            let parents: Vec<String> =
                (0..2).map(|_| say("pid").1.split_once(' ').expect("two").1.to_owned()).collect();
            assert_eq!(parents[0], parents[1], "the children of one");
        }
        assert_eq!(say("descriptors").1, "still here", "{mode}");
        function.retire(0);
        drop(function);
        eventually("nothing to be left", || children_of(&file).is_empty());
    }
    let mut bounded = source(&file, "python", "warm");
    bounded.memory_bytes = 512 << 20;
    let function = prepare(&bounded);
    assert_eq!(said(&function, "bomb"), (Outcome::OVER_MEMORY, "MemoryError".into()));
    assert_eq!(said(&function, "e").1, "e");
}

#[test]
fn javascript_in_every_mode() {
    if !there_is("node") {
        return;
    }
    let folder = Folder::new();
    let file = folder.place("function.js", JAVASCRIPT);
    for mode in ["each", "warm"] {
        let mut own = source(&file, "javascript", mode);
        own.memory_bytes = 1 << 30;
        let function = prepare(&own);
        let say = |what: &str| said(&function, what);
        assert_eq!(say("about"), (Outcome::DONE, "42 press/vibration 1 17 \"mm/s\" -5".into()), "{mode}");
        let calls: Vec<String> = (0..2).map(|_| say("calls").1).collect();
        assert_eq!(calls, if mode == "warm" { ["2", "3"] } else { ["1", "1"] }, "{mode}");
        assert_eq!(say("later").1, "later", "{mode}");
        assert_eq!(say("none"), (Outcome::DONE, String::new()), "{mode}");
        assert_eq!(say("number").0, Outcome::BAD_OUTPUT, "{mode}");
        assert_eq!(say("raise"), (Outcome::failed(7), "Error: no such bearing".into()), "{mode}");
        assert_eq!(say("exit").0, Outcome::CRASHED, "{mode}");
        assert_eq!(say("crash").0, Outcome::CRASHED, "{mode}");
        assert_eq!(invoke_within(&function, 0, b"loop", 200_000_000).outcome, Outcome::KILLED, "{mode}");
        let large = vec![b'l'; 4096];
        assert_eq!(invoke(&function, &large).output, Some(large), "{mode}");
    }
    let module = folder.place("function.mjs", "export const handle = (event) => event.text + \"!\";\n");
    let function = prepare(&source(&module, "javascript", "warm"));
    assert_eq!(said(&function, "module").1, "module!");
}

#[test]
fn a_source_that_cannot_be_used_is_refused_with_one_sentence() {
    let folder = Folder::new();
    let cases: [(&str, &str, &str); 3] = [
        ("def handle(event:\n", "python", "SyntaxError"),
        ("import no_such_module\n", "python", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n", "python", "defines no function handle(event)"),
    ];
    for (body, runtime, what) in
        cases.into_iter().filter(|(_, runtime, _)| *runtime != "python" || there_is("python3"))
    {
        let error = refusal(&source(&folder.place("f", body), runtime, "warm"));
        assert!(error.message.contains(what) && !error.message.contains('\n'), "{error}");
    }
    let file = folder.place("f.py", PYTHON);
    let nowhere = [("runtime", text("python")), ("interpreter", text("/no/python"))];
    let error = refusal(&spec(&file, &nowhere));
    assert!(error.message.ends_with("interpreter = \"/no/python\" is not a program"), "{error}");
    for (key, value, what) in [
        ("mode", text("often"), "is neither \"each\" nor \"warm\" nor \"zygote\""),
        ("mode", text("zygote"), "needs runtime = \"python\""),
        ("runtime", text("cobol"), "is neither \"native\" nor \"python\" nor \"javascript\""),
        ("env", texts(&["nothing"]), "env: \"nothing\" is not of the form NAME=value"),
        ("files", OptionValue::Integer(2), "files = 2 is not within 8 to 1048576"),
        ("cpu", OptionValue::Integer(5), "cpu is less than a second"),
        ("seccomp", text("more"), "is neither \"off\" nor \"basic\""),
        ("readable", texts(&["usr"]), "is not an absolute path"),
        ("namespaces", texts(&["all"]), "is none of \"pid\", \"mount\", \"network\", \"ipc\""),
        ("args", texts(&["a\0b"]), "holds a zero byte"),
    ] {
        let error = refusal(&spec(&file, &[(key, value)]));
        assert!(error.message.contains(what), "{key}: {error}");
        assert_eq!(error.code, PluginError::BAD_OPTION, "{key}");
    }
}
