//! What is changed by call outlives a restart, is listed, rolled back to, and tried before it stays.

mod client;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::{Client, number, text};
use serde_json::Value;
use tempos_tests::fixture::fixture;
use tempos_tests::setup::drop_plugin;
use tempos_tests::{Node, NodeSetup, eventually};

const ROAD: [&str; 2] = ["adapter-unix", "queue-fifo"];

/// A topic whose ingress is a socket in the node's folder.
fn topic(folder: &Path, name: &str, level: &str) -> String {
    let path = folder.join(format!("{name}.in"));
    format!(
        "tempos.topic {name:?} {{ qos = {level:?}, ingress = {{ tempos.unix {{ path = {path:?} }} }} }}\n"
    )
}

struct Scene {
    node: Node,
    command: Command,
}

impl Scene {
    /// A node with one topic in its scripts.
    fn new(node_file: &str) -> Scene {
        let setup = NodeSetup::new().plugins(ROAD).node_file(node_file);
        let lua = topic(setup.folder(), "first", "best-effort");
        let command = setup.wiring(&lua);
        let restart = command.command();
        Scene { node: command.start(), command: restart }
    }

    fn restart(&mut self) {
        self.node.restart(&mut self.command);
    }

    fn lua(&self, names: &[&str]) -> String {
        names.iter().map(|name| topic(self.node.folder(), name, "strict")).collect()
    }

    fn script(&self, names: &[&str]) -> String {
        self.node.write_script("given.lua", &self.lua(names)).display().to_string()
    }

    fn topics(&self) -> Vec<String> {
        let topics = self.node.ctl_json(["topics"]);
        let names = topics.as_array().into_iter().flatten();
        names.map(|topic| topic["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn says(&self, arguments: &[&str], code: i32) -> String {
        let output = self.node.ctl(arguments);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "temposctl {arguments:?}: {said}");
        said
    }

    fn generations(&self) -> Vec<Value> {
        self.node.ctl_json(["generations"]).as_array().cloned().unwrap_or_default()
    }

    fn folder(&self) -> PathBuf {
        self.node.folder().join("state/generations")
    }

    /// The files of generations in the state folder, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder()).expect("the folder is there").flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "generation"));
        files.sort();
        files
    }

    fn degraded(&self) -> String {
        self.node.property("/org/tempos/Host1", "Node", "Degraded").to_string()
    }
}

#[test]
fn a_change_by_call_outlives_a_restart_and_one_until_restart_does_not() {
    let mut scene = Scene::new("");
    scene.says(&["apply", &scene.script(&["second", "third"])], 0);
    let generation = scene.node.generation();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        scene.node.end(signal);
        scene.restart();
        assert_eq!(
            (scene.topics(), scene.node.generation()),
            (vec!["second".into(), "third".into()], generation)
        );
    }
    scene.node.wait_for_log("generation 2 is in force again as it was given by call");
    scene.says(&["apply", &scene.script(&["fourth"]), "--until-restart"], 0);
    assert_eq!(scene.topics(), ["fourth"]);
    let passing = scene.node.generation();
    assert!(passing > generation);
    scene.restart();
    assert_eq!(
        (scene.topics(), scene.node.generation()),
        (vec!["second".into(), "third".into()], generation)
    );
    // No number comes again: whoever saw one knows what it meant.
    scene.says(&["apply", &scene.script(&["fifth"])], 0);
    assert!(scene.node.generation() > passing);
    // What was to end with the node stays where it is given once more without that.
    scene.says(&["apply", &scene.script(&["sixth"]), "--until-restart"], 0);
    scene.says(&["apply", &scene.script(&["sixth"])], 0);
    let generation = scene.node.generation();
    scene.restart();
    assert_eq!((scene.topics(), scene.node.generation()), (vec!["sixth".into()], generation));
}

