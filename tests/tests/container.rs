//! Functions inside containers that are already started, with a real engine and real containers.

mod road;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempos_abi::attributes::AttributeValue;
use tempos_tests::built::{plugin, program, source_root};
use tempos_tests::engine::Engine;
use tempos_tests::figures::counts;
use tempos_tests::{Node, NodeSetup, Producer, Signals, eventually};

use road::{event, receive, receiver, unix};

const IMAGE: &str = "tempos-test:1";

/// The engine, with the image of these tests.
fn engine() -> Option<Arc<Engine>> {
    static BUILT: Mutex<()> = Mutex::new(());
    let engine = Engine::shared()?;
    let _one = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if engine.docker(&["images", "--quiet", IMAGE]).is_empty() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["bin", "etc", "dev", "proc", "tmp", "home/press", "usr", "lib", "lib64"] {
            fs::create_dir_all(root.path().join(folder)).expect("made");
        }
        let source = source_root().join("tests/fixtures/in-container.c");
        let program = root.path().join("bin/function");
        let built =
            Command::new("cc").args(["-static", "-O1", "-w", "-o"]).args([&program, &source]).status();
        assert!(built.expect("there is a C compiler").success());
        let place = |path: &str, text: &str| fs::write(root.path().join(path), text).expect("written");
        place("etc/passwd", "root:x:0:0::/:/bin/function\npress:x:1234:1234::/home/press:/bin/function\n");
        place("etc/group", "root:x:0:\npress:x:1234:\nvideo:x:44:press\n");
        place("bin/text", "not a program\n");
        // A shell where a container is lent the machine's /usr.
        std::os::unix::fs::symlink("/usr/bin/sh", root.path().join("bin/sh")).expect("linked");
        place("home/press/function.py", "def handle(event):\n    return event.text.upper()\n");
        engine.import(root.path(), IMAGE);
    }
    Some(engine)
}

/// A container with a name of its own, gone when it is dropped.
struct Container {
    engine: Arc<Engine>,
    name: String,
}

impl Container {
    fn start(engine: &Arc<Engine>, name: &str, flags: &[&str]) -> Container {
        Container::start_as(engine, name, flags, &["rest"])
    }

    fn start_as(engine: &Arc<Engine>, name: &str, flags: &[&str], first: &[&str]) -> Container {
        let container = Container { engine: Arc::clone(engine), name: name.into() };
        let fixed = ["run", "--detach", "--network=none", "--name", name, "--hostname", "press-host"];
        engine.docker(&[&fixed[..], flags, &[IMAGE, "/bin/function"], first].concat());
        container
    }

    fn call(&self, more: &str) -> String {
        format!(
            "method = \"container\", container = {:?}, engine = \"unix://{}\", file = \"/bin/function\", {more}",
            self.name,
            self.engine.socket().display()
        )
    }

    fn id(&self) -> String {
        self.engine.docker(&["inspect", "--format", "{{.Id}}", &self.name])
    }

    /// A line of what the kernel says of its first process.
    fn status(&self, field: &str) -> String {
        let path = format!("/proc/{}/status", self.engine.first_process(&self.name));
        let status = fs::read_to_string(path).expect("it runs");
        status.lines().find(|line| line.starts_with(field)).unwrap_or_default().to_owned()
    }

    fn inside(&self) -> usize {
        self.engine.inside(&self.name).len()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.engine.command().args(["rm", "--force", &self.name]).output();
    }
}

/// A node with one workflow, and the ways in and out.
struct Scene {
    node: Node,
    producer: Producer,
    out: UnixDatagram,
}

fn scene(level: &str, call: &str) -> Scene {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo", "invoker-container"]);
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.qos \"pinned\" {{ scheduler = \"other\", cpus = {{ 0 }} }}\n\
         tempos.topic \"raw\" {{ qos = \"{level}\", ingress = {{ {}, {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"{level}\", egress = {{ {} }} }}\n\
         tempos.workflow \"it\" {{ from = \"raw\", to = \"done\", call = {{ {call} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "events", ", format = \"event\""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    Scene { node, producer, out }
}

