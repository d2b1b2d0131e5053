//! What the system does not grant: real-time scheduling, locked memory, descriptors, CPU time. The node
//! starts, serves, and says what it does without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tempos_tests::node::ROOT;
use tempos_tests::numbered::{Numbered, outlet};
use tempos_tests::thread::{cpu_time, scheduling, threads};
use tempos_tests::{Child, Node, NodeSetup, eventually};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    // SAFETY: geteuid(2) has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("passed over: only root can take rights away");
    }
    root
}

/// A strict road `good` from one unix socket of the folder to another.
fn road(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "tempos.topic \"good\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.unix {{ path = \"{folder}/good.in\", mode = \"0666\" }} }},\n\
         egress = {{ tempos.unix {{ path = \"{folder}/good.out\" }} }} }}\n"
    )
}

fn setup() -> NodeSetup {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]);
    let lua = road(setup.folder());
    setup.wiring(&lua)
}

/// `command` run by other programs: `prlimit`, `setpriv`. Its supervisor's socket is open to everybody.
fn under(command: &Command, wrapper: &[&str]) -> Command {
    let script = "[ -z \"$NOTIFY_SOCKET\" ] || chmod 0666 \"$NOTIFY_SOCKET\"; exec \"$@\"";
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", script, "sh"]).args(wrapper).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// Neither CAP_SYS_NICE nor CAP_IPC_LOCK, no RLIMIT_RTPRIO and 64 KiB to be locked.
const WITHOUT_RIGHTS: [&str; 5] =
    ["prlimit", "--rtprio=0", "--memlock=65536", "setpriv", "--bounding-set=-sys_nice,-ipc_lock"];

fn start_under(setup: NodeSetup, wrapper: &[&str]) -> (Node, Numbered) {
    let out = outlet(&setup.folder().join("good.out"));
    fs::set_permissions(setup.folder().join("good.out"), fs::Permissions::from_mode(0o666)).expect("a mode");
    let command = under(&setup.command(), wrapper);
    let node = setup.start_as(command);
    let flow = Numbered::start(node.folder().join("good.in"), out, Duration::from_millis(1));
    (node, flow)
}

/// The node serves and says on every face what it does without.
fn assert_degraded(node: &Node, flow: Numbered, causes: &[&str]) {
    flow.wait_for_more(200);
    let degraded = node.property(ROOT, "Node", "Degraded").to_string();
    let status = node.ctl(["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    let doctor = String::from_utf8_lossy(&node.ctl(["doctor"]).stdout).into_owned();
    for cause in causes {
        assert!(degraded.contains(cause), "{cause}: {degraded}");
        assert!(said.contains(cause), "{cause}: {said}");
        assert!(doctor.contains(cause), "{cause}: {doctor}");
        assert!(node.log().contains(cause), "{cause}: {}", node.log());
    }
    assert_eq!(status.status.code(), Some(3), "{said}");
    assert_eq!(node.property(ROOT, "Node", "State"), "degraded");
    flow.end_whole();
}

#[test]
fn without_capabilities_and_limits_it_serves_and_says_what_is_missing() {
    if !is_root() {
        return;
    }
    let (mut node, flow) = start_under(setup(), &WITHOUT_RIGHTS);
    for (id, name) in threads(node.daemon().pid()) {
        let now = scheduling(id).map(|scheduling| scheduling.policy);
        assert!(now.is_none_or(|policy| policy == libc::SCHED_OTHER), "{name} runs in real time");
    }
    assert_eq!(node.property(&format!("{ROOT}/qos/strict"), "QosLevel", "State"), "degraded");
    assert_degraded(&node, flow, &["CAP_SYS_NICE", "RLIMIT_RTPRIO", "CAP_IPC_LOCK", "RLIMIT_MEMLOCK"]);
}

#[test]
fn a_user_without_rights_can_run_a_node() {
    if !is_root() {
        return;
    }
    let setup = setup();
    let folder = setup.folder().to_owned();
    // The built program may lie where only its builder can look.
    let program = folder.join("temposd");
    fs::copy(tempos_tests::built::program("temposd"), &program).expect("the program can be copied");
    for name in ["", "run", "state", "wiring"] {
        chown(folder.join(name), Some(NOBODY), Some(NOBODY)).expect("root can give folders away");
    }
    let out = outlet(&folder.join("good.out"));
    fs::set_permissions(folder.join("good.out"), fs::Permissions::from_mode(0o666)).expect("a mode");
    let original = setup.command();
    let mut own = Command::new(&program);
    own.args(original.get_args()).current_dir(&folder).env_remove("JOURNAL_STREAM");
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let command = under(&own, &[&WITHOUT_RIGHTS[..], &user[..]].concat());
    let node = setup.start_as(command);
    let flow = Numbered::start(node.folder().join("good.in"), out, Duration::from_millis(1));
    assert_degraded(&node, flow, &["CAP_SYS_NICE", "RLIMIT_MEMLOCK"]);
}

#[test]
fn where_real_time_is_insisted_on_it_refuses_to_start_with_one_sentence() {
    if !is_root() {
        return;
    }
    for (wrapper, cause) in [
        (
            &["prlimit", "--rtprio=0", "setpriv", "--bounding-set=-sys_nice"][..],
            "real-time scheduling is not granted",
        ),
        (
            &["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock"][..],
            "locked memory is not granted",
        ),
    ] {
        let setup = setup().flag("--strict-realtime");
        let output = under(&setup.command(), wrapper).output().expect("temposd runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(77), "{said}");
        let refusals: Vec<&str> = said.lines().filter(|line| line.contains("--strict-realtime")).collect();
        assert_eq!(refusals.len(), 1, "{said}");
        assert!(refusals[0].contains(cause), "{said}");
        assert!(!setup.folder().join("run/control.sock").exists());
    }
}

/// A cgroup (version 1, controller cpu) of the test's own, which has no real-time budget at first.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/cpu/tempos-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Cgroup(path);
        let budget = fs::read_to_string(group.0.join("cpu.rt_runtime_us")).ok()?;
        (budget.trim() == "0").then_some(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process of the group may take a moment to leave.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_cgroup_without_a_real_time_budget_is_named_as_the_cause() {
    let Some(group) = Cgroup::new() else {
        eprintln!("passed over: no cgroup of version 1 with real-time budgets can be made here");
        return;
    };
    let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.0.display());
    let (node, flow) = start_under(setup(), &["sh", "-c", &join, "sh"]);
    assert_degraded(&node, flow, &["real-time budget (cpu.rt_runtime_us = 0)", "tempos-test-"]);
    drop(node);
    drop(group);
}

#[test]
fn a_lane_that_gets_no_cpu_is_not_taken_for_one_that_is_stuck() {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]);
    let lua = String::from(
        "tempos.qos \"best-effort\" { cpus = { 1 }, nice = 10, queue = { full = \"block\" } }\n",
    ) + &road(setup.folder()).replace("strict", "best-effort");
    let out = outlet(&setup.folder().join("good.out"));
    let node = setup.wiring(&lua).start();
    let flow = Numbered::start(node.folder().join("good.in"), out, Duration::from_micros(20));
    flow.wait_for_more(1000);
    let hogs: Vec<Child> = (0..3)
        .map(|_| {
            // Bounds itself, whatever becomes of the test; nice and taskset become it, so that ending the
            // child ends it.
            let hog = "ulimit -t 10; while :; do :; done";
            Child::start(
                "hog",
                Command::new("nice").args(["-n", "-10", "taskset", "-c", "1", "sh", "-c", hog]),
            )
        })
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    drop(hogs);
    flow.wait_for_more(1000);
    assert_eq!(node.property(ROOT, "Node", "AbandonedThreads"), 0);
    assert_eq!(node.property(&format!("{ROOT}/topic/good"), "Topic", "State"), "started");
    assert!(!node.log().contains("did not come back"), "{}", node.log());
    flow.end_whole();
}

/// The findings of `temposctl doctor` by check, and its exit code.
fn findings(node: &Node) -> (BTreeMap<String, Value>, Option<i32>) {
    let output = node.ctl(["doctor", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    let count = list.len();
    let by_check: BTreeMap<String, Value> =
        list.into_iter().map(|one| (one["check"].as_str().unwrap_or_default().to_owned(), one)).collect();
    assert_eq!(by_check.len(), count, "two findings of one check: {by_check:#?}");
    for one in by_check.values() {
        let mendable = one["verdict"] != "good";
        assert_eq!(one["mend"].as_str().is_some_and(|mend| !mend.is_empty()), mendable, "{one:#}");
        assert!(one["finding"].as_str().is_some_and(|sentence| sentence.len() > 2), "{one:#}");
    }
    (by_check, output.status.code())
}

#[test]
fn the_doctor_weighs_what_the_wiring_asks_for_and_what_the_system_grants() {
    if !is_root() {
        return;
    }
    let setup = NodeSetup::new().plugins(["adapter-unix", "adapter-udp", "queue-fifo"]);
    let lua = String::from(
        "tempos.qos \"strict\" { cpus = { 0 }, network = { socket_priority = 7 } }\n\
         tempos.qos \"eager\" { nice = -5 }\n\
         tempos.topic \"wide\" { qos = \"eager\",\n\
         ingress = { tempos.udp { name = \"wide\", bind = \"127.0.0.1:0\", receive_buffer = \"64MiB\" } } }\n",
    ) + &road(setup.folder());
    // A real-time thread that works for so long without a pause ends the node.
    let wrapper = [
        "prlimit",
        "--rttime=900000",
        "--nofile=512",
        "setpriv",
        "--bounding-set=-sys_nice,-net_admin,-net_raw",
    ];
    let (node, flow) = start_under(setup.wiring(&lua), &wrapper);
    flow.wait_for_more(20);
    let (found, code) = findings(&node);
    let said = |check: &str, verdict: &str, words: &str| {
        let one = found.get(check).unwrap_or_else(|| panic!("no check {check:?} in {found:#?}"));
        assert_eq!(one["verdict"], verdict, "{one:#}");
        assert!(one["finding"].as_str().is_some_and(|sentence| sentence.contains(words)), "{words}: {one:#}");
    };
    said("nice values", "bad", "level \"eager\" asks for nice -5");
    said("real-time CPU time", "bad", "RLIMIT_RTTIME is 900 ms");
    said("socket priority", "bad", "level \"strict\" asks for socket_priority 7");
    said("receive buffers", "poor", "channel \"wide\" asks for 64 MiB, net.core.rmem_max is");
    said("descriptors", "poor", "only 512");
    assert!(found["interrupts"]["finding"].to_string().contains("CPU 0"), "{:#}", found["interrupts"]);
    for check in [
        "real-time scheduling",
        "real-time throttling",
        "locked memory",
        "swap",
        "transparent huge pages",
        "kernel preemption",
        "CPUs",
        "frequency governor",
        "idle states",
        "virtual machine",
        "clock source",
        "wall clock",
        "send buffers",
        "network backlog",
        "unix sockets",
    ] {
        assert!(found.contains_key(check), "no check {check:?} in {found:#?}");
    }
    assert_eq!(code, Some(1));
    let table = node.ctl(["doctor"]);
    let shown = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.status.code(), Some(1), "{shown}");
    assert!(shown.starts_with("VERDICT") && shown.contains("→ give the service LimitNICE=-5"), "{shown}");
    flow.end_whole();
}

#[test]
fn the_doctors_exit_code_says_whether_a_level_gets_what_it_asks_for() {
    // Nothing is asked for: whatever the machine is like, nothing is bad.
    let setup = NodeSetup::new().plugins(["queue-fifo"]).node_file("[realtime]\nlock_memory = false");
    let node = setup.wiring("tempos.qos \"strict\" { scheduler = \"other\" }\n").start();
    let (found, code) = findings(&node);
    assert!(found.values().all(|one| one["verdict"] != "bad"), "{found:#?}");
    assert_eq!(found["locked memory"]["verdict"], "poor");
    assert_eq!(code, Some(0));
}

/// Opens connections as fast as it can for a while and keeps the last of them.
fn spam(for_so_long: Duration, mut connect: impl FnMut() -> Option<Socket>) -> (u32, Vec<Socket>) {
    let begin = Instant::now();
    let (mut tried, mut kept) = (0, Vec::new());
    while begin.elapsed() < for_so_long {
        tried += 1;
        kept.extend(connect());
        if kept.len() > 200 {
            kept.drain(..100);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    (tried, kept)
}

/// A connection, or nothing where it is not taken at once.
fn connect(kind: Type, path: &Path) -> Option<Socket> {
    let socket = Socket::new(Domain::UNIX, kind, None).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(&SockAddr::unix(path).ok()?).ok()?;
    Some(socket)
}

#[test]
fn out_of_descriptors_it_keeps_what_it_has_and_does_not_spin() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let lua = road(&folder)
        + &format!(
            "tempos.topic \"many\" {{ ingress = {{ tempos.unix {{ path = \"{0}/many.in\", type = \"seqpacket\", connections = 1024 }} }},\n\
             egress = {{ tempos.unix {{ path = \"{0}/many.out\" }} }} }}\n",
            folder.display()
        );
    let many = outlet(&folder.join("many.out"));
    let (mut node, flow) = start_under(setup.wiring(&lua), &["prlimit", "--nofile=64"]);
    flow.wait_for_more(100);
    let (control, frames) = (node.peer_socket(), folder.join("many.in"));
    let at_control =
        std::thread::spawn(move || spam(Duration::from_secs(3), || connect(Type::STREAM, &control)));
    let (tried, held) = spam(Duration::from_secs(3), || connect(Type::SEQPACKET, &frames));
    let (tried_too, held_too) = at_control.join().expect("the spammer ends");
    assert!(tried > 500 && tried_too > 500, "{tried} and {tried_too} connections were tried");
    flow.wait_for_more(200);
    // Idle, with every descriptor taken and more callers at both doors: asleep.
    flow.end_whole();
    let before = cpu_time(node.daemon().pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(node.daemon().pid()) - before;
    assert!(used < Duration::from_secs(1), "it used {used:?} of CPU in 2 s, with nothing to do");
    assert!(node.daemon().runs());
    assert!(!node.log().contains("is opened again"), "{}", node.log());
    drop((held, held_too));
    // Both doors open again.
    eventually("the tool to be served", || {
        let code = node.ctl(["status"]).status.code();
        matches!(code, Some(0 | 3)).then_some(())
    });
    let mut buffer = [0; 64];
    let len = eventually("an event over a new connection", || {
        connect(Type::SEQPACKET, &folder.join("many.in"))?.send(b"event").ok()?;
        many.recv(&mut buffer).ok()
    });
    assert_eq!(&buffer[..len], b"event");
}
