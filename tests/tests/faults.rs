//! Plugins that panic, crash, loop and sleep inside a running node: what they cost, and what they do not.
//!
//! The endless loops of the fixtures run on a FIFO thread of one CPU. They end by themselves after twelve
//! seconds, so that a daemon that does not notice them cannot take the machine along.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempos_tests::fixture::fixture;
use tempos_tests::node::ROOT;
use tempos_tests::numbered::{Numbered, outlet};
use tempos_tests::setup::drop_plugin;
use tempos_tests::thread::{scheduling, threads};
use tempos_tests::{Node, NodeSetup, Signals, eventually};

const EVERY: Duration = Duration::from_millis(1);

/// A node with a strict topic `good`, a best-effort topic `easy`, a flow through each, and whatever goes
/// wrong beside them.
struct Scene {
    node: Node,
    good: Numbered,
    easy: Numbered,
    /// Where the events of the faulty part come out.
    out: UnixDatagram,
    restart: Command,
}

/// A topic from one unix socket of the folder to another.
fn road(folder: &Path, name: &str, level: &str) -> String {
    let folder = folder.display();
    format!(
        "tempos.topic \"{name}\" {{ qos = \"{level}\",\n\
         ingress = {{ tempos.unix {{ path = \"{folder}/{name}.in\" }} }},\n\
         egress = {{ tempos.unix {{ path = \"{folder}/{name}.out\" }} }} }}\n"
    )
}

/// `faulty` makes the rest of the wiring from the folder's path; what it says of the level comes first.
fn scene(faulty: impl Fn(&str) -> String) -> Scene {
    let mut setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]).with_bus();
    let folder = setup.folder().to_owned();
    let faulty = faulty(&folder.display().to_string());
    if !faulty.is_empty() {
        for name in ["faulty_adapter", "faulty_queue", "faulty_invoker"] {
            drop_plugin(&fixture("plugin-faulty", name), &folder.join("plugins"));
        }
    }
    let lua = faulty + &road(&folder, "good", "strict") + &road(&folder, "easy", "best-effort");
    setup = setup.wiring(&lua);
    let (good, easy) = (outlet(&folder.join("good.out")), outlet(&folder.join("easy.out")));
    let out = outlet(&folder.join("bad.out"));
    let restart = setup.command();
    let node = setup.start();
    let degraded = node.property(ROOT, "Node", "Degraded").to_string();
    assert!(!degraded.contains("wiring"), "{degraded}");
    Scene {
        good: Numbered::start(folder.join("good.in"), good, EVERY),
        easy: Numbered::start(folder.join("easy.in"), easy, EVERY),
        node,
        out,
        restart,
    }
}

impl Scene {
    fn state(&self, kind: &str, name: &str) -> String {
        self.text(kind, name, "State")
    }