impl Scene {
    fn send(&self, what: &str) {
        self.producer.socket().send(what.as_bytes()).expect("the node listens");
    }

    fn ask(&self, what: &str) -> String {
        self.send(what);
        String::from_utf8_lossy(&receive(&self.out)).into_owned()
    }

    fn failed_as(&self, word: &str) -> u64 {
        counts(&self.node.workflow("it")["Failures"]).get(word).copied().unwrap_or(0)
    }

    /// It is sent, and its invocation ends so; the next one is served.
    fn ends(&self, what: &str, word: &str) {
        let so_far = self.failed_as(word);
        self.send(what);
        eventually(&format!("{what} to end as {word}: {:#}", self.node.workflow("it")), || {
            (self.failed_as(word) == so_far + 1).then_some(())
        });
        assert_eq!(self.ask("next"), "next", "after {what}");
    }
}

/// What each mode calls the role of the program.
const MODES: [(&str, &str); 3] = [("warm", "warm"), ("each", "each"), ("exec", "warm")];

#[test]
fn a_function_is_a_process_of_its_container_in_every_mode() {
    let Some(engine) = engine() else { return };
    let flags = [
        "--user=press",
        "--env=COLOR=red",
        "--workdir=/home/press",
        "--cap-drop=NET_RAW",
        "--memory=64m",
        "--ulimit=nofile=77:88",
        "--pids-limit=40",
    ];
    let container = Container::start(&engine, "everything", &flags);
    for (mode, role) in MODES {
        let call = container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"5s\""));
        let scene = scene("best-effort", &call);
        assert_eq!(scene.ask("echo"), "echo", "{mode}");
        assert_eq!(scene.ask("who"), "1234:1234 44,1234 press-host /home/press red /home/press", "{mode}");
        let groups = scene.ask("cgroup");
        let id = container.id();
        let of_container = groups.lines().filter(|line| line.contains(&id)).count();
        assert_eq!(of_container, groups.lines().count(), "{mode}: {groups}");
        assert_eq!(scene.ask("caps"), container.status("CapBnd"), "{mode}");
        assert_eq!(scene.ask("eff"), "CapEff:\t0000000000000000", "{mode}");
        assert_eq!(scene.ask("filter"), "Seccomp:\t2", "{mode}");
        let files: Vec<String> = scene.ask("files").split_whitespace().map(str::to_owned).collect();
        assert_eq!(files[3..5], ["77", "88"], "{mode}");
        if mode != "exec" {
            assert_eq!(scene.ask("privs"), "NoNewPrivs:\t1", "{mode}");
            assert_eq!(scene.ask("descriptors"), "0", "{mode}");
        }
        // An event with a topic and an attribute of its own.
        let whole = event("raw", 7, &[("camera", AttributeValue::Signed(-5))], b"topic");
        let events = Producer::datagram(2, &scene.node.folder().join("events"));
        events.socket().send(&whole).expect("the node listens");
        assert_eq!(String::from_utf8_lossy(&receive(&scene.out)), "raw -5", "{mode}");
        scene.node.wait_for_log(&format!("it runs in container \"everything\" ({}", &id[..12]));
        if mode != "exec" {
            scene.node.wait_for_log("its filter of system calls (\"basic\" stands in for it)");
        }
        drop(scene);
        eventually(&format!("{mode} to leave nothing"), || (container.inside() == 0).then_some(()));
    }
}

#[test]
fn another_user_its_environment_and_its_folder_are_set_where_they_are_named() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "named", &["--user=0", "--env=COLOR=red"]);
    for (mode, role) in MODES {
        let call = container.call(&format!(
            "mode = \"{mode}\", args = {{ \"{role}\" }}, user = \"press:video\", env = {{ \"COLOR=blue\" }}, \
             directory = \"/tmp\""
        ));
        let scene = scene("best-effort", &call);
        assert_eq!(scene.ask("who"), "1234:44 44 press-host /tmp blue /home/press", "{mode}");
    }
    // Root in the container has what the container may have, and no more.
    let scene = scene("best-effort", &container.call("args = { \"warm\" }"));
    let bound = container.status("CapBnd");
    assert_eq!(scene.ask("eff").split_once('\t').map(|e| e.1), bound.split_once('\t').map(|e| e.1));
}

