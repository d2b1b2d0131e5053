//! Functions as processes inside a running node: each way to end badly costs its event alone, and nothing is left.

mod road;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempos_tests::figures::counts;
use tempos_tests::{LIVENESS, Node, NodeSetup, Producer, eventually, settled};

use road::{receive, receiver, unix};

/// Does as the payload says.
const PROGRAM: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
    char what[64] = "";
    if (read(0, what, sizeof what - 1) < 0) return 2;
    if (!strcmp(what, "loop")) { alarm(20); for (;;) { } }
    if (!strcmp(what, "sleep")) { sleep(60); }
    if (!strcmp(what, "deaf")) { signal(SIGTERM, SIG_IGN); signal(SIGINT, SIG_IGN); sleep(60); }
    if (!strcmp(what, "closed")) { close(0); close(1); close(2); sleep(60); }
    if (!strcmp(what, "memory")) for (;;) { char *p = malloc(1 << 20); if (!p) abort(); memset(p, 1, 1 << 20); }
    if (!strcmp(what, "flood")) for (;;) puts("flood");
    if (!strcmp(what, "segv")) raise(SIGSEGV);
    if (!strcmp(what, "exit")) { fprintf(stderr, "no camera\n"); return 3; }
    if (!strcmp(what, "bomb")) { alarm(20); for (;;) fork(); }
    if (!strcmp(what, "child")) { if (fork() == 0) { sleep(60); _exit(0); } printf("left one"); return 0; }
    fputs(what, stdout);
    return 0;
}
"#;

const SOURCE: &str = r#"
import os
def handle(event):
    print("noise", flush=True)
    what = event.text
    if what == "loop":
        while True: pass
    if what == "raise": raise ValueError("no camera")
    if what == "exit": os._exit(3)
    if what == "segv": os.kill(os.getpid(), 11)
    if what == "half": os.write(4, b"half"); os._exit(0)
    if what == "garbage": os.write(4, b"g" * 100)
    if what == "memory": return bytes(1 << 33)
    if what == "number": return 5
    return what
"#;

const SCRIPT: &str = r#"
exports.handle = (event) => {
  console.log("noise");
  switch (event.text) {
    case "loop": for (;;) {}
    case "raise": throw new Error("no camera");
    case "exit": process.exit(3);
    case "number": return 5;
    default: return event.text;
  }
};
"#;

/// A node with one workflow, and the way in and out.
struct Scene {
    node: Node,
    producer: Producer,
    out: UnixDatagram,
    file: PathBuf,
}

/// `call` is what the workflow says beside method and file.
fn scene(name: &str, content: &str, call: &str) -> Scene {
    scene_at("strict", name, content, call)
}