#[test]
fn scripts_that_were_edited_since_win_and_the_node_says_so() {
    let mut scene = Scene::new("[wiring]\nwatch = false");
    scene.says(&["apply", &scene.script(&["second"])], 0);
    scene.node.end(libc::SIGTERM);
    fs::write(scene.node.wiring_path(), scene.lua(&["edited"])).expect("a script can be written");
    scene.restart();
    assert_eq!(scene.topics(), ["edited"]);
    let said = "the wiring scripts were edited since generation 2 was given by call (user";
    assert!(scene.node.log().contains(said), "{}", scene.node.log());
    scene.says(&["rollback", "2"], 0);
    scene.restart();
    assert_eq!(scene.topics(), ["second"], "a rollback is a change like any other");
    // Edited with a mistake: what was in force goes on, and the mistake is told.
    scene.node.end(libc::SIGTERM);
    fs::write(scene.node.wiring_path(), "tempos.topic 'x' { qso = 1 }").expect("a script can be written");
    scene.restart();
    assert_eq!(scene.topics(), ["second"]);
    assert!(scene.degraded().contains("did you mean"), "{}", scene.degraded());
    // Touched but the same: nothing was edited.
    fs::write(scene.node.wiring_path(), scene.lua(&["other"])).expect("a script can be written");
    scene.says(&["reload"], 0);
    scene.says(&["apply", &scene.script(&["third"])], 0);
    scene.node.end(libc::SIGTERM);
    fs::write(scene.node.wiring_path(), scene.lua(&["other"])).expect("a script can be written");
    scene.restart();
    assert_eq!(scene.topics(), ["third"]);
}

