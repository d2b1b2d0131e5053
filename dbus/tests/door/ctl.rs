//! `temposctl`: every verb, its tables and its JSON, its exit codes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use tempos_control::Kind;
use tempos_control::object::Figure;

use crate::node::FakeNode;
use crate::scene::{Process, SIDES, Scene, Side, eventually, run};

fn peer_scene() -> Scene {
    Scene::with(FakeNode::new(), |_| None, |config| config.bus = tempos_dbus::Bus::None)
}

#[test]
fn status_shows_the_node_and_says_in_its_code_whether_it_is_well() {
    let scene = Scene::new();
    for side in SIDES {
        let (said, _) = scene.ctl_says(side, &["status"], 0);
        for part in [
            "press-7",
            "started",
            "strict",
            "fifo 45",
            "1 204 331",
            "12 queue-full",
            "2 topics",
            "1 workflow",
        ] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
        assert!(!said.contains('\x1b'), "no colour in a pipe");
        let columns: Vec<_> =
            said.lines().filter_map(|line| line.find("fifo 45").or(line.find("SCHEDULER"))).collect();
        assert!(columns.len() == 2 && columns[0] == columns[1], "aligned:\n{said}");
        let (json, _) = scene.ctl_says(side, &["status", "--json"], 0);
        assert!(json.contains("\"NodeId\": \"press-7\"") && json.contains("\"topic\": 2"), "{json}");
    }
    scene.node.change(Kind::Node, "", |state| {
        state
            .figures
            .insert("Degraded", Figure::Texts(vec!["SCHED_FIFO was refused: no CAP_SYS_NICE".into()]));
    });
    scene.node.change(Kind::Channel, "press/vibration/in/1", |state| {
        state.condition.state = "failed".into();
        state.condition.reason = "the address is in use".into();
    });
    let (said, _) = scene.ctl_says(Side::Peer, &["status"], 3);
    assert!(said.contains("degraded: SCHED_FIFO was refused"), "{said}");
    assert!(said.contains("channel press/vibration/in/1 failed: the address is in use"), "{said}");
    let (json, _) = scene.ctl_says(Side::Peer, &["status", "--json"], 3);
    assert!(json.contains("the address is in use"), "{json}");
}

#[test]
fn generations_are_a_table_and_rolled_back_to() {
    let scene = Scene::new();
    for side in SIDES {
        let (said, _) = scene.ctl_says(side, &["generations"], 0);
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].starts_with("NUMBER") && lines.len() == 3, "{said}");
        assert!(lines[1].contains("\"a\" is new (and 1 more)") && lines[1].contains("files"), "{said}");
        assert!(
            lines[2].contains("user 1000, socket") && lines[2].contains("until restart, in force"),
            "{said}"
        );
        let (json, _) = scene.ctl_says(side, &["generations", "--json"], 0);
        assert!(json.contains("\"in_force\": true") && json.contains("\"process\": 77"), "{json}");
        assert_eq!(scene.ctl_says(side, &["rollback"], 0).0, "- topic \"b\" goes\n");
        let (_, said) = scene.ctl_says(side, &["rollback", "99"], 66);
        assert!(said.contains("there is no generation 99; those that are kept: 3, 4"), "{said}");
        scene.ctl_says(side, &["rollback", "0"], 64);
        scene.ctl_says(side, &["rollback", "--if-generation", "3"], 75);
        scene.ctl_says(side, &["rollback", "--confirm"], 64);
        scene.ctl_says(side, &["confirm"], 66);
    }
}

#[test]
fn the_lists_are_tables_and_json() {
    let scene = Scene::new();
    for side in SIDES {
        for (verb, heading, part) in [
            ("plugins", "PLUGIN", "1.2.0"),
            ("topics", "TOPIC", "press/vibration"),
            ("workflows", "WORKFLOW", "press/vibration → –"),
            ("levels", "LANE", "best-effort"),
            ("channels", "CHANNEL", "press/vibration/in/1"),
            ("latency", "LEVEL", "3.80 ms"),
        ] {
            let (said, _) = scene.ctl_says(side, &[verb], 0);
            assert!(said.starts_with(heading) && said.contains(part), "{verb}:\n{said}");
            let (json, _) = scene.ctl_says(side, &[verb, "--json"], 0);
            assert!(json.starts_with('[') && json.contains("\"name\""), "{verb}: {json}");
        }
    }
    let (said, _) = scene.ctl_says(Side::Peer, &["latency", "press/vibration"], 0);
    let function = said.lines().find(|line| line.starts_with("function")).unwrap();
    assert!(function.contains("█") && function.contains("20.0 µs"), "{said}");
    let (_, said) = scene.ctl_says(Side::Peer, &["latency", "press/vibratoin"], 66);
    assert!(said.contains("did you mean \"press/vibration\""), "{said}");
    scene.node.remove(Kind::Workflow, "detect");
    assert_eq!(scene.ctl_says(Side::Peer, &["workflows"], 0).0, "No workflow is wired.\n");
    assert_eq!(scene.ctl_says(Side::Peer, &["workflows", "--json"], 0).0, "[]\n");
}