fn scene_at(level: &str, name: &str, content: &str, call: &str) -> Scene {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo", "invoker-spawn"]);
    let file = setup.folder().join(name);
    if name.contains('.') {
        fs::write(&file, content).expect("a source can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
    } else {
        let source = setup.folder().join("program.c");
        fs::write(&source, content).expect("a source can be written");
        let built = Command::new("cc").args(["-O1", "-w", "-o"]).args([&file, &source]).status();
        assert!(built.expect("there is a C compiler").success());
    }
    let out = receiver(&setup, "out");
    let lua = format!(
        "tempos.topic \"raw\" {{ qos = \"{level}\", ingress = {{ {} }} }}\n\
         tempos.topic \"done\" {{ qos = \"{level}\", egress = {{ {} }} }}\n\
         tempos.workflow \"it\" {{ from = \"raw\", to = \"done\", call = {{ method = \"spawn\", file = {file:?}, {call} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    Scene { node, producer, out, file }
}

impl Scene {
    fn send(&self, what: &str) {
        self.producer.socket().send(what.as_bytes()).expect("the node listens");
    }

    fn failed_as(&self, word: &str) -> u64 {
        counts(&self.node.workflow("it")["Failures"]).get(word).copied().unwrap_or(0)
    }

    /// Each is sent, ends as it says, and the next event is served.
    fn each_ends_as_it_was(&mut self, cases: &[(&str, &str)]) {
        self.send("first");
        assert_eq!(receive(&self.out), b"first");
        // A worker that has taken the place of another, or is about to end, is not what is counted here.
        let before = settled("what the node holds", || self.left());
        for (what, word) in cases {
            let so_far = self.failed_as(word);
            self.send(what);
            eventually(&format!("{what} to end as {word}: {:#}", self.node.workflow("it")), || {
                (self.failed_as(word) == so_far + 1).then_some(())
            });
            self.send("next");
            assert_eq!(receive(&self.out), b"next", "after {what}");
        }
        let count = 1 + 2 * cases.len() as u64;
        assert_eq!(self.node.wait_for_rest("raw", count).dropped_whole(), 0);
        self.is_left_with(&before);
    }

    /// The daemon's open descriptors and its children.
    fn left(&mut self) -> (Vec<String>, usize) {
        let pid = self.node.daemon().pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").flatten();
        let kind = |path: std::path::PathBuf| {
            // Not which socket or pipe it is.
            let name = path.display().to_string();
            name.split(":[").next().map(str::to_owned)
        };
        let mut descriptors: Vec<String> =
            open.filter_map(|entry| kind(fs::read_link(entry.path()).ok()?)).collect();
        descriptors.sort();
        (descriptors, processes(|_, parent| parent == pid.to_string()).len())
    }

    /// Waits until the node holds as much as before.
    fn is_left_with(&mut self, before: &(Vec<String>, usize)) {
        let start = std::time::Instant::now();
        while self.left() != *before && start.elapsed() < LIVENESS {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.left(), *before, "more or less is left than before");
    }
}

/// The processes of which their arguments and their parent's number are right.
fn processes(right: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("there is a /proc").flatten();
    all.filter_map(|entry| {
        let arguments = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
        right(&arguments, &parent).then(|| entry.file_name().to_string_lossy().into_owned())
    })
    .collect()
}

fn named_after(file: &Path) -> usize {
    processes(|arguments, _| arguments.contains(&file.display().to_string())).len()
}

fn there_is(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("there is no {program}: skipped");
    }
    there
}

#[test]
fn a_process_for_each_event_ends_as_what_it_was() {
    let mut scene = scene("program", PROGRAM, "deadline = \"300ms\", memory = \"32MiB\"");
    scene.each_ends_as_it_was(&[
        ("loop", "killed"),
        ("sleep", "killed"),
        ("deaf", "killed"),
        ("closed", "killed"),
        ("memory", "over-memory"),
        ("flood", "output-too-large"),
        ("segv", "crashed"),
        ("exit", "failed"),
    ]);
    scene.send("child");
    assert_eq!(receive(&scene.out), b"left one");
    eventually("what it left to be gone", || (named_after(&scene.file) == 0).then_some(()));
}

#[test]
fn a_fork_bomb_is_bounded_and_leaves_nothing() {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("only root may have namespaces: skipped");
        return;
    }
    let call = "deadline = \"300ms\", processes = 30, user = \"nobody\", namespaces = { \"pid\" }";
    let mut scene = scene("program", PROGRAM, call);
    // The user may look into the folder, which is the test's alone else.
    fs::set_permissions(scene.node.folder(), fs::Permissions::from_mode(0o755)).expect("its mode");
    scene.each_ends_as_it_was(&[("bomb", "killed"), ("bomb", "killed"), ("segv", "crashed")]);
    eventually("the bomb to be gone", || (named_after(&scene.file) == 0).then_some(()));
}

#[test]
fn a_python_worker_ends_as_what_it_was() {
    if !there_is("python3") {
        return;
    }
    for mode in ["warm", "zygote", "each"] {
        let call = format!("runtime = \"python\", mode = \"{mode}\", deadline = \"2s\", memory = \"512MiB\"");
        let mut scene = scene("function.py", SOURCE, &call);
        let half = if mode == "zygote" { "killed" } else { "bad-output" };
        scene.each_ends_as_it_was(&[
            ("raise", "failed"),
            ("exit", "crashed"),
            ("segv", "crashed"),
            ("half", half),
            ("garbage", "bad-output"),
            ("number", "bad-output"),
            ("memory", "over-memory"),
            ("loop", "killed"),
        ]);
    }
}

#[test]
fn a_javascript_worker_ends_as_what_it_was() {
    if !there_is("node") {
        return;
    }
    let mut scene =
        scene("function.js", SCRIPT, "runtime = \"javascript\", mode = \"warm\", deadline = \"2s\"");
    scene.each_ends_as_it_was(&[
        ("raise", "failed"),
        ("exit", "crashed"),
        ("number", "bad-output"),
        ("loop", "killed"),
    ]);
}

