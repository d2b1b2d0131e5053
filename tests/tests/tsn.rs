//! Schedules of time-sensitive networks, from outside: what a channel sends, what it says where the gates cannot be
//! had, and what `temposctl tsn plan` draws.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tempos_tests::{NodeSetup, Producer, built::program};

const SCHEDULE: &str = "cycle = \"1ms\"\nlink_mbit = 1000\npriorities = { 6 = 1 }\n\n\
    [[window]]\nclasses = [1]\nlength = \"500us\"\n\n[[window]]\nclasses = [0]\nlength = \"500us\"\n";
/// An EtherType of this test alone: IEEE 802's second one for experiments.
const ETHERTYPE: u16 = 0x88B6;

fn is_root() -> bool {
    // SAFETY: geteuid(2) has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("passed over: only root may open packet sockets");
    }
    root
}

fn lua(folder: &std::path::Path, more: &str) -> String {
    let folder = folder.display();
    format!(
        "tempos.topic \"gated\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.unix {{ path = \"{folder}/in\" }} }},\n\
         egress = {{ tempos.tsn {{ name = \"wire\", interface = \"lo\", ethertype = \"{ETHERTYPE:#06x}\",\n\
         destination = \"00:00:00:00:00:00\", priority = 6, schedule = \"{folder}/lo.toml\"{more} }} }} }}\n"
    )
}

fn setup() -> NodeSetup {
    let setup = NodeSetup::new().plugins(["adapter-unix", "adapter-tsn", "queue-fifo"]);
    fs::write(setup.folder().join("lo.toml"), SCHEDULE).expect("written");
    setup
}

fn listener() -> Socket {
    let protocol = i32::from(ETHERTYPE.to_be());
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol))).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    socket
}

#[test]
fn an_event_leaves_as_a_frame_where_the_gates_cannot_be_had_and_the_channel_says_so() {
    if !is_root() {
        return;
    }
    let wire = listener();
    let setup = setup();
    let wiring = lua(setup.folder(), "");
    let node = setup.wiring(&wiring).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    producer.send();
    let mut frame = [0u8; 256];
    // SAFETY: the buffer is live and of the length given.
    let read = unsafe { libc::recv(wire.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
    let length = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
    assert!(read >= 0 && length > 0 && read as usize >= 2 + length, "{read} bytes, {length} of the event");
    let channel = node.channel("wire").to_string();
    assert!(
        channel.contains("SO_PRIORITY 6; mode none, degraded to SO_PRIORITY: lo has 1 transmit queue"),
        "{channel}"
    );
}

#[test]
fn a_schedule_that_cannot_be_kept_or_is_wrong_is_refused() {
    let node = setup().wiring("").start();
    let refused = node.apply(&lua(node.folder(), ", on_unmet = \"refuse\"")).expect_err("it cannot be kept");
    assert!(refused.contains("the schedule cannot be kept: "), "{refused}");
    let file = node.folder().join("lo.toml");
    fs::write(&file, SCHEDULE.replacen("500us", "400us", 1)).expect("written");
    let refused = node.apply(&lua(node.folder(), "")).expect_err("it is wrong");
    let sentence = format!("{}:5: the windows last 900us together, 100us too short", file.display());
    assert!(refused.contains(&sentence), "{refused}\nexpected\n{sentence}");
}

#[test]
fn a_schedule_is_drawn_or_its_mistake_named_without_a_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("s.toml");
    let plan = || {
        let mut command = Command::new(program("temposctl"));
        command.args(["tsn", "plan"]).arg(&file).output().expect("it runs")
    };
    fs::write(&file, SCHEDULE).expect("written");
    let output = plan();
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    let half = |mark: &str| mark.repeat(25);
    assert!(drawn.contains(&format!("class 1 {}{} priority 6\n", half("█"), half("·"))), "{drawn}");
    assert!(drawn.contains(&format!("class 0 {}{} priority 0\n", half("·"), half("█"))), "{drawn}");
    fs::write(&file, SCHEDULE.replace("6 = 1", "6 = 4")).expect("written");
    let output = plan();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    let sentence = format!("{}:3: priority 6 is mapped to class 4, which has no window", file.display());
    assert!(said.contains(&sentence), "{said}");
}

/// A veth pair with some transmit queues, which goes with it.
struct Pair(&'static str);

impl Pair {
    /// `None` where this machine has no veth.
    fn new(name: &'static str, peer: &str, queues: u32) -> Option<Self> {
        let queues = queues.to_string();
        let made = Command::new("ip")
            .args(["link", "add", name, "numtxqueues", &queues, "type", "veth", "peer", "name", peer])
            .output()
            .is_ok_and(|output| output.status.success());
        if !made {
            eprintln!("passed over: this machine makes no veth pair");
            return None;
        }
        let pair = Pair(name);
        for end in [name, peer] {
            let up = Command::new("ip").args(["link", "set", end, "up"]).status().expect("ip runs");
            assert!(up.success(), "{end} comes up");
        }
        Some(pair)
    }

    /// What stands at its root.
    fn root(&self) -> String {
        let shown =
            Command::new(program("temposctl")).args(["tsn", "show", self.0]).output().expect("it runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let root = shown.lines().find(|line| line.contains(" at root"));
        root.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Where it is gone already nothing is left to be done.
        let _ = Command::new("ip").args(["link", "del", self.0]).status();
    }
}

#[test]
fn gates_are_set_and_what_stood_there_comes_back_or_the_kernel_says_why_not() {
    if !is_root() {
        return;
    }
    let Some(pair) = Pair::new("tsnt0", "tsnt1", 4) else { return };
    let before = pair.root();
    let setup = setup();
    let gated = |more: &str, folder: &std::path::Path| lua(folder, more).replace("\"lo\"", "\"tsnt0\"");
    let wiring = gated("", setup.folder());
    let node = setup.wiring(&wiring).start();
    let channel = node.channel("wire").to_string();
    if channel.contains("SO_PRIORITY 6; class 1, mode ") {
        assert_eq!(pair.root(), "taprio");
    } else {
        let words = "mode none, degraded to SO_PRIORITY: tsnt0: set taprio";
        assert!(channel.contains(words), "{channel}");
        assert!(channel.contains("Specified qdisc kind is unknown"), "{channel}");
        assert!(channel.contains("boot a kernel that has it"), "{channel}");
        let refused =
            node.apply(&gated(", on_unmet = \"refuse\"", node.folder())).expect_err("it cannot be kept");
        assert!(refused.contains("the schedule cannot be kept: tsnt0: set taprio"), "{refused}");
    }
    drop(node);
    assert_eq!(pair.root(), before, "what stood there comes back");
}

#[test]
fn an_interface_is_looked_at_without_a_node() {
    let look = |words: &[&str]| {
        let output = Command::new(program("temposctl")).arg("tsn").args(words).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, shown, _) = look(&["show", "lo"]);
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("lo: up") && shown.contains("1 transmit queues") && shown.contains("at root"),
        "{shown}"
    );
    let (code, said, _) = look(&["check", "lo"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("bad   queues    lo has 1 transmit queue"), "{said}");
    assert!(said.contains("mend: take a multi-queue card"), "{said}");
    let (code, _, said) = look(&["show", "nosuch0"]);
    assert_eq!(code, Some(66), "{said}");
    assert!(said.contains("interface \"nosuch0\": No such device"), "{said}");
}
