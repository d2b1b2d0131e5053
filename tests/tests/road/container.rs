//! Containers with the function of these tests in them, and a node with a workflow that runs there.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempos_tests::built::source_root;
use tempos_tests::engine::Engine;
use tempos_tests::figures::counts;
use tempos_tests::{Node, NodeSetup, Producer, eventually};

use super::{receive, receiver, unix};

pub const IMAGE: &str = "tempos-test:1";

/// The engine, with the image of these tests.
pub fn engine() -> Option<Arc<Engine>> {
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
pub struct Container {
    pub engine: Arc<Engine>,
    pub name: String,
}

impl Container {
    pub fn start(engine: &Arc<Engine>, name: &str, flags: &[&str]) -> Container {
        Container::start_as(engine, name, flags, &["rest"])
    }

    pub fn start_as(engine: &Arc<Engine>, name: &str, flags: &[&str], first: &[&str]) -> Container {
        let container = Container { engine: Arc::clone(engine), name: name.into() };
        let fixed = ["run", "--detach", "--network=none", "--name", name, "--hostname", "press-host"];
        engine.docker(&[&fixed[..], flags, &[IMAGE, "/bin/function"], first].concat());
        container
    }

    pub fn call(&self, more: &str) -> String {
        format!(
            "method = \"container\", container = {:?}, engine = \"unix://{}\", file = \"/bin/function\", {more}",
            self.name,
            self.engine.socket().display()
        )
    }

    pub fn id(&self) -> String {
        self.engine.docker(&["inspect", "--format", "{{.Id}}", &self.name])
    }

    /// A line of what the kernel says of its first process.
    pub fn status(&self, field: &str) -> String {
        let path = format!("/proc/{}/status", self.engine.first_process(&self.name));
        let status = fs::read_to_string(path).expect("it runs");
        status.lines().find(|line| line.starts_with(field)).unwrap_or_default().to_owned()
    }

    /// How many files its first process may open: the bounds that it has, not those that were asked for, which an engine
    /// written in Go may miss (its runtime raises the bound of the process that becomes the container's).
    pub fn files(&self) -> Vec<String> {
        let path = format!("/proc/{}/limits", self.engine.first_process(&self.name));
        let limits = fs::read_to_string(path).expect("it runs");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect()
    }

    pub fn inside(&self) -> usize {
        self.engine.inside(&self.name).len()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.engine.command().args(["rm", "--force", &self.name]).output();
    }
}

/// A node with one workflow, and the ways in and out.
pub struct Scene {
    pub node: Node,
    pub producer: Producer,
    pub out: UnixDatagram,
}

pub fn scene(level: &str, call: &str) -> Scene {
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
    pub fn send(&self, what: &str) {
        self.producer.socket().send(what.as_bytes()).expect("the node listens");
    }

    pub fn ask(&self, what: &str) -> String {
        self.send(what);
        String::from_utf8_lossy(&receive(&self.out)).into_owned()
    }

    pub fn failed_as(&self, word: &str) -> u64 {
        counts(&self.node.workflow("it")["Failures"]).get(word).copied().unwrap_or(0)
    }

    /// It is sent, and its invocation ends so; the next one is served.
    pub fn ends(&self, what: &str, word: &str) {
        let so_far = self.failed_as(word);
        self.send(what);
        eventually(&format!("{what} to end as {word}: {:#}", self.node.workflow("it")), || {
            (self.failed_as(word) == so_far + 1).then_some(())
        });
        assert_eq!(self.ask("next"), "next", "after {what}");
    }
}