#[test]
fn many_rounds_leave_nothing_behind() {
    const AT_ONCE: usize = 16;
    let rounds: usize = std::env::var("TEMPOS_ROUNDS").map_or(1000, |text| text.parse().expect("a number"));
    let mut scene = scene("program", PROGRAM, "concurrency = 1");
    scene.send("first");
    assert_eq!(receive(&scene.out), b"first");
    let before = settled("what the node holds", || scene.left());
    for _ in 0..rounds.div_ceil(AT_ONCE) {
        for number in 0..AT_ONCE {
            scene.send(if number % 2 == 0 { "echo" } else { "segv" });
        }
        (0..AT_ONCE / 2).for_each(|_| assert_eq!(receive(&scene.out), b"echo"));
    }
    let crashes = rounds.div_ceil(AT_ONCE) * AT_ONCE / 2;
    eventually("all crashes to be counted", || (scene.failed_as("crashed") == crashes as u64).then_some(()));
    scene.is_left_with(&before);
    assert_eq!(named_after(&scene.file), 0);
}

#[test]
fn the_functions_of_a_node_end_with_it_however_it_ends() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut scene = scene("program", PROGRAM, "deadline = \"60s\"");
        scene.send("deaf");
        eventually("it to run", || (named_after(&scene.file) == 1).then_some(()));
        // Under the guard, too: that is one store after its start.
        std::thread::sleep(Duration::from_millis(50));
        let pid = scene.node.daemon().pid().to_string();
        let guards = processes(|arguments, parent| parent == pid && arguments.contains("--guard"));
        assert_eq!(guards.len(), 1);
        scene.node.end(signal);
        eventually("it to be gone", || (named_after(&scene.file) == 0).then_some(()));
        eventually("the guard to be gone", || {
            let left = processes(|arguments, _| arguments.contains("--guard"));
            (!left.contains(&guards[0])).then_some(())
        });
    }
}

#[test]
fn what_cannot_work_is_refused_when_it_is_applied() {
    let scene = scene("program", PROGRAM, "");
    let lua = |call: &str| {
        format!(
            "tempos.topic \"a\" {{ qos = \"strict\" }}\n\
             tempos.workflow \"w\" {{ from = \"a\", call = {{ method = \"spawn\", {call} }} }}\n"
        )
    };
    let program = format!("file = {:?}", scene.file);
    for (call, what) in [
        ("file = \"/etc/passwd\"".into(), "it is neither a program (ELF) nor a script that begins with `#!`"),
        (format!("{program}, user = \"no such user\""), "is no user of this machine"),
        (format!("{program}, mode = \"often\""), "often"),
        (format!("{program}, mode = \"warm\", start_within = \"300ms\""), "cannot be used"),
    ] {
        let script = scene.node.write_script("wrong.lua", &lua(&call));
        let output = scene.node.ctl(["check".as_ref(), script.as_os_str()]);
        let applied = scene.node.ctl(["apply".as_ref(), script.as_os_str()]);
        let said = String::from_utf8_lossy(&applied.stderr).into_owned()
            + &String::from_utf8_lossy(&applied.stdout)
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!applied.status.success() && said.contains(what), "{call}: {said}");
    }
    scene.send("still served");
    assert_eq!(receive(&scene.out), b"still served");
}

#[test]
fn a_child_is_scheduled_as_its_level() {
    // One step beneath the level's workers. Fields 40 and 41 of /proc/PID/stat: real-time priority and policy.
    let script = "#!/bin/sh\nset -- $(sed 's/.*) //' /proc/$$/stat); shift 37; echo \"$1 $2\"\n";
    for (level, expected) in [("strict", "39 1\n"), ("best-effort", "0 0\n")] {
        let scene = scene_at(level, "function.sh", script, "");
        scene.send("x");
        let said = String::from_utf8_lossy(&receive(&scene.out)).into_owned();
        let granted = scene.node.level(level)["Granted"].to_string();
        // Where the node itself is not granted real time, its functions are not either.
        let expected = if granted.contains("other") { "0 0\n" } else { expected };
        assert_eq!(said, expected, "{level}, granted: {granted}");
    }
}