#[test]
fn orders_reach_the_node_and_its_refusals_the_exit_code() {
    let scene = Scene::new();
    let file = |name: &str| {
        let path = scene.folder.0.join(name);
        std::fs::write(&path, "-- a script").unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, mistakes, gold) = (file("good.lua"), file("mistakes.lua"), file("gold.lua"));
    for side in SIDES {
        assert_eq!(scene.ctl_says(side, &["plan", &good], 0).0, "would add topic a\n");
        assert_eq!(scene.ctl_says(side, &["apply", &good], 0).0, "added topic a\n");
        assert_eq!(scene.ctl_says(side, &["check", &good], 0).0, "The wiring is valid.\n");
        let text = scene.ctl(side, &["apply", "-"], b"tempos.topic 'x' {}");
        assert_eq!(String::from_utf8(text.stdout).unwrap(), "added topic from standard input\n");
        for verb in ["plan", "apply", "check"] {
            let (out, said) = scene.ctl_says(side, &[verb, &mistakes], 65);
            assert!(out.is_empty() && said.contains("mistakes.lua:2: unknown level"), "{said}");
            assert!(said.contains("mistakes.lua:9:"), "all mistakes at once: {said}");
        }
        let (_, said) = scene.ctl_says(side, &["apply", &gold], 78);
        assert_eq!(said, "temposctl: level gold: priority 90 is not granted\n");
        let (_, said) = scene.ctl_says(side, &["apply", "/nowhere.lua"], 66);
        assert!(said.contains("/nowhere.lua"), "{said}");
        assert!(scene.ctl_says(side, &["reload"], 0).0.contains("generation is 4"));
        let (said, _) = scene.ctl_says(side, &["drain", "--limit", "250ms"], 0);
        assert_eq!(said, "12 events finished, 0 dropped within 250 ms\n");
        let (said, _) = scene.ctl_says(side, &["doctor"], 1);
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].starts_with("VERDICT  CHECK"), "{said}");
        assert!(
            lines[1].starts_with("bad      real-time scheduling  SCHED_FIFO is refused"),
            "the worst first:\n{said}"
        );
        assert_eq!(lines[1].find("SCHED_FIFO"), lines[2].find("→ give the daemon CAP_SYS_NICE"), "{said}");
        assert_eq!(lines[3], "good     locked memory         16 MiB are locked");
        assert_eq!(lines.last(), Some(&"1 good, 0 poor, 1 bad"));
        assert!(scene.ctl_says(side, &["doctor", "--json"], 1).0.contains("\"verdict\": \"bad\""));
    }
}

#[test]
fn events_go_in_and_come_out() {
    let scene = Scene::new();
    let file = scene.folder.0.join("payload");
    std::fs::write(&file, [0xff, 0, 1]).unwrap();
    let at_file = format!("@{}", file.display());
    for side in SIDES {
        scene.node.take_orders();
        let arguments = ["pub", "press/alarms", "hot", "-a", "camera=2", "-a", "unit=mm"];
        assert_eq!(scene.ctl_says(side, &arguments, 0).0, "42\n");
        let order = &scene.node.take_orders()[0];
        assert!(order.contains("(\"camera\", Integer(2)), (\"unit\", Text(\"mm\"))"), "{order}");
        assert!(order.contains("payload: [104, 111, 116]"), "{order}");
        scene.ctl_says(side, &["pub", "press/alarms", &at_file], 0);
        assert!(scene.node.take_orders()[0].contains("payload: [255, 0, 1]"));
        scene.ctl(side, &["pub", "press/alarms", "-"], b"in");
        assert!(scene.node.take_orders()[0].contains("payload: [105, 110]"));
        let (_, said) = scene.ctl_says(side, &["pub", "nowhere", "x"], 66);
        assert_eq!(said, "temposctl: there is no topic \"nowhere\"\n");
        assert_eq!(scene.ctl(side, &["pub", "busy", "x"], b"").status.code(), Some(75));

        for (flag, lines) in [
            (None, "#42  press/alarms  hot  camera=2 unit=\"mm/s²\"\n"),
            (Some("--payload"), "hothot"),
            (Some("--json"), "\"payload\":\"hot\""),
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_temposctl"));
            command.args(["--bus", &scene.address(side), "sub", "press/alarms", "--count", "2"]).args(flag);
            let mut sub = Process(command.stdout(Stdio::piped()).spawn().unwrap());
            eventually("the subscription", || {
                scene.node.take_orders().iter().any(|o| o.contains("Subscribe"))
            });
            for _ in 0..2 {
                scene.ctl_says(side, &["pub", "press/alarms", "hot"], 0);
            }
            let mut said = String::new();
            sub.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(sub.0.wait().unwrap().success());
            assert!(said.contains(lines), "{said}");
            scene.node.take_orders();
        }
        scene.ctl_says(side, &["sub", "nowhere"], 66);
    }
}

