//! Members of a group that acknowledge: one is killed, one is stopped, while they hold events that they have
//! not answered for. Each event is then at one of the others, and at most a window of them came twice.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tempos_tests::{Child, Node, NodeSetup, Producer, eventually, sequence};

/// Events that a member may hold without an answer.
const WINDOW: u64 = 100;
const FOLDER: &str = "TEMPOS_TEST_MEMBER_FOLDER";
const ANSWERS: &str = "TEMPOS_TEST_MEMBER_ANSWERS";

/// Takes frames from one connection after another; each is noted first and answered then, up to `answers`.
fn serve(listener: &TcpListener, answers: u64, mut note: impl FnMut(u64)) {
    let mut answered = 0;
    while let Ok((mut connection, _)) = listener.accept() {
        let mut frame = [0; 4 + sequence::FRAME_BYTES];
        while connection.read_exact(&mut frame).is_ok() {
            let (_, number) = sequence::read(&frame[4..]).expect("a numbered frame");
            if answered == answers {
                continue;
            }
            note(number);
            answered += 1;
            if connection.write_all(&[6]).is_err() {
                break;
            }
        }
    }
}

/// Not a test: the member that runs in a process of its own.
#[test]
#[ignore = "started by the tests of this file"]
fn a_member() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let answers = std::env::var(ANSWERS).expect("how many").parse().expect("a number");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut noted = OpenOptions::new().create(true).append(true).open(folder.join("noted")).expect("a file");
    let address = listener.local_addr().expect("an address").to_string();
    fs::write(folder.join("address.new"), address).expect("the address");
    fs::rename(folder.join("address.new"), folder.join("address")).expect("the address");
    serve(&listener, answers, |number| noted.write_all(&number.to_le_bytes()).expect("noted"));
}

/// What the member in its own process noted.
fn noted(folder: &Path) -> Vec<u64> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(folder.join("noted")) {
        file.read_to_end(&mut bytes).expect("it can be read");
    }
    bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect()
}

struct Scene {
    node: Node,
    producer: Producer,
    member: Child,
    /// What the member within the test noted.
    other: Arc<Mutex<Vec<u64>>>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn start(answers: u64) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["a_member", "--exact", "--ignored", "--nocapture", "--quiet"]);
        command.env(FOLDER, folder.path()).env(ANSWERS, answers.to_string());
        let member = Child::start("the member", command.stdout(std::process::Stdio::null()));
        let its = eventually("its address", || fs::read_to_string(folder.path().join("address")).ok());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours: SocketAddr = listener.local_addr().expect("an address");
        let other = Arc::new(Mutex::new(Vec::new()));
        let notes = other.clone();
        std::thread::spawn(move || {
            serve(&listener, u64::MAX, |number| notes.lock().expect("notes").push(number))
        });
        let to = |address: &str| {
            format!(
                "tempos.tcp {{ to = \"{address}\", acknowledge = true, window = {WINDOW}, \
                 acknowledge_timeout = \"500ms\" }}"
            )
        };
        let lua = format!(
            "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
             egress = {{ tempos.group \"two\" {{ {}, {} }} }} }}\n",
            to(&ours.to_string()),
            to(&its)
        );
        let node = NodeSetup::new()
            .plugins(["adapter-udp", "adapter-tcp", "queue-fifo", "queue-priority"])
            .wiring(&lua)
            .start();
        let producer = Producer::udp(1, node.udp_address("press/in/1"));
        Scene { node, producer, member, other, folder }
    }

    fn others(&self) -> u64 {
        self.other.lock().expect("notes").len() as u64
    }

    fn state(&self) -> String {
        self.node.channel("press/two/2")["State"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends, not faster than the socket of the ingress channel takes.
    fn send(&mut self, count: u64) {
        for _ in 0..count.div_ceil(20) {
            self.producer.flood(20);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Every event was noted by one of them, at most a window of them by both.
    fn settle(&self) {
        let sent = self.producer.sent();
        let figures = self.node.wait_for_rest("press", sent);
        assert!(figures.dropped.is_empty(), "{figures:?}");
        eventually("every event at one of them", || {
            let mut all = noted(self.folder.path());
            all.extend(self.other.lock().expect("notes").iter());
            let whole = all.len() as u64;
            all.sort_unstable();
            all.dedup();
            let twice = whole - all.len() as u64;
            assert!(twice <= WINDOW, "{twice} events came twice");
            (all.len() as u64 == sent).then_some(())
        });
    }
}

#[test]
fn what_a_killed_member_has_not_acknowledged_goes_to_the_other() {
    let mut scene = Scene::start(50);
    scene.send(400);
    // It has answered for 50, and holds a whole window.
    eventually("it to hold events", || (noted(scene.folder.path()).len() == 50).then_some(()));
    scene.member.signal(libc::SIGKILL);
    scene.send(400);
    eventually("it to be out", || (scene.state() != "started").then_some(()));
    scene.settle();
    assert!(scene.others() >= scene.producer.sent() - 50);
}

#[test]
fn what_a_stopped_member_has_not_acknowledged_goes_to_the_other_and_it_comes_back() {
    let mut scene = Scene::start(u64::MAX);
    scene.send(400);
    scene.settle();
    assert!(!noted(scene.folder.path()).is_empty());
    scene.member.signal(libc::SIGSTOP);
    scene.send(400);
    eventually("it to be out", || (scene.state() != "started").then_some(()));
    scene.settle();
    let before = noted(scene.folder.path()).len();
    scene.member.signal(libc::SIGCONT);
    eventually("it to be back", || {
        scene.send(20);
        (noted(scene.folder.path()).len() >= before + 100).then_some(())
    });
    scene.settle();
}