#[test]
fn each_way_to_end_costs_its_event_alone_and_leaves_nothing_in_the_container() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "ends", &["--user=press"]);
    for (mode, role) in MODES {
        let memory = if mode == "exec" { "" } else { ", memory = \"32MiB\"" };
        let call = container
            .call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"500ms\"{memory}"));
        let mut scene = scene("best-effort", &call);
        assert_eq!(scene.ask("first"), "first");
        let kept = container.inside();
        let descriptors = |scene: &mut Scene| {
            fs::read_dir(format!("/proc/{}/fd", scene.node.daemon().pid())).expect("it lives").count()
        };
        let before = descriptors(&mut scene);
        let failed = if mode == "each" { "failed" } else { "crashed" };
        let mut cases = vec![
            ("loop", "killed"),
            ("deaf", "killed"),
            ("forks", "killed"),
            ("segv", "crashed"),
            ("exit", failed),
        ];
        if mode != "exec" {
            cases.push(("memory", "over-memory"));
        }
        for (what, word) in cases {
            scene.ends(what, word);
        }
        if mode == "each" {
            assert_eq!(scene.ask("child"), "left one");
        }
        eventually(&format!("{mode}: as much in the container as before"), || {
            (container.inside() == kept).then_some(())
        });
        eventually(&format!("{mode}: as many descriptors as before"), || {
            (descriptors(&mut scene) == before).then_some(())
        });
        drop(scene);
        eventually(&format!("{mode} to leave nothing"), || (container.inside() == 0).then_some(()));
    }
}

#[test]
fn a_container_that_stops_is_missed_and_found_again_when_it_is_back() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "comes-and-goes", &[]);
    for (mode, role) in MODES {
        let setup_call =
            container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"300ms\""));
        let scene = scene("best-effort", &setup_call);
        let signals = Signals::of(&scene.node);
        assert_eq!(scene.ask("first"), "first");
        for stop in [&["stop", "--time=5"][..], &["kill"]] {
            engine.docker(&[stop, &[container.name.as_str()]].concat());
            scene.node.wait_for_log("has stopped, and its workers with it");
            let so_far = scene.failed_as("not-started");
            let told = signals.named("FunctionFailed").len();
            scene.send("lost");
            eventually("the event to fail", || (scene.failed_as("not-started") == so_far + 1).then_some(()));
            let said = eventually("the sentence", || {
                signals.named("FunctionFailed").get(told).map(|failure| failure[2].to_string())
            });
            let stopped = said.contains("container \\\"comes-and-goes\\\" is not running")
                || said.contains("container \\\"comes-and-goes\\\" has stopped");
            assert!(stopped, "{mode}: {said}");
            engine.docker(&["start", &container.name]);
            // The back-off has a bound: it is found without anybody's doing.
            eventually("it to be found again", || {
                scene.send("back");
                let mut buffer = [0; 64];
                scene.out.set_nonblocking(true).expect("a flag");
                std::thread::sleep(std::time::Duration::from_millis(400));
                let got = scene.out.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == b"back");
                scene.out.set_nonblocking(false).expect("a flag");
                got.then_some(())
            });
            while scene.ask("last") != "last" {}
            let daemon = &scene.node;
            assert!(daemon.log().contains("it runs in container"), "{}", daemon.log());
        }
    }
}