#[test]
fn generations_say_what_changed_and_by_whom_and_come_back_exactly() {
    let scene = Scene::new("");
    let lua = scene.lua(&["first"]) + "tempos.qos \"mid\" { rank = 99, share = 3 }\n";
    fs::write(scene.node.folder().join("given.lua"), lua).expect("a script can be written");
    let script = scene.node.folder().join("given.lua").display().to_string();
    assert!(scene.says(&["plan", &script], 0).contains("~ topic \"first\": level best-effort → strict"));
    scene.says(&["apply", &script], 0);
    let first = |scene: &Scene| scene.node.ctl_json(["levels"]).to_string().contains("\"mid\"");
    assert!(first(&scene));
    scene.says(&["rollback"], 0);
    assert!(!first(&scene));
    assert!(scene.says(&["rollback", "2"], 0).contains("+ level \"mid\" is new"));
    assert!(first(&scene));
    assert!(scene.says(&["plan", &script], 0).contains("would change nothing"), "exactly as it was");
    let all = scene.generations();
    let told: Vec<_> = all.iter().map(|one| (one["number"].as_u64(), one["door"].as_str())).collect();
    let (files, socket) = (Some("files"), Some("socket"));
    assert_eq!(told, [(Some(1), files), (Some(2), socket), (Some(3), socket), (Some(4), socket)]);
    // SAFETY: it only reads.
    let own = u64::from(unsafe { libc::geteuid() });
    assert_eq!((all[1]["user"].as_u64(), all[3]["in_force"].as_bool()), (Some(own), Some(true)));
    assert!(all[1]["process"].as_u64() > Some(1), "{}", all[1]);
    assert!(all[1]["report"].to_string().contains("level best-effort → strict"), "{}", all[1]);
    assert_eq!(all[3]["order"], "rollback to 2");
    let said = scene.says(&["rollback", "17"], 66);
    assert!(said.contains("there is no generation 17; those that are kept: 1, 2, 3, 4"), "{said}");
    let said = scene.says(&["rollback", "1", "--if-generation", "2"], 75);
    assert!(said.contains("meant for generation 2, and 4 is in force"), "{said}");
    // Each change has its line, also one that was refused.
    let log = scene.node.log();
    for line in [
        "audit: files: start: done, generation 1",
        &format!("audit: user {own}, process "),
        ", socket: rollback to 2: done, generation 4",
        ", socket: rollback to 17: refused: there is no generation 17",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn the_number_of_generations_is_bounded_and_an_unchanged_wiring_makes_none() {
    let mut scene = Scene::new("");
    let client = Client::of(&scene.node);
    for round in 0..50 {
        let lua = scene.lua(&[["a", "b", "c"][round % 3]]);
        client.apply(&lua, &[]).expect("a good wiring");
    }
    let generation = client.generation().expect("a number");
    for _ in 0..5 {
        assert_eq!(client.apply(&scene.lua(&["b"]), &[]), Ok(generation));
    }
    assert_eq!((client.generations().len(), scene.files().len()), (32, 32));
    assert_eq!(number(&client.generations()[31], "number"), generation);
    let oldest = number(&client.generations()[0], "number");
    assert!(client.rollback(oldest - 1).is_err());
    client.rollback(oldest).expect("the oldest is still there");
    let topics = scene.topics();
    scene.restart();
    assert_eq!(scene.topics(), topics);
    assert_eq!(scene.files().len(), 32);
}

#[test]
fn hooks_come_back_with_their_wiring() {
    let mut scene = Scene::new("");
    let lua = scene.lua(&["second"])
        + "tempos.on(\"channel-down\", function(e) end)\n\
           print(\"scripts run\")\n";
    fs::write(scene.node.folder().join("given.lua"), lua).expect("a script can be written");
    scene.says(&["apply", &scene.node.folder().join("given.lua").display().to_string()], 0);
    let process = |scene: &mut Scene| scene.node.daemon().pid();
    let hooked = |pid: u32| tempos_tests::thread::threads(pid).iter().any(|(_, name)| name == "tempos-hooks");
    let pid = process(&mut scene);
    assert!(hooked(pid));
    fs::remove_file(scene.node.folder().join("given.lua")).expect("the script may go");
    scene.restart();
    assert_eq!(scene.topics(), ["second"]);
    let pid = process(&mut scene);
    eventually("the hooks' thread", || hooked(pid).then_some(()));
    scene.says(&["rollback", "1"], 0);
    assert_eq!(scene.node.log().matches("scripts run").count(), 2, "{}", scene.node.log());
    scene.says(&["rollback", "2"], 0);
    scene.node.wait_for_log("rollback to 2: done");
    assert_eq!(scene.node.log().matches("scripts run").count(), 3, "{}", scene.node.log());
    assert!(hooked(pid));
}

#[test]
fn what_a_hook_changes_is_listed_and_ends_with_the_node() {
    let mut scene = Scene::new("");
    let hook = "tempos.on(\"plugin-failed\", function(e) tempos.change(\"topic\", \"first\", { qos = \"strict\" }) end)\n";
    let lua = topic(scene.node.folder(), "first", "best-effort") + hook;
    let script = scene.node.write_script("given.lua", &lua).display().to_string();
    scene.says(&["apply", &script], 0);
    let level =
        |scene: &Scene| scene.node.ctl_json(["topics"])[0]["Level"].as_str().unwrap_or_default().to_owned();
    let broken = scene.node.plugin_folder().join("libbroken.so");
    let hooked = |scene: &Scene| {
        let _ = fs::remove_file(&broken);
        eventually("the plugin to be gone", || {
            (!scene.node.ctl_json(["plugins"]).to_string().contains("libbroken")).then_some(())
        });
        fs::write(&broken, b"this is no plugin").expect("a file");
        eventually("the hook's change", || (level(scene) == "strict").then_some(()));
    };
    hooked(&scene);
    let all = scene.generations();
    let last = all.last().expect("a generation");
    assert_eq!((last["door"].as_str(), last["can_return"].as_bool()), (Some("hook"), Some(false)), "{last}");
    let number = last["number"].to_string();
    let said = scene.says(&["rollback", &number], 66);
    assert!(said.contains("a hook made it"), "{said}");
    scene.says(&["rollback"], 0);
    assert_eq!(level(&scene), "best-effort", "what the hook changed is undone");
    hooked(&scene);
    scene.node.end(libc::SIGTERM);
    fs::remove_file(scene.node.plugin_folder().join("libbroken.so")).expect("it may go");
    scene.restart();
    assert_eq!(level(&scene), "best-effort", "a hook's change does not outlive a restart");
    hooked(&scene);
    // Given by call it does, although nothing changes with it.
    let strict = lua.replace("best-effort", "strict");
    let script = scene.node.write_script("given.lua", &strict).display().to_string();
    assert!(scene.says(&["apply", &script], 0).contains("nothing changed"));
    scene.node.end(libc::SIGTERM);
    fs::remove_file(scene.node.plugin_folder().join("libbroken.so")).expect("it may go");
    scene.restart();
    assert_eq!(level(&scene), "strict");
}

#[test]
fn a_wiring_on_probe_stays_where_nothing_fails_or_it_is_confirmed() {
    let mut scene = Scene::new("");
    let said = scene.says(&["apply", &scene.script(&["second"]), "--probe", "300ms"], 0);
    assert!(said.contains("generation 2 is on probe for") && said.contains("Generation 2 stays."), "{said}");
    scene.restart();
    assert_eq!((scene.topics(), scene.node.generation()), (vec!["second".into()], 2));
    let said = scene.says(&["apply", &scene.script(&["third"]), "--probe", "10min", "--confirm"], 0);
    assert!(said.contains("or nobody confirms it, 2 comes back"), "{said}");
    for arguments in [&["reload"][..], &["apply", &scene.script(&["fourth"])]] {
        let said = scene.says(arguments, 75);
        assert!(said.contains("is on probe for another "), "{arguments:?}: {said}");
    }
    scene.says(&["confirm", "2"], 75);
    let number = scene.node.generation();
    scene.says(&["confirm", &number.to_string()], 0);
    scene.says(&["confirm"], 66);
    scene.restart();
    assert_eq!((scene.topics(), scene.node.generation()), (vec!["third".into()], number));
    // A restart ends a probe.
    scene.says(&["apply", &scene.script(&["fourth"]), "--probe", "10min", "--confirm"], 0);
    scene.restart();
    assert_eq!(scene.topics(), ["third"]);
    // A rollback does, too.
    scene.says(&["apply", &scene.script(&["fourth"]), "--probe", "10min", "--confirm"], 0);
    scene.says(&["rollback"], 0);
    assert_eq!(scene.topics(), ["third"]);
    scene.says(&["confirm"], 66);
    scene.restart();
    assert_eq!(scene.topics(), ["third"]);
}

#[test]
fn a_wiring_that_nobody_confirms_is_rolled_back() {
    let mut scene = Scene::new("[wiring]\nsettle = \"20ms\"");
    scene.says(&["apply", &scene.script(&["second"]), "--probe", "500ms", "--confirm"], 0);
    // Saved meanwhile: it is read when the probe is over.
    eventually("the rollback", || (scene.topics() == ["first"]).then_some(()));
    let all = scene.generations();
    assert_eq!((all[1]["keeping"].as_str(), all[2]["door"].as_str()), (Some("rolled back"), Some("node")));
    let why = "generation 2 failed its probe and was rolled back with generation 3: nobody confirmed it";
    eventually("the sentence", || scene.generations()[1]["report"].to_string().contains(why).then_some(()));
    assert!(scene.node.log().contains(why) && scene.node.log().contains("audit: node: rollback to 1"));
    scene.restart();
    assert_eq!(scene.topics(), ["first"]);
    let probe = ["apply", &scene.script(&["second"]), "--probe", "1s", "--confirm"];
    scene.says(&probe, 0);
    let edited = scene.lua(&["edited"]);
    scene.node.save_wiring(&edited);
    eventually("the edited wiring", || (scene.topics() == ["edited"]).then_some(()));
    eventually("the end of the trouble", || (!scene.degraded().contains("on probe")).then_some(()));
}

#[test]
fn a_plugin_that_fails_during_a_probe_takes_the_wiring_back() {
    let scene = Scene::new("");
    let client = Client::of(&scene.node);
    let lua = scene.lua(&["second"]);
    let terms = [("probe-ms", 600_000u64.into())];
    let number = client.apply(&lua, &terms).expect("a good wiring");
    fs::write(scene.node.folder().join("plugins/libbroken.so"), b"this is no plugin").expect("a file");
    eventually("the rollback", || (scene.topics() == ["first"]).then_some(()));
    let row = eventually("the sentence", || {
        let rows = client.generations();
        rows.into_iter()
            .find(|row| self::number(row, "number") == number && text(row, "keeping") == "rolled back")
    });
    let report = text(&row, "report");
    assert!(report.contains("failed its probe") && report.contains("plugin \"libbroken"), "{report}");
}

#[test]
fn a_channel_that_fails_during_a_probe_takes_the_wiring_back() {
    let scene = Scene::new("");
    let client = Client::of(&scene.node);
    drop_plugin(&fixture("plugin-faulty", "faulty_adapter"), &scene.node.plugin_folder());
    eventually("the plugin", || {
        scene.node.ctl_json(["plugins"]).to_string().contains("faulty").then_some(())
    });
    let bad = scene.node.folder().join("bad.in");
    let lua = format!(
        "tempos.topic \"bad\" {{ ingress = {{ tempos.faulty {{ path = {bad:?}, fault = \"panic\", after = 0 }} }} }}"
    );
    let number = client.apply(&lua, &[("probe-ms", 600_000u64.into())]).expect("a good wiring");
    assert_eq!(scene.topics(), ["bad"]);
    let sender = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    sender.send_to(b"event", &bad).expect("the node listens");
    eventually("the rollback", || (scene.topics() == ["first"]).then_some(()));
    let row = eventually("the sentence", || {
        let rows = client.generations();
        rows.into_iter()
            .find(|row| self::number(row, "number") == number && text(row, "keeping") == "rolled back")
    });
    let report = text(&row, "report");
    assert!(
        report.contains("failed its probe") && report.contains("channel \"bad/in/1\" is failed"),
        "{report}"
    );
}

#[test]
fn damaged_files_never_stop_a_start_and_are_named() {
    let mut scene = Scene::new("");
    scene.says(&["apply", &scene.script(&["second"])], 0);
    let newest = scene.files().pop().expect("a file");
    let whole = fs::read(&newest).expect("it can be read");
    let mut seed = 7u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let newer = String::from_utf8_lossy(&whole).replacen("generation 1 ", "generation 2 ", 1).into_bytes();
    let mut bad: Vec<(&str, Vec<u8>)> = vec![("newer", newer), ("empty", Vec::new())];
    for _ in 0..4 {
        bad.push(("cut off", whole[..random(whole.len())].to_vec()));
        bad.push(("random", (0..random(4096)).map(|_| random(256) as u8).collect()));
        let mut altered = whole.clone();
        let at = random(whole.len() - 1);
        altered[at] ^= 1 << random(8);
        bad.push(("altered", altered));
    }
    for (what, bytes) in bad {
        scene.node.end(libc::SIGKILL);
        for file in scene.files() {
            fs::remove_file(file).expect("it may go");
        }
        fs::write(&newest, &bytes).expect("a file can be written");
        scene.restart();
        assert_eq!(scene.topics(), ["first"], "{what}");
        let name = newest.display().to_string();
        let degraded = scene.degraded();
        assert!(degraded.contains(&name) && degraded.contains("is set aside as"), "{what}: {degraded}");
        if what == "newer" {
            assert!(degraded.contains("is of format 2, which a newer version wrote"), "{degraded}");
        }
        assert!(scene.node.log().contains(&format!("{name} is set aside as")));
        assert!(scene.folder().join("set-aside").is_dir() && !newest.exists());
        // The next change heals it.
        scene.says(&["apply", &scene.script(&["third"])], 0);
        assert!(!scene.degraded().contains("set aside"), "{}", scene.degraded());
    }
}

#[test]
fn a_generation_whose_plugin_is_missing_waits_for_it() {
    let mut scene = Scene::new("");
    drop_plugin(&tempos_tests::built::plugin("adapter-udp"), &scene.node.plugin_folder());
    eventually("the plugin", || {
        scene.node.ctl_json(["plugins"]).to_string().contains("\"udp\"").then_some(())
    });
    let lua = "tempos.topic \"by-udp\" { ingress = { tempos.udp { bind = \"127.0.0.1:0\" } } }";
    let script = scene.node.write_script("given.lua", lua).display().to_string();
    scene.says(&["apply", &script], 0);
    scene.node.end(libc::SIGTERM);
    fs::remove_file(scene.node.plugin_folder().join("libtempos_adapter_udp.so")).expect("it may go");
    scene.restart();
    assert_eq!(scene.topics(), ["first"], "the scripts' wiring");
    assert!(scene.degraded().contains("generation 2 cannot be brought back: "), "{}", scene.degraded());
    scene.node.end(libc::SIGTERM);
    drop_plugin(&tempos_tests::built::plugin("adapter-udp"), &scene.node.plugin_folder());
    scene.restart();
    assert_eq!((scene.topics(), scene.node.generation()), (vec!["by-udp".into()], 2));
}

#[test]
fn a_state_folder_that_cannot_be_written_is_said_and_the_change_is_made() {
    let scene = Scene::new("");
    let folder = scene.folder();
    fs::rename(&folder, folder.with_file_name("away")).expect("it may be renamed");
    fs::write(&folder, b"in the way").expect("a file");
    let said = scene.says(&["apply", &scene.script(&["second"])], 0);
    assert!(said.contains("generation 2 does not outlive a restart: "), "{said}");
    assert_eq!(scene.topics(), ["second"]);
    assert!(scene.degraded().contains("does not outlive a restart"), "{}", scene.degraded());
    fs::remove_file(&folder).expect("it goes");
    fs::rename(folder.with_file_name("away"), &folder).expect("it comes back");
    scene.says(&["apply", &scene.script(&["third"])], 0);
    assert!(!scene.degraded().contains("does not outlive"), "{}", scene.degraded());
}