#[test]
fn wrong_usage_is_64_and_help_has_examples() {
    let scene = peer_scene();
    for wrong in [
        &["pubish"][..],
        &["pub"],
        &["--bus", "nonsense", "status"],
        &["drain", "--limit", "5"],
        &["plan", "-"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_temposctl"));
        if wrong[0] == "plan" {
            command.args(["--bus", &scene.address(Side::Peer)]);
        }
        let output = run(command.args(wrong), b"");
        assert_eq!(output.status.code(), Some(64), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for verb in ["status", "apply", "pub", "latency", "plugins", "calibrate"] {
        let (said, _) = scene.ctl_says(Side::Peer, &[verb, "--help"], 0);
        assert!(said.contains("EXAMPLES") && said.contains(&format!("temposctl {verb}")), "{said}");
    }
    let (said, _) = scene.ctl_says(Side::Peer, &["--help"], 0);
    for absent in ["top", "tap", "trace", "bench", "dlq", "nodes"] {
        assert!(
            !said.lines().any(|line| line.trim().starts_with(&format!("{absent} "))),
            "{absent} does not exist yet"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(scene.ctl_says(Side::Peer, &["completions", shell], 0).0.contains("temposctl"));
    }
}

#[test]
fn a_node_that_is_not_there_is_69_and_a_slow_one_75() {
    let scene = peer_scene();
    let status =
        |bus: &str| run(Command::new(env!("CARGO_BIN_EXE_temposctl")).args(["--bus", bus, "status"]), b"");
    let output = status("unix:path=/nowhere/control.sock");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("temposctl: no node can be reached at unix:path=/nowhere")
            && said.lines().count() == 1
    );

    let bus = crate::scene::start_bus(&scene.folder.0);
    let output = status(&scene.address(Side::Bus));
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("is temposd running"));
    drop(bus);

    let (_, said) = scene.ctl_says(Side::Peer, &["--timeout", "200ms", "pub", "held", "x"], 75);
    assert!(said.contains("not answered within"), "{said}");
}

#[test]
fn the_environment_names_the_bus_and_a_closed_pipe_is_no_error() {
    let scene = peer_scene();
    let output = Command::new(env!("CARGO_BIN_EXE_temposctl"))
        .arg("topics")
        .env("TEMPOS_BUS", scene.address(Side::Peer))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for at in 0..2000 {
        scene.node.put(crate::node::object(Kind::Topic, &format!("t{at}"), &[]));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_temposctl"));
    command.args(["--bus", &scene.address(Side::Peer), "topics"]);
    let mut child = Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut reader = BufReader::new(child.0.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn plugin_files_are_handed_to_the_programs_that_know_them() {
    let folder = crate::scene::Folder::new();
    let tool = folder.0.join("temposctl");
    std::fs::copy(env!("CARGO_BIN_EXE_temposctl"), &tool).unwrap();
    let plugin = folder.0.join("mine.so");
    std::fs::write(&plugin, "").unwrap();
    let plugin = plugin.to_str().unwrap();
    let call = |arguments: &[&str]| run(Command::new(&tool).env("PATH", "/nowhere").args(arguments), b"");
    let output = call(&["plugins", "test", plugin]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    for program in ["tempos-conformance", "temposd"] {
        let path = folder.0.join(program);
        std::fs::write(&path, "#!/bin/sh\necho \"$@\"\nexit 7\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = call(&["plugins", "test", plugin, "--option", "bind=a"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{plugin} --option bind=a\n"));
    let output = call(&["plugins", "inspect", plugin]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("--inspect {plugin}\n"));
    assert_eq!(call(&["plugins", "test", "/nowhere.so"]).status.code(), Some(66));
}