    fn text(&self, kind: &str, name: &str, property: &str) -> String {
        let folder = if kind == "QosLevel" { String::from("qos") } else { kind.to_lowercase() };
        let path = format!("{ROOT}/{folder}/{name}");
        self.node.property(&path, kind, property).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an object is in a state; the answer is the reason that it gives.
    fn wait_for_state(&self, kind: &str, name: &str, state: &str) -> String {
        eventually(&format!("{kind} {name} to be {state}"), || {
            (self.state(kind, name) == state).then(|| self.text(kind, name, "Reason"))
        })
    }

    fn send(&self, socket: &str, text: &[u8]) {
        let producer = UnixDatagram::unbound().expect("a socket");
        producer.send_to(text, self.node.folder().join(socket)).expect("the node listens");
    }

    fn abandoned_threads(&self) -> u64 {
        self.node.property(ROOT, "Node", "AbandonedThreads").as_u64().expect("a number")
    }

    /// The flows go on for a while, and then both were whole all the time.
    fn end_whole(self) {
        self.good.wait_for_more(50);
        self.easy.wait_for_more(50);
        self.good.end_whole();
        self.easy.end_whole();
    }
}

/// A line of the log that holds all of these words.
fn logged(node: &Node, words: &[&str]) -> String {
    eventually(&format!("a line with {words:?} in the log"), || {
        let log = node.log();
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
}

/// The strict topic `bad` whose ingress has the fault.
fn bad_ingress(folder: &str, fault: &str) -> String {
    format!(
        "tempos.topic \"bad\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.channel(\"faulty\", {{ name = \"badin\", path = \"{folder}/bad.in\", {fault} }}) }},\n\
         egress = {{ tempos.unix {{ path = \"{folder}/bad.out\" }} }} }}\n"
    )
}

/// The strict topic `bad` whose egress has the fault.
fn bad_egress(folder: &str, fault: &str) -> String {
    format!(
        "tempos.topic \"bad\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.unix {{ path = \"{folder}/bad.in\" }} }},\n\
         egress = {{ tempos.channel(\"faulty\", {{ name = \"badout\", path = \"{folder}/bad.out\", {fault} }}) }} }}\n"
    )
}

/// The strict topic `bad` with a workflow on it that has the fault; its output leaves at `bad.out`.
fn bad_function(folder: &str, call: &str) -> String {
    format!(
        "tempos.topic \"bad\" {{ qos = \"strict\", ingress = {{ tempos.unix {{ path = \"{folder}/bad.in\" }} }} }}\n\
         tempos.topic \"worse\" {{ qos = \"strict\", egress = {{ tempos.unix {{ path = \"{folder}/bad.out\" }} }} }}\n\
         tempos.workflow \"work\" {{ from = \"bad\", to = \"worse\",\n\
         call = {{ method = \"echo\", file = \"{folder}/node.toml\", {call} }} }}\n"
    )
}

#[test]
fn a_panic_while_receiving_costs_that_channel_only_and_it_comes_back() {
    let scene = scene(|folder| bad_ingress(folder, "fault = \"panic\", after = 3"));
    let signals = Signals::of(&scene.node);
    for _ in 0..4 {
        scene.send("bad.in", b"event");
    }
    let line = logged(&scene.node, &["channel \"badin\"", "faulty panicked"]);
    assert!(line.contains("while it received"), "{line}");
    eventually("the signal of the failure", || {
        let changes = signals.named("PropertiesChanged");
        changes
            .iter()
            .any(|change| {
                let change = format!("{change:?}");
                change.contains("failed") && change.contains("adapter faulty panicked")
            })
            .then_some(())
    });
    scene.wait_for_state("Channel", "badin", "started");
    scene.wait_for_state("Topic", "bad", "started");
    // The three before the panic came out; what is sent now does, too.
    let mut buffer = [0; 64];
    for _ in 0..3 {
        scene.out.recv(&mut buffer).expect("the events before the panic");
    }
    scene.send("bad.in", b"again");
    let len = eventually("the channel that was opened again", || scene.out.recv(&mut buffer).ok());
    assert_eq!(&buffer[..len], b"again");
    assert_eq!(scene.abandoned_threads(), 0);
    scene.end_whole();
}

#[test]
fn a_channel_that_panics_each_time_is_opened_ever_more_rarely() {
    let scene = scene(|folder| bad_ingress(folder, "fault = \"panic\", after = 0, times = 1000"));
    let panics = || scene.node.log().matches("adapter faulty panicked").count();
    while panics() < 4 {
        let producer = UnixDatagram::unbound().expect("a socket");
        // Between two lives of the channel nobody listens.
        let _ = producer.send_to(b"event", scene.node.folder().join("bad.in"));
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.end_whole();
}

#[test]
fn a_panic_while_sending_costs_that_channel_only_and_it_comes_back() {
    let scene = scene(|folder| bad_egress(folder, "fault = \"panic\", after = 2"));
    for _ in 0..3 {
        scene.send("bad.in", b"event");
    }
    let line = logged(&scene.node, &["channel \"badout\"", "faulty panicked"]);
    assert!(line.contains("while it sent"), "{line}");
    scene.wait_for_state("Channel", "badout", "started");
    let mut buffer = [0; 64];
    eventually("an event through the channel that was opened again", || {
        scene.send("bad.in", b"again");
        let len = scene.out.recv(&mut buffer).ok()?;
        (&buffer[..len] == b"again").then_some(())
    });
    scene.end_whole();
}

/// A strict lane whose policy breaks while it holds events: a consumer that takes nothing sees to that.
fn a_policy_breaks(during: &str, after: u32) {
    let scene = scene(|folder| {
        format!(
            "tempos.qos \"shaky\" {{ scheduler = \"fifo\", priority = 30,\n\
             queue = {{ policy = \"faulty-fifo\", fault = \"panic\", during = \"{during}\", after = {after}, full = \"block\" }} }}\n"
        ) + &road(Path::new(folder), "bad", "shaky")
    });
    let flow = Numbered::start(
        scene.node.folder().join("bad.in"),
        scene.out.try_clone().expect("a handle"),
        Duration::from_micros(100),
    );
    logged(&scene.node, &["level \"shaky\"", "queue policy faulty-fifo", "was replaced by a new instance"]);
    flow.wait_for_more(500);
    // Not one event of the queue that broke is missing, and none was overtaken.
    assert!(flow.end_whole() > u64::from(after));
    assert_ne!(scene.state("QosLevel", "shaky"), "failed");
    scene.end_whole();
}

#[test]
fn a_policy_that_panics_while_it_admits_is_replaced_and_the_queued_events_live_on() {
    a_policy_breaks("admit", 1000);
}

#[test]
fn a_policy_that_panics_while_it_chooses_is_replaced_and_the_queued_events_live_on() {
    a_policy_breaks("next", 1000);
}

fn a_function_panics(place: &str) {
    let scene = scene(|folder| bad_function(folder, &format!("{place} fault = \"panic\", after = 3")));
    let signals = Signals::of(&scene.node);
    for _ in 0..4 {
        scene.send("bad.in", b"event");
    }
    let failed = eventually("the signal of the failure", || signals.named("FunctionFailed").first().cloned());
    assert_eq!(failed[0], "work", "{failed:?}");
    assert!(failed[2].as_str().is_some_and(|error| error.contains("panicked")), "{failed:?}");
    let mut buffer = [0; 64];
    eventually("an output of the function that was made again", || {
        scene.send("bad.in", b"again");
        let len = scene.out.recv(&mut buffer).ok()?;
        (&buffer[..len] == b"again").then_some(())
    });
    scene.wait_for_state("Workflow", "work", "started");
    scene.end_whole();
}

#[test]
fn a_function_that_panics_on_a_worker_costs_its_workflow_only() {
    a_function_panics("");
}

#[test]
fn a_function_that_panics_inline_costs_its_workflow_only() {
    a_function_panics("inline = true,");
}

/// The names of the files in the run folder, without the private copies' own.
fn a_canary_fails(call: &str, what: &str) {
    let scene = scene(|folder| {
        let canary = format!("canary = {{ file = \"{folder}/node.toml\", share = 100 }}");
        bad_function(folder, &format!("{canary}, {call}"))
    });
    scene.send("bad.in", b"event");
    let reason = scene.wait_for_state("Workflow", "work", "degraded");
    assert!(reason.starts_with(&format!("its canary {what}")), "{reason}");
    assert!(reason.contains("its own function gets all events"), "{reason}");
    let mut buffer = [0; 64];
    for _ in 0..20 {
        scene.send("bad.in", b"again");
        let len = eventually("an output of its own function", || scene.out.recv(&mut buffer).ok());
        assert_eq!(&buffer[..len], b"again");
    }
    assert_eq!(scene.state("Workflow", "work"), "degraded");
    scene.end_whole();
}

#[test]
fn a_canary_that_panics_costs_one_event_and_the_workflow_goes_on_with_its_own_code() {
    a_canary_fails("fault = \"panic\"", "panicked");
}

#[test]
fn a_canary_that_panics_inline_costs_one_event_too() {
    a_canary_fails("inline = true, fault = \"panic\"", "panicked");
}

#[test]
fn a_canary_that_does_not_come_back_costs_one_event_too() {
    a_canary_fails("deadline = \"20ms\", fault = \"sleep\"", "did not come back");
}

fn run_folder(node: &Node) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(node.folder().join("run"))
        .expect("the run folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn staged(node: &Node) -> usize {
    std::fs::read_dir(node.folder().join("run/plugins")).map_or(0, Iterator::count)
}

#[test]
fn a_plugin_that_kills_the_daemon_leaves_nothing_that_the_next_one_stumbles_over() {
    for (fault, signal) in [("abort", libc::SIGABRT), ("segv", libc::SIGSEGV)] {
        let mut scene = scene(|folder| bad_ingress(folder, &format!("fault = \"{fault}\", after = 0")));
        let (files, copies) = (run_folder(&scene.node), staged(&scene.node));
        scene.send("bad.in", b"event");
        let status = scene.node.daemon().wait_for_end();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal), "{status}");
        scene.node.restart(&mut scene.restart);
        assert_eq!(run_folder(&scene.node), files);
        assert_eq!(staged(&scene.node), copies);
        scene.good.wait_for_more(100);
        scene.easy.wait_for_more(100);
    }
}

#[test]
fn killed_fifty_times_under_load_it_always_starts_clean() {
    let mut scene = scene(|_| String::new());
    let (files, copies) = (run_folder(&scene.node), staged(&scene.node));
    for life in 0..50 {
        scene.good.wait_for_more(5 + life % 7);
        scene.node.end(libc::SIGKILL);
        scene.node.restart(&mut scene.restart);
        assert_eq!(run_folder(&scene.node), files, "life {life}");
        assert_eq!(staged(&scene.node), copies, "life {life}");
    }
    scene.good.wait_for_more(100);
    scene.easy.wait_for_more(100);
    let sockets: Vec<String> = std::fs::read_dir(scene.node.folder())
        .expect("the folder")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.contains(".in"))
        .collect();
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    // What was in the killed daemon is lost, what came out came in order and once.
    let (numbers, _) = scene.good.end();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "an event came out twice or late");
}