#[test]
fn what_cannot_work_is_refused_with_one_sentence() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "right", &[]);
    engine.docker(&["create", "--name", "never-started", "--network=none", IMAGE, "/bin/function", "rest"]);
    let scene = scene("best-effort", &container.call("args = { \"warm\" }"));
    assert_eq!(scene.ask("served"), "served");
    let socket = engine.socket().display().to_string();
    let call = |name: &str, file: &str, more: &str| {
        format!(
            "method = \"container\", engine = \"unix://{socket}\", container = {name:?}, file = {file:?}, {more}"
        )
    };
    let program = "/bin/function";
    for (call, what) in [
        (call("no-such", program, ""), "knows no container \"no-such\""),
        (call("a/b", program, ""), "is neither a name nor an id of a container"),
        (call("never-started", program, ""), "container \"never-started\" is not running (created)"),
        (call("right", "/bin/none", ""), "there is no file \"/bin/none\" in container \"right\""),
        (call("right", "/tmp", ""), "\"/tmp\" is no regular file in container \"right\""),
        (call("right", "/bin/text", ""), "nobody may execute \"/bin/text\" in container \"right\""),
        (call("right", program, "args = { \"rest\" }, start_within = \"300ms\""), "cannot be used"),
        (call("right", program, "user = \"nobody\""), "user = \"nobody\" is no user of the container"),
        (call("right", program, "runtime = \"python\""), "there is no python3 in PATH"),
        (
            call("right", program, "mode = \"exec\", files = 9"),
            "files cannot be bounded with mode = \"exec\"",
        ),
        (call("right", "/bin/none", "mode = \"exec\""), "cannot be used"),
        (call("right", program, "mode = \"often\""), "often"),
        (call("right", program, "engine_ = 1"), "engine_"),
        (
            call("right", program, "").replace(&socket, "/no/such/socket"),
            "the container engine at /no/such/socket does not answer",
        ),
        (format!("method = \"container\", file = {program:?}"), "option \"container\" is missing"),
    ] {
        let lua = format!(
            "tempos.topic \"a\" {{ qos = \"strict\" }}\n\
             tempos.workflow \"w\" {{ from = \"a\", call = {{ {call} }} }}\n"
        );
        let script = scene.node.write_script("wrong.lua", &lua);
        let applied = scene.node.ctl(["apply".as_ref(), script.as_os_str()]);
        let said = String::from_utf8_lossy(&applied.stderr).into_owned();
        assert!(!applied.status.success() && said.contains(what), "{call}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{call}: {said}");
    }
    // A file that only the container has is no mistake of the script.
    let lua = format!(
        "tempos.topic \"a\" {{ }}\ntempos.workflow \"w\" {{ from = \"a\", call = {{ {} }} }}\n",
        call("right", program, "")
    );
    let script = scene.node.write_script("right.lua", &lua);
    let checked = scene.node.ctl(["check".as_ref(), script.as_os_str()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(scene.ask("still served"), "still served");
}

#[test]
fn a_process_that_leaves_its_group_goes_with_the_workflow() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "escape", &["--user=press"]);
    let scene = scene("best-effort", &container.call("mode = \"warm\", args = { \"warm\" }"));
    assert_eq!(scene.ask("escape"), "one is away");
    assert_eq!(container.inside(), 2);
    let script = scene.node.write_script("nothing.lua", "tempos.topic \"raw\" { qos = \"best-effort\" }\n");
    let applied = scene.node.ctl(["apply".as_ref(), script.as_os_str()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    eventually("all of it to be gone", || (container.inside() == 0).then_some(()));
}

#[test]
fn what_is_ended_is_reaped_by_the_node_and_not_left_to_the_container() {
    let Some(engine) = engine() else { return };
    let container = Container::start_as(&engine, "careless", &[], &["rest", "careless"]);
    for (mode, role) in &MODES[..2] {
        let call =
            container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"300ms\""));
        let scene = scene("best-effort", &call);
        for (what, word) in [("loop", "killed"), ("segv", "crashed"), ("sleep", "killed")] {
            scene.ends(what, word);
        }
    }
    // Zombies, too, are in its first process's namespace; that one would keep them for ever.
    eventually("nothing to be left", || (container.inside() == 0).then_some(()));
    assert_eq!(zombies(engine.first_process("careless")), 0);
}

