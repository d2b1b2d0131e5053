//! Functions inside containers that are already started, with a real engine and real containers.

mod road;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempos_abi::attributes::AttributeValue;
use tempos_tests::built::{plugin, program};
use tempos_tests::{Producer, Signals, eventually, settled};

use road::container::{Container, IMAGE, Scene, engine, scene};
use road::{event, receive};

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
        if mode != "exec" {
            let files: Vec<String> = scene.ask("files").split_whitespace().map(str::to_owned).collect();
            assert_eq!(files[3..5], container.files(), "{mode}");
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
        // A new worker must have been started by then, which takes the engine longest.
        let deadline = if mode == "exec" { "2s" } else { "1s" };
        let memory = if mode == "exec" { "" } else { ", memory = \"32MiB\"" };
        let call = container
            .call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"{deadline}\"{memory}"));
        let mut scene = scene("best-effort", &call);
        assert_eq!(scene.ask("first"), "first");
        let kept = container.inside();
        let descriptors = |scene: &mut Scene| {
            fs::read_dir(format!("/proc/{}/fd", scene.node.daemon().pid())).expect("it lives").count()
        };
        let before = settled("the node's descriptors", || descriptors(&mut scene));
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
            container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"1s\""));
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
fn a_paused_container_costs_its_events_and_goes_on() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "paused", &[]);
    let scene = scene("best-effort", &container.call("args = { \"warm\" }, deadline = \"1s\""));
    assert_eq!(scene.ask("first"), "first");
    engine.docker(&["pause", &container.name]);
    scene.send("lost");
    eventually("the event to be given up", || (scene.failed_as("killed") == 1).then_some(()));
    engine.docker(&["unpause", &container.name]);
    assert_eq!(scene.ask("back"), "back");
    eventually("its worker alone to be there", || (container.inside() == 1).then_some(()));
}

#[test]
fn many_rounds_leave_nothing_behind() {
    const AT_ONCE: usize = 8;
    let rounds: usize = std::env::var("TEMPOS_ROUNDS").map_or(200, |text| text.parse().expect("a number"));
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "rounds", &[]);
    for (mode, role) in &MODES[..2] {
        let call = container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, concurrency = 1"));
        let mut scene = scene("best-effort", &call);
        assert_eq!(scene.ask("first"), "first");
        eventually("the node to be at rest", || (container.inside() == 1).then_some(()));
        let open = |scene: &mut Scene| {
            fs::read_dir(format!("/proc/{}/fd", scene.node.daemon().pid())).expect("it lives").count()
        };
        let before = settled("the node's descriptors", || open(&mut scene));
        for _ in 0..rounds.div_ceil(AT_ONCE) {
            for number in 0..AT_ONCE {
                scene.send(if number % 4 == 3 { "segv" } else { "echo" });
            }
            (0..AT_ONCE / 4 * 3).for_each(|_| assert_eq!(receive(&scene.out), b"echo"));
        }
        let crashes = (rounds.div_ceil(AT_ONCE) * (AT_ONCE / 4)) as u64;
        eventually(&format!("{mode}: {crashes} crashes"), || {
            (scene.failed_as("crashed") == crashes).then_some(())
        });
        eventually(&format!("{mode}: one to be ready"), || (container.inside() == 1).then_some(()));
        eventually(&format!("{mode}: as many descriptors"), || (open(&mut scene) == before).then_some(()));
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
        let call = container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}, deadline = \"1s\""));
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

/// One step beneath the level's workers.
#[test]
fn a_function_has_its_levels_scheduling_inside_too() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&engine, "scheduled", &[]);
    for (level, expected) in [("strict", "39 1"), ("best-effort", "0 0")] {
        for (mode, role) in &MODES[..2] {
            let scene = scene(level, &container.call(&format!("mode = \"{mode}\", args = {{ \"{role}\" }}")));
            let said = scene.ask("scheduling");
            let granted = scene.node.level(level)["Granted"].to_string();
            // Where the node itself is not granted real time, its functions are not either.
            let expected = if granted.contains("other") { "0 0" } else { expected };
            assert_eq!(said, expected, "{level}, {mode}, granted: {granted}");
            if expected == "39 1" && Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
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