/// What the threads of the strict lane are now: `name → policy`.
fn lane_threads(node: &mut Node) -> Vec<(i32, String, i32)> {
    threads(node.daemon().pid())
        .into_iter()
        .filter(|(_, name)| name.contains("strict"))
        .filter_map(|(id, name)| Some((id, name, scheduling(id)?.policy)))
        .collect()
}

/// On the strict lane something does not come back: whose `culprit` thread is demoted, what says `failed`.
fn stuck(wiring: impl Fn(&str) -> String, kind: &str, name: &str, sentence: &str) {
    let mut scene =
        scene(|folder| String::from("tempos.qos \"strict\" { cpus = { 1 } }\n") + &wiring(folder));
    let before = lane_threads(&mut scene.node);
    let real_time = before.iter().any(|(_, _, policy)| *policy == libc::SCHED_FIFO);
    scene.send("bad.in", b"event");
    let reason = scene.wait_for_state(kind, name, "failed");
    assert!(reason.contains(sentence), "{reason}");
    eventually("the count of threads given up", || (scene.abandoned_threads() == 1).then_some(()));
    // The lost thread lives on, but at no real-time priority, and a successor has its place.
    let after = lane_threads(&mut scene.node);
    let demoted: Vec<_> = after
        .iter()
        .filter(|(id, _, policy)| *policy == libc::SCHED_OTHER && before.iter().any(|(old, ..)| old == id))
        .collect();
    let fresh: Vec<_> = after.iter().filter(|(id, ..)| !before.iter().any(|(old, ..)| old == id)).collect();
    assert_eq!(fresh.len(), 1, "{before:?} {after:?}");
    if real_time {
        assert_eq!(demoted.len(), 1, "{before:?} {after:?}");
        assert_eq!(fresh[0].2, libc::SCHED_FIFO, "{before:?} {after:?}");
    }
    let granted = scene.text("QosLevel", "strict", "Granted");
    assert_eq!(granted.contains("fifo"), real_time, "{granted}");
    scene.end_whole();
}