/// Children of a process that have ended and were not reaped.
fn zombies(parent: i32) -> usize {
    let all = fs::read_dir("/proc").expect("there is a /proc").flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| Some(stat.rsplit_once(") ")?.1.to_owned()))
        .filter(|rest| rest.starts_with(&format!("Z {parent} ")))
        .count()
}

#[test]
fn the_method_passes_the_suite_of_its_kind() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "suite", &[]);
    let socket = format!("engine=unix://{}", engine.socket().display());
    for (mode, role) in [("warm", "mirror"), ("each", "cat"), ("exec", "mirror")] {
        let options =
            ["container=suite", &socket, &format!("mode={mode}"), &format!("args={role}"), "start_within=2s"];
        let mut suite = Command::new(program("tempos-conformance"));
        suite.arg("--json").arg(plugin("invoker-container")).args(["--function", "/bin/function"]);
        options.iter().for_each(|option| {
            suite.args(["--option", option]);
        });
        let output = suite.output().expect("it runs");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(output.status.success(), "{mode}: {report:#}");
        let checks = report["checks"].as_array().expect("a list");
        let ok = checks.iter().filter(|check| check["verdict"] == "ok").count();
        assert!(ok == checks.len() && ok >= 16, "{mode}: {report:#}");
        eventually(&format!("{mode} to leave nothing"), || (container.inside() == 0).then_some(()));
    }
}

#[test]
fn a_function_has_its_levels_scheduling_inside_too() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "scheduled", &[]);
    for (level, expected) in [("strict", "40 1"), ("best-effort", "0 0")] {
        for (mode, role) in &MODES[..2] {
            let scene = scene(level, &container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}")));
            let said = scene.ask("scheduling");
            let granted = scene.node.level(level)["Granted"].to_string();
            // Where the node itself is not granted real time, its functions are not either.
            let expected = if granted.contains("other") { "0 0" } else { expected };
            assert_eq!(said, expected, "{level}, {mode}, granted: {granted}");
            if expected == "40 1" && Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
                scene.node.wait_for_log("its control group cpu");
            }
        }
    }
}

#[test]
fn a_function_has_its_levels_cpus_though_its_container_has_more() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "pinned", &[]);
    for (mode, role) in MODES {
        let scene = scene("pinned", &container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}")));
        assert_eq!(scene.ask("cpus"), "Cpus_allowed_list:\t0", "{mode}");
    }
}

#[test]
fn a_source_runs_where_the_container_has_its_interpreter() {
    let Some(engine) = engine() else { return };
    if !Path::new("/usr/bin/python3").exists() {
        println!("there is no /usr/bin/python3 to be lent to a container: skipped");
        return;
    }
    let binds = ["/usr", "/lib", "/lib64"].map(|path| format!("--volume={path}:{path}:ro"));
    let binds: Vec<&str> = binds.iter().map(String::as_str).collect();
    let container = Container::start(&engine, "python", &binds);
    let file = "file = \"/home/press/function.py\", runtime = \"python\"";
    for mode in ["warm", "each", "exec"] {
        let call = container.call(&format!("mode = \"{mode}\"")).replace("file = \"/bin/function\"", file);
        let scene = scene("best-effort", &call);
        for _ in 0..3 {
            assert_eq!(scene.ask("loud"), "LOUD", "{mode}");
        }
    }
}

#[test]
fn the_functions_of_a_node_end_with_it_however_it_ends() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "left", &[]);
    for (mode, role) in MODES {
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            let mut scene =
                scene("best-effort", &container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}")));
            assert_eq!(scene.ask("first"), "first");
            scene.send("deaf");
            eventually("it to run", || (container.inside() >= 1).then_some(()));
            // Under the guard, too: that is one store after its start.
            std::thread::sleep(std::time::Duration::from_millis(50));
            scene.node.end(signal);
            eventually(&format!("{mode}: it to be gone"), || (container.inside() == 0).then_some(()));
        }
    }
}