#[test]
fn a_channel_that_loops_while_receiving_is_given_up() {
    stuck(
        |f| bad_ingress(f, "fault = \"loop\""),
        "Channel",
        "badin",
        "adapter faulty did not come back while it received",
    );
}

#[test]
fn a_channel_that_sleeps_while_receiving_is_given_up() {
    stuck(
        |f| bad_ingress(f, "fault = \"sleep\""),
        "Channel",
        "badin",
        "adapter faulty did not come back while it received",
    );
}

#[test]
fn a_channel_that_loops_while_sending_is_given_up() {
    stuck(
        |f| bad_egress(f, "fault = \"loop\""),
        "Channel",
        "badout",
        "adapter faulty did not come back while it sent",
    );
}

#[test]
fn an_inline_function_that_loops_is_given_up() {
    stuck(|f| bad_function(f, "inline = true, fault = \"loop\""), "Workflow", "work", "did not come back");
}

#[test]
fn a_function_that_loops_past_its_deadline_is_given_up() {
    stuck(
        |f| bad_function(f, "deadline = \"20ms\", fault = \"loop\""),
        "Workflow",
        "work",
        "did not come back",
    );
}

#[test]
fn a_function_that_sleeps_past_its_deadline_is_given_up() {
    stuck(
        |f| bad_function(f, "deadline = \"20ms\", fault = \"sleep\""),
        "Workflow",
        "work",
        "did not come back",
    );
}

#[test]
fn a_function_without_a_deadline_may_take_its_time_but_not_at_real_time_priority() {
    let mut scene = scene(|folder| {
        String::from("tempos.qos \"strict\" { cpus = { 1 } }\n") + &bad_function(folder, "fault = \"loop\"")
    });
    let before = lane_threads(&mut scene.node);
    scene.send("bad.in", b"event");
    if before.iter().any(|(_, _, policy)| *policy == libc::SCHED_FIFO) {
        eventually("the function's thread to be demoted", || {
            let now = lane_threads(&mut scene.node);
            (now.iter().filter(|(_, _, policy)| *policy == libc::SCHED_OTHER).count() == 1).then_some(())
        });
    }
    scene.good.wait_for_more(200);
    // It comes back by itself: its output is delivered, and its thread has its priority again.
    let mut buffer = [0; 64];
    let len = eventually("the output", || scene.out.recv(&mut buffer).ok());
    assert_eq!(&buffer[..len], b"event");
    eventually("the thread's priority", || (lane_threads(&mut scene.node) == before).then_some(()));
    assert_eq!(scene.state("Workflow", "work"), "started");
    assert_eq!(scene.abandoned_threads(), 0);
    scene.end_whole();
}

#[test]
fn a_policy_that_loops_is_given_up_and_the_lane_goes_on_with_a_new_one() {
    let mut scene = scene(|folder| {
        String::from(
            "tempos.qos \"shaky\" { scheduler = \"fifo\", priority = 30, cpus = { 1 },\n\
             queue = { policy = \"faulty-fifo\", fault = \"loop\", after = 300, full = \"block\" } }\n",
        ) + &road(Path::new(folder), "bad", "shaky")
    });
    let flow =
        Numbered::start(scene.node.folder().join("bad.in"), scene.out.try_clone().expect("a handle"), EVERY);
    logged(&scene.node, &["queue worker of level shaky did not come back while in its queue policy"]);
    eventually("the count of threads given up", || (scene.abandoned_threads() == 1).then_some(()));
    flow.wait_for_more(500);
    flow.end_whole();
    assert!(scene.node.daemon().runs());
    scene.end_whole();
}
